// Pictures in any pixel format to detectors' tensors, many in one launch; letterbox.py says what the result is.
//
// A block makes a tile of one tensor. What each of its columns and rows takes from the source, and with what weights,
// is worked out once per tile, in whole numbers, and shared. Then
//
// 1. down: a thread reads sixteen bytes of a row of the source at once and sums them, weighted, over the rows that make
//    a row of the tile; the sums of all columns go to shared memory. Only here is the source read.
// 2. across: a thread makes a pixel: per component (Y, U, V; or R, G, B) the weighted sum over its columns, then the
//    matrix, the rounding, the normalisation.
//
// A format is described by planes, places in them and a matrix, so there is one path for all of them. Where a picture
// shrinks (or stays) by a ratio of small whole numbers, weights and sums are whole numbers too: exact, and two to a
// register. Elsewhere they are float32. Pictures that shrink so much that not even a small tile's columns find room take
// a slow path without shared memory.

#ifndef LETTERBOX_MAX_JOBS
#define LETTERBOX_MAX_JOBS 32
#endif
#ifndef LETTERBOX_THREADS
#define LETTERBOX_THREADS 128
#endif
#ifndef LETTERBOX_BLOCKS
#define LETTERBOX_BLOCKS 8  // that shall fit beside each other
#endif
#ifndef LETTERBOX_QUICK_BLOCKS
#define LETTERBOX_QUICK_BLOCKS 8
#endif
#ifndef LETTERBOX_AHEAD
#define LETTERBOX_AHEAD 4  // rows of the source that a thread asks for before it looks at the first
#endif

#define MAX_TILE 64  // columns or rows
#define WORD 16  // bytes that a thread reads at once

// Element types of a tensor; letterbox_cuda.py has the same.
#define OUT_FLOAT32 0
#define OUT_FLOAT16 1
#define OUT_UINT8 2
#define OUT_INT8 3

#define FULL 0  // a plane of the picture's size
#define CHROMA 1

#define TURN_SWAP 1  // axes are swapped; after that
#define TURN_MIRROR_X 2
#define TURN_MIRROR_Y 4
#define HAS_CHROMA 8  // all planes but the first are CHROMA
#define WIDE 16  // a sample has 16 bits
#define WHOLE 32  // weights and sums are whole numbers; the matrix makes up for their units
#define FEW 128  // a pixel takes at most 4 samples of a row, of CHROMA 2; else 8; looked at where all is QUICK
#define ALIGNED 64  // rows of all planes lie a multiple of WORD apart

// One picture and its tensor. Sizes are (width, height).
struct Job {
    unsigned long long plane[3];  // addresses of the first samples
    unsigned long long out;
    float matrix[9];  // rows: channels of the tensor, in its order; from 0 to 1
    float offset[3];
    unsigned pitch_bytes[3];
    unsigned short plane_size[2][2];  // FULL: the stored picture; CHROMA
    unsigned short content_size[2];  // before it is turned upright
    unsigned short target_size[2];
    unsigned short divisor[2][2];  // WHOLE: of weights in units of the plane's size, by kind of plane and axis
    unsigned char form;  // planes; times 4: samples from one pixel to the next in the last plane; times 32: components
    unsigned char places;  // of each component in the pixel of its plane, two bits each
    unsigned char flags;
    unsigned char log2_tile;  // of its width, and times 16 that of its height; or 255, for the slow path
};
struct Jobs {
    Job job[LETTERBOX_MAX_JOBS];
};
// What all tensors of a launch share: value = (code - mean) * scale.
struct Output {
    float mean[3];
    float scale[3];
    float int8_scale;
    int pad_value;
    int type;
    int channels_last;
    int plain;  // whether mean and scale change nothing
};

// The samples [first, first + count) of an axis, and what the first and the last weigh: bits of a float, or a number.
struct __align__(16) Taps {
    int first, count;
    unsigned first_weight, last_weight;
};

__device__ __forceinline__ void number_of(unsigned bits, float* weight) { *weight = __uint_as_float(bits); }
__device__ __forceinline__ void number_of(unsigned bits, unsigned* weight) { *weight = bits; }

template <class Number>
__device__ __forceinline__ Number weight_of(const Taps& taps, unsigned inner, int i) {
    Number weight;
    number_of(i == 0 ? taps.first_weight : i == taps.count - 1 ? taps.last_weight : inner, &weight);
    return weight;
}

