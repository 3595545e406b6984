// Vector types, half and the arithmetic intrinsics of CUDA C++, with the results that a GPU gives.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// ---- Vector types: the sizes and alignments of CUDA -----------------------------------------------------------------

#define HOST_CUDA_VECTORS(NAME, SCALAR, ALIGN2, ALIGN4)                                                          \
    struct NAME##1 { SCALAR x; };                                                                                \
    struct alignas(ALIGN2) NAME##2 { SCALAR x, y; };                                                             \
    struct NAME##3 { SCALAR x, y, z; };                                                                          \
    struct alignas(ALIGN4) NAME##4 { SCALAR x, y, z, w; };                                                       \
    inline NAME##2 make_##NAME##2(SCALAR x, SCALAR y) { return {x, y}; }                                         \
    inline NAME##3 make_##NAME##3(SCALAR x, SCALAR y, SCALAR z) { return {x, y, z}; }                            \
    inline NAME##4 make_##NAME##4(SCALAR x, SCALAR y, SCALAR z, SCALAR w) { return {x, y, z, w}; }
HOST_CUDA_VECTORS(char, signed char, 2, 4)
HOST_CUDA_VECTORS(uchar, unsigned char, 2, 4)
HOST_CUDA_VECTORS(short, short, 4, 8)
HOST_CUDA_VECTORS(ushort, unsigned short, 4, 8)
HOST_CUDA_VECTORS(int, int, 8, 16)
HOST_CUDA_VECTORS(uint, unsigned, 8, 16)
HOST_CUDA_VECTORS(longlong, long long, 16, 16)
HOST_CUDA_VECTORS(ulonglong, unsigned long long, 16, 16)
HOST_CUDA_VECTORS(float, float, 8, 16)
HOST_CUDA_VECTORS(double, double, 16, 16)
#undef HOST_CUDA_VECTORS

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// ---- Bits -----------------------------------------------------------------------------------------------------------

template <class To, class From>
inline To host_cuda_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float v) { return host_cuda_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return host_cuda_bits<unsigned>(v); }
inline float __int_as_float(int v) { return host_cuda_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return host_cuda_bits<float>(v); }
inline long long __double_as_longlong(double v) { return host_cuda_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return host_cuda_bits<double>(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __clz(int v) { return v ? __builtin_clz(static_cast<unsigned>(v)) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(static_cast<unsigned long long>(v)) : 64; }
inline unsigned __brev(unsigned v) {
    unsigned reversed = 0;
    for (int i = 0; i < 32; ++i) reversed |= (v >> i & 1u) << (31 - i);
    return reversed;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    const std::uint64_t both = static_cast<std::uint64_t>(y) << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= static_cast<unsigned>(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return result;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) << (shift & 31) >> 32);
}
inline int __mul24(int a, int b) { return static_cast<int>((a << 8 >> 8) * static_cast<long long>(b << 8 >> 8)); }
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}

// ---- Conversions: saturating, NaN to 0, as the PTX instruction cvt does ---------------------------------------------

template <class Int>
inline Int host_cuda_saturated(double rounded) {
    if (std::isnan(rounded)) return 0;
    if (rounded <= static_cast<double>(std::numeric_limits<Int>::min())) return std::numeric_limits<Int>::min();
    if (rounded >= static_cast<double>(std::numeric_limits<Int>::max())) return std::numeric_limits<Int>::max();
    return static_cast<Int>(rounded);
}
#define HOST_CUDA_TO_INTEGER(FROM, PREFIX)                                                                       \
    inline int PREFIX##2int_rn(FROM v) { return host_cuda_saturated<int>(std::nearbyint(v)); }                   \
    inline int PREFIX##2int_rz(FROM v) { return host_cuda_saturated<int>(std::trunc(v)); }                       \
    inline int PREFIX##2int_rd(FROM v) { return host_cuda_saturated<int>(std::floor(v)); }                       \
    inline int PREFIX##2int_ru(FROM v) { return host_cuda_saturated<int>(std::ceil(v)); }                        \
    inline unsigned PREFIX##2uint_rn(FROM v) { return host_cuda_saturated<unsigned>(std::nearbyint(v)); }        \
    inline unsigned PREFIX##2uint_rz(FROM v) { return host_cuda_saturated<unsigned>(std::trunc(v)); }            \
    inline unsigned PREFIX##2uint_rd(FROM v) { return host_cuda_saturated<unsigned>(std::floor(v)); }            \
    inline unsigned PREFIX##2uint_ru(FROM v) { return host_cuda_saturated<unsigned>(std::ceil(v)); }
