// Regions of many frames destroyed in their own planes; frame.py says what the result is.
//
// 1. redact_prepare sums the samples of each cell of each region, in whole numbers, and draws the regions' masks, a bit
//    per block (what shares a chroma sample). Where all cells of a patch find room in one block's shared memory, as those
//    of most faces do, that block does 2. as well.
// 2. redact_blur turns sums into means and runs a small Gaussian over them; for pixelation it only divides. Where cells
//    are single samples it reads those itself.
// 3. redact_write writes: interpolated between cells, or the cell's mean, or black, where the region's mask is set and
//    that of no stronger one.
//
// With soft edges, 2. dilates the masks as well, and 3. is redact_write_softly: see soft.py.
//
// Nothing is written before everything is read. A sample is read once and written once, whatever the blur's strength;
// the Gaussian between has at most 25 taps an axis (more only over grids of less than 20 cells). A *patch* is one region
// in one plane. Work is cut into tiles; the table says of each block which tile is its.
// A tile is as large as its shared memory allows, so that small regions are one or two: what a block has to look up
// before it begins costs more than the samples of a small tile.

#ifndef REDACT_TILE
#define REDACT_TILE 32  // cells of the Gaussian, along an axis
#endif
#ifndef REDACT_ROWS
#define REDACT_ROWS 4
#endif
#ifndef REDACT_AHEAD
#define REDACT_AHEAD 6  // rows that a thread asks for before it looks at the first
#endif

// Blocks of each kernel that shall fit beside each other.
#ifndef REDACT_PREPARE_BLOCKS
#define REDACT_PREPARE_BLOCKS 7
#endif
#ifndef REDACT_BLUR_BLOCKS
#define REDACT_BLUR_BLOCKS 8
#endif
#ifndef REDACT_WRITE_BLOCKS
#define REDACT_WRITE_BLOCKS 8
#endif

// frame_plan.py has the same numbers.
#define SUM_WORD 16  // bytes that a thread reads at once
#define SUM_ITEMS 160  // words by parts of a tile of sums
#define MASK_WORDS 4  // of a tile of masks
#define MASK_ROWS 128
#define MAX_RADIUS 48
#define MAX_NEIGHBOURHOOD 56  // rows of cells that a tile of the Gaussian needs
#define MAX_NEIGHBOURS 80  // and values of a row
#define WRITE_WORDS 4  // words of the mask that a tile of samples spans
#define WRITE_ROWS 128  // and its rows
#define WRITE_VALUES 4096  // of its rows of cells, each as long as the tile
#define WRITE_CELLS 1024  // that it fetches beforehand, if they are no more
#define WRITE_RUN 16  // rows after which a thread looks up its values again, for steps are rounded
#define GATHER_CELLS 1024  // sums of a patch that a single block makes
#define WORD_BYTES 16  // that a thread writes at once

#define THREADS (REDACT_TILE * REDACT_ROWS)
#define WARPS REDACT_ROWS
#define ALL_LANES 0xffffffffu

#define WRITE_TURNS (WRITE_ROWS * WRITE_WORDS / THREADS)  // words of a tile's mask that a thread fetches

static_assert(REDACT_TILE == 32, "a warp makes a row of a tile, and a word of a mask");
static_assert(THREADS >= 128, "a thread for each word of a row of samples, and for each row of a tile's mask");

#define GAUSSIAN 0
#define PIXELATE 1
#define SOLID 2

#define SHAPE_ROUND 0  // a core box with an elliptic rim
#define SHAPE_BOX 1
#define SHAPE_POLYGON 2
#define SHAPE_BITMAP 3

#define NO_MASK 0xffffffffu

struct Region {  // in the order of its frame: the stronger, the later
    double offset[2], inset[2], per_radius[2];  // SHAPE_ROUND, see `reach`
    double radius;  // SHAPE_POLYGON, in pixels
    unsigned long long bitmap;  // SHAPE_BITMAP: address of its words
    int bitmap_at[2], bitmap_size[2];  // in pixels from the region's first; rows are padded to words
    int at[2], size[2];  // in blocks
    int block[2];  // in pixels
    unsigned mask;  // place of its first word
    unsigned first_point, points;
    unsigned begin, end;  // the first region of its frame, and one past the last
    int shape;
    int soft;  // radius of its rim, in blocks
    int rim_at[2];  // the block that its patches begin with
    unsigned derived;  // place of the first word of the mask dilated by that radius
    unsigned rivals;  // place of the number of stronger regions that it meets; theirs follow
};

struct Axis {
    unsigned short cells;  // Gaussian: with one beyond each edge
    unsigned short size;  // samples of the largest cell
    unsigned short slices;  // parts of a cell, which are summed apart
    unsigned short part;  // samples of the largest part
    unsigned short tile;  // parts in a tile of sums
    unsigned short blocks;  // of the picture, for pixelation
    unsigned short length;  // samples
    unsigned char log2_block;  // samples per block
    unsigned char radius;  // of the Gaussian, in cells
    float sigma;
    float per_unit;  // Gaussian: of half samples, in a cell
};

struct Patch {
    unsigned long long samples;  // address of the first
    Axis axis[2];
    unsigned pitch_bytes;
    unsigned region;
    unsigned sums, low;  // places of its first
    unsigned before, after;  // bytes of the plane's rows that lie on either side
    unsigned mask;  // place of the first word of the region's mask, or NO_MASK where it takes all
    unsigned rivals;  // as of its region
    unsigned short fill[4];  // black, by channel
    unsigned short mask_words;  // of a row of it
    unsigned short rows;  // of a tile of samples: a multiple of a block's
    signed char channels;
    signed char alpha;  // the channel that becomes opaque, or -1
    signed char wide;  // whether a sample has 16 bits
    signed char shift;
};

struct Point {
    double x, y;  // in blocks from the region's first, centres at whole numbers
    double length;  // in pixels, of the edge to the next one
};

struct Layout {  // where in the table things are, in units of 8 bytes
    unsigned regions, patches, points, rivals;
    unsigned gather_work, sum_work, mask_work, blur_work, write_work, derived_work, frame_starts;
    unsigned gather_tiles, sum_tiles, blur_tiles;
    int method;
};

template <class T>
__device__ __forceinline__ const T* part_of(const unsigned long long* table, unsigned place) {
    return reinterpret_cast<const T*>(table + place);
}

// What a block does: a tile of a patch or region.
struct Work {
    unsigned owner, tile;
};

// What a block has to know of its patch, fetched at once: else it would wait for each part of it that it comes to.
__device__ __forceinline__ const Patch& fetched_patch(const Patch* from, Patch& to, int thread) {
    static_assert(sizeof(Patch) % sizeof(unsigned) == 0 && sizeof(Patch) / sizeof(unsigned) <= THREADS, "a word each");
    if (thread < static_cast<int>(sizeof(Patch) / sizeof(unsigned)))
        reinterpret_cast<unsigned*>(&to)[thread] = reinterpret_cast<const unsigned*>(from)[thread];
    __syncthreads();
    return to;
}

// The whole part of i / n; i is not negative, per is 1 / n, and both numbers are small.
__device__ __forceinline__ int quotient(int i, float per) {
    return static_cast<int>((static_cast<float>(i) + 0.5f) * per);
}

// The pixel of a sample; most often there are one or two samples to each.
__device__ __forceinline__ int pixel_of(int sample, int channels) {
    return channels == 1 ? sample : channels == 2 ? sample >> 1 : sample / channels;
}

// ---- Sums of cells --------------------------------------------------------------------------------------------------

// The samples [first, first + count) of a cell, or of a part of it; the last one counts 1 + extra times, for the crop
// goes on beyond its edges with its outermost samples.
struct Span {
    int first, count, extra;
};

__device__ __forceinline__ Span cell_span(const Axis& axis, int cell, int method) {
    if (method == GAUSSIAN) {
        if (cell == 0) return {0, 1, axis.size - 1};
        if (cell == axis.cells - 1) return {axis.length - 1, 1, axis.size - 1};
        const int first = (cell - 1) * axis.size, count = min(axis.size, axis.length - first);
        return {first, count, axis.size - count};
    }
    const int first = cell * axis.blocks / axis.cells << axis.log2_block;
    const int end = min((cell + 1) * axis.blocks / axis.cells << axis.log2_block, axis.length);
    return {first, end - first, 0};
}