// What a sample between the first and the last weighs, where weights are floats.
__device__ __forceinline__ unsigned inner_weight(unsigned have, unsigned want) {
    return __float_as_uint(static_cast<float>(want) * (1.0f / static_cast<float>(have)));
}

// Where weights are whole numbers: have and want have no common divisor, and have is not the smaller one. What lies between
// the first and the last sample weighs `want`. block: of pixels that a sample serves where nothing is scaled, else 0.
__device__ __forceinline__ Taps whole_taps(unsigned place, unsigned have, unsigned want, unsigned block) {
    if (block) return {static_cast<int>(place / block), 1, 1u, 0};
    const unsigned from = place * have;
    if (want == 1) return {static_cast<int>(from), static_cast<int>(have), 1u, 1u};
    const unsigned first = from / want, rest = from - first * want, to = rest + have;
    const unsigned last = to / want, into_last = to - last * want;
    return {static_cast<int>(first), static_cast<int>(last + (into_last != 0)), want - rest, into_last ? into_last : want};
}

// block: of pixels that a sample serves where nothing is scaled, else 0.
__device__ __forceinline__ Taps taps_of(unsigned place, unsigned have, unsigned want, unsigned block) {
    const unsigned one = __float_as_uint(1.0f);
    if (block) return {static_cast<int>(place / block), 1, one, 0};
    if (want == have) return {static_cast<int>(place), 1, one, 0};
    if (want < have) {  // area average over [place * have / want, (place + 1) * have / want)
        const unsigned from = place * have, to = from + have;
        const unsigned first = from / want, last = to / want;
        const unsigned into_last = to - last * want;
        const unsigned first_weight = want - (from - first * want), last_weight = into_last ? into_last : want;
        const int count = static_cast<int>(last - first + (into_last != 0));
        const float unit = 1.0f / static_cast<float>(have);
        return {static_cast<int>(first), count, __float_as_uint(static_cast<float>(first_weight) * unit),
                __float_as_uint(static_cast<float>(last_weight) * unit)};
    }
    // Bilinear at (place + 1/2) * have / want - 1/2, from the first to the last sample; in units of 1 / (2 want).
    const unsigned at = (2 * place + 1) * have;
    const unsigned unit = 2 * want;
    const unsigned position = at < want ? 0 : min(at - want, (have - 1) * unit);
    const unsigned first = position / unit, rest = position - first * unit;
    const float share = static_cast<float>(rest) / static_cast<float>(unit);
    return {static_cast<int>(first), rest ? 2 : 1, __float_as_uint(1.0f - share), __float_as_uint(share)};
}

// ---- Down: sums of a word of samples over rows ----------------------------------------------------------------------

// Sums of samples of 8 bits, at most 65535 each, two to a register.
struct SumsOfBytes {
    typedef unsigned Number;
    static constexpr int ahead = LETTERBOX_AHEAD;
    unsigned even[4], odd[4];
    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < 4; ++i) even[i] = odd[i] = 0;
    }
    __device__ __forceinline__ void add(const unsigned* word, unsigned weight) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            even[i] += (word[i] & 0x00ff00ffu) * weight;
            odd[i] += __byte_perm(word[i], 0, 0x4341) * weight;
        }
    }
    __device__ __forceinline__ void put(uint4* sums) const {
#pragma unroll
        for (int i = 0; i < 4; i += 2)
            sums[i / 2] =
                make_uint4(__byte_perm(even[i], odd[i], 0x5410), __byte_perm(even[i], odd[i], 0x7632),
                           __byte_perm(even[i + 1], odd[i + 1], 0x5410), __byte_perm(even[i + 1], odd[i + 1], 0x7632));
    }
};

// Sums of samples of 16 bits.
struct SumsOfShorts {
    typedef unsigned Number;
    static constexpr int ahead = LETTERBOX_AHEAD;
    unsigned sum[8];
    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] = 0;
    }
    __device__ __forceinline__ void add(const unsigned* word, unsigned weight) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += (i % 2 ? word[i / 2] >> 16 : word[i / 2] & 0xffffu) * weight;
    }
    __device__ __forceinline__ void put(uint4* sums) const {
        sums[0] = make_uint4(sum[0], sum[1], sum[2], sum[3]);
        sums[1] = make_uint4(sum[4], sum[5], sum[6], sum[7]);
    }
};

