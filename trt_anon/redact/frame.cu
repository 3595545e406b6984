// Regions of many frames destroyed in their own planes; frame.py says what the result is.
//
// 1. redact_prepare sums the samples of each cell of each region, in whole numbers, and draws the regions' masks, a bit
//    per block (what shares a chroma sample).
// 2. redact_blur turns sums into means and runs a small Gaussian over them; for pixelation it only divides. Where cells
//    are single samples it reads those itself.
// 3. redact_write writes: interpolated between cells, or the cell's mean, or black, where the region's mask is set and
//    that of no stronger region of the frame.
//
// Nothing is written before everything is read. A sample is read once and written once, whatever the blur's strength; the Gaussian between has at most 33 taps an
// axis (more only over grids of less than 20 cells). A *patch* is one region in one plane. Work is cut into tiles that
// are numbered through all patches; a warp finds the owner of a tile's number.

#ifndef REDACT_TILE
#define REDACT_TILE 32
#endif
#ifndef REDACT_ROWS
#define REDACT_ROWS 8
#endif

// frame_plan.py has the same numbers.
#define SUM_LANES 64  // columns of a tile of sums
#define SUM_ROWS 32  // and parts of cells, one over the other
#define MAX_RADIUS 48
#define MAX_NEIGHBOURHOOD 64  // cells along an axis that a tile of the Gaussian needs

#define THREADS (REDACT_TILE * REDACT_ROWS)
#define SUM_TEAMS (THREADS / SUM_LANES)
#define ALL_LANES 0xffffffffu

static_assert(REDACT_TILE == 32, "a warp makes a row of a tile, and a word of a mask");
static_assert(SUM_TEAMS == 4, "sum_tile splits a cell's rows in 1, 2 or 4");
static_assert(REDACT_TILE % REDACT_ROWS == 0 && REDACT_TILE / REDACT_ROWS <= 32, "a bit for each row of a thread");

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
    unsigned end;  // one past the last region of its frame
    int shape;
    int reserved;
};

struct Axis {
    int cells;  // Gaussian: with one beyond each edge
    int size;  // samples of the largest cell
    int slices;  // parts of a cell, which different blocks of threads sum
    int part;  // samples of the largest part
    int tile;  // parts in a tile of sums
    int blocks;  // of the picture, for pixelation
    int log2_block;  // samples per block
    int radius;  // of the Gaussian, in cells
    float sigma;
    int length;  // samples
};

struct Patch {
    unsigned long long samples;  // address of the first
    Axis axis[2];
    unsigned pitch_bytes;
    unsigned region;
    unsigned sums, low;  // places of its first
    unsigned short fill[4];  // black, by channel
    int channels;
    int alpha;  // the channel that becomes opaque, or -1
    int wide;  // whether a sample has 16 bits
    int shift;
    int peak;  // the highest code
    int reserved;
};

struct Point {
    double x, y;  // in blocks from the region's first, centres at whole numbers
    double length;  // in pixels, of the edge to the next one
};

struct Layout {  // where in the table things are, in units of 8 bytes
    unsigned regions, patches, points, sum_starts, mask_starts, blur_starts, write_starts, frame_starts;
    int region_count, patch_count;
    unsigned sum_tiles;
    int method;
};

template <class T>
__device__ __forceinline__ const T* part_of(const unsigned long long* table, unsigned place) {
    return reinterpret_cast<const T*>(table + place);
}

// The last i with starts[i] <= tile, of `count` ascending starts of which the first is 0. Called by whole warps.
__device__ __forceinline__ int owner_of(const unsigned* starts, int count, unsigned tile, int lane) {
    int low = 0, span = count;
    while (span > 1) {
        const int step = (span + 31) / 32;
        const bool reached = lane * step < span && starts[low + lane * step] <= tile;
        const int last = 31 - __clz(static_cast<int>(__ballot_sync(ALL_LANES, reached)));
        low += last * step;
        span = min(step, span - last * step);
    }
    return low;
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
    const int cell = number / axis.slices, slice = number - cell * axis.slices;
    const Span whole = cell_span(axis, cell, method);
    const int first = slice * axis.part, count = max(0, min(axis.part, whole.count - first));
    return {whole.first + first, count, first + count == whole.count ? whole.extra : 0};
}

