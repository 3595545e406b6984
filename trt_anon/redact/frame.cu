// Regions of many frames destroyed in their own planes; frame.py says what the result is.
//
// 1. redact_prepare sums the samples of each cell of each region, in whole numbers, and draws the regions' masks, a bit
//    per block (what shares a chroma sample).
// 2. redact_blur turns sums into means and runs a small Gaussian over them; for pixelation it only divides. Where cells
//    are single samples it reads those itself. Other blocks of it take from each mask what stronger regions take.
// 3. redact_write writes: interpolated between cells, or the cell's mean, or black, where the region's own mask is set.
//
// With soft edges, 2. dilates the masks instead, and 3. is redact_write_softly: see soft.py.
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
#define REDACT_PREPARE_BLOCKS 8
#endif
#ifndef REDACT_BLUR_BLOCKS
#define REDACT_BLUR_BLOCKS 8
#endif
#ifndef REDACT_WRITE_BLOCKS
#define REDACT_WRITE_BLOCKS 7
#endif

// frame_plan.py has the same numbers.
#define SUM_WORD 16  // bytes that a thread reads at once
#define MASK_WORDS 4  // of a tile of masks
#define MASK_ROWS 128
#define MAX_RADIUS 48
#define MAX_NEIGHBOURHOOD 56  // rows of cells that a tile of the Gaussian needs
#define MAX_NEIGHBOURS 80  // and values of a row
#define WRITE_WORDS 4  // words of the mask that a tile of samples spans
#define WRITE_ROWS 128  // and its rows
#define WRITE_VALUES 4096  // of its rows of cells, each as long as the tile
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
    unsigned derived;  // place of the first word of the mask dilated by that radius; without a rim, of its own mask
    int reserved;
};

struct Axis {
    int cells;  // Gaussian: with one beyond each edge
    int size;  // samples of the largest cell
    int slices;  // parts of a cell, which are summed apart
    int part;  // samples of the largest part
    int tile;  // parts in a tile of sums
    int blocks;  // of the picture, for pixelation
    int log2_block;  // samples per block
    int radius;  // of the Gaussian, in cells
    float sigma;
    int length;  // samples
    float per_unit;  // Gaussian: of half samples, in a cell
};

struct Patch {
    unsigned long long samples;  // address of the first
    Axis axis[2];
    unsigned pitch_bytes;
    unsigned region;
    unsigned sums, low;  // places of its first
    unsigned before, after;  // bytes of the plane's rows that lie on either side
    unsigned own;  // place of the first word of the region's own mask
    int mask_words;  // of a row of it
    unsigned short fill[4];  // black, by channel
    int rows;  // of a tile of samples: a multiple of a block's
    short channels;
    short alpha;  // the channel that becomes opaque, or -1
    short wide;  // whether a sample has 16 bits
    short shift;
};

struct Point {
    double x, y;  // in blocks from the region's first, centres at whole numbers
    double length;  // in pixels, of the edge to the next one
};