__device__ __forceinline__ Span part_span(const Axis& axis, int number, int method) {
    if (axis.slices == 1) return cell_span(axis, number, method);
    const int cell = number / axis.slices, slice = number - cell * axis.slices;
    const Span whole = cell_span(axis, cell, method);
    const int first = slice * axis.part, count = max(0, min(axis.part, whole.count - first));
    return {whole.first + first, count, count && first + count == whole.count ? whole.extra : 0};
}

// Where parts [left, left + width) of an axis begin and end, in samples; some may be empty.
__device__ __forceinline__ void extent_of(const Axis& axis, int left, int width, int method, int* begin, int* end) {
    const int slices = axis.slices;
    const int first = slices == 1 ? left : left / slices, last = slices == 1 ? left + width - 1 : (left + width - 1) / slices;
    const Span before = cell_span(axis, first, method), after = cell_span(axis, last, method);
    *begin = before.first + min((left - first * slices) * axis.part, before.count);
    // The Gaussian's first cell shares its only sample with the next one, its last cell with the one before.
    if (last > first) *begin = min(*begin, min(cell_span(axis, first + 1, method).first, after.first));
    *end = after.first + min((left + width - last * slices) * axis.part, after.count);
}

// The word of a row at `from`, of which only bytes in [0, bytes) are read; the others are 0.
__device__ __noinline__ uint4 read_bytes(const unsigned char* row, int from, int bytes) {
    unsigned word[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < SUM_WORD; ++i)
        if (from + i >= 0 && from + i < bytes) word[i / 4] |= static_cast<unsigned>(row[from + i]) << 8 * (i % 4);
    return make_uint4(word[0], word[1], word[2], word[3]);
}

// Sums of bytes, at most 65535 each, two to a register.
struct SumsOfBytes {
    static constexpr int ahead = REDACT_AHEAD;
    unsigned even[4], odd[4];
    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < 4; ++i) even[i] = odd[i] = 0;
    }
    __device__ __forceinline__ void add(const uint4& bits, unsigned times, int) {
        const unsigned word[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            even[i] += (word[i] & 0x00ff00ffu) * times;
            odd[i] += __byte_perm(word[i], 0, 0x4341) * times;
        }
    }
    __device__ __forceinline__ void put(unsigned* to) const {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            reinterpret_cast<uint4*>(to)[i] =
                make_uint4(even[i] & 0xffffu, odd[i] & 0xffffu, even[i] >> 16, odd[i] >> 16);
    }
};

// Sums of any samples.
template <class Sample>
struct Sums {
    static constexpr int samples = SUM_WORD / sizeof(Sample), in_register = 4 / sizeof(Sample);
    static constexpr int ahead = sizeof(Sample) == 1 ? 1 : 2;  // more would not fit into registers
    unsigned sum[samples];
    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < samples; ++i) sum[i] = 0;
    }
    __device__ __forceinline__ void add(const uint4& bits, unsigned times, int shift) {
        const unsigned word[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < samples; ++i) {
            const unsigned sample = word[i / in_register] >> 8 * sizeof(Sample) * (i % in_register);
            sum[i] += (static_cast<unsigned>(static_cast<Sample>(sample)) >> shift) * times;
        }
    }
    __device__ __forceinline__ void put(unsigned* to) const {
#pragma unroll
        for (int i = 0; i < samples; i += 4)
            reinterpret_cast<uint4*>(to)[i / 4] = make_uint4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
    }
};

// The sums of a word's samples over the rows of a part.
template <class SumsOf>
__device__ __forceinline__ void sum_rows(const Patch& patch, const unsigned char* first, int from, int bytes,
                                         bool aligned, const Span& y, unsigned* to) {
    SumsOf sums;
    sums.clear();
    const unsigned char* row = first + static_cast<size_t>(y.first) * patch.pitch_bytes;
    const size_t last_row = static_cast<size_t>(y.first + y.count - 1) * patch.pitch_bytes;
    const int shift = patch.shift;
    if (aligned && from + static_cast<int>(patch.before) >= 0 && from + SUM_WORD <= bytes + static_cast<int>(patch.after)) {
        row += from;
        for (int start = 0; start < y.count; start += SumsOf::ahead) {
            uint4 words[SumsOf::ahead];
#pragma unroll
            for (int i = 0; i < SumsOf::ahead; ++i) {
                words[i] = start + i < y.count ? *reinterpret_cast<const uint4*>(row) : make_uint4(0, 0, 0, 0);
                row += patch.pitch_bytes;
            }
#pragma unroll
            for (int i = 0; i < SumsOf::ahead; ++i)
                if (start + i < y.count) sums.add(words[i], 1, shift);
        }
        if (y.extra && y.count)
            sums.add(*reinterpret_cast<const uint4*>(first + from + last_row), static_cast<unsigned>(y.extra), shift);
    } else {
#pragma unroll 1
        for (int i = 0; i < y.count; ++i, row += patch.pitch_bytes)
            sums.add(read_bytes(row, from, bytes), i == y.count - 1 ? 1u + y.extra : 1u, shift);
    }
    sums.put(to);
}

__device__ __forceinline__ int tiles_along(const Axis& axis) {
    const int parts = axis.cells * axis.slices;
    return axis.tile >= parts ? 1 : (parts + axis.tile - 1) / axis.tile;
}

// columns: of each part of rows, the sums of each column, from the start of the tile's first word.
__device__ __forceinline__ void sum_tile(const Patch& patch, unsigned tile, unsigned* columns, unsigned* sums,
                                         int thread, int method) {
    const Axis &across = patch.axis[0], &down = patch.axis[1];
    const int channels = patch.channels, log2_size = patch.wide;
    const int parts_x = across.cells * across.slices, parts_y = down.cells * down.slices;
    const int tiles_x = tiles_along(across);
    const int tile_y = static_cast<int>(tiles_x == 1 ? tile : tile / tiles_x);
    const int left = (static_cast<int>(tile) - tile_y * tiles_x) * across.tile, top = tile_y * down.tile;
    const int width = min(across.tile, parts_x - left), height = min(down.tile, parts_y - top);

    const unsigned char* const first = reinterpret_cast<const unsigned char*>(patch.samples);
    int begin, end;
    extent_of(across, left, width, method, &begin, &end);
    const int step = channels << log2_size;  // bytes
    const bool aligned = patch.pitch_bytes % SUM_WORD == 0;
    int from = begin * step;
    if (aligned) from -= static_cast<int>(reinterpret_cast<size_t>(first + from) & (SUM_WORD - 1));
    const int words = max((end * step - from + SUM_WORD - 1) / SUM_WORD, 1);
    const int in_word = SUM_WORD >> log2_size;
    const float per_words = 1.0f / static_cast<float>(words);
#pragma unroll 1
    for (int item = thread; item < words * height; item += THREADS) {
        const int row = quotient(item, per_words), word = item - row * words;
        const Span y = part_span(down, top + row, method);
        unsigned* const to = columns + item * in_word;
        const int at = from + word * SUM_WORD, bytes = across.length * step;
        if (log2_size) sum_rows<Sums<unsigned short>>(patch, first, at, bytes, aligned, y, to);
        else if (down.size <= 256) sum_rows<SumsOfBytes>(patch, first, at, bytes, aligned, y, to);
        else sum_rows<Sums<unsigned char>>(patch, first, at, bytes, aligned, y, to);
    }
    __syncthreads();

    const float per_row = 1.0f / static_cast<float>(width);
    for (int i = thread; i < width * height * channels; i += THREADS) {
        const int part = pixel_of(i, channels), channel = i - part * channels;
        const int y = quotient(part, per_row), x = part - y * width;
        const Span span = part_span(across, left + x, method);
        const unsigned* const column =
            columns + y * words * in_word + span.first * channels - (from >> log2_size) + channel;
        unsigned sum = 0;
        // Where neighbours lie an even number of columns apart, they begin at different ones, so that they do not all ask
        // for the same bank.
        const int start = span.count && (across.size * channels) % 2 == 0 ? x % span.count : 0;
        for (int j = start; j < span.count; ++j) sum += column[j * channels];
        for (int j = 0; j < start; ++j) sum += column[j * channels];
        if (span.extra) sum += static_cast<unsigned>(span.extra) * column[(span.count - 1) * channels];
        sums[(static_cast<size_t>(top + y) * parts_x + left + x) * channels + channel] = sum;
    }
}

// ---- All of a small patch -------------------------------------------------------------------------------------------

