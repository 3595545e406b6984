// Runs the threads of a CUDA block on one host thread: each is a fibre that runs until it must wait for others.
//
// A thread that never waits costs a function call; one that waits costs a switch of stacks, a few lines of assembly.
// What CUDA leaves undefined and a GPU often forgives is an error here: a barrier that part of a block never reaches or
// reaches elsewhere, a warp operation whose lanes disagree, a fault on memory. The error names the place.
#pragma once

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(HOST_CUDA_UCONTEXT)
#define HOST_CUDA_UCONTEXT 1
#endif
#ifdef HOST_CUDA_UCONTEXT
#include <ucontext.h>
#endif

namespace host_cuda {

constexpr unsigned MAX_THREADS = 1024;  // per block, as on every GPU
constexpr unsigned WARP = 32;
constexpr std::size_t STACK_BYTES = 64 * 1024;

struct Index3 {
    unsigned x, y, z;
};

// ---- Switching from one stack to another ----------------------------------------------------------------------------

#ifdef HOST_CUDA_UCONTEXT
struct Context {
    ucontext_t saved;
};
inline void prepare(Context& context, char* top_of_stack, void (*entry)()) {
    getcontext(&context.saved);
    context.saved.uc_stack.ss_sp = top_of_stack - STACK_BYTES;
    context.saved.uc_stack.ss_size = STACK_BYTES;
    context.saved.uc_link = nullptr;
    makecontext(&context.saved, entry, 0);
}
inline void switch_to(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }
#else
struct Context {
    void* stack_pointer;
};
extern "C" void host_cuda_switch(void** save, void* load) __attribute__((visibility("hidden")));

// Only what a called function must preserve is saved; control words of the FPU are never changed by a kernel.
#if defined(__x86_64__)
constexpr std::size_t SAVED_WORDS = 6;
asm(R"(
.pushsection .text
.hidden host_cuda_switch
.globl host_cuda_switch
.type host_cuda_switch, @function
host_cuda_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size host_cuda_switch, .-host_cuda_switch
.popsection
)");
inline void prepare(Context& context, char* top_of_stack, void (*entry)()) {
    auto* top = reinterpret_cast<std::uintptr_t*>(top_of_stack);
    *--top = 0;  // a return address that is never used; it also leaves the stack aligned as after a call
    *--top = reinterpret_cast<std::uintptr_t>(entry);
    for (std::size_t i = 0; i < SAVED_WORDS; ++i) *--top = 0;
    context.stack_pointer = top;
}
#else  // aarch64
constexpr std::size_t SAVED_WORDS = 20;
asm(R"(
.pushsection .text
.hidden host_cuda_switch
.globl host_cuda_switch
.type host_cuda_switch, %function
host_cuda_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size host_cuda_switch, .-host_cuda_switch
.popsection
)");
inline void prepare(Context& context, char* top_of_stack, void (*entry)()) {
    auto* top = reinterpret_cast<std::uintptr_t*>(top_of_stack) - SAVED_WORDS;
    std::memset(top, 0, SAVED_WORDS * sizeof *top);
    top[11] = reinterpret_cast<std::uintptr_t>(entry);  // x30, the link register
    context.stack_pointer = top;
}
#endif
inline void switch_to(Context& from, Context& to) { host_cuda_switch(&from.stack_pointer, to.stack_pointer); }
#endif

// ---- A block and its threads ----------------------------------------------------------------------------------------

enum class State : std::uint8_t { unstarted, running, ready, at_barrier, in_warp, done };
enum class Collective : std::uint8_t {
    sync, ballot, shuffle, add, min_signed, max_signed, min_unsigned, max_unsigned, bit_and, bit_or, bit_xor, match
};

struct Worker;

struct Thread {
    Worker* worker;
    Index3 index;
    unsigned linear;
    State state;
    int fibre;  // the stack it runs on
    // What it waits for, and what it gets.
    Collective op;
    unsigned mask;
    int line;
    int source_lane;
    std::uint64_t value, result;
};

extern __thread Thread* current;  // the thread that this host thread is running, null outside of a launch

struct Stacks {
    static constexpr std::size_t STRIDE = STACK_BYTES + 4096;  // a guard page below each
    char* base;
    Stacks() {
        const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* memory = mmap(nullptr, STRIDE * MAX_THREADS, PROT_NONE, kind, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        base = static_cast<char*>(memory);
    }
    ~Stacks() { munmap(base, STRIDE * MAX_THREADS); }
    Stacks(const Stacks&) = delete;
    Stacks& operator=(const Stacks&) = delete;
    void open(int fibre) {
        if (mprotect(base + fibre * STRIDE + 4096, STACK_BYTES, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    }
    char* top(int fibre) const { return base + (fibre + 1) * STRIDE; }
};

void fibre_main();

// One host thread's share of a launch: it runs one block at a time.
struct Worker {
    Stacks stacks;
    Context outside{};
    std::vector<Context> fibres{MAX_THREADS};
    std::vector<int> idle_fibres;
    int opened = 0;    // fibres whose stack is mapped
    int prepared = 0;  // fibres that have started
    Thread threads[MAX_THREADS];
    std::uint16_t order[MAX_THREADS];
    std::vector<std::uint16_t> ready;
    std::size_t ready_head = 0;
    unsigned count = 0, next_unstarted = 0, finished = 0, at_barrier = 0, barrier_sum = 0, barrier_result = 0;
    struct {
        Collective op;
        int line;
        unsigned thread;
    } first_at_barrier{};
    unsigned arrived[MAX_THREADS / WARP];
    int assigned = -1;  // the thread that a woken idle fibre takes on
    std::uint64_t random = 0;  // 0: everything in its natural order
    Index3 block_index{}, block_dim{}, grid_dim{};
    void (*body)(void*) = nullptr;
    void* body_argument = nullptr;
    char error[512] = "";
    sigjmp_buf on_fault;

    std::uint64_t draw() {  // xorshift64*, Vigna 2016
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        return random * 2685821657736338717ULL;
    }

    // True if the block came to its end; else `error` says why not, and every fibre starts afresh.
    bool run_block() {
        ready.clear();
        ready_head = next_unstarted = finished = at_barrier = barrier_sum = 0;
        std::memset(arrived, 0, sizeof arrived);
        count = block_dim.x * block_dim.y * block_dim.z;
        for (unsigned i = 0; i < count; ++i) {
            const Index3 index{i % block_dim.x, i / block_dim.x % block_dim.y, i / (block_dim.x * block_dim.y)};
            threads[i] = Thread{this, index, i, State::unstarted, -1, Collective::sync, 0, 0, 0, 0, 0};
            order[i] = static_cast<std::uint16_t>(i);
        }
        for (unsigned i = count; random && i > 1; --i) std::swap(order[i - 1], order[draw() % i]);
        if (sigsetjmp(on_fault, 0) == 0) resume(outside, *pick());
        current = nullptr;
        if (error[0]) {
            idle_fibres.clear();
            prepared = 0;
            return false;
        }
        return true;
    }

    // The next thread that can run, or null: then the block is done, or stuck, which is an error.
    Thread* pick() {
        const bool waiting = ready_head < ready.size();
        if (waiting && (next_unstarted == count || !random || draw() % 2)) {
            if (random) std::swap(ready[ready_head], ready[ready_head + draw() % (ready.size() - ready_head)]);
            Thread* thread = &threads[ready[ready_head++]];
            if (ready_head == ready.size()) ready.clear(), ready_head = 0;
            return thread;
        }
        if (next_unstarted < count) return &threads[order[next_unstarted++]];
        if (finished < count) describe_stuck();
        return nullptr;
    }

    // Leave `from` for `thread`, on its own fibre or a new one.
    void resume(Context& from, Thread& thread) {
        current = &thread;
        if (thread.state == State::unstarted) {
            if (!idle_fibres.empty()) {
                thread.fibre = idle_fibres.back();
                idle_fibres.pop_back();
            } else {
                thread.fibre = prepared++;
                if (thread.fibre == opened) stacks.open(opened++);
                prepare(fibres[thread.fibre], stacks.top(thread.fibre), fibre_main);
            }
            assigned = static_cast<int>(thread.linear);
        }
        thread.state = State::running;
        switch_to(from, fibres[thread.fibre]);
    }

    // The running thread waits: others run until it is made ready.
    void wait(Thread& self) {
        Thread* next = pick();
        if (next == nullptr) switch_to(fibres[self.fibre], outside);
        resume(fibres[self.fibre], *next);
    }

    void make_ready(Thread& thread) {
        thread.state = State::ready;
        ready.push_back(static_cast<std::uint16_t>(thread.linear));
    }

    [[gnu::format(printf, 2, 3), noreturn]] void fail(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(error, sizeof error, format, arguments);
        va_end(arguments);
        switch_to(fibres[current->fibre], outside);
        __builtin_unreachable();
    }

    void describe_stuck() {
        const Thread *barrier = nullptr, *warp = nullptr;
        for (unsigned i = 0; i < count; ++i) {
            if (threads[i].state == State::at_barrier && !barrier) barrier = &threads[i];
            if (threads[i].state == State::in_warp && !warp) warp = &threads[i];
        }
        char* end = error + sizeof error;
        char* at = error;
        if (barrier)
            at += std::snprintf(at, end - at, "divergent barrier: %u of %u threads wait at line %d, %u have returned",
                                at_barrier, count, barrier->line, finished);
        if (warp)
            std::snprintf(at, end - at, "%sthread %u waits at line %d for lanes %08x of its warp, which do not come",
                          barrier ? "; " : "", warp->linear, warp->line, warp->mask);
    }

    unsigned barrier(Collective op, unsigned predicate, int line) {
        Thread& self = *current;
        self.state = State::at_barrier;
        self.line = line;
        if (at_barrier == 0) first_at_barrier = {op, line, self.linear};
        if (line != first_at_barrier.line || op != first_at_barrier.op)
            fail("divergent barrier: thread %u waits at line %d, thread %u at line %d", first_at_barrier.thread,
                 first_at_barrier.line, self.linear, line);
        barrier_sum += predicate != 0;
        if (++at_barrier == count) {
            barrier_result = barrier_sum;
            at_barrier = barrier_sum = 0;
            for (unsigned i = 0; i < count; ++i)
                if (&threads[order[i]] != &self) make_ready(threads[order[i]]);
            self.state = State::running;
            return barrier_result;
        }
        wait(self);
        return barrier_result;
    }

    std::uint64_t collective(Collective op, unsigned mask, std::uint64_t value, int source_lane, int line) {
        Thread& self = *current;
        const unsigned lane = self.linear % WARP, first = self.linear - lane;
        unsigned& here = arrived[self.linear / WARP];
        if (!(mask >> lane & 1))
            fail("line %d: lane %u calls a warp operation with the mask %08x, which leaves it out", line, lane, mask);
        const unsigned lanes = count - first < WARP ? count - first : WARP;
        if (lanes < WARP && mask >> lanes)
            fail("line %d: the mask %08x names lanes of a warp that has only %u", line, mask, lanes);
        self.state = State::in_warp;
        self.op = op, self.mask = mask, self.value = value, self.source_lane = source_lane, self.line = line;
        here |= 1u << lane;
        bool complete = (here & mask) == mask;
        for (unsigned i = 0; complete && i < WARP; ++i) {
            if (!(mask >> i & 1)) continue;
            const Thread& other = threads[first + i];
            if (other.mask == mask && other.op == op && other.line == line) continue;
            if (other.mask >> lane & 1)
                fail("lanes of a warp disagree: lane %u at line %d with mask %08x, lane %u at line %d with mask %08x",
                     lane, line, mask, i, other.line, other.mask);
            complete = false;  // it is busy with others, and will come
        }
        if (!complete) {
            wait(self);
            return self.result;
        }
        resolve(&threads[first], op, mask);
        here &= ~mask;
        for (unsigned i = 0; i < WARP; ++i)
            if ((mask >> i & 1) && i != lane) make_ready(threads[first + i]);
        self.state = State::running;
        return self.result;
    }

    static void resolve(Thread* warp, Collective op, unsigned mask) {
        std::uint64_t total = 0;
        bool any = false;
        for (unsigned i = 0; i < WARP; ++i) {
            if (!(mask >> i & 1)) continue;
            const std::uint64_t value = warp[i].value;
            const auto bits = static_cast<std::uint32_t>(value), sum = static_cast<std::uint32_t>(total);
            const auto number = static_cast<std::int32_t>(bits), best = static_cast<std::int32_t>(sum);
            switch (op) {
                case Collective::ballot: total |= value ? std::uint64_t{1} << i : 0; break;
                case Collective::add: total = sum + bits; break;
                case Collective::min_signed: total = !any || number < best ? bits : sum; break;
                case Collective::max_signed: total = !any || number > best ? bits : sum; break;
                case Collective::min_unsigned: total = !any || bits < sum ? bits : sum; break;
                case Collective::max_unsigned: total = !any || bits > sum ? bits : sum; break;
                case Collective::bit_and: total = any ? sum & bits : bits; break;
                case Collective::bit_or: total |= bits; break;
                case Collective::bit_xor: total ^= bits; break;
                case Collective::sync: case Collective::shuffle: case Collective::match: break;
            }
            any = true;
        }
        for (unsigned i = 0; i < WARP; ++i) {
            if (!(mask >> i & 1)) continue;
            warp[i].result = total;
            if (op == Collective::shuffle) {
                const int from = warp[i].source_lane;  // of a lane that does not take part nothing is defined
                warp[i].result = mask >> from & 1 ? warp[from].value : 0xFBFBFBFBFBFBFBFBULL;
            } else if (op == Collective::match) {
                for (unsigned j = 0; j < WARP; ++j)
                    if ((mask >> j & 1) && warp[j].value == warp[i].value) warp[i].result |= std::uint64_t{1} << j;
            }
        }
    }
};

// What every fibre does: take a thread, run it, and as long as the next one is new, run that one too.
inline void fibre_main() {
    Worker& worker = *current->worker;
    for (;;) {
        Thread* self = &worker.threads[worker.assigned];
        const int fibre = self->fibre;
        for (;;) {
            worker.body(worker.body_argument);
            self->state = State::done;
            ++worker.finished;
            Thread* next = worker.pick();
            if (next && next->state == State::unstarted) {
                next->fibre = fibre;
                next->state = State::running;
                current = self = next;
                continue;
            }
            worker.idle_fibres.push_back(fibre);
            if (next) worker.resume(worker.fibres[fibre], *next);
            else switch_to(worker.fibres[fibre], worker.outside);
            break;
        }
    }
}

}  // namespace host_cuda