struct Layout {  // where in the table things are, in units of 8 bytes
    unsigned regions, patches, points, sum_work, mask_work, blur_work, write_work, derived_work, frame_starts;
    unsigned sum_tiles, blur_tiles;
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

// columns: of each part of rows, the sums of each column, from the start of the tile's first word.
__device__ __forceinline__ void sum_tile(const Patch& patch, unsigned tile, unsigned* columns, unsigned* sums,
                                         int thread, int method) {
    const Axis &across = patch.axis[0], &down = patch.axis[1];
    const int channels = patch.channels, log2_size = patch.wide;
    const int parts_x = across.cells * across.slices, parts_y = down.cells * down.slices;
    const int tiles_x = across.tile >= parts_x ? 1 : (parts_x + across.tile - 1) / across.tile;
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
    if (thread < words * height) {
        const int row = quotient(thread, 1.0f / static_cast<float>(words)), word = thread - row * words;
        const Span y = part_span(down, top + row, method);
        unsigned* const to = columns + thread * in_word;
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
        int j = span.count && (across.size * channels) % 2 == 0 ? x % span.count : 0;
        for (int done = 0; done < span.count; ++done) {
            sum += column[j * channels];
            j = j + 1 == span.count ? 0 : j + 1;
        }
        if (span.extra) sum += static_cast<unsigned>(span.extra) * column[(span.count - 1) * channels];
        sums[(static_cast<size_t>(top + y) * parts_x + left + x) * channels + channel] = sum;
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
                                        unsigned* __restrict__ sums, unsigned* __restrict__ masks) {
    __shared__ __align__(16) unsigned columns[THREADS * SUM_WORD];
    __shared__ int turns[WARPS][32];
    __shared__ unsigned beside[WARPS];
    const int lane = threadIdx.x, warp = threadIdx.y, thread = warp * 32 + lane;
    if (blockIdx.x < layout.sum_tiles) {
        const Work work = part_of<Work>(table, layout.sum_work)[blockIdx.x];
        const Patch& patch = part_of<Patch>(table, layout.patches)[work.owner];
        sum_tile(patch, work.tile, columns, sums + patch.sums, thread, layout.method);
    } else {
        const Work work = part_of<Work>(table, layout.mask_work)[blockIdx.x - layout.sum_tiles];
        mask_tile<OUTLINES>(part_of<Region>(table, layout.regions)[work.owner], part_of<Point>(table, layout.points), work.tile,
                  masks, lane, warp, turns, beside);
    }
}

// Blocks: tiles of sums, layout.sum_tiles of them, then tiles of masks; threads: (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS, REDACT_PREPARE_BLOCKS) redact_prepare(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, unsigned* __restrict__ sums,
    unsigned* __restrict__ masks) {
    prepare<false>(layout, table, sums, masks);
}

// The same, where there are polygons, which take many registers.
extern "C" __global__ void __launch_bounds__(THREADS, 5) redact_prepare_outlines(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, unsigned* __restrict__ sums,
    unsigned* __restrict__ masks) {
    prepare<true>(layout, table, sums, masks);
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
    if (region.shape != SHAPE_BOX) return masks[region.mask + static_cast<size_t>(row) * words + word];
    const int rest = region.size[0] - 32 * word;
    return rest >= 32 ? ALL_LANES : (1u << rest) - 1;
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

// A word of what a region takes and no stronger one does: 256 words to a tile.
__device__ __forceinline__ void own_tile(const Region* regions, unsigned number, unsigned tile, unsigned* masks, int lane,
                                         int thread) {
    const Region& region = regions[number];
    const int words = (region.size[0] + 31) / 32, all = words * region.size[1];
    const int place = static_cast<int>(tile) * THREADS + thread;
    const int row = min(place, all - 1) / words, word = min(place, all - 1) - row * words;
    const int x = region.at[0], y = region.at[1] + row, end_x = x + region.size[0];
    const int first_y = __shfl_sync(ALL_LANES, y, 0), last_y = __shfl_sync(ALL_LANES, y, 31);  // of this warp
    unsigned mine = mask_word(region, masks, word, row);
    for (unsigned first = number + 1; first < region.end; first += 32) {
        bool meets = false;
        if (first + lane < region.end) {
            const Region& rival = regions[first + lane];
            meets = rival.at[0] < end_x && rival.at[0] + rival.size[0] > x && rival.at[1] <= last_y &&
                    rival.at[1] + rival.size[1] > first_y;
        }
        for (unsigned left = __ballot_sync(ALL_LANES, meets); left; left &= left - 1) {
            const Region& rival = regions[first + __ffs(static_cast<int>(left)) - 1];
            const int rival_row = y - rival.at[1];
            if (mine && rival_row >= 0 && rival_row < rival.size[1])
                mine &= ~mask_bits(rival, masks, x + 32 * word - rival.at[0], rival_row);
        }
    }
    if (place < all) masks[region.derived + place] = mine;
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
    // Rounded half up. Exact: the quotient is no nearer to a whole number than 1 / (2 count), unless it is one.
    const double count = static_cast<double>(cell_span(across, x, method).count) *
                         static_cast<double>(cell_span(down, y, method).count);
    return static_cast<float>(floor((2.0 * static_cast<double>(total) + count) / (2.0 * count)));
}

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

// Blocks: layout.blur_tiles tiles of values, then tiles of own or dilated masks. A tile of values has 32 in a row and 32
// rows of cells; a value is a cell's channel where there are at most two, so that they lie beside each other, else the
// channels are looked at one by one. Threads: (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS, REDACT_BLUR_BLOCKS) redact_blur(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table,
    const unsigned* __restrict__ sums, float* __restrict__ low, unsigned* masks) {
    __shared__ float cells[MAX_NEIGHBOURHOOD][MAX_NEIGHBOURS];
    __shared__ float rows_done[MAX_NEIGHBOURHOOD][REDACT_TILE];
    __shared__ float weights[2][MAX_RADIUS + 1];
    const int lane = threadIdx.x, warp = threadIdx.y, thread = warp * 32 + lane;
    if (blockIdx.x >= layout.blur_tiles) {
        const Work work = part_of<Work>(table, layout.derived_work)[blockIdx.x - layout.blur_tiles];
        const Region* const regions = part_of<Region>(table, layout.regions);
        if (regions[work.owner].soft) dilate_tile(regions[work.owner], work.tile, masks, thread);
        else own_tile(regions, work.owner, work.tile, masks, lane, thread);
        return;
    }
    const Work work = part_of<Work>(table, layout.blur_work)[blockIdx.x];
    const Patch& patch = part_of<Patch>(table, layout.patches)[work.owner];
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

// Puts the n-th four codes where they belong among four words: of 8 bits into one, of 16 into two.
template <bool WIDE>
__device__ __forceinline__ void pack(const uint4& code, int shift, unsigned* words, int n) {
    if (WIDE) {
        words[2 * n % 4] = __byte_perm(code.x, code.y, 0x5410) << shift;
        words[(2 * n + 1) % 4] = __byte_perm(code.z, code.w, 0x5410) << shift;
    } else {
        words[n] = __byte_perm(__byte_perm(code.x, code.y, 0x0040), __byte_perm(code.z, code.w, 0x0040), 0x5410);
    }
}

__device__ __forceinline__ float4 minus(const float4& a, const float4& b) {
    return make_float4(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w);
}

// Four codes between values, to which a half has been added, and others that lie so far apart from them.
__device__ __forceinline__ uint4 codes_between(const float4& values, const float4& apart, float share) {
    const float value[4] = {fmaf(apart.x, share, values.x), fmaf(apart.y, share, values.y), fmaf(apart.z, share, values.z),
                            fmaf(apart.w, share, values.w)};
    unsigned code[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) code[i] = __float_as_uint(__fadd_rd(value[i], 8388608.0f));
    return make_uint4(code[0], code[1], code[2], code[3]);
}

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

// Writes the samples of a word that are wanted.
template <bool WIDE>
__device__ __forceinline__ void write_some(unsigned char* out, const uint4& codes, unsigned wanted, bool in_pairs) {
    const unsigned word[4] = {codes.x, codes.y, codes.z, codes.w};
    if (WIDE || in_pairs) {
        unsigned short* const to = reinterpret_cast<unsigned short*>(out);
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (wanted >> (WIDE ? i : 2 * i) & 1) to[i] = static_cast<unsigned short>(word[i / 2] >> 16 * (i % 2));
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

template <bool WIDE>
__device__ __forceinline__ void write_word(unsigned char* out, const uint4& codes, unsigned wanted, const Word& word) {
    if (!wanted) return;
    if (wanted == word.whole) *reinterpret_cast<uint4*>(out) = codes;
    else write_some<WIDE>(out, codes, wanted, word.in_pairs);
}

// Writes two rows from `row` on, and every n-th two after them, so that what they share is fetched once. down: null
// where every row is `codes`.
template <bool WIDE>
__device__ __forceinline__ void write_rows(unsigned char* out, size_t pitch, int row, int every, int height, int log2_y,
                                           const unsigned (*taken)[WRITE_WORDS + 1], const Word& word, const Position* down,
                                           const float4* values, int words, int below, int shift, uint4 codes) {
    out += static_cast<size_t>(row) * pitch;
#pragma unroll 1
    for (; row < height; row += every, out += every * pitch) {
        const bool is_last = row + 1 == height;
        const unsigned wanted = wanted_of(taken[row >> log2_y], word);
        const unsigned wanted_next = is_last ? 0 : log2_y ? wanted : wanted_of(taken[row + 1], word);
        if (!(wanted | wanted_next)) continue;
        uint4 codes_next = codes;
        if (down) {
            const Position here = down[row], next = is_last ? here : down[row + 1];
            const float4 *const at = values + here.cell, *const at_next = values + next.cell;
            unsigned made[4], made_next[4];
#pragma unroll
            for (int n = 0; n < (WIDE ? 2 : 4); ++n) {
                float4 above = at[n * words], apart = minus(at[n * words + below], above);
                const uint4 code = codes_between(above, apart, here.share);
                if (next.cell != here.cell) above = at_next[n * words], apart = minus(at_next[n * words + below], above);
                const uint4 code_next = codes_between(above, apart, next.share);
                pack<WIDE>(code, shift, made, n);
                pack<WIDE>(code_next, shift, made_next, n);
            }
            codes = make_uint4(made[0], made[1], made[2], made[3]);
            codes_next = make_uint4(made_next[0], made_next[1], made_next[2], made_next[3]);
        }
        write_word<WIDE>(out, codes, wanted, word);
        write_word<WIDE>(out + pitch, codes_next, wanted_next, word);
    }
}

// Blocks: tiles of samples, WRITE_WORDS words of the mask wide and patch.rows high; threads: (REDACT_TILE, REDACT_ROWS).
// What is written is interpolated across once for each row of cells, and downward for each row of samples.
extern "C" __global__ void __launch_bounds__(THREADS, REDACT_WRITE_BLOCKS) redact_write(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, const float* __restrict__ low,
    const unsigned* __restrict__ masks) {
    // Of rows of cells: fours of samples, those that are the n-th of their word beside each other.
    __shared__ float4 values[WRITE_VALUES / 4];
    __shared__ Position down[2 * WRITE_ROWS];  // of a row of samples: where its row of values begins, and its share of the next
    __shared__ unsigned taken[WRITE_ROWS][WRITE_WORDS + 1];  // by row of blocks; the last word is 0
    const int thread = threadIdx.y * 32 + threadIdx.x, method = layout.method;
    const Work work = part_of<Work>(table, layout.write_work)[blockIdx.x];
    const Patch& patch = part_of<Patch>(table, layout.patches)[work.owner];
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

    const int mask_column = thread % WRITE_WORDS;
    const unsigned* const own = masks + patch.own + first_word + mask_column;
    unsigned any = 0;
#pragma unroll
    for (int turn = 0; turn < WRITE_TURNS; ++turn) {
        const int row = (turn * THREADS + thread) / WRITE_WORDS;
        if (row >= block_rows) continue;
        const unsigned bits =
            first_word + mask_column < mask_words ? own[static_cast<size_t>(first_row + row) * mask_words] : 0;
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
        for (int column = thread - turn * columns; column < columns && turn < every; column += THREADS) {
            const int sample = min(max(column - skew, 0), elements - 1);
            const int x = pixel_of(sample, channels), channel = sample - x * channels, in_word = column & (per_word - 1);
            const Position across = position_of(patch.axis[0], left + x, method);
            const float* const at = low + across.cell * channels + channel;
            float* const to =
                reinterpret_cast<float*>(values + in_word / 4 * words + (column >> log2_word)) + in_word % 4;
            const bool opaque = channel == patch.alpha;
            for (int start = turn; start < cell_rows; start += 4 * every) {
                float before[4], after[4];  // asked for together, for they come from afar
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    const float* const cell = at + min(start + k * every, cell_rows - 1) * low_row;
                    before[k] = cell[0];
                    after[k] = cell[next];
                }
#pragma unroll
                for (int k = 0; k < 4; ++k)
                    if (start + k * every < cell_rows)
                        to[4 * fours * (start + k * every)] =
                            (opaque ? static_cast<float>(patch.fill[channel])
                                    : fmaf(after[k] - before[k], across.share, before[k])) + 0.5f;
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
    const size_t pitch = patch.pitch_bytes;
    if (wide)
        write_rows<true>(out, pitch, 2 * group, 2 * groups, height, log2_y, taken, here, positions, values + word, words, below,
                         shift, codes);
    else
        write_rows<false>(out, pitch, 2 * group, 2 * groups, height, log2_y, taken, here, positions, values + word, words, below,
                          shift, codes);
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