// The weights of the Gaussian from its middle on, both sides together 1, by a warp.
__device__ __forceinline__ void make_weights(const Axis& axis, int lane, float* weights) {
    float weight[2], total = 0.0f;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
        const int step = lane + 32 * k;
        const float distance = static_cast<float>(step) / axis.sigma;
        weight[k] = step <= axis.radius ? expf(-0.5f * distance * distance) : 0.0f;
        total += step ? 2.0f * weight[k] : weight[k];
    }
    for (int apart = 16; apart > 0; apart /= 2) total += __shfl_xor_sync(ALL_LANES, total, apart);
    weights[lane] = weight[0] / total;
    if (lane + 32 <= MAX_RADIUS) weights[lane + 32] = weight[1] / total;
}

// The weighted mean around line[at], of values `step` apart; those beyond an edge are as the one at the edge.
template <bool EDGES>
__device__ __forceinline__ float weighted(const float* line, int step, int at, int least, int most, const float* weights,
                                          int radius) {
    float sum = weights[0] * line[at];
    int before = at, after = at;
#pragma unroll 2
    for (int i = 1; i <= radius; ++i) {
        before -= step;
        after += step;
        sum = fmaf(weights[i], EDGES ? line[max(before, least)] + line[min(after, most)] : line[before] + line[after], sum);
    }
    return sum;
}

// The mean of a cell of `count` samples. Of pixelation rounded half up, exactly: the quotient is no nearer to a whole number
// than 1 / (2 count), unless it is one.
__device__ __forceinline__ float mean_of(unsigned long long total, double count) {
    return static_cast<float>(floor((2.0 * static_cast<double>(total) + count) / (2.0 * count)));
}

// The means of a patch's sums, and the Gaussian over them. sums: GATHER_CELLS, cells cut into parts along their height at
// most; afterwards what is blurred across. means: as many.
__device__ __noinline__ void blur_patch(const Patch& patch, unsigned* sums, float* means, float (*weights)[MAX_RADIUS + 1],
                                        float* low, int thread, int method) {
    const Axis &across = patch.axis[0], &down = patch.axis[1];
    if (thread < 64 && method == GAUSSIAN) make_weights(thread / 32 ? down : across, thread % 32, weights[thread / 32]);
    const int channels = patch.channels, row_values = across.cells * channels, all = row_values * down.cells;
    const int slices = down.slices;
    const float per_row = 1.0f / static_cast<float>(row_values);
    const float unit = 1.0f / static_cast<float>(across.size * down.size);
    float* const blurred = reinterpret_cast<float*>(sums);
    for (int i = thread; i < all; i += THREADS) {
        const int row = quotient(i, per_row), column = i - row * row_values;
        const unsigned* const at = sums + row * slices * row_values + column;
        unsigned total = 0;
#pragma unroll 1  // seldom more than one
        for (int slice = 0; slice < slices; ++slice) total += at[slice * row_values];
        if (method == GAUSSIAN) {
            means[i] = static_cast<float>(total) * unit;
        } else {
            const int width = cell_span(across, pixel_of(column, channels), method).count;
            low[i] = mean_of(total, static_cast<double>(width) * static_cast<double>(cell_span(down, row, method).count));
        }
    }
    if (method != GAUSSIAN) return;
    __syncthreads();
    for (int i = thread; i < all; i += THREADS) {
        const int row = quotient(i, per_row), column = i - row * row_values;
        const int channel = column - pixel_of(column, channels) * channels;
        blurred[i] = weighted<true>(means + row * row_values, channels, column, channel, row_values - channels + channel,
                                    weights[0], across.radius);
    }
    __syncthreads();
    for (int i = thread; i < all; i += THREADS) {
        const int row = quotient(i, per_row), column = i - row * row_values;
        low[i] = weighted<true>(blurred + column, row_values, row * row_values, 0, all - row_values, weights[1], down.radius);
    }
}

// ---- Masks ----------------------------------------------------------------------------------------------------------

// Squared distance of a block from the shape's core along one axis, in radii, by the reference's own steps.
__device__ __forceinline__ double reach(const Region& region, int axis, int block) {
    const double start = static_cast<double>((region.at[axis] + block) * region.block[axis]);
    double gap = fabs(start + region.offset[axis]) - region.inset[axis];
    gap = fmax(gap, 0.0) * region.per_radius[axis];
    return gap * gap;
}

__device__ __forceinline__ int within(double value, int most) {
    return static_cast<int>(fmin(fmax(value, 0.0), static_cast<double>(most)));
}

// The bits of [begin, end) in the word of that number.
__device__ __forceinline__ unsigned span_bits(int begin, int end, int word) {
    const int from = max(begin - 32 * word, 0), to = min(end - 32 * word, 32);
    return from < to ? ALL_LANES << from & ALL_LANES >> (32 - to) : 0;
}

// A row of a core box with an elliptic rim: an interval of columns, for `reach` only grows on either side of the middle,
// rounded or not. Its ends are estimated and then moved to where the comparison itself changes.
__device__ __forceinline__ void round_row(const Region& region, int row, unsigned* masks) {
    const int columns = region.size[0], words = (columns + 31) / 32;
    unsigned* const line = masks + region.mask + static_cast<size_t>(row) * words;
    const double down = reach(region, 1, row);
    int begin = 0, end = 0;
    if (down <= 1.0) {
        const double half = region.inset[0] + sqrt(1.0 - down) / region.per_radius[0], unit = region.block[0];
        const double low = (-region.offset[0] - half) / unit - region.at[0];
        const double high = (half - region.offset[0]) / unit - region.at[0];
        end = columns;
        if (low >= -1e9 && high <= 1e9) {  // else far from all that is finite, and looked at from the edges on
            begin = within(ceil(low), columns);
            end = max(within(floor(high) + 1.0, columns), begin);
        }
#pragma unroll 1
        while (begin > 0 && down + reach(region, 0, begin - 1) <= 1.0) --begin;
#pragma unroll 1
        while (end < columns && down + reach(region, 0, end) <= 1.0) ++end;
#pragma unroll 1
        while (begin < end && !(down + reach(region, 0, begin) <= 1.0)) ++begin;
#pragma unroll 1
        while (begin < end && !(down + reach(region, 0, end - 1) <= 1.0)) --end;
    }
    for (int word = 0; word < words; ++word) line[word] = span_bits(begin, end, word);
}

__device__ __forceinline__ bool bitmap_holds(const Region& region, int column, int row) {
    const unsigned* words = reinterpret_cast<const unsigned*>(region.bitmap);
    const int pitch = (region.bitmap_size[0] + 31) / 32;
    bool holds = false;
    for (int v = 0; v < region.block[1]; ++v) {
        const int y = row * region.block[1] + v - region.bitmap_at[1];
        if (y < 0 || y >= region.bitmap_size[1]) continue;
        for (int u = 0; u < region.block[0]; ++u) {
            const int x = column * region.block[0] + u - region.bitmap_at[0];
            if (x < 0 || x >= region.bitmap_size[0]) continue;
            holds |= words[static_cast<size_t>(y) * pitch + x / 32] >> x % 32 & 1;
        }
    }
    return holds;
}

// The interval of x in which (x, y) is within the radius of the segment from a to b: polygon.py, `_capsule`.
__device__ __forceinline__ void capsule(double ax, double ay, double bx, double by, double length, double y,
                                        double radius, double* left, double* right) {
    const double infinity = __longlong_as_double(0x7ff0000000000000LL);
    *left = infinity;
    *right = -infinity;
    const double above_a = fabs(y - ay), above_b = fabs(y - by);
    if (above_a <= radius) {
        const double half = sqrt(fmax(radius * radius - above_a * above_a, 0.0));
        *left = ax - half;
        *right = ax + half;
    }
    if (above_b <= radius) {
        const double half = sqrt(fmax(radius * radius - above_b * above_b, 0.0));
        *left = fmin(*left, bx - half);
        *right = fmax(*right, bx + half);
    }
    if (!(length > 0.0)) return;
    const double along_x = bx - ax, along_y = by - ay, dy = y - ay;
    double low = -infinity, high = infinity;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const double slope = i == 0 ? along_x : along_y;
        const double offset = i == 0 ? along_y * dy : -along_x * dy;
        const double least = i == 0 ? 0.0 : -radius * length, most = i == 0 ? length * length : radius * length;
        if (slope == 0.0) {
            if (offset < least || offset > most) return;
        } else {
            const double one = (least - offset) / slope, other = (most - offset) / slope;
            low = fmax(low, fmin(one, other));
            high = fmin(high, fmax(one, other));
        }
    }
    if (low <= high) {
        *left = fmin(*left, ax + low);
        *right = fmax(*right, ax + high);
    }
}

