// Pictures in any pixel format to detectors' tensors, many in one launch; letterbox.py says what the result is.
//
// A block makes a tile of one tensor. What each of its columns and rows takes from the source, and with what weights,
// is worked out once per tile, in whole numbers, and shared. Then every thread makes some pixels: for each component
// (Y, U, V; or R, G, B) the weighted sum over its part of the plane, then the matrix, the rounding, the normalisation.
// A format is described by addresses, steps and a matrix, so there is one path for all of them.

#ifndef LETTERBOX_MAX_JOBS
#define LETTERBOX_MAX_JOBS 32
#endif
#ifndef LETTERBOX_TILE
#define LETTERBOX_TILE 32
#endif
#ifndef LETTERBOX_ROWS
#define LETTERBOX_ROWS 8
#endif

static_assert(LETTERBOX_TILE == 32, "a warp makes a row of a tile");
static_assert(LETTERBOX_TILE % LETTERBOX_ROWS == 0, "each thread makes as many pixels");

// Element types of a tensor; letterbox_cuda.py has the same.
#define OUT_FLOAT32 0
#define OUT_FLOAT16 1
#define OUT_UINT8 2
#define OUT_INT8 3

#define FULL 0  // a plane of the picture's size
#define CHROMA 1

// One picture and its tensor. Sizes are (width, height).
struct Job {
    unsigned long long component[3];  // addresses of the first sample
    unsigned long long out;
    float matrix[9];  // rows: channels of the tensor, in its order
    float offset[3];
    unsigned pitch_bytes[3];
    unsigned short plane_size[2][2];  // FULL: the stored picture; CHROMA
    unsigned short content_size[2];  // before it is turned upright
    unsigned short target_size[2];
    unsigned char components;  // 3, or 1 for gray
    unsigned char step;  // samples from one pixel to the next in the components 1 and 2, and in 0 where all are FULL
    unsigned char wide;  // whether a sample has 16 bits
    unsigned char turn;  // bit 0: axes are swapped, after 1: x is mirrored, 2: y is mirrored; bit 3: 1 and 2 are CHROMA
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
};

// The samples [first, first + count) of an axis, and what each weighs: the first, those between, the last.
struct Taps {
    int first, count;
    float first_weight, inner_weight, last_weight;
};

__device__ __forceinline__ Taps taps_of(unsigned place, unsigned have, unsigned want, bool whole_picture_keeps_its_size,
                                        unsigned stored) {
    if (whole_picture_keeps_its_size) {  // a sample serves the block of pixels that it covers
        const unsigned block = (stored + have - 1) / have;
        return {static_cast<int>(place / block), 1, 1.0f, 0.0f, 0.0f};
    }
    if (want == have) return {static_cast<int>(place), 1, 1.0f, 0.0f, 0.0f};
    if (want < have) {  // area average over [place * have / want, (place + 1) * have / want)
        const unsigned from = place * have, to = from + have;
        const unsigned first = from / want, last = to / want;
        const unsigned into_first = from - first * want, into_last = to - last * want;
        const float unit = 1.0f / static_cast<float>(have);
        const unsigned count = last - first + (into_last != 0);
        return {static_cast<int>(first), static_cast<int>(count), static_cast<float>(want - into_first) * unit,
                static_cast<float>(want) * unit, static_cast<float>(into_last ? into_last : want) * unit};
    }
    // Bilinear at (place + 1/2) * have / want - 1/2, from the first to the last sample; in units of 1 / (2 want).
    const unsigned at = (2 * place + 1) * have;
    const unsigned unit = 2 * want;
    const unsigned position = at < want ? 0 : min(at - want, (have - 1) * unit);
    const unsigned first = position / unit, rest = position - first * unit;
    const float share = static_cast<float>(rest) / static_cast<float>(unit);
    return {static_cast<int>(first), rest ? 2 : 1, 1.0f - share, 0.0f, share};
}

template <class Sample>
__device__ __forceinline__ float row_sum(const Sample* row, unsigned step, const Taps& x) {
    float sum = x.first_weight * static_cast<float>(row[0]);
    for (int i = 1; i < x.count - 1; ++i) sum += x.inner_weight * static_cast<float>(row[i * step]);
    if (x.count > 1) sum += x.last_weight * static_cast<float>(row[(x.count - 1) * step]);
    return sum;
}

template <class Sample>
__device__ __forceinline__ float weighted_sum(unsigned long long address, unsigned pitch_bytes, unsigned step,
                                              const Taps& x, const Taps& y) {
    const char* row = reinterpret_cast<const char*>(address) + static_cast<size_t>(y.first) * pitch_bytes +
                      static_cast<size_t>(x.first) * step * sizeof(Sample);
    float sum = y.first_weight * row_sum(reinterpret_cast<const Sample*>(row), step, x);
    for (int i = 1; i < y.count; ++i) {
        row += pitch_bytes;
        const float weight = i == y.count - 1 ? y.last_weight : y.inner_weight;
        sum += weight * row_sum(reinterpret_cast<const Sample*>(row), step, x);
    }
    return sum;
}