template <class Sample>
struct SumsInFloat {
    typedef float Number;
    static constexpr int ahead = 2;  // more would not fit into registers
    static constexpr int samples = WORD / sizeof(Sample), in_register = 4 / sizeof(Sample);
    float sum[samples];
    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < samples; ++i) sum[i] = 0.0f;
    }
    __device__ __forceinline__ void add(const unsigned* word, float weight) {
#pragma unroll
        for (int i = 0; i < samples; ++i) {
            const unsigned code = __byte_perm(word[i / in_register], 0, sizeof(Sample) == 1 ? 0x4440 + i % 4 : i % 2 ? 0x4432 : 0x4410);
            sum[i] = fmaf(weight, static_cast<float>(code), sum[i]);
        }
    }
    __device__ __forceinline__ void put(uint4* sums) const {
#pragma unroll
        for (int i = 0; i < samples; i += 4)
            sums[i / 4] = make_uint4(__float_as_uint(sum[i]), __float_as_uint(sum[i + 1]), __float_as_uint(sum[i + 2]),
                                     __float_as_uint(sum[i + 3]));
    }
};

// The word of a row at `from`, of which only bytes in [0, bytes) are read; the others are 0.
__device__ __noinline__ uint4 read_bytes(const unsigned char* row, int from, int bytes) {
    unsigned word[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < WORD; ++i)
        if (from + i >= 0 && from + i < bytes) word[i / 4] |= static_cast<unsigned>(row[from + i]) << 8 * (i % 4);
    return make_uint4(word[0], word[1], word[2], word[3]);
}

template <class Sums>
__device__ __forceinline__ void sum_down(const unsigned char* row, unsigned pitch_bytes, int from, int bytes,
                                         bool aligned, const Taps& y, unsigned inner, uint4* to) {
    Sums sums;
    sums.clear();
    if (aligned && from >= 0 && from + WORD <= bytes) {
        row += from;
        for (int start = 0; start < y.count; start += Sums::ahead) {
            uint4 words[Sums::ahead];
#pragma unroll
            for (int i = 0; i < Sums::ahead; ++i) {
                words[i] = start + i < y.count ? *reinterpret_cast<const uint4*>(row) : make_uint4(0, 0, 0, 0);
                row += pitch_bytes;
            }
#pragma unroll
            for (int i = 0; i < Sums::ahead; ++i) {
                if (start + i >= y.count) break;
                const unsigned word[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
                sums.add(word, weight_of<typename Sums::Number>(y, inner, start + i));
            }
        }
    } else {
#pragma unroll 1
        for (int i = 0; i < y.count; ++i, row += pitch_bytes) {
            const uint4 bits = read_bytes(row, from, bytes);
            const unsigned word[4] = {bits.x, bits.y, bits.z, bits.w};
            sums.add(word, weight_of<typename Sums::Number>(y, inner, i));
        }
    }
    sums.put(to);
}

// ---- Across ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float madd(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ unsigned madd(unsigned a, unsigned b, unsigned c) { return a * b + c; }

template <class Number, class Sum>
__device__ __forceinline__ float sum_across(const Sum* sums, int step, const Taps& x, unsigned inner) {
    Number first, between, last;
    number_of(x.first_weight, &first);
    number_of(inner, &between);
    number_of(x.last_weight, &last);
    Number sum = first * static_cast<Number>(sums[0]);
    for (int i = 1; i < x.count - 1; ++i) sum = madd(between, static_cast<Number>(sums[i * step]), sum);
    if (x.count > 1) sum = madd(last, static_cast<Number>(sums[(x.count - 1) * step]), sum);
    return static_cast<float>(sum);
}

// The slow path: straight from the source.
template <class Sample>
__device__ __noinline__ float sum_area(unsigned long long address, unsigned pitch_bytes, unsigned step, Taps x,
                                       unsigned inner_x, Taps y, unsigned inner_y) {
    const char* row = reinterpret_cast<const char*>(address) + static_cast<size_t>(y.first) * pitch_bytes +
                      static_cast<size_t>(x.first) * step * sizeof(Sample);
    float sum = 0.0f;
#pragma unroll 1
    for (int j = 0; j < y.count; ++j, row += pitch_bytes) {
        float of_row = 0.0f;
#pragma unroll 1
        for (int i = 0; i < x.count; ++i)
            of_row = fmaf(weight_of<float>(x, inner_x, i),
                          static_cast<float>(reinterpret_cast<const Sample*>(row)[i * step]), of_row);
        sum = fmaf(weight_of<float>(y, inner_y, j), of_row, sum);
    }
    return sum;
}

// ---- A pixel --------------------------------------------------------------------------------------------------------

__device__ __forceinline__ unsigned short half_bits(float value) {
#ifdef HOST_CUDA
    return __half_as_ushort(__float2half_rn(value));
#else  // NVRTC knows no half without a header that an installation may lack
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#endif
}

// A pixel of the tensor, which has less than 2^32 elements; `apart`: elements from one channel to the next.
__device__ __forceinline__ void store(const Output& output, unsigned long long out, unsigned element, unsigned apart,
                                      const float* code) {
    float value[3] = {code[0], code[1], code[2]};
    if (!output.plain) {
#pragma unroll
        for (int c = 0; c < 3; ++c) value[c] = (code[c] - output.mean[c]) * output.scale[c];
    }
    if (output.type == OUT_FLOAT16) {
        unsigned short* const to = reinterpret_cast<unsigned short*>(out) + element;
#pragma unroll
        for (int c = 0; c < 3; ++c) to[c * apart] = half_bits(value[c]);
    } else if (output.type == OUT_FLOAT32) {
        float* const to = reinterpret_cast<float*>(out) + element;
#pragma unroll
        for (int c = 0; c < 3; ++c) to[c * apart] = value[c];
    } else if (output.type == OUT_UINT8) {
        unsigned char* const to = reinterpret_cast<unsigned char*>(out) + element;
#pragma unroll
        for (int c = 0; c < 3; ++c) to[c * apart] = static_cast<unsigned char>(code[c]);
    } else {
        signed char* const to = reinterpret_cast<signed char*>(out) + element;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const int quantized = __float2int_rn(value[c] / output.int8_scale);
            to[c * apart] = static_cast<signed char>(max(-128, min(127, quantized)));
        }
    }
}