// Whether the block in this lane's column belongs to a polygon; lanes share the edges. turns, beside: of this warp.
__device__ __forceinline__ bool polygon_holds(const Region& region, const Point* points, int word, int row, int lane,
                                              int* turns, unsigned* beside) {
    turns[lane] = 0;
    if (lane == 0) *beside = 0;
    __syncwarp();
    const double unit_x = region.block[0], unit_y = region.block[1], y = row;
    const double reached = region.radius / unit_y;
    int before = 0;  // turns around every column of this word
    for (unsigned i = lane; i < region.points; i += 32) {
        const Point a = points[i], b = points[i + 1 == region.points ? 0 : i + 1];
        const bool descends = b.y > a.y;
        const double low_y = descends ? a.y : b.y, high_y = descends ? b.y : a.y;
        if (ceil(low_y) <= y && y < ceil(high_y)) {
            const double low_x = descends ? a.x : b.x, high_x = descends ? b.x : a.x;
            const double share = (y - low_y) / (high_y - low_y);
            const int column = within(ceil(low_x + share * (high_x - low_x)), region.size[0]) - 32 * word;
            if (column <= 0) before += descends ? 1 : -1;
            else if (column < 32) atomicAdd(&turns[column], descends ? 1 : -1);
        }
        if (ceil(low_y - reached) <= y && y < floor(high_y + reached) + 1.0) {
            double left, right;
            capsule(a.x * unit_x, a.y * unit_y, b.x * unit_x, b.y * unit_y, a.length, y * unit_y, region.radius, &left,
                    &right);
            const int begin = max(within(ceil(left / unit_x), region.size[0]) - 32 * word, 0);
            const int end = min(within(floor(right / unit_x) + 1.0, region.size[0]) - 32 * word, 32);
            if (end > begin) atomicOr(beside, ALL_LANES >> (32 - (end - begin)) << begin);
        }
    }
    __syncwarp();
    int around = turns[lane];
    const bool near = *beside >> lane & 1;
    for (int apart = 16; apart > 0; apart /= 2) before += __shfl_xor_sync(ALL_LANES, before, apart);
    for (int apart = 1; apart < 32; apart *= 2) {
        const int other = __shfl_up_sync(ALL_LANES, around, apart);
        if (lane >= apart) around += other;
    }
    return near || before + around != 0;
}

// Draws a polygon's words [first, last) of the rows [top, bottom).
__device__ __noinline__ void polygon_tile(const Region& region, const Point* points, int first, int last, int top, int bottom,
                                          unsigned* masks, int lane, int warp, int (*turns)[32], unsigned* beside) {
    const int words = (region.size[0] + 31) / 32;
#pragma unroll 1
    for (int row = top + warp; row < bottom; row += WARPS)
#pragma unroll 1
        for (int word = first; word < last; ++word) {
            const bool holds = polygon_holds(region, points, word, row, lane, turns[warp], beside + warp);
            const unsigned bits = __ballot_sync(ALL_LANES, holds && 32 * word + lane < region.size[0]);
            if (lane == 0) masks[region.mask + static_cast<size_t>(row) * words + word] = bits;
        }
}

template <bool OUTLINES>
__device__ __forceinline__ void mask_tile(const Region& region, const Point* points, unsigned tile, unsigned* masks,
                                          int lane, int warp, int (*turns)[32], unsigned* beside) {
    if (region.shape == SHAPE_ROUND) {
        const int row = static_cast<int>(tile) * THREADS + warp * 32 + lane;
        if (row < region.size[1]) round_row(region, row, masks);
        return;
    }
    const int words = (region.size[0] + 31) / 32, tiles_x = (words + MASK_WORDS - 1) / MASK_WORDS;
    const int first = static_cast<int>(tile % tiles_x) * MASK_WORDS, last = min(first + MASK_WORDS, words);
    const int top = static_cast<int>(tile / tiles_x) * MASK_ROWS, bottom = min(top + MASK_ROWS, region.size[1]);
    if (OUTLINES && region.shape == SHAPE_POLYGON) {
        polygon_tile(region, points + region.first_point, first, last, top, bottom, masks, lane, warp, turns, beside);
        return;
    }
#pragma unroll 1
    for (int word = first; word < last; ++word)
#pragma unroll 1
        for (int row = top + warp; row < bottom; row += WARPS) {
            const int column = 32 * word + lane;
            const unsigned bits = __ballot_sync(ALL_LANES, column < region.size[0] && bitmap_holds(region, column, row));
            if (lane == 0) masks[region.mask + static_cast<size_t>(row) * words + word] = bits;
        }
}

template <bool OUTLINES>
__device__ __forceinline__ void prepare(const Layout& layout, const unsigned long long* __restrict__ table,
                                        unsigned* __restrict__ sums, float* __restrict__ low,
                                        unsigned* __restrict__ masks) {
    __shared__ __align__(16) unsigned columns[SUM_ITEMS * SUM_WORD];
    __shared__ unsigned gathered[GATHER_CELLS];
    __shared__ Patch own_patch;
    __shared__ float weights[2][MAX_RADIUS + 1];
    __shared__ int turns[WARPS][32];
    __shared__ unsigned beside[WARPS];
    static_assert(GATHER_CELLS <= SUM_ITEMS * SUM_WORD, "means take the place of columns");
    const int lane = threadIdx.x, warp = threadIdx.y, thread = warp * 32 + lane;
    unsigned block = blockIdx.x;
    if (block < layout.gather_tiles + layout.sum_tiles) {
        const bool whole = block < layout.gather_tiles;  // patches, else tiles
        const Work work = whole ? part_of<Work>(table, layout.gather_work)[block]
                                : part_of<Work>(table, layout.sum_work)[block - layout.gather_tiles];
        const Patch& patch = fetched_patch(part_of<Patch>(table, layout.patches) + work.owner, own_patch, thread);
        unsigned* const to = whole ? gathered : sums + patch.sums;
        const unsigned end = whole ? tiles_along(patch.axis[0]) * tiles_along(patch.axis[1]) : work.tile + 1;
#pragma unroll 1
        for (unsigned tile = work.tile; tile < end; ++tile) {
            sum_tile(patch, tile, columns, to, thread, layout.method);
            __syncthreads();
        }
        if (whole)
            blur_patch(patch, gathered, reinterpret_cast<float*>(columns), weights, low + patch.low, thread, layout.method);
    } else {
        block -= layout.gather_tiles + layout.sum_tiles;
        const Work work = part_of<Work>(table, layout.mask_work)[block];
        mask_tile<OUTLINES>(part_of<Region>(table, layout.regions)[work.owner], part_of<Point>(table, layout.points), work.tile,
                  masks, lane, warp, turns, beside);
    }
}

// Blocks: small patches, layout.gather_tiles of them, tiles of sums, layout.sum_tiles of them, then tiles of masks; threads:
// (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS, REDACT_PREPARE_BLOCKS) redact_prepare(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, unsigned* __restrict__ sums,
    float* __restrict__ low, unsigned* __restrict__ masks) {
    prepare<false>(layout, table, sums, low, masks);
}

// The same, where there are polygons, which take many registers.
extern "C" __global__ void __launch_bounds__(THREADS, 5) redact_prepare_outlines(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, unsigned* __restrict__ sums,
    float* __restrict__ low, unsigned* __restrict__ masks) {
    prepare<true>(layout, table, sums, low, masks);
}

__device__ __forceinline__ bool takes(const Region& region, const unsigned* masks, int column, int row) {
    if (region.shape == SHAPE_BOX) return true;
    const int words = (region.size[0] + 31) / 32;
    return masks[region.mask + static_cast<size_t>(row) * words + column / 32] >> column % 32 & 1;
}

// Word number `word` of a row of a region's mask; 0 where there is none.
__device__ __forceinline__ unsigned mask_word(const Region& region, const unsigned* masks, int word, int row) {
    const int words = (region.size[0] + 31) / 32;
    if (word < 0 || word >= words) return 0;
    if (region.shape == SHAPE_BOX) return span_bits(0, region.size[0], word);
    return masks[region.mask + static_cast<size_t>(row) * words + word];
}

// The 32 bits from column `from`, which may be anywhere, of a row of a region's mask.
__device__ __forceinline__ unsigned mask_bits(const Region& region, const unsigned* masks, int from, int row) {
    const int word = from >> 5;  // rounds down
    return __funnelshift_r(mask_word(region, masks, word, row), mask_word(region, masks, word + 1, row), from & 31);
}