HOST_CUDA_TO_INTEGER(float, __float)
HOST_CUDA_TO_INTEGER(double, __double)
#undef HOST_CUDA_TO_INTEGER
inline float __int2float_rn(int v) { return static_cast<float>(v); }
inline float __uint2float_rn(unsigned v) { return static_cast<float>(v); }
inline float __double2float_rn(double v) { return static_cast<float>(v); }

// ---- Arithmetic. Where a GPU only approximates (rsqrtf, __fdividef, __expf), the host rounds correctly: a kernel ----
// ---- that has to agree bit for bit with its reference does not use those. -------------------------------------------

inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }  // NaN to 0
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __frsqrt_rn(float v) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(v))); }
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __log2f(float v) { return std::log2(v); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline float __sinf(float v) { return std::sin(v); }
inline float __cosf(float v) { return std::cos(v); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fadd_rd(float a, float b) {  // exact in float64, unless one is 2^29 times the other
    const float sum = a + b;
    return static_cast<double>(sum) > static_cast<double>(a) + static_cast<double>(b)
               ? std::nextafter(sum, -std::numeric_limits<float>::infinity())
               : sum;
}
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
using std::isfinite;
using std::isinf;
using std::isnan;

#define HOST_CUDA_MIN_MAX(TYPE)                                          \
    inline TYPE min(TYPE a, TYPE b) { return b < a ? b : a; }            \
    inline TYPE max(TYPE a, TYPE b) { return a < b ? b : a; }
HOST_CUDA_MIN_MAX(int)
HOST_CUDA_MIN_MAX(unsigned)
HOST_CUDA_MIN_MAX(long)
HOST_CUDA_MIN_MAX(unsigned long)
HOST_CUDA_MIN_MAX(long long)
HOST_CUDA_MIN_MAX(unsigned long long)
#undef HOST_CUDA_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

template <class T>
inline T __ldg(const T* address) { return *address; }
template <class T>
inline T __ldcs(const T* address) { return *address; }
template <class T>
inline void __stcs(T* address, T value) { *address = value; }

// ---- half: storage and conversion, round to nearest even ------------------------------------------------------------

struct __half {
    unsigned short bits;
};
using half = __half;
struct alignas(4) __half2 {
    __half x, y;
};
using half2 = __half2;
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half v) { return v.bits; }
inline __half __float2half_rn(float value) {
    const unsigned bits = __float_as_uint(value);
    const unsigned sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    unsigned result;
    if (magnitude > 0x7f800000u) return {0x7fff};  // NaN, as PTX cvt gives it
    if (magnitude >= 0x477ff000u) {
        result = 0x7c00u;  // 65520 and above round to infinity
    } else if (magnitude >= 0x38800000u) {
        const unsigned rebased = magnitude - 0x38000000u;
        result = (rebased + 0xfffu + (rebased >> 13 & 1u)) >> 13;
    } else {  // subnormal: a multiple of 2^-24, which the addition rounds
        result = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
    }
    return {static_cast<unsigned short>(sign | result)};
}
inline __half __float2half(float value) { return __float2half_rn(value); }
inline float __half2float(__half value) {
    const unsigned sign = (value.bits & 0x8000u) << 16, fraction = value.bits & 0x3ffu;
    const unsigned exponent = value.bits >> 10 & 31u;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
    if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
    return __uint_as_float(sign | __float_as_uint(static_cast<float>(fraction) * 0x1p-24f));
}
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