__device__ __forceinline__ void convert(const Job& job, const float* part, float* code) {
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        float value = fmaf(job.matrix[3 * c], part[0], job.offset[c]);
        value = fmaf(job.matrix[3 * c + 1], part[1], value);
        value = __saturatef(fmaf(job.matrix[3 * c + 2], part[2], value));  // clamping costs nothing there
        code[c] = __fadd_rd(fmaf(value, 255.0f, 0.5f), 8388608.0f) - 8388608.0f;  // floor: whole numbers lie one apart there
    }
}

// ---- The pixels of a thread, where sums are whole numbers and a pixel takes few of them: what most pictures are --------

// A column of the tile, every `stride`-th row from `row` on; content fills the first `content` rows.
struct Column {
    int row, stride, height, content;
    unsigned element, next_row, apart;  // of the tensor: in row 0; from row to row; from channel to channel
};

// at: the first sums of the components in the column's row 0. Of the first component and of the others: the most samples that a
// pixel takes, and the step from one to the next.
template <class Sum, int FIRST_TAPS, int OTHER_TAPS, int FIRST_STEP, int OTHER_STEP>
__device__ __forceinline__ void make_column(const Job& job, const Output& output, const Column& column, const int* at,
                                            const int* pitch, const Taps* taps, const unsigned* inner,
                                            const unsigned char* shared) {
    unsigned weight[2][FIRST_TAPS];
#pragma unroll
    for (int kind = 0; kind < 2; ++kind)
#pragma unroll
        for (int i = 0; i < (kind ? OTHER_TAPS : FIRST_TAPS); ++i)
            weight[kind][i] = i < taps[kind].count ? weight_of<unsigned>(taps[kind], inner[kind], i) : 0;
    const Sum* sums[3];
#pragma unroll
    for (int c = 0; c < 3; ++c) sums[c] = reinterpret_cast<const Sum*>(shared) + at[c] + column.row * pitch[c];
    const unsigned next = column.stride * column.next_row;
    unsigned element = column.element + column.row * column.next_row;
    int row = column.row;
#pragma unroll 1
    for (; row < column.content; row += column.stride, element += next) {
        float code[3], part[3];
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            unsigned sum = 0;
            // Beyond the last one lie other sums, or the slack behind all of them, and the weight is 0.
#pragma unroll
            for (int i = 0; i < (c ? OTHER_TAPS : FIRST_TAPS); ++i)
                sum += weight[c ? 1 : 0][i] * sums[c][i * (c ? OTHER_STEP : FIRST_STEP)];
            part[c] = static_cast<float>(sum);
            sums[c] += column.stride * pitch[c];
        }
        convert(job, part, code);
        store(output, job.out, element, column.apart, code);
    }
    const float pad = static_cast<float>(output.pad_value), beside[3] = {pad, pad, pad};