// A word of a region's mask, dilated by the radius of its rim along both axes: 256 words to a tile.
__device__ __forceinline__ void dilate_tile(const Region& region, unsigned tile, unsigned* masks, int thread) {
    const int radius = region.soft, words = (region.size[0] + 2 * radius + 31) / 32;
    const int row = static_cast<int>(tile * THREADS + thread) / words, word = static_cast<int>(tile * THREADS + thread) % words;
    if (row >= region.size[1] + 2 * radius) return;
    const int from = 32 * word - 2 * radius;  // the word's first place looks back to this column, its last place to 31 more
    unsigned low = 0, high = 0;
    for (int y = max(row - 2 * radius, 0); y <= min(row, region.size[1] - 1); ++y) {
        low |= mask_bits(region, masks, from, y);
        high |= mask_bits(region, masks, from + 32, y);
    }
    unsigned near = 0;
    for (int apart = 0; apart <= 2 * radius; ++apart)
        near |= __funnelshift_r(low, high, apart);
    masks[region.derived + static_cast<size_t>(row) * words + word] = near;
}

// ---- The Gaussian between -------------------------------------------------------------------------------------------

__device__ __forceinline__ float cell_value(const Patch& patch, const unsigned* sums, int x, int y, int channel,
                                            int method) {
    const Axis &across = patch.axis[0], &down = patch.axis[1];
    if (method == GAUSSIAN && across.size * down.size == 1) {  // nothing was summed: a cell is a sample
        const char* row = reinterpret_cast<const char*>(patch.samples) +
                          static_cast<size_t>(max(0, min(y - 1, down.length - 1))) * patch.pitch_bytes;
        const size_t at = static_cast<size_t>(max(0, min(x - 1, across.length - 1))) * patch.channels + channel;
        const unsigned sample = patch.wide ? reinterpret_cast<const unsigned short*>(row)[at]
                                           : reinterpret_cast<const unsigned char*>(row)[at];
        return static_cast<float>(sample >> patch.shift);
    }
    unsigned long long total = 0;
#pragma unroll 1  // seldom more than one
    for (int v = 0; v < down.slices; ++v) {
        const size_t row = static_cast<size_t>(y * down.slices + v) * across.cells + x;
        const unsigned* at = sums + row * across.slices * patch.channels + channel;
#pragma unroll 1
        for (int u = 0; u < across.slices; ++u) total += at[u * patch.channels];
    }
    if (method == GAUSSIAN)
        return static_cast<float>(static_cast<unsigned>(total)) / static_cast<float>(across.size * down.size);
    return mean_of(total, static_cast<double>(cell_span(across, x, method).count) *
                              static_cast<double>(cell_span(down, y, method).count));
}

// Blocks: layout.blur_tiles tiles of values, then tiles of dilated masks. A tile of values has 32 in a row and 32
// rows of cells; a value is a cell's channel where there are at most two, so that they lie beside each other, else the
// channels are looked at one by one. Threads: (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS, REDACT_BLUR_BLOCKS) redact_blur(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table,
    const unsigned* __restrict__ sums, float* __restrict__ low, unsigned* masks) {
    __shared__ Patch own_patch;
    __shared__ float cells[MAX_NEIGHBOURHOOD][MAX_NEIGHBOURS];
    __shared__ float rows_done[MAX_NEIGHBOURHOOD][REDACT_TILE];
    __shared__ float weights[2][MAX_RADIUS + 1];
    const int lane = threadIdx.x, warp = threadIdx.y, thread = warp * 32 + lane;
    if (blockIdx.x >= layout.blur_tiles) {
        const Work work = part_of<Work>(table, layout.derived_work)[blockIdx.x - layout.blur_tiles];
        dilate_tile(part_of<Region>(table, layout.regions)[work.owner], work.tile, masks, thread);
        return;
    }
    const Work work = part_of<Work>(table, layout.blur_work)[blockIdx.x];
    const Patch& patch = fetched_patch(part_of<Patch>(table, layout.patches) + work.owner, own_patch, thread);
    const Axis &across = patch.axis[0], &down = patch.axis[1];
    const int channels = patch.channels, height = down.cells;
    const int beside = channels <= 2 ? channels : 1, layers = channels / beside, width = across.cells * beside;
    const unsigned tile = work.tile, place = tile / layers;
    const int layer = static_cast<int>(tile % layers), tiles_x = (width + REDACT_TILE - 1) / REDACT_TILE;
    const int left = static_cast<int>(place % tiles_x) * REDACT_TILE;
    const int top = static_cast<int>(place / tiles_x) * REDACT_TILE;
    sums += patch.sums;
    low += patch.low;
    const int x = left + lane, bottom = min(top + REDACT_TILE, height);
    const int row_values = across.cells * channels, in_row = x * layers + layer;  // layers > 1 only where beside is 1

    if (layout.method == PIXELATE) {
        for (int y = top + warp; x < width && y < bottom; y += WARPS)
            low[static_cast<size_t>(y) * row_values + in_row] =
                cell_value(patch, sums, x / beside, y, layers == 1 ? x % beside : layer, PIXELATE);
        return;
    }

    const int reach_x = across.radius * beside;
    const int tile_width = min(REDACT_TILE, width - left), tile_height = bottom - top;
    const int first_x = max(left - reach_x, 0), last_x = min(left + tile_width - 1 + reach_x, width - 1);
    const int first_y = max(top - down.radius, 0), last_y = min(bottom - 1 + down.radius, height - 1);
    const int columns = last_x - first_x + 1, rows = last_y - first_y + 1;
    if (warp < 2) make_weights(warp ? down : across, lane, weights[warp]);
    const float per_row = 1.0f / static_cast<float>(columns);
    const int slices = down.slices;
    if (across.slices == 1 && across.size * down.size > 1) {  // sums lie in the order of the values
        const float unit = 1.0f / static_cast<float>(across.size * down.size);
        sums += first_y * slices * row_values + first_x * layers + layer;
        for (int start = thread; start < rows * columns; start += 4 * THREADS) {
            unsigned sum[4];  // asked for together, for they come from afar
            int row[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const int i = start + k * THREADS;
                row[k] = quotient(i, per_row);
                sum[k] = 0;
                if (i < rows * columns) sum[k] = sums[row[k] * slices * row_values + (i - row[k] * columns) * layers];
            }
#pragma unroll 1  // seldom more than one
            for (int slice = 1; slice < slices; ++slice)
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    const int i = start + k * THREADS;
                    if (i < rows * columns)
                        sum[k] += sums[(row[k] * slices + slice) * row_values + (i - row[k] * columns) * layers];
                }
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const int i = start + k * THREADS;
                if (i < rows * columns) cells[row[k]][i - row[k] * columns] = static_cast<float>(sum[k]) * unit;
            }
        }
    } else {
        for (int i = thread; i < rows * columns; i += THREADS) {
            const int row = quotient(i, per_row), column = i - row * columns, at = first_x + column;
            cells[row][column] = cell_value(patch, sums, at / beside, first_y + row, layers == 1 ? at % beside : layer, GAUSSIAN);
        }
    }
    __syncthreads();

    const float per_line = 1.0f / static_cast<float>(tile_width);
    const bool inside_x = columns == tile_width + 2 * reach_x, inside_y = rows == tile_height + 2 * down.radius;
    for (int i = thread; i < rows * tile_width; i += THREADS) {
        const int row = quotient(i, per_line), column = i - row * tile_width, at = left + column - first_x;
        const int edge = (left + column) % beside;  // of the channel
        const int least = edge - first_x, most = width - beside + edge - first_x;
        rows_done[row][column] = inside_x ? weighted<false>(cells[row], beside, at, least, most, weights[0], across.radius)
                                          : weighted<true>(cells[row], beside, at, least, most, weights[0], across.radius);
    }
    __syncthreads();
    for (int i = thread; i < tile_height * tile_width; i += THREADS) {
        const int row = quotient(i, per_line), column = i - row * tile_width, y = top + row;
        const float* const line = &rows_done[0][column];
        const float value =
            inside_y ? weighted<false>(line, REDACT_TILE, (y - first_y) * REDACT_TILE, 0, 0, weights[1], down.radius)
                     : weighted<true>(line, REDACT_TILE, (y - first_y) * REDACT_TILE, -first_y * REDACT_TILE,
                                      (height - 1 - first_y) * REDACT_TILE, weights[1], down.radius);
        low[static_cast<size_t>(y) * row_values + (left + column) * layers + layer] = value;
    }
}