__device__ __forceinline__ unsigned short half_bits(float value) {
#ifdef HOST_CUDA
    return __half_as_ushort(__float2half_rn(value));
#else  // NVRTC knows no half without a header that an installation may lack
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#endif
}

__device__ __forceinline__ void store(const Output& output, unsigned long long out, size_t element, int channel,
                                      float code) {
    const float value = (code - output.mean[channel]) * output.scale[channel];
    if (output.type == OUT_FLOAT32) {
        reinterpret_cast<float*>(out)[element] = value;
    } else if (output.type == OUT_FLOAT16) {
        reinterpret_cast<unsigned short*>(out)[element] = half_bits(value);
    } else if (output.type == OUT_UINT8) {
        reinterpret_cast<unsigned char*>(out)[element] = static_cast<unsigned char>(code);
    } else {
        const int quantized = __float2int_rn(value / output.int8_scale);
        reinterpret_cast<signed char*>(out)[element] = static_cast<signed char>(max(-128, min(127, quantized)));
    }
}

template <class Sample>
__device__ __forceinline__ void make_pixel(const Job& job, const Taps* x, const Taps* y, float* code) {
    const int other = job.turn & 8 ? CHROMA : FULL;
    float part[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        if (c >= job.components) break;
        const int plane = c == 0 ? FULL : other;
        const unsigned step = c == 0 && other == CHROMA ? 1 : job.step;
        part[c] = weighted_sum<Sample>(job.component[c], job.pitch_bytes[c], step, x[plane], y[plane]);
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        const float value = job.matrix[3 * c] * part[0] + job.matrix[3 * c + 1] * part[1] +
                            job.matrix[3 * c + 2] * part[2] + job.offset[c];
        code[c] = floorf(fminf(fmaxf(value, 0.0f), 255.0f) + 0.5f);
    }
}

// Blocks: tiles of the widest tensor, tiles of the highest, jobs; threads: (LETTERBOX_TILE, LETTERBOX_ROWS).
extern "C" __global__ void __launch_bounds__(LETTERBOX_TILE * LETTERBOX_ROWS) letterbox(
    const Jobs __grid_constant__ jobs, const Output __grid_constant__ output) {
    __shared__ Taps across[LETTERBOX_TILE][2], down[LETTERBOX_TILE][2];  // by column or row of the tile, and plane
    const Job& job = jobs.job[blockIdx.z];
    const unsigned target_w = job.target_size[0], target_h = job.target_size[1];
    const unsigned left = blockIdx.x * LETTERBOX_TILE, top = blockIdx.y * LETTERBOX_TILE;
    if (left >= target_w || top >= target_h) return;  // the whole block

    const bool swap = job.turn & 1;
    const unsigned content_w = job.content_size[swap], content_h = job.content_size[!swap];  // upright
    const bool keeps = job.content_size[0] == job.plane_size[FULL][0] && job.content_size[1] == job.plane_size[FULL][1];
    const unsigned thread = threadIdx.y * LETTERBOX_TILE + threadIdx.x;
    for (unsigned entry = thread; entry < 4 * LETTERBOX_TILE; entry += LETTERBOX_TILE * LETTERBOX_ROWS) {
        const unsigned place = entry % LETTERBOX_TILE, plane = entry / LETTERBOX_TILE % 2;
        const bool is_row = entry >= 2 * LETTERBOX_TILE;
        const unsigned upright = place + (is_row ? top : left);
        if (upright >= (is_row ? content_h : content_w)) continue;
        const int axis = is_row != swap;  // of the stored picture: 0 is x, 1 is y
        const unsigned want = job.content_size[axis], have = job.plane_size[plane][axis];
        const bool mirrored = job.turn >> (axis + 1) & 1;
        const unsigned stored_place = mirrored ? want - 1 - upright : upright;
        (is_row ? down : across)[place][plane] = taps_of(stored_place, have, want, keeps, job.plane_size[FULL][axis]);
    }
    __syncthreads();

    const unsigned x = left + threadIdx.x;
    if (x >= target_w) return;
    for (unsigned row = threadIdx.y; row < LETTERBOX_TILE && top + row < target_h; row += LETTERBOX_ROWS) {
        const unsigned y = top + row;
        float code[3];
        if (x < content_w && y < content_h) {
            const Taps* const taps_x = swap ? down[row] : across[threadIdx.x];
            const Taps* const taps_y = swap ? across[threadIdx.x] : down[row];
            if (job.wide) make_pixel<unsigned short>(job, taps_x, taps_y, code);
            else make_pixel<unsigned char>(job, taps_x, taps_y, code);
        } else {
            code[0] = code[1] = code[2] = static_cast<float>(output.pad_value);
        }
        const size_t pixel = static_cast<size_t>(y) * target_w + x, pixels = static_cast<size_t>(target_w) * target_h;
#pragma unroll
        for (int c = 0; c < 3; ++c)
            store(output, job.out, output.channels_last ? pixel * 3 + c : c * pixels + pixel, c, code[c]);
    }
}
