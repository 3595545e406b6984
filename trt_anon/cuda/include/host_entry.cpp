// The host build of one kernel: HOST_CUDA_SOURCE is its .cu file, HOST_CUDA_KERNEL its name.
#include "host_cuda.h"

#include HOST_CUDA_SOURCE

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>

#include <link.h>

#define HOST_CUDA_TEXT_(NAME) #NAME
#define HOST_CUDA_TEXT(NAME) HOST_CUDA_TEXT_(NAME)
#define HOST_CUDA_EXPORT extern "C" __attribute__((visibility("default")))

namespace host_cuda {

__thread Thread* current = nullptr;

// ---- The kernel's parameters, as Python checks them -----------------------------------------------------------------

template <class T>
std::string scalar_code() {
    if (std::is_void_v<T>) return "?";
    if constexpr (std::is_same_v<T, __half>) return "f2";
    else if constexpr (std::is_floating_point_v<T>) return "f" + std::to_string(sizeof(T));
    else if constexpr (std::is_same_v<T, bool>) return "b1";
    else if constexpr (std::is_integral_v<T>) return (std::is_signed_v<T> ? "i" : "u") + std::to_string(sizeof(T));
    else if constexpr (!std::is_void_v<T>) return "S" + std::to_string(sizeof(T));
}
template <class A>
std::string parameter_code() {
    using T = std::remove_cv_t<std::remove_reference_t<A>>;
    if constexpr (std::is_pointer_v<T>) {
        using Pointee = std::remove_pointer_t<T>;
        return (std::is_const_v<Pointee> ? "const*" : "*") + scalar_code<std::remove_cv_t<Pointee>>();
    } else {
        return scalar_code<T>();
    }
}
template <class... A>
std::string signature_of(void (*)(A...)) {
    std::string text;
    ((text += (text.empty() ? "" : ",") + parameter_code<A>()), ...);
    return text;
}

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}
template <class... A>
void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}
void body(void* arguments) { call(HOST_CUDA_KERNEL, static_cast<void**>(arguments)); }

// ---- Faults, caught only where the caller asks for it ---------------------------------------------------------------

constexpr int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
struct sigaction previous[4];

void on_fault(int signal, siginfo_t* info, void*) {
    if (current == nullptr) {  // not a kernel's: to whom it concerned before
        for (int i = 0; i < 4; ++i) sigaction(FAULTS[i], &previous[i], nullptr);
        return;  // the instruction runs again, and faults again
    }
    Worker& worker = *current->worker;
    const Index3 block = worker.block_index, thread = current->index;
    const char* what = signal == SIGFPE   ? "divides an integer by zero"
                       : signal == SIGILL ? "does what C++ leaves undefined (index, shift, overflow, conversion)"
                                          : "touches memory outside of every buffer";
    std::snprintf(worker.error, sizeof worker.error, "block (%u, %u, %u) thread (%u, %u, %u) %s (address %p)", block.x,
                  block.y, block.z, thread.x, thread.y, thread.z, what, info->si_addr);
    siglongjmp(worker.on_fault, 1);
}

struct Options {
    std::uint64_t seed;  // 0: natural order
    std::int32_t poison;  // byte that shared memory is filled with, -1: left alone
    std::int32_t trap;  // catch faults
    std::int32_t threads;
};

// ---- A launch -------------------------------------------------------------------------------------------------------

std::mutex idle_mutex;
std::vector<std::unique_ptr<Worker>> idle_workers;  // their stacks are worth keeping

std::unique_ptr<Worker> take_worker() {
    const std::lock_guard<std::mutex> lock(idle_mutex);
    if (idle_workers.empty()) return std::make_unique<Worker>();
    std::unique_ptr<Worker> worker = std::move(idle_workers.back());
    idle_workers.pop_back();
    return worker;
}
void give_back(std::unique_ptr<Worker> worker) {
    const std::lock_guard<std::mutex> lock(idle_mutex);
    idle_workers.push_back(std::move(worker));
}

struct Block {  // of memory that threads share: this host thread's copy of every __shared__ variable
    char* base = nullptr;
    std::size_t size = 0;
};
int find_shared(dl_phdr_info* info, std::size_t, void* found) {
    if (info->dlpi_tls_data == nullptr) return 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const ElfW(Phdr)& header = info->dlpi_phdr[i];
        auto* base = static_cast<char*>(info->dlpi_tls_data);
        auto* probe = reinterpret_cast<char*>(dynamic_shared);
        if (header.p_type == PT_TLS && probe >= base && probe < base + header.p_memsz) {
            *static_cast<Block*>(found) = {base, header.p_memsz};
            return 1;
        }
    }
    return 0;
}
constexpr std::size_t FENCE_BYTES = 1024;  // behind dynamic shared memory, looked at when a block has run

void poison_shared(const Block& shared, unsigned shared_bytes, int byte) {
    Thread* const kept = current;
    auto* dynamic = reinterpret_cast<char*>(dynamic_shared);
    char *const end = shared.base + shared.size, *const behind = dynamic + MAX_SHARED_BYTES;
    std::memset(shared.base, byte, dynamic - shared.base);
    std::memset(dynamic, byte, std::min(shared_bytes + FENCE_BYTES, MAX_SHARED_BYTES));
    std::memset(behind, byte, end - behind);
    current = kept;
}