// ---- Writing --------------------------------------------------------------------------------------------------------

// Where a sample lies among the cells: the one before, and how far it is on the way to the next.
struct Position {
    int cell;
    float share;
};

__device__ __forceinline__ Position position_of(const Axis& axis, int sample, int method) {
    if (method == PIXELATE) return {(((sample >> axis.log2_block) + 1) * axis.cells - 1) / axis.blocks, 0.0f};
    const int at = 2 * sample + 1 + axis.size, unit = 2 * axis.size;
    // The half keeps it farther from whole numbers than any error: at is less than 2^16.
    const int cell = quotient(at, axis.per_unit);
    return {cell, static_cast<float>(at - cell * unit) * axis.per_unit};
}

// The code nearest to a value that is not negative, halves up.
__device__ __forceinline__ unsigned rounded(float value) {
    return __float_as_uint(__fadd_rd(value + 0.5f, 8388608.0f)) & 0xffffu;
}

// The samples of a word in a row, and what they grow by from row to row: eight numbers each. Two bytes share a number, in
// units of 1/256 and with a half added, so that one addition moves both and their codes are its bytes 1 and 3; a sample of 16
// bits has a number of its own, in units of 1/65536. A step counts as one whole number as well: where that of the lower byte is
// negative, the upper one's is less by one, and the sum is right.
template <bool WIDE>
struct Run {
    unsigned value[8], step[8];
    static constexpr float unit = WIDE ? 65536.0f : 256.0f;

    // From values times `unit` with a half added, `words` fours apart, and those of the next row of cells, `below` farther on.
    __device__ __forceinline__ void begin(const float4* values, int words, int below, float share, float per_row) {
#pragma unroll
        for (int n = 0; n < (WIDE ? 2 : 4); ++n) {
            const float4 here = values[n * words], next = values[n * words + below];
            const float from[4] = {here.x, here.y, here.z, here.w};
            const float apart[4] = {next.x - here.x, next.y - here.y, next.z - here.z, next.w - here.w};
            if (WIDE) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    value[(4 * n + i) & 7] = static_cast<unsigned>(__float2int_rn(fmaf(apart[i], share, from[i])));
                    step[(4 * n + i) & 7] = static_cast<unsigned>(__float2int_rn(apart[i] * per_row));
                }
            } else {
#pragma unroll
                for (int i = 0; i < 4; i += 2) {
                    // Whole numbers lie one apart among the floats from 2^23 on; 3 * 2^22 leaves room for negative ones.
                    const unsigned low = __float_as_uint(fmaf(apart[i], share, from[i]) + 8388608.0f);
                    const unsigned high = __float_as_uint(fmaf(apart[i + 1], share, from[i + 1]) + 8388608.0f);
                    value[2 * n + i / 2] = __byte_perm(low, high, 0x5410);
                    const unsigned low_step = __float_as_uint(fmaf(apart[i], per_row, 12582912.0f)) - 0x4b400000u;
                    step[2 * n + i / 2] = (__float_as_uint(fmaf(apart[i + 1], per_row, 12582912.0f)) << 16) + low_step;
                }
            }
        }
    }

    __device__ __forceinline__ void advance() {
#pragma unroll
        for (int i = 0; i < 8; ++i) value[i] += step[i];
    }

    __device__ __forceinline__ uint4 codes(int shift) const {
        unsigned word[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            word[i] = __byte_perm(value[2 * i], value[2 * i + 1], WIDE ? 0x7632 : 0x7531);
            if (WIDE) word[i] <<= shift;
        }
        return make_uint4(word[0], word[1], word[2], word[3]);
    }
};

// Of each sample of a word whether its bit of the mask is set. bits: of the blocks from that of the first sample on;
// `phase` samples of that block lie before the word; a block has `unit` samples.
__device__ __forceinline__ unsigned sample_mask(unsigned bits, int unit, int phase) {
    if (unit == 1) return bits;
    if (unit == 2 && phase == 0) {
        bits &= 0xffu;
        bits = (bits | bits << 4) & 0x0f0fu;
        bits = (bits | bits << 2) & 0x3333u;
        bits = (bits | bits << 1) & 0x5555u;
        return bits | bits << 1;
    }
    unsigned samples = 0;
#pragma unroll 1
    for (int first = -phase; first < WORD_BYTES; first += unit, bits >>= 1)
        if (bits & 1) samples |= first < 0 ? (1u << (unit + first)) - 1 : ((1u << unit) - 1) << first;
    return samples;
}

// Writes the samples of a word that are wanted. in_halves: whether eight bytes may be written at once.
template <bool WIDE>
__device__ __forceinline__ void write_some(unsigned char* out, const uint4& codes, unsigned wanted, bool in_pairs,
                                           bool in_halves) {
    const unsigned word[4] = {codes.x, codes.y, codes.z, codes.w};
    if (WIDE || in_pairs) {
        constexpr unsigned first = WIDE ? 0xf : 0xff, second = WIDE ? 0xf0 : 0xff00;
        const bool low = in_halves && (wanted & first) == first, high = in_halves && (wanted & second) == second;
        if (low) reinterpret_cast<uint2*>(out)[0] = make_uint2(codes.x, codes.y);
        if (high) reinterpret_cast<uint2*>(out)[1] = make_uint2(codes.z, codes.w);
        const unsigned rest = wanted & ~((low ? first : 0) | (high ? second : 0));
        unsigned short* const to = reinterpret_cast<unsigned short*>(out);
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (rest >> (WIDE ? i : 2 * i) & 1) to[i] = static_cast<unsigned short>(word[i / 2] >> 16 * (i % 2));
    } else {
#pragma unroll
        for (int i = 0; i < 16; ++i)
            if (wanted >> i & 1) out[i] = static_cast<unsigned char>(word[i / 4] >> 8 * (i % 4));
    }
}

// What a thread knows of the words that it looks after, one in each row.
struct Word {
    int block;  // of the tile, that of its first sample
    int unit;  // samples in a block
    int phase;  // samples of the first block that lie before the word
    int outside;  // samples that lie before the tile
    unsigned valid;  // the samples in the tile, a bit each
    unsigned whole;  // all samples, where a word may be written at once
    bool in_pairs;  // whether samples come and go by two, at even addresses
};

// The samples of a word in a row that are to be written.
__device__ __forceinline__ unsigned wanted_of(const unsigned* taken, const Word& word) {
    const unsigned* const line = taken + (word.block >> 5);
    const unsigned bits = __funnelshift_r(line[0], line[1], word.block & 31) & 0xffffu;
    return sample_mask(bits, word.unit, word.phase) << word.outside & word.valid;
}

// Writes rows [row, end). down: null where every row is `codes`.
template <bool WIDE>
__device__ __forceinline__ void write_rows(unsigned char* out, size_t pitch, int row, int end, int log2_y,
                                           const unsigned (*taken)[WRITE_WORDS + 1], const Word& word, const Position* down,
                                           const float4* values, int words, int below, float per_row, int shift, uint4 codes) {
    Run<WIDE> run;
    int cell = -1, left = 0;
    unsigned wanted = 0;
    out += static_cast<size_t>(row) * pitch;
    const int in_block = (1 << log2_y) - 1;
#pragma unroll 1
    for (; row < end; ++row, out += pitch) {
        if (!(row & in_block)) wanted = wanted_of(taken[row >> log2_y], word);
        if (!wanted) {
            cell = -1;
            continue;
        }
        if (down) {
            const Position here = down[row];
            if (here.cell == cell && left) {
                run.advance();
                --left;
            } else {
                run.begin(values + here.cell, words, below, here.share, per_row);
                cell = here.cell;
                left = WRITE_RUN;
            }
            codes = run.codes(shift);
        }
        if (wanted == word.whole) *reinterpret_cast<uint4*>(out) = codes;
        else write_some<WIDE>(out, codes, wanted, word.in_pairs, word.whole != 0);
    }
}

// A word of a tile's mask: what the region takes and no stronger one does. x, y: of the word's first block in the frame.
__device__ __forceinline__ unsigned without_rivals(unsigned bits, const Region* regions, const unsigned* rivals,
                                                   const unsigned* masks, int x, int y) {
    const unsigned count = rivals[0];
#pragma unroll 1
    for (unsigned i = 1; i <= count && bits; ++i) {
        const Region& rival = regions[rivals[i]];
        const int row = y - rival.at[1];
        if (row >= 0 && row < rival.size[1]) bits &= ~mask_bits(rival, masks, x - rival.at[0], row);
    }
    return bits;
}

