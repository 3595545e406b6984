// Masks of a bit per pixel, 32 pixels of a row in a word, the first in its lowest bit; mask.py says what the results are.

#ifndef MASK_ROWS
#define MASK_ROWS 8
#endif

#define THREADS (32 * MASK_ROWS)
#define ALL_LANES 0xffffffffu

// Whether any of the pixels [first, last] of a row is set.
__device__ __forceinline__ bool any_set(const unsigned* row, int first, int last) {
    const int from = first / 32, to = last / 32;
    const unsigned head = ALL_LANES << first % 32, tail = ALL_LANES >> (31 - last % 32);
    if (from == to) return (row[from] & head & tail) != 0;
    unsigned bits = (row[from] & head) | (row[to] & tail);
    for (int word = from + 1; word < to && !bits; ++word) bits = row[word];
    return bits != 0;
}

// masks, out: (pictures, height, words). Blocks: words, groups of MASK_ROWS rows, pictures; threads: (32, MASK_ROWS).
// A disc of radius sqrt(square) reaches `rows` rows up and down.
extern "C" __global__ void __launch_bounds__(THREADS) mask_dilate(const unsigned* __restrict__ masks,
                                                                  unsigned* __restrict__ out, int width, int height,
                                                                  int rows, int square) {
    const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * MASK_ROWS + threadIdx.y, words = gridDim.x;
    if (y >= height) return;  // the whole warp
    masks += static_cast<size_t>(blockIdx.z) * height * words;
    out += static_cast<size_t>(blockIdx.z) * height * words;
    bool set = false;
    for (int dy = -min(rows, y); dy <= min(rows, height - 1 - y) && x < width && !set; ++dy) {
        const int rest = square - dy * dy;
        int half = static_cast<int>(sqrtf(static_cast<float>(rest)));
        while (half * half > rest) --half;
        while ((half + 1) * (half + 1) <= rest) ++half;
        set = any_set(masks + static_cast<size_t>(y + dy) * words, max(x - half, 0), min(x + half, width - 1));
    }
    const unsigned bits = __ballot_sync(ALL_LANES, set);
    if (threadIdx.x == 0) out[static_cast<size_t>(y) * words + blockIdx.x] = bits;
}

// boxes: (n, 4) x0, y0, x1, y1; pictures: (n), which mask each box is on; counts: (n). A block of threads per box.
extern "C" __global__ void __launch_bounds__(THREADS) mask_cover(const unsigned* __restrict__ masks,
                                                                 const int* __restrict__ boxes,
                                                                 const int* __restrict__ pictures,
                                                                 unsigned* __restrict__ counts, int width, int height,
                                                                 int picture_count) {
    __shared__ unsigned of_warp[MASK_ROWS];
    const int* const box = boxes + 4 * static_cast<size_t>(blockIdx.x);
    const int picture = pictures[blockIdx.x], words = (width + 31) / 32;
    const int x0 = max(box[0], 0), y0 = max(box[1], 0), x1 = min(box[2], width), y1 = min(box[3], height);
    unsigned count = 0;
    if (x1 > x0 && y1 > y0 && picture >= 0 && picture < picture_count) {
        masks += static_cast<size_t>(picture) * height * words;
        for (int y = y0 + static_cast<int>(threadIdx.y); y < y1; y += MASK_ROWS)
            for (int word = x0 / 32 + static_cast<int>(threadIdx.x); word <= (x1 - 1) / 32; word += 32) {
                unsigned bits = masks[static_cast<size_t>(y) * words + word];
                if (word == x0 / 32) bits &= ALL_LANES << x0 % 32;
                if (word == (x1 - 1) / 32) bits &= ALL_LANES >> (31 - (x1 - 1) % 32);
                count += __popc(bits);
            }
    }
    for (int apart = 16; apart > 0; apart /= 2) count += __shfl_xor_sync(ALL_LANES, count, apart);
    if (threadIdx.x == 0) of_warp[threadIdx.y] = count;
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        for (int warp = 1; warp < MASK_ROWS; ++warp) count += of_warp[warp];
        counts[blockIdx.x] = count;
    }
}