struct Launch {
    Index3 grid, block;
    unsigned shared_bytes;
    void** arguments;
    Options options;
    std::uint64_t first, step;  // a permutation of the blocks: (first + i * step) mod their number
    std::uint64_t blocks;
    std::atomic<std::uint64_t> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    char* message;
    std::size_t message_size;
};

void report(Launch& launch, const char* text) {
    const std::lock_guard<std::mutex> lock(launch.mutex);
    if (!launch.failed.exchange(true)) std::snprintf(launch.message, launch.message_size, "%s", text);
}

void work(Launch& launch) {
    std::unique_ptr<Worker> worker = take_worker();
    Block shared;
    char* const dynamic = reinterpret_cast<char*>(dynamic_shared);
    if (launch.options.poison >= 0) dl_iterate_phdr(find_shared, &shared);
    stack_t alternate{}, before{};
    std::vector<char> signal_stack;
    if (launch.options.trap) {
        signal_stack.resize(64 * 1024);
        alternate.ss_sp = signal_stack.data();
        alternate.ss_size = signal_stack.size();
        sigaltstack(&alternate, &before);
    }
    worker->block_dim = launch.block;
    worker->grid_dim = launch.grid;
    worker->body = body;
    worker->body_argument = launch.arguments;
    for (std::uint64_t i; !launch.failed && (i = launch.next++) < launch.blocks;) {
        const std::uint64_t index = (launch.first + i * launch.step) % launch.blocks;
        worker->block_index = {static_cast<unsigned>(index % launch.grid.x),
                               static_cast<unsigned>(index / launch.grid.x % launch.grid.y),
                               static_cast<unsigned>(index / launch.grid.x / launch.grid.y)};
        worker->random = launch.options.seed ? launch.options.seed + 0x9e3779b97f4a7c15ULL * (index + 1) : 0;
        if (launch.options.seed && !worker->random) worker->random = 1;
        worker->error[0] = 0;
        if (shared.base) poison_shared(shared, launch.shared_bytes, launch.options.poison);
        if (!worker->run_block()) report(launch, worker->error);
        const std::size_t end = shared.base ? std::min(launch.shared_bytes + FENCE_BYTES, MAX_SHARED_BYTES) : 0;
        for (std::size_t at = launch.shared_bytes; at < end; ++at) {
            if (static_cast<unsigned char>(dynamic[at]) == launch.options.poison) continue;
            char text[128];
            std::snprintf(text, sizeof text, "writes byte %zu of dynamic shared memory, which has %u", at,
                          launch.shared_bytes);
            report(launch, text);
            break;
        }
    }
    if (launch.options.trap) sigaltstack(&before, nullptr);
    give_back(std::move(worker));
}

}  // namespace host_cuda

HOST_CUDA_EXPORT const char* host_cuda_signature() {
    static const std::string text = host_cuda::signature_of(HOST_CUDA_KERNEL);
    return text.c_str();
}

// 0, or 1 with the reason in `message`.
HOST_CUDA_EXPORT int host_cuda_launch(const unsigned* grid, const unsigned* block, unsigned shared_bytes,
                                      void** arguments, const host_cuda::Options* options, char* message,
                                      std::size_t message_size) {
    using namespace host_cuda;
    Launch launch;
    launch.grid = {grid[0], grid[1], grid[2]};
    launch.block = {block[0], block[1], block[2]};
    launch.shared_bytes = shared_bytes;
    launch.arguments = arguments;
    launch.options = *options;
    launch.blocks = std::uint64_t{grid[0]} * grid[1] * grid[2];
    launch.first = 0;
    launch.step = 1;
    launch.message = message;
    launch.message_size = message_size;
    if (options->seed) {  // any step that shares no factor with the number of blocks visits each once
        std::uint64_t mixed = options->seed * 0x9e3779b97f4a7c15ULL;  // splitmix64, Steele et al. 2014
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ULL;
        mixed ^= mixed >> 27;
        launch.first = mixed % launch.blocks;
        launch.step = (mixed >> 32) % launch.blocks | 1;
        const auto shares_factor = [&] {
            std::uint64_t a = launch.step, b = launch.blocks;
            while (b) std::tie(a, b) = std::pair{b, a % b};
            return a != 1;
        };
        while (shares_factor()) ++launch.step;
    }
    if (options->trap) {
        struct sigaction action {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 4; ++i) sigaction(FAULTS[i], &action, &previous[i]);
    }
    const std::uint64_t per_block = std::uint64_t{block[0]} * block[1] * block[2];
    // Starting a host thread costs about as much as running some thousand CUDA threads.
    const std::uint64_t worth = launch.blocks * per_block / 16384 + 1;
    const auto allowed = static_cast<std::uint64_t>(options->threads);
    std::uint64_t helpers = std::min<std::uint64_t>({allowed, launch.blocks, worth});
    std::vector<std::thread> threads;
    for (; helpers > 1; --helpers) threads.emplace_back([&] { work(launch); });
    work(launch);
    for (std::thread& thread : threads) thread.join();
    if (options->trap)
        for (int i = 0; i < 4; ++i) sigaction(FAULTS[i], &previous[i], nullptr);
    return launch.failed ? 1 : 0;
}