// Blocks: tiles of samples, WRITE_WORDS words of the mask wide and patch.rows high; threads: (REDACT_TILE, REDACT_ROWS).
// What is written is interpolated across once for each row of cells, and downward by adding steps.
extern "C" __global__ void __launch_bounds__(THREADS, REDACT_WRITE_BLOCKS) redact_write(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, const float* __restrict__ low,
    const unsigned* __restrict__ masks) {
    // Of rows of cells: fours of samples, those that are the n-th of their word beside each other.
    __shared__ float4 values[WRITE_VALUES / 4];
    __shared__ Position down[2 * WRITE_ROWS];  // of a row of samples: where its row of values begins, and its share of the next
    __shared__ unsigned taken[WRITE_ROWS][WRITE_WORDS + 1];  // by row of blocks; the last word is 0
    __shared__ float cells[WRITE_CELLS];
    __shared__ Patch own_patch;
    const int thread = threadIdx.y * 32 + threadIdx.x, method = layout.method;
    const Work work = part_of<Work>(table, layout.write_work)[blockIdx.x];
    const Patch& patch = fetched_patch(part_of<Patch>(table, layout.patches) + work.owner, own_patch, thread);
    const int tile = static_cast<int>(work.tile), mask_words = patch.mask_words, channels = patch.channels;
    const int log2_x = patch.axis[0].log2_block, log2_y = patch.axis[1].log2_block, wide = patch.wide;
    int first_word = 0, tile_y = tile;
    if (mask_words > WRITE_WORDS) {
        const int tiles_x = (mask_words + WRITE_WORDS - 1) / WRITE_WORDS;
        tile_y = tile / tiles_x;
        first_word = (tile - tile_y * tiles_x) * WRITE_WORDS;
    }
    const int left = 32 * first_word << log2_x, top = tile_y * patch.rows;
    const int width = min(32 * WRITE_WORDS << log2_x, patch.axis[0].length - left);
    const int height = min(patch.rows, patch.axis[1].length - top), first_row = top >> log2_y;
    const int block_rows = (height + (1 << log2_y) - 1) >> log2_y;

    // A thread looks after a word of memory in each row; `skew` samples of the first word lie in front of the tile.
    unsigned char* const rows = reinterpret_cast<unsigned char*>(patch.samples) +
                                static_cast<size_t>(top) * patch.pitch_bytes + (static_cast<size_t>(left * channels) << wide);
    const int log2_word = 4 - wide, per_word = 1 << log2_word, elements = width * channels;
    const bool aligned = patch.pitch_bytes % WORD_BYTES == 0;
    const int skew = aligned ? static_cast<int>(reinterpret_cast<size_t>(rows) % WORD_BYTES) >> wide : 0;
    const int words = (elements + skew + per_word - 1) >> log2_word;
    const float per_words = 1.0f / static_cast<float>(words);
    const int groups = quotient(THREADS, per_words);  // of threads that look after other rows
    const int group = quotient(thread, per_words), word = thread - group * words;

    const int mask_column = thread % WRITE_WORDS, mask_number = first_word + mask_column;
    const Region* const regions = part_of<Region>(table, layout.regions);
    const unsigned* const rivals = part_of<unsigned>(table, layout.rivals) + patch.rivals;
    const bool has_rivals = patch.rivals != 0, plain = patch.mask == NO_MASK;
    const unsigned* const mask = masks + (plain ? 0 : patch.mask) + mask_number;
    const unsigned all = span_bits(0, (patch.axis[0].length + (1 << log2_x) - 1) >> log2_x, mask_number);
    unsigned any = 0;
#pragma unroll 1
    for (int turn = 0; turn < WRITE_TURNS; ++turn) {
        const int row = (turn * THREADS + thread) / WRITE_WORDS;
        if (row >= block_rows) continue;
        unsigned bits = all;
        if (all && !plain) bits = mask[static_cast<size_t>(first_row + row) * mask_words];
        if (has_rivals) {
            const Region& region = regions[patch.region];
            bits = without_rivals(bits, regions, rivals, masks, region.at[0] + 32 * mask_number,
                                  region.at[1] + first_row + row);
        }
        any |= bits;
        taken[row][mask_column] = bits;
    }
    if (thread < block_rows) taken[thread][WRITE_WORDS] = 0;

    const int fours = words << (log2_word - 2);  // of a row of values
    if (method != SOLID) {
        const int first_cell = position_of(patch.axis[1], top, method).cell;
        const int cell_rows =
            position_of(patch.axis[1], top + height - 1, method).cell - first_cell + 1 + (method == GAUSSIAN);
        for (int row = thread; row < height; row += THREADS) {
            Position position = position_of(patch.axis[1], top + row, method);
            position.cell = (position.cell - first_cell) * fours;
            down[row] = position;
        }
        const int low_row = patch.axis[0].cells * channels, next = method == GAUSSIAN ? channels : 0;
        const int columns = words << log2_word, every = max(groups >> log2_word, 1), turn = group >> log2_word;
        low += patch.low + static_cast<size_t>(first_cell) * low_row;
        const bool fetched = cell_rows * low_row <= WRITE_CELLS;  // else they are asked for four at a time, from afar
        if (fetched) {
#pragma unroll
            for (int start = 0; start < WRITE_CELLS; start += THREADS)
                if (start + thread < cell_rows * low_row) cells[start + thread] = low[start + thread];
            __syncthreads();
        }
        const float unit = wide ? Run<true>::unit : Run<false>::unit;
        const int skip = every * low_row, to_next = 4 * fours * every;
        for (int column = thread - turn * columns; column < columns && turn < every; column += THREADS) {
            const int sample = min(max(column - skew, 0), elements - 1);
            const int x = pixel_of(sample, channels), channel = sample - x * channels, in_word = column & (per_word - 1);
            const Position across = position_of(patch.axis[0], left + x, method);
            const int at = turn * low_row + across.cell * channels + channel;
            float* to = reinterpret_cast<float*>(values + in_word / 4 * words + (column >> log2_word)) + in_word % 4 +
                        4 * fours * turn;
            if (channel == patch.alpha) {
                const float opaque = unit * (static_cast<float>(patch.fill[channel]) + 0.5f);
#pragma unroll 1
                for (int row = turn; row < cell_rows; row += every, to += to_next) *to = opaque;
            } else if (fetched) {
                const float* cell = cells + at;
                const float share = unit * across.share, half = 0.5f * unit;
#pragma unroll 4
                for (int row = turn; row < cell_rows; row += every, cell += skip, to += to_next)
                    *to = fmaf(cell[next] - cell[0], share, fmaf(cell[0], unit, half));
            } else {
                const float* cell = low + at;
#pragma unroll 1
                for (int row = turn; row < cell_rows; row += 4 * every, cell += 4 * skip, to += 4 * to_next) {
                    float before[4], after[4];
#pragma unroll
                    for (int k = 0; k < 4; ++k) {
                        const bool there = row + k * every < cell_rows;
                        before[k] = there ? cell[k * skip] : 0.0f;
                        after[k] = there ? cell[k * skip + next] : 0.0f;
                    }
#pragma unroll
                    for (int k = 0; k < 4; ++k)
                        if (row + k * every < cell_rows)
                            to[k * to_next] = unit * (fmaf(after[k] - before[k], across.share, before[k]) + 0.5f);
                }
            }
        }
    }
    if (!__syncthreads_or(any != 0)) return;

    if (group >= groups) return;
    const int first = (word << log2_word) - skew;  // sample of the tile
    const int unit = channels << log2_x, block = max(first, 0) / unit, before = min(first, 0);
    const int phase = first - before - block * unit;
    const unsigned valid = (ALL_LANES >> (32 - per_word)) & ALL_LANES << -before &
                           (elements - first >= per_word ? ALL_LANES : (1u << (elements - first)) - 1);
    const bool in_pairs = unit % 2 == 0 && (phase - before) % 2 == 0 && elements % 2 == 0 &&
                          (reinterpret_cast<size_t>(rows) | patch.pitch_bytes) % 2 == 0;
    const unsigned whole = aligned ? (1u << per_word) - 1 : 0;  // nothing is, where rows lie anyhow
    const int shift = patch.shift;
    uint4 codes = make_uint4(0, 0, 0, 0);
    if (method == SOLID) {
        const unsigned short* const fill = patch.fill;
        if (channels <= 2) {
            unsigned one = static_cast<unsigned>(fill[0]) << shift, other = channels == 2 ? fill[1] << shift : one;
            if (first & 1 && channels == 2) one = fill[1] << shift, other = static_cast<unsigned>(fill[0]) << shift;
            const unsigned all = wide ? one | other << 16 : (one | other << 8) * 0x10001u;
            codes = make_uint4(all, all, all, all);
        } else {
            unsigned word_of[4] = {0, 0, 0, 0};
            int channel = (first + WORD_BYTES * channels) % channels;  // the first may be negative
#pragma unroll
            for (int i = 0; i < WORD_BYTES; ++i) {
                if (i < per_word) {
                    const unsigned code = static_cast<unsigned>(fill[channel]) << shift;
                    if (wide) word_of[i / 2 % 4] |= code << 16 * (i % 2);
                    else word_of[i / 4] |= code << 8 * (i % 4);
                }
                channel = channel + 1 == channels ? 0 : channel + 1;
            }
            codes = make_uint4(word_of[0], word_of[1], word_of[2], word_of[3]);
        }
    }
    const Word here = {block, unit, phase, -before, valid, whole, in_pairs};
    unsigned char* const out = rows + static_cast<ptrdiff_t>(first) * (1 << wide);
    const Position* const positions = method == SOLID ? nullptr : down;
    const int below = method == GAUSSIAN ? fours : 0;
    const float per_row = 2.0f * patch.axis[1].per_unit;  // 0 unless Gaussian
    const size_t pitch = patch.pitch_bytes;
    const int each = ((block_rows + groups - 1) / groups) << log2_y, begin = group * each, end = min(begin + each, height);
    if (wide)
        write_rows<true>(out, pitch, begin, end, log2_y, taken, here, positions, values + word, words, below, per_row, shift,
                         codes);
    else
        write_rows<false>(out, pitch, begin, end, log2_y, taken, here, positions, values + word, words, below, per_row, shift,
                          codes);
}