template <class Sample>
__device__ __forceinline__ void sum_tile(const Patch& patch, unsigned tile, unsigned (*columns)[SUM_LANES],
                                         unsigned* sums, int thread, int method) {
    const Axis &across = patch.axis[0], &down = patch.axis[1];
    const int channels = patch.channels, lanes = SUM_LANES / channels * channels;
    const int parts_x = across.cells * across.slices, parts_y = down.cells * down.slices;
    const int tiles_x = (parts_x + across.tile - 1) / across.tile;
    const int left = static_cast<int>(tile % tiles_x) * across.tile, top = static_cast<int>(tile / tiles_x) * down.tile;
    for (int i = thread; i < SUM_ROWS * SUM_LANES; i += THREADS) columns[i / SUM_LANES][i % SUM_LANES] = 0;
    __syncthreads();

    // A lane sums a column of each cell; where a cell is wider than the lanes, several columns of one channel.
    const int lane = thread % SUM_LANES, team = thread / SUM_LANES;
    const int split = down.tile >= 4 ? 1 : down.tile >= 2 ? 2 : 4;  // teams to a row of cells
    const int in_tile = across.tile > 1 ? lane / (across.part * channels) : 0;
    if (lane < lanes && in_tile < across.tile && left + in_tile < parts_x) {
        const Span x = part_span(across, left + in_tile, method);
        const int begin = lane - in_tile * across.part * channels, end = x.count * channels;
        for (int row = team / split; row < down.tile && top + row < parts_y; row += SUM_TEAMS / split) {
            const Span y = part_span(down, top + row, method);
            unsigned sum = 0;
            for (int element = begin; element < end; element += lanes) {
                const char* at = reinterpret_cast<const char*>(patch.samples) +
                                 static_cast<size_t>(y.first + team % split) * patch.pitch_bytes +
                                 (static_cast<size_t>(x.first) * channels + element) * sizeof(Sample);
                unsigned of_column = 0;
                for (int j = team % split; j < y.count; j += split) {
                    const unsigned code = static_cast<unsigned>(*reinterpret_cast<const Sample*>(at)) >> patch.shift;
                    of_column += code * (j == y.count - 1 ? 1u + y.extra : 1u);
                    at += static_cast<size_t>(split) * patch.pitch_bytes;
                }
                sum += of_column * (element >= end - channels ? 1u + x.extra : 1u);
            }
            atomicAdd(&columns[row][lane], sum);
        }
    }
    __syncthreads();

    for (int i = thread; i < across.tile * down.tile * channels; i += THREADS) {
        const int channel = i % channels, cell = i / channels;
        const int x = cell % across.tile, y = cell / across.tile;
        if (left + x >= parts_x || top + y >= parts_y) continue;
        const int begin = across.tile > 1 ? x * across.part * channels : 0;
        const int end = across.tile > 1 ? begin + across.part * channels : lanes;
        unsigned sum = 0;
        for (int at = begin + channel; at < end; at += channels) sum += columns[y][at];
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

__device__ __forceinline__ int within(double value, int most) {
    return static_cast<int>(fmin(fmax(value, 0.0), static_cast<double>(most)));
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

__device__ __forceinline__ void mask_tile(const Region& region, const Point* points, unsigned tile, unsigned* masks,
                                          int lane, int warp, int (*turns)[32], unsigned* beside) {
    const int words = (region.size[0] + 31) / 32;
    const int word = static_cast<int>(tile % words), top = static_cast<int>(tile / words) * REDACT_TILE;
    const int column = 32 * word + lane;
    for (int row = top + warp; row < min(top + REDACT_TILE, region.size[1]); row += REDACT_ROWS) {
        bool holds;
        if (region.shape == SHAPE_POLYGON)
            holds = polygon_holds(region, points + region.first_point, word, row, lane, turns[warp], beside + warp);
        else if (region.shape == SHAPE_BITMAP)
            holds = bitmap_holds(region, column, row);
        else
            holds = reach(region, 1, row) + reach(region, 0, column) <= 1.0;
        const unsigned bits = __ballot_sync(ALL_LANES, holds && column < region.size[0]);
        if (lane == 0) masks[region.mask + static_cast<size_t>(row) * words + word] = bits;
    }
}

// Blocks: tiles of sums, layout.sum_tiles of them, then tiles of masks; threads: (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS, 3) redact_prepare(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, unsigned* __restrict__ sums,
    unsigned* __restrict__ masks) {
    __shared__ unsigned columns[SUM_ROWS][SUM_LANES];
    __shared__ int turns[REDACT_ROWS][32];
    __shared__ unsigned beside[REDACT_ROWS];
    const int lane = threadIdx.x, warp = threadIdx.y, thread = warp * 32 + lane;
    if (blockIdx.x < layout.sum_tiles) {
        const unsigned* starts = part_of<unsigned>(table, layout.sum_starts);
        const int owner = owner_of(starts, layout.patch_count, blockIdx.x, lane);
        const Patch& patch = part_of<Patch>(table, layout.patches)[owner];
        const unsigned tile = blockIdx.x - starts[owner];
        if (patch.wide)
            sum_tile<unsigned short>(patch, tile, columns, sums + patch.sums, thread, layout.method);
        else
            sum_tile<unsigned char>(patch, tile, columns, sums + patch.sums, thread, layout.method);
    } else {
        const unsigned number = blockIdx.x - layout.sum_tiles;
        const unsigned* starts = part_of<unsigned>(table, layout.mask_starts);
        const int owner = owner_of(starts, layout.region_count, number, lane);
        mask_tile(part_of<Region>(table, layout.regions)[owner], part_of<Point>(table, layout.points),
                  number - starts[owner], masks, lane, warp, turns, beside);
    }
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

// Blocks: tiles of cells, channel by channel; threads: (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS, 3) redact_blur(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table,
    const unsigned* __restrict__ sums, float* __restrict__ low) {
    __shared__ float cells[MAX_NEIGHBOURHOOD][MAX_NEIGHBOURHOOD];
    __shared__ float rows_done[MAX_NEIGHBOURHOOD][REDACT_TILE];
    __shared__ float weights[2][MAX_RADIUS + 1];
    const int lane = threadIdx.x, warp = threadIdx.y, thread = warp * 32 + lane;
    const unsigned* starts = part_of<unsigned>(table, layout.blur_starts);
    const int owner = owner_of(starts, layout.patch_count, blockIdx.x, lane);
    const Patch& patch = part_of<Patch>(table, layout.patches)[owner];
    const Axis &across = patch.axis[0], &down = patch.axis[1];
    const int channels = patch.channels, width = across.cells, height = down.cells;
    const unsigned tile = blockIdx.x - starts[owner], place = tile / channels;
    const int channel = static_cast<int>(tile % channels), tiles_x = (width + REDACT_TILE - 1) / REDACT_TILE;
    const int left = static_cast<int>(place % tiles_x) * REDACT_TILE;
    const int top = static_cast<int>(place / tiles_x) * REDACT_TILE;
    sums += patch.sums;
    low += patch.low;
    const int x = left + lane, bottom = min(top + REDACT_TILE, height);

    if (layout.method == PIXELATE) {
        for (int y = top + warp; x < width && y < bottom; y += REDACT_ROWS)
            low[(static_cast<size_t>(y) * width + x) * channels + channel] =
                cell_value(patch, sums, x, y, channel, PIXELATE);
        return;
    }

    const int first_x = max(left - across.radius, 0), last_x = min(left + REDACT_TILE - 1 + across.radius, width - 1);
    const int first_y = max(top - down.radius, 0), last_y = min(bottom - 1 + down.radius, height - 1);
    const int columns = last_x - first_x + 1, rows = last_y - first_y + 1;
    for (int i = thread; i < 2 * (MAX_RADIUS + 1); i += THREADS) {
        const Axis& axis = i > MAX_RADIUS ? down : across;
        const int step = i > MAX_RADIUS ? i - (MAX_RADIUS + 1) : i;
        const float distance = static_cast<float>(step) / axis.sigma;
        if (step <= axis.radius) weights[i > MAX_RADIUS][step] = expf(-0.5f * distance * distance);
    }
    for (int row = warp; row < rows; row += REDACT_ROWS)
        for (int column = lane; column < columns; column += 32)
            cells[row][column] = cell_value(patch, sums, first_x + column, first_y + row, channel, GAUSSIAN);
    __syncthreads();

    float total_x = 0.0f, total_y = 0.0f;
    for (int i = across.radius; i > 0; --i) total_x += weights[0][i];
    for (int i = down.radius; i > 0; --i) total_y += weights[1][i];
    const float unit_x = 1.0f / (2.0f * total_x + weights[0][0]), unit_y = 1.0f / (2.0f * total_y + weights[1][0]);
    for (int row = warp; x < width && row < rows; row += REDACT_ROWS) {
        float sum = weights[0][0] * cells[row][x - first_x];
        for (int i = 1; i <= across.radius; ++i)
            sum += weights[0][i] * (cells[row][max(x - i, 0) - first_x] + cells[row][min(x + i, width - 1) - first_x]);
        rows_done[row][lane] = sum * unit_x;
    }
    __syncthreads();
    for (int y = top + warp; x < width && y < bottom; y += REDACT_ROWS) {
        float sum = weights[1][0] * rows_done[y - first_y][lane];
        for (int i = 1; i <= down.radius; ++i)
            sum += weights[1][i] *
                   (rows_done[max(y - i, 0) - first_y][lane] + rows_done[min(y + i, height - 1) - first_y][lane]);
        low[(static_cast<size_t>(y) * width + x) * channels + channel] = sum * unit_y;
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
    const int cell = at / unit;
    return {cell, static_cast<float>(at - cell * unit) / static_cast<float>(unit)};
}

__device__ __forceinline__ bool takes(const Region& region, const unsigned* masks, int column, int row) {
    if (region.shape == SHAPE_BOX) return true;
    const int words = (region.size[0] + 31) / 32;
    return masks[region.mask + static_cast<size_t>(row) * words + column / 32] >> column % 32 & 1;
}

template <class Sample>
__device__ __forceinline__ void write_pixel(const Patch& patch, const float* low, int x, int y, const Position& across,
                                            int method) {
    Sample* const out = reinterpret_cast<Sample*>(reinterpret_cast<char*>(patch.samples) +
                                                  static_cast<size_t>(y) * patch.pitch_bytes) +
                        static_cast<size_t>(x) * patch.channels;
    const Position down = method == SOLID ? Position{0, 0.0f} : position_of(patch.axis[1], y, method);
    const int width = patch.axis[0].cells, channels = patch.channels;
    const float* const cell = low + (static_cast<size_t>(down.cell) * width + across.cell) * channels;
    for (int channel = 0; channel < channels; ++channel) {
        unsigned code = patch.fill[channel];
        if (method == PIXELATE && channel != patch.alpha) {
            code = static_cast<unsigned>(cell[channel]);
        } else if (method == GAUSSIAN && channel != patch.alpha) {
            const float* const below = cell + static_cast<size_t>(width) * channels;
            const float before = cell[channel] * (1.0f - down.share) + below[channel] * down.share;
            const float after = cell[channel + channels] * (1.0f - down.share) + below[channel + channels] * down.share;
            const float value = before * (1.0f - across.share) + after * across.share;
            code = static_cast<unsigned>(fminf(value + 0.5f, static_cast<float>(patch.peak)));
        }
        out[channel] = static_cast<Sample>(code << patch.shift);
    }
}

// Blocks: tiles of samples; threads: (REDACT_TILE, REDACT_ROWS).
extern "C" __global__ void __launch_bounds__(THREADS) redact_write(
    const Layout __grid_constant__ layout, const unsigned long long* __restrict__ table, const float* __restrict__ low,
    const unsigned* __restrict__ masks) {
    __shared__ unsigned rivals[THREADS];
    __shared__ unsigned rival_count;
    const int lane = threadIdx.x, warp = threadIdx.y, thread = warp * 32 + lane;
    const unsigned* starts = part_of<unsigned>(table, layout.write_starts);
    const int owner = owner_of(starts, layout.patch_count, blockIdx.x, lane);
    const Patch& patch = part_of<Patch>(table, layout.patches)[owner];
    const Region* const regions = part_of<Region>(table, layout.regions);
    const Region& region = regions[patch.region];
    const unsigned tile = blockIdx.x - starts[owner];
    const int width = patch.axis[0].length, height = patch.axis[1].length;
    const int log2_x = patch.axis[0].log2_block, log2_y = patch.axis[1].log2_block;
    const int tiles_x = (width + REDACT_TILE - 1) / REDACT_TILE;
    const int left = static_cast<int>(tile % tiles_x) * REDACT_TILE;
    const int top = static_cast<int>(tile / tiles_x) * REDACT_TILE;
    const int x = left + lane, column = x >> log2_x;

    unsigned mine = 0;  // a bit for each of this thread's rows
    for (int i = 0; i < REDACT_TILE / REDACT_ROWS; ++i) {
        const int y = top + warp + i * REDACT_ROWS;
        if (x < width && y < height && takes(region, masks, column, y >> log2_y)) mine |= 1u << i;
    }
    // In blocks of the frame: this tile, against the stronger regions.
    const int from_x = region.at[0] + (left >> log2_x), from_y = region.at[1] + (top >> log2_y);
    const int last_x = region.at[0] + ((min(left + REDACT_TILE, width) - 1) >> log2_x);
    const int last_y = region.at[1] + ((min(top + REDACT_TILE, height) - 1) >> log2_y);
    for (unsigned first = patch.region + 1; first < region.end; first += THREADS) {
        if (thread == 0) rival_count = 0;
        __syncthreads();
        const unsigned number = first + thread;
        if (number < region.end) {
            const Region& rival = regions[number];
            if (rival.at[0] <= last_x && rival.at[0] + rival.size[0] > from_x && rival.at[1] <= last_y &&
                rival.at[1] + rival.size[1] > from_y)
                rivals[atomicAdd(&rival_count, 1u)] = number;
        }
        __syncthreads();
        for (unsigned n = 0; n < rival_count && mine; ++n) {
            const Region& rival = regions[rivals[n]];
            const int its_column = region.at[0] + column - rival.at[0];
            if (its_column < 0 || its_column >= rival.size[0]) continue;
            for (int i = 0; i < REDACT_TILE / REDACT_ROWS; ++i) {
                const int row = region.at[1] + ((top + warp + i * REDACT_ROWS) >> log2_y) - rival.at[1];
                if (mine >> i & 1 && row >= 0 && row < rival.size[1] && takes(rival, masks, its_column, row))
                    mine &= ~(1u << i);
            }
        }
        __syncthreads();
    }
    if (!mine) return;
    const Position across = layout.method == SOLID ? Position{0, 0.0f} : position_of(patch.axis[0], x, layout.method);
    for (int i = 0; i < REDACT_TILE / REDACT_ROWS; ++i) {
        if (!(mine >> i & 1)) continue;
        const int y = top + warp + i * REDACT_ROWS;
        if (patch.wide) write_pixel<unsigned short>(patch, low + patch.low, x, y, across, layout.method);
        else write_pixel<unsigned char>(patch, low + patch.low, x, y, across, layout.method);
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
