// CUDA C++ on a CPU: what a .cu file may use, so that a C++17 compiler compiles the very same text.
//
// Dynamic shared memory has one name and type: `extern __shared__ __align__(16) unsigned char dynamic_shared[];`.
// A structure passed by value is written `const Jobs __grid_constant__ jobs`, which spares each thread a copy.
#pragma once

#include "host_fibres.h"
#include "host_types.h"

#define HOST_CUDA 1

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(N) __attribute__((aligned(N)))
#define __launch_bounds__(...)
#define __grid_constant__ &
#define __restrict__ __restrict
// A block stays on one host thread, so what its threads share is what this host thread keeps.
#define __shared__ thread_local

#define threadIdx (::host_cuda::current->index)
#define blockIdx (::host_cuda::current->worker->block_index)
#define blockDim (::host_cuda::current->worker->block_dim)
#define gridDim (::host_cuda::current->worker->grid_dim)
constexpr int warpSize = 32;

namespace host_cuda {
constexpr std::size_t MAX_SHARED_BYTES = 232448;  // 227 KiB, the most of any GPU so far
}
alignas(128) static thread_local unsigned char dynamic_shared[host_cuda::MAX_SHARED_BYTES];

// ---- The block and the warp -----------------------------------------------------------------------------------------

inline void __syncthreads(int line = __builtin_LINE()) {
    host_cuda::current->worker->barrier(host_cuda::Collective::sync, 0, line);
}
inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
    return static_cast<int>(host_cuda::current->worker->barrier(host_cuda::Collective::add, predicate, line));
}
inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
    return host_cuda::current->worker->barrier(host_cuda::Collective::bit_or, predicate, line) != 0;
}
inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
    host_cuda::Worker* worker = host_cuda::current->worker;
    return worker->barrier(host_cuda::Collective::bit_and, predicate, line) == worker->count;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    host_cuda::current->worker->collective(host_cuda::Collective::sync, mask, 0, 0, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return static_cast<unsigned>(
        host_cuda::current->worker->collective(host_cuda::Collective::ballot, mask, predicate != 0, 0, line));
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) == mask;
}
// The lanes that have not returned. On a GPU it may be fewer: a kernel must be right with any subset that holds itself.
inline unsigned __activemask() {
    const host_cuda::Thread& self = *host_cuda::current;
    const unsigned first = self.linear & ~31u;
    unsigned mask = 0;
    for (unsigned i = 0; i < 32 && first + i < self.worker->count; ++i)
        mask |= unsigned{self.worker->threads[first + i].state != host_cuda::State::done} << i;
    return mask;
}

namespace host_cuda {
template <class T>
inline T shuffle(unsigned mask, T value, int source_lane, int line) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    std::uint64_t sent = 0;
    std::memcpy(&sent, &value, sizeof value);
    const std::uint64_t got = current->worker->collective(Collective::shuffle, mask, sent, source_lane, line);
    T result;
    std::memcpy(&result, &got, sizeof result);
    return result;
}
inline int lane() { return static_cast<int>(current->linear % WARP); }
}  // namespace host_cuda

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
    const int lane = host_cuda::lane();
    return host_cuda::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    const int lane = host_cuda::lane(), from = lane - static_cast<int>(delta);
    return host_cuda::shuffle(mask, value, from < (lane & ~(width - 1)) ? lane : from, line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    const int lane = host_cuda::lane(), from = lane + static_cast<int>(delta);
    return host_cuda::shuffle(mask, value, from > (lane | (width - 1)) ? lane : from, line);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, int line = __builtin_LINE()) {
    const int lane = host_cuda::lane(), from = lane ^ lanes;
    return host_cuda::shuffle(mask, value, from > (lane | (width - 1)) ? lane : from, line);
}
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, int line = __builtin_LINE()) {
    static_assert(sizeof(T) <= 8);
    std::uint64_t sent = 0;
    std::memcpy(&sent, &value, sizeof value);
    return static_cast<unsigned>(
        host_cuda::current->worker->collective(host_cuda::Collective::match, mask, sent, 0, line));
}

#define HOST_CUDA_REDUCE(NAME, TYPE, OP)                                                                        \
    inline TYPE NAME(unsigned mask, TYPE value, int line = __builtin_LINE()) {                                  \
        const auto bits = static_cast<std::uint32_t>(value);                                                    \
        return static_cast<TYPE>(static_cast<std::uint32_t>(                                                    \
            host_cuda::current->worker->collective(host_cuda::Collective::OP, mask, bits, 0, line)));           \
    }
HOST_CUDA_REDUCE(__reduce_add_sync, unsigned, add)
HOST_CUDA_REDUCE(__reduce_add_sync, int, add)
HOST_CUDA_REDUCE(__reduce_min_sync, unsigned, min_unsigned)
HOST_CUDA_REDUCE(__reduce_min_sync, int, min_signed)
HOST_CUDA_REDUCE(__reduce_max_sync, unsigned, max_unsigned)
HOST_CUDA_REDUCE(__reduce_max_sync, int, max_signed)
HOST_CUDA_REDUCE(__reduce_and_sync, unsigned, bit_and)
HOST_CUDA_REDUCE(__reduce_or_sync, unsigned, bit_or)
HOST_CUDA_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
#undef HOST_CUDA_REDUCE

// ---- Atomics: real ones, for blocks run on several host threads -----------------------------------------------------

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <class T, class Change>
inline T host_cuda_change(T* address, Change change) {
    T old, wanted;
    __atomic_load(address, &old, __ATOMIC_RELAXED);
    do {
        wanted = change(old);
    } while (!__atomic_compare_exchange(address, &old, &wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return old;
}
#define HOST_CUDA_ATOMICS(TYPE)                                                                                  \
    inline TYPE atomicAdd(TYPE* a, TYPE v) { return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST); }                \
    inline TYPE atomicSub(TYPE* a, TYPE v) { return __atomic_fetch_sub(a, v, __ATOMIC_SEQ_CST); }                \
    inline TYPE atomicAnd(TYPE* a, TYPE v) { return __atomic_fetch_and(a, v, __ATOMIC_SEQ_CST); }                \
    inline TYPE atomicOr(TYPE* a, TYPE v) { return __atomic_fetch_or(a, v, __ATOMIC_SEQ_CST); }                  \
    inline TYPE atomicXor(TYPE* a, TYPE v) { return __atomic_fetch_xor(a, v, __ATOMIC_SEQ_CST); }                \
    inline TYPE atomicExch(TYPE* a, TYPE v) { return __atomic_exchange_n(a, v, __ATOMIC_SEQ_CST); }              \
    inline TYPE atomicMin(TYPE* a, TYPE v) { return host_cuda_change(a, [v](TYPE o) { return v < o ? v : o; }); } \
    inline TYPE atomicMax(TYPE* a, TYPE v) { return host_cuda_change(a, [v](TYPE o) { return o < v ? v : o; }); } \
    inline TYPE atomicCAS(TYPE* a, TYPE expected, TYPE v) {                                                      \
        __atomic_compare_exchange_n(a, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                 \
        return expected;                                                                                         \
    }
HOST_CUDA_ATOMICS(int)
HOST_CUDA_ATOMICS(unsigned)
HOST_CUDA_ATOMICS(unsigned long long)
#undef HOST_CUDA_ATOMICS
inline float atomicAdd(float* a, float v) { return host_cuda_change(a, [v](float o) { return o + v; }); }
inline double atomicAdd(double* a, double v) { return host_cuda_change(a, [v](double o) { return o + v; }); }
inline float atomicExch(float* a, float v) { return host_cuda_change(a, [v](float) { return v; }); }