// ---- Writing with soft edges ----------------------------------------------------------------------------------------

// Whether a region takes a block of the frame.
__device__ __forceinline__ bool holds_block(const Region& region, const unsigned* masks, int column, int row) {
    column -= region.at[0];
    row -= region.at[1];
    return column >= 0 && column < region.size[0] && row >= 0 && row < region.size[1] && takes(region, masks, column, row);
}

// How many blocks around a block of the frame lie near the region: its weight, in units of 1 / (2 radius + 1)^2.
__device__ __forceinline__ int soft_count(const Region& region, const unsigned* masks, int column, int row) {
    const int radius = region.soft, width = region.size[0] + 2 * radius, height = region.size[1] + 2 * radius;
    const int words = (width + 31) / 32;
    // Among the places of the dilated mask, which begins `radius` before the region: from this one on.
    const int from = column - region.at[0], first = row - region.at[1];
    if (from <= -2 * radius - 1 || from >= width || first <= -2 * radius - 1 || first >= height) return 0;
    const unsigned window = ALL_LANES >> (31 - 2 * radius);
    const int word = from >> 5;
    int count = 0;
    for (int y = max(first, 0); y <= min(first + 2 * radius, height - 1); ++y) {
        const unsigned* const line = masks + region.derived + static_cast<size_t>(y) * words;
        const unsigned low = word >= 0 ? line[word] : 0, high = word + 1 < words ? line[word + 1] : 0;
        count += __popc(__funnelshift_r(low, high, from & 31) & window);
    }
    return count;
}

// The weight of the region with that number in a block of its frame, or 0 where another one wins.
__device__ __forceinline__ int own_count(const Region* regions, unsigned number, const unsigned* masks, int column, int row) {
    const Region& region = regions[number];
    const bool inside = holds_block(region, masks, column, row);
    const int mine = soft_count(region, masks, column, row);
    if (!mine) return 0;
    const int unit = (2 * region.soft + 1) * (2 * region.soft + 1);
    for (unsigned other = inside ? number + 1 : region.begin; other < region.end; ++other) {
        if (other == number) continue;
        const Region& rival = regions[other];
        if (holds_block(rival, masks, column, row)) return 0;
        if (inside) continue;
        const int its = soft_count(rival, masks, column, row), its_unit = (2 * rival.soft + 1) * (2 * rival.soft + 1);
        if (its && (its * unit > mine * its_unit || (other > number && its * unit == mine * its_unit))) return 0;
    }
    return mine;
}

template <class Sample>
__device__ __forceinline__ void blend_pixel(const Patch& patch, const float* low, int x, int y, int method, unsigned weight,
                                            unsigned unit) {
    Sample* const out = reinterpret_cast<Sample*>(reinterpret_cast<char*>(patch.samples) +
                                                  static_cast<size_t>(y) * patch.pitch_bytes) +
                        static_cast<size_t>(x) * patch.channels;
    const int channels = patch.channels, low_row = patch.axis[0].cells * channels;
    Position across = {0, 0.0f}, down = {0, 0.0f};
    if (method != SOLID) {
        across = position_of(patch.axis[0], x, method);
        down = position_of(patch.axis[1], y, method);
    }
    const size_t at = static_cast<size_t>(down.cell) * low_row + across.cell * channels;
    for (int channel = 0; channel < channels; ++channel) {
        unsigned code;
        if (method == SOLID || channel == patch.alpha) {
            code = patch.fill[channel];
        } else if (method == PIXELATE) {
            code = rounded(low[at + channel]);
        } else {
            const float* const cell = low + at + channel;
            const float before = fmaf(cell[low_row] - cell[0], down.share, cell[0]);
            const float after = fmaf(cell[low_row + channels] - cell[channels], down.share, cell[channels]);
            code = rounded(fmaf(after - before, across.share, before));
        }
        const unsigned old = static_cast<unsigned>(out[channel]) >> patch.shift;
        code = (2 * (old * (unit - weight) + code * weight) + unit) / (2 * unit);
        out[channel] = static_cast<Sample>(code << patch.shift);
    }
}

// Blocks: tiles of samples, REDACT_TILE a side; threads: (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS) redact_write_softly(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, const float* __restrict__ low,
    const unsigned* __restrict__ masks) {
    const int lane = threadIdx.x, warp = threadIdx.y;
    const Work work = part_of<Work>(table, layout.write_work)[blockIdx.x];
    const Patch& patch = part_of<Patch>(table, layout.patches)[work.owner];
    const Region* const regions = part_of<Region>(table, layout.regions);
    const Region& region = regions[patch.region];
    const int tile = static_cast<int>(work.tile);
    const int tiles_x = (patch.axis[0].length + REDACT_TILE - 1) / REDACT_TILE;
    const int x = tile % tiles_x * REDACT_TILE + lane, top = tile / tiles_x * REDACT_TILE;
    if (x >= patch.axis[0].length) return;
    const int column = region.rim_at[0] + (x >> patch.axis[0].log2_block);
    const unsigned unit = (2 * region.soft + 1) * (2 * region.soft + 1);
    for (int y = top + warp; y < min(top + REDACT_TILE, patch.axis[1].length); y += WARPS) {
        const int row = region.rim_at[1] + (y >> patch.axis[1].log2_block);
        const int weight = own_count(regions, patch.region, masks, column, row);
        if (!weight) continue;
        if (patch.wide) blend_pixel<unsigned short>(patch, low + patch.low, x, y, layout.method, weight, unit);
        else blend_pixel<unsigned char>(patch, low + patch.low, x, y, layout.method, weight, unit);
    }
}

// The union of each frame's regions, a bit per pixel: out (frames, height, words), all frames of one size.
// Blocks: words, groups of REDACT_ROWS rows, frames; threads: (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS) redact_union(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table,
    const unsigned* __restrict__ masks, unsigned* __restrict__ out, int width, int height) {
    const unsigned* ends = part_of<unsigned>(table, layout.frame_starts) + blockIdx.z;
    const Region* const regions = part_of<Region>(table, layout.regions);
    const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * REDACT_ROWS + threadIdx.y;
    if (y >= height) return;  // the whole warp
    bool covered = false;
    for (unsigned number = ends[0]; number < ends[1] && x < width && !covered; ++number) {
        const Region& region = regions[number];
        const int column = x / region.block[0] - region.at[0], row = y / region.block[1] - region.at[1];
        covered = column >= 0 && column < region.size[0] && row >= 0 && row < region.size[1] &&
                  takes(region, masks, column, row);
    }
    const unsigned bits = __ballot_sync(ALL_LANES, covered);
    if (threadIdx.x == 0) out[(static_cast<size_t>(blockIdx.z) * height + y) * gridDim.x + blockIdx.x] = bits;
}