#pragma unroll 1
    for (; row < column.height; row += column.stride, element += next) store(output, job.out, element, column.apart, beside);
}

// A block's work. QUICK: sums are whole numbers, the picture is upright, and a pixel takes few samples of a row.
template <bool QUICK>
__device__ __forceinline__ void make_tile(const Job& job, const Output& output, unsigned char* dynamic_shared) {
    __shared__ int pitch[3], origin[3];  // of each plane's sums: from row to row; where sample 0 would lie
    __shared__ Taps taps[2][2][MAX_TILE];  // by axis of the stored picture, kind of plane, and place in the tile
    __shared__ unsigned ratio[2][2][2];  // by axis and kind: have and want without their common divisor, where all is whole
    const int target_w = job.target_size[0], target_h = job.target_size[1];
    const bool slow = !QUICK && job.log2_tile == 255;
    const int log2_w = slow ? 5 : job.log2_tile & 15, log2_h = slow ? 5 : job.log2_tile >> 4;
    const int tile_w = 1 << log2_w, tile_h = 1 << log2_h, tiles_x = (target_w + tile_w - 1) >> log2_w;
    const int tile_y = static_cast<int>(blockIdx.x) / tiles_x;
    const int left = (static_cast<int>(blockIdx.x) - tile_y * tiles_x) << log2_w, top = tile_y << log2_h;
    if (top >= target_h) return;  // the whole block

    const int flags = job.flags, planes = job.form & 3, last_step = job.form >> 2 & 7;
    const bool swap = !QUICK && flags & TURN_SWAP, wide = flags & WIDE, whole = QUICK || flags & WHOLE;
    const int content_w = job.content_size[swap], content_h = job.content_size[!swap];  // upright
    const int thread = threadIdx.x;
    // How many of the tile's columns and rows hold content.
    const int columns = max(0, min(tile_w, content_w - left)), rows = columns ? max(0, min(tile_h, content_h - top)) : 0;
    const unsigned short* const full = job.plane_size[FULL];

    if (rows) {
        const bool keeps = job.content_size[0] == full[0] && job.content_size[1] == full[1];
        if (whole) {
            if (thread < 8) {
                const int axis = thread / 4, kind = thread / 2 % 2;
                const unsigned of = thread % 2 ? job.content_size[axis] : job.plane_size[kind][axis];
                ratio[axis][kind][thread % 2] = of / job.divisor[kind][axis];
            }
            __syncthreads();
        }
        for (int entry = thread; entry < 4 * MAX_TILE; entry += LETTERBOX_THREADS) {
            const int place = entry % MAX_TILE, kind = entry / MAX_TILE % 2, axis = entry / (2 * MAX_TILE);
            const bool is_row = axis != static_cast<int>(swap);
            if (place >= (is_row ? rows : columns)) continue;
            const int upright = place + (is_row ? top : left);
            const int want = job.content_size[axis], have = job.plane_size[kind][axis];
            const bool mirrored = flags >> (axis + 1) & 1;
            const unsigned at = mirrored ? want - 1 - upright : upright, block = keeps ? (full[axis] + have - 1) / have : 0;
            taps[axis][kind][place] =
                whole ? whole_taps(at, ratio[axis][kind][0], ratio[axis][kind][1], block) : taps_of(at, have, want, block);
        }
        __syncthreads();
    }

    if (rows && !slow) {
        const int across = swap ? rows : columns, down = swap ? columns : rows;  // of the stored picture
        const bool mirrored = flags & TURN_MIRROR_X, aligned = flags & ALIGNED;
        const int log2_size = wide, sum_words = whole && !wide ? 2 : wide ? 2 : 4;  // sums of a word, in 16 bytes
        int at = 0;
#pragma unroll 1
        for (int p = 0; p < planes; ++p) {
            const int kind = p && flags & HAS_CHROMA ? CHROMA : FULL;
            const int step = (p == planes - 1 ? last_step : 1) << log2_size;  // in bytes
            const Taps begin = taps[0][kind][mirrored ? across - 1 : 0], end = taps[0][kind][mirrored ? 0 : across - 1];
            const unsigned char* const plane = reinterpret_cast<const unsigned char*>(job.plane[p]);
            const int bytes = job.plane_size[kind][0] * step;
            int from = begin.first * step;
            from -= static_cast<int>(reinterpret_cast<size_t>(plane + from) & (WORD - 1));
            const int words = ((end.first + end.count) * step - from + WORD - 1) / WORD;
            const int in_row = words * (WORD >> log2_size);
            if (thread == 0) {
                pitch[p] = in_row;
                origin[p] = at - (from >> log2_size);
            }
            const unsigned inner =
                whole ? ratio[1][kind][1] : inner_weight(job.plane_size[kind][1], job.content_size[1]);
            const float per_row = 1.0f / static_cast<float>(words);
            uint4* const sums = reinterpret_cast<uint4*>(dynamic_shared) + (at >> (4 - log2_size)) * sum_words;
            for (int item = thread; item < words * down; item += LETTERBOX_THREADS) {
                const int row = static_cast<int>((static_cast<float>(item) + 0.5f) * per_row);
                const int place = from + (item - row * words) * WORD;
                const Taps y = taps[1][kind][row];
                const unsigned char* const source = plane + static_cast<size_t>(y.first) * job.pitch_bytes[p];
                uint4* const to = sums + item * sum_words;
                const unsigned to_next = job.pitch_bytes[p];
                if (whole && !wide)
                    sum_down<SumsOfBytes>(source, to_next, place, bytes, aligned, y, inner, to);
                else if (whole)
                    sum_down<SumsOfShorts>(source, to_next, place, bytes, aligned, y, inner, to);
                else if (!wide)
                    sum_down<SumsInFloat<unsigned char>>(source, to_next, place, bytes, aligned, y, inner, to);
                else
                    sum_down<SumsInFloat<unsigned short>>(source, to_next, place, bytes, aligned, y, inner, to);
            }
            at += in_row * down;
        }
        __syncthreads();
    }

    const int column = thread & (tile_w - 1), x = left + column;
    if (x >= target_w) return;
    unsigned inner[2] = {0, 0};
    if (rows) {
        inner[FULL] = whole ? ratio[0][FULL][1] : inner_weight(full[0], job.content_size[0]);
        inner[CHROMA] = whole ? ratio[0][CHROMA][1] : inner_weight(job.plane_size[CHROMA][0], job.content_size[0]);
    }
    Taps of_column[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    if (!swap && column < columns && rows) {
        of_column[FULL] = taps[0][FULL][column];
        of_column[CHROMA] = taps[0][CHROMA][column];
    }
    const unsigned apart = output.channels_last ? 1 : static_cast<unsigned>(target_w) * target_h;
    const unsigned between = output.channels_last ? 3 : 1;
    if constexpr (QUICK) {
        const Column mine = {thread >> log2_w, LETTERBOX_THREADS >> log2_w, min(tile_h, target_h - top),
                             column < columns ? rows : 0, (static_cast<unsigned>(top) * target_w + x) * between,
                             static_cast<unsigned>(target_w) * between, apart};
        if (!(flags & HAS_CHROMA)) of_column[CHROMA] = of_column[FULL];
        const unsigned inner_of[2] = {inner[FULL], flags & HAS_CHROMA ? inner[CHROMA] : inner[FULL]};
        int at[3], to_next[3];
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const int p = c == 0 || planes == 1 ? 0 : planes == 3 ? c : 1, step = p == planes - 1 ? last_step : 1;
            at[c] = rows ? origin[p] + of_column[c ? CHROMA : FULL].first * step + (job.places >> 2 * c & 3) : 0;
            to_next[c] = rows ? pitch[p] : 0;
        }
        const bool few = flags & FEW;
        if (wide && planes == 2)
            make_column<unsigned, 4, 4, 1, 2>(job, output, mine, at, to_next, of_column, inner_of, dynamic_shared);
        else if (wide)
            make_column<unsigned, 4, 4, 1, 1>(job, output, mine, at, to_next, of_column, inner_of, dynamic_shared);
        else if (planes == 2 && few)
            make_column<unsigned short, 4, 2, 1, 2>(job, output, mine, at, to_next, of_column, inner_of, dynamic_shared);
        else if (planes == 2)
            make_column<unsigned short, 8, 8, 1, 2>(job, output, mine, at, to_next, of_column, inner_of, dynamic_shared);
        else if (planes == 3 && few)
            make_column<unsigned short, 4, 2, 1, 1>(job, output, mine, at, to_next, of_column, inner_of, dynamic_shared);
        else if (planes == 3)
            make_column<unsigned short, 8, 8, 1, 1>(job, output, mine, at, to_next, of_column, inner_of, dynamic_shared);
        else if (few)
            make_column<unsigned short, 4, 4, 3, 3>(job, output, mine, at, to_next, of_column, inner_of, dynamic_shared);
        else
            make_column<unsigned short, 8, 8, 3, 3>(job, output, mine, at, to_next, of_column, inner_of, dynamic_shared);
    } else {
        for (int row = thread >> log2_w; row < tile_h && top + row < target_h; row += LETTERBOX_THREADS >> log2_w) {
            float code[3];
            if (column < columns && row < rows) {
                const int stored_row = swap ? column : row;
                if (swap) {
                    of_column[FULL] = taps[0][FULL][row];
                    of_column[CHROMA] = taps[0][CHROMA][row];
                }
                float part[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
                for (int c = 0; c < 3; ++c) {
                    if (c >= job.form >> 5) break;
                    const int p = c == 0 || planes == 1 ? 0 : planes == 3 ? c : 1, place = job.places >> 2 * c & 3;
                    const bool chroma = p && flags & HAS_CHROMA;
                    const int step = p == planes - 1 ? last_step : 1;
                    const Taps t = chroma ? of_column[CHROMA] : of_column[FULL];
                    const unsigned inner_x = chroma ? inner[CHROMA] : inner[FULL];
                    if (slow) {
                        const Taps y = taps[1][chroma][stored_row];
                        const unsigned inner_y = inner_weight(job.plane_size[chroma][1], job.content_size[1]);
                        const unsigned long long address = job.plane[p] + (wide ? 2 * place : place);
                        part[c] = wide ? sum_area<unsigned short>(address, job.pitch_bytes[p], step, t, inner_x, y, inner_y)
                                       : sum_area<unsigned char>(address, job.pitch_bytes[p], step, t, inner_x, y, inner_y);
                        continue;
                    }
                    const int at = origin[p] + stored_row * pitch[p] + t.first * step + place;
                    if (whole && !wide)
                        part[c] = sum_across<unsigned>(reinterpret_cast<unsigned short*>(dynamic_shared) + at, step, t, inner_x);
                    else if (whole)
                        part[c] = sum_across<unsigned>(reinterpret_cast<unsigned*>(dynamic_shared) + at, step, t, inner_x);
                    else
                        part[c] = sum_across<float>(reinterpret_cast<float*>(dynamic_shared) + at, step, t, inner_x);
                }
                convert(job, part, code);
            } else {
                code[0] = code[1] = code[2] = static_cast<float>(output.pad_value);
            }
            store(output, job.out, (static_cast<unsigned>(top + row) * target_w + x) * between, apart, code);
        }
    }
}

// Blocks: tiles of the tensor that has most of them, 1, jobs; threads: LETTERBOX_THREADS. Dynamic shared memory: the sums
// of the largest tile, see letterbox_cuda.py.
extern "C" __global__ void __launch_bounds__(LETTERBOX_THREADS, LETTERBOX_BLOCKS) letterbox(
    const Jobs __grid_constant__ jobs, const Output __grid_constant__ output) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    make_tile<false>(jobs.job[blockIdx.z], output, dynamic_shared);
}

// The same, where all jobs are QUICK: nearly all pictures.
extern "C" __global__ void __launch_bounds__(LETTERBOX_THREADS, LETTERBOX_QUICK_BLOCKS) letterbox_quick(
    const Jobs __grid_constant__ jobs, const Output __grid_constant__ output) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    make_tile<true>(jobs.job[blockIdx.z], output, dynamic_shared);
}
