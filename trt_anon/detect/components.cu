// Segmentation maps to boxes: the connected parts of every class, one block per image; segmentation.py says what they are.
//
// Every cell of a class points at a cell of its part with a lower number, in the end at the lowest, the part's root.
// Threads join cells that touch, without locks: the higher root is made to point at the lower, as often as it takes.
// Then what is known of a part is gathered at its root, and the roots become a list, in the order of their cells.

#ifndef COMPONENTS_THREADS
#define COMPONENTS_THREADS 512
#endif

// Bits of an image's status and element types; components_cuda.py has the same.
#define CANDIDATES_DROPPED 1
#define NOT_FINITE 4
#define NOT_A_PROBABILITY 8
#define WRONG_CLASS 16
#define FLOAT32 0
#define FLOAT16 1
#define INT32 2
#define INT64 3
#define NONE 0
#define SIGMOID 1
#define SOFTMAX 2

#define ALL_LANES 0xffffffffu
#define WARPS (COMPONENTS_THREADS / 32)

// A map of each image; steps are in elements.
struct Maps {
    unsigned long long address, factors;  // (images, 2) double, or 0
    unsigned long long class_map;  // (classes) int, negative to leave out; 0: their own numbers
    double unit[2];  // pixels of the input per cell, (x, y)
    int image, channel, cell, type;
    int width, height, columns, first_class, classes;  // columns: channels of the map
    int activation, labels;  // labels: the map holds numbers of classes, those from first_class on are looked for
    int min_cells;
};

// What is known of a part, at its root.
struct Part {
    int x0, y0, x1, y1, cells;
    unsigned score;  // its bits
};

struct Found {
    Part part;
    int number;  // of its class
};
static_assert(sizeof(Part) == 24 && sizeof(Found) == 28, "components_cuda.py counts on it");

__device__ __forceinline__ float half_value(unsigned short bits) {
    const unsigned sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
    if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    return __uint_as_float(sign | rest << 13) * 0x1p112f;  // the difference of the exponents' biases; exact
}

__device__ __forceinline__ float load(const Maps& maps, int image, int cell, int channel) {
    const long long at = static_cast<long long>(image) * maps.image + cell * maps.cell + channel * maps.channel;
    if (maps.type == FLOAT32) return reinterpret_cast<const float*>(maps.address)[at];
    if (maps.type == FLOAT16) return half_value(reinterpret_cast<const unsigned short*>(maps.address)[at]);
    if (maps.type == INT32) return static_cast<float>(reinterpret_cast<const int*>(maps.address)[at]);
    return static_cast<float>(reinterpret_cast<const long long*>(maps.address)[at]);
}

// The probability of a class in a cell.
__device__ __forceinline__ float share_of(const Maps& maps, int image, int cell, int of_class) {
    if (maps.labels) return rintf(load(maps, image, cell, 0)) == static_cast<float>(maps.first_class + of_class);
    const float raw = load(maps, image, cell, maps.first_class + of_class);
    if (maps.activation == NONE) return raw;
    if (maps.activation == SIGMOID) {
        const float decay = expf(-fabsf(raw));
        return (raw >= 0.0f ? 1.0f : decay) / (1.0f + decay);
    }
    float top = load(maps, image, cell, 0), sum = 0.0f;
    for (int i = 1; i < maps.columns; ++i) top = fmaxf(top, load(maps, image, cell, i));
    for (int i = 0; i < maps.columns; ++i) sum += expf(load(maps, image, cell, i) - top);
    return expf(raw - top) / sum;
}

__device__ __forceinline__ int trouble(const Maps& maps, float v) {
    if (!isfinite(v)) return NOT_FINITE;
    if (maps.labels) return fabsf(rintf(v) - v) > 1e-3f ? WRONG_CLASS : 0;
    return maps.activation == NONE && !(v >= -1e-3f && v <= 1.001f) ? NOT_A_PROBABILITY : 0;
}

// Other threads lower the numbers meanwhile: each is read anew.
__device__ __forceinline__ int root_of(volatile int* parent, int cell) {
    int next = parent[cell];
    while (next != cell) {
        cell = next;
        next = parent[cell];
    }
    return cell;
}

// After atomicMin the higher root points at the lower of `low` and what it pointed at before; if that was another cell than
// itself, the two are joined in the next turn. The larger of a and b falls with every turn, so it ends.
__device__ __forceinline__ void join(int* parent, int a, int b) {
    a = root_of(parent, a);
    b = root_of(parent, b);
    while (a != b) {
        const int low = min(a, b), high = max(a, b);
        const int was = atomicMin(&parent[high], low);
        if (was == high) return;
        a = root_of(parent, was);  // another thread was first: what it joined has to be joined, too
        b = root_of(parent, low);
    }
}

// Of each thread how many threads before it have `mine`; `total` is how many have it at all.
__device__ __forceinline__ int count_before(bool mine, int* of_warps, int& total) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const unsigned having = __ballot_sync(ALL_LANES, mine);
    if (lane == 0) of_warps[warp] = __popc(having);
    __syncthreads();
    int before = __popc(having & ((1u << lane) - 1));
    total = 0;
    for (int i = 0; i < WARPS; ++i) {
        if (i < warp) before += of_warps[i];
        total += of_warps[i];
    }
    __syncthreads();
    return before;
}

// boxes (images, capacity, 4), scores and class_ids (images, capacity), counts and status (images), as of `decode`.
// workspace, of each image: a parent and a Part for each cell, a Found for each cell of each class.
extern "C" __global__ void __launch_bounds__(COMPONENTS_THREADS, 2) components(
    const Maps __grid_constant__ maps, float* __restrict__ boxes, float* __restrict__ scores,
    int* __restrict__ class_ids, int* __restrict__ counts, int* __restrict__ status, int* workspace, int capacity,
    float threshold) {
    __shared__ int of_warps[WARPS];
    __shared__ int broken;
    const int image = blockIdx.x, thread = threadIdx.x, cells = maps.width * maps.height;
    int* const parent = workspace + static_cast<size_t>(image) * cells * (7 + 7 * maps.classes);
    Part* const parts = reinterpret_cast<Part*>(parent + cells);
    Found* const found = reinterpret_cast<Found*>(parts + cells);
    boxes += static_cast<size_t>(image) * capacity * 4;
    scores += static_cast<size_t>(image) * capacity;
    class_ids += static_cast<size_t>(image) * capacity;

    if (thread == 0) broken = 0;
    __syncthreads();
    int flags = 0;
    for (int cell = thread; cell < cells; cell += COMPONENTS_THREADS)
        for (int i = 0; i < maps.columns; ++i) flags |= trouble(maps, load(maps, image, cell, i));
    if (flags) atomicOr(&broken, flags);
    __syncthreads();
    if (broken) {
        if (thread == 0) {
            counts[image] = 1;
            status[image] = broken;
            scores[0] = __uint_as_float(0x7fffffffu);
            class_ids[0] = 0;
            boxes[0] = boxes[1] = boxes[2] = boxes[3] = 0.0f;
        }
        return;
    }

    int total = 0;
    for (int of_class = 0; of_class < maps.classes; ++of_class) {
        const int number = maps.class_map ? reinterpret_cast<const int*>(maps.class_map)[of_class] : of_class;
        if (number < 0) continue;  // the same for every thread
        for (int cell = thread; cell < cells; cell += COMPONENTS_THREADS) {
            parent[cell] = share_of(maps, image, cell, of_class) >= threshold ? cell : -1;
            parts[cell] = {0x7fffffff, 0x7fffffff, 0, 0, 0, 0};
        }
        __syncthreads();
        for (int cell = thread; cell < cells; cell += COMPONENTS_THREADS) {
            if (parent[cell] < 0) continue;
            const int y = cell / maps.width, x = cell - y * maps.width;
            if (x > 0 && parent[cell - 1] >= 0) join(parent, cell, cell - 1);
            if (y == 0) continue;
            for (int side = x > 0 ? -1 : 0; side <= (x + 1 < maps.width ? 1 : 0); ++side)
                if (parent[cell - maps.width + side] >= 0) join(parent, cell, cell - maps.width + side);
        }
        __syncthreads();
        for (int cell = thread; cell < cells; cell += COMPONENTS_THREADS) {
            if (parent[cell] < 0) continue;
            const int y = cell / maps.width, x = cell - y * maps.width;
            Part& part = parts[root_of(parent, cell)];
            const float share = share_of(maps, image, cell, of_class);
            atomicMin(&part.x0, x);
            atomicMin(&part.y0, y);
            atomicMax(&part.x1, x + 1);
            atomicMax(&part.y1, y + 1);
            atomicAdd(&part.cells, 1);
            atomicMax(&part.score, __float_as_uint(share > 0.0f ? (share < 1.0f ? share : 1.0f) : 0.0f));
        }
        __syncthreads();
        for (int start = 0; start < cells; start += COMPONENTS_THREADS) {
            const int cell = start + thread;
            const bool is_part = cell < cells && parent[cell] == cell && parts[cell].cells >= maps.min_cells;
            int more = 0;
            const int slot = total + count_before(is_part, of_warps, more);
            if (is_part) found[slot] = {parts[cell], number};
            total += more;
        }
        __syncthreads();
    }

    // Where there are too many: the largest bits that `capacity` scores reach, found bit by bit.
    unsigned cut = 0;
    int ties = total;
    if (total > capacity) {
        for (int bit = 31; bit >= 0; --bit) {
            int reach = 0;
            for (int start = 0; start < total; start += COMPONENTS_THREADS) {
                const int i = start + thread;
                int more = 0;
                count_before(i < total && found[i].part.score >= (cut | 1u << bit), of_warps, more);
                reach += more;
            }
            if (reach >= capacity) cut |= 1u << bit;
        }
        int above = 0;
        for (int start = 0; start < total; start += COMPONENTS_THREADS) {
            const int i = start + thread;
            int more = 0;
            count_before(i < total && found[i].part.score > cut, of_warps, more);
            above += more;
        }
        ties = capacity - above;
    }
    int kept = 0, tied = 0;
    for (int start = 0; start < total; start += COMPONENTS_THREADS) {
        const int i = start + thread;
        const unsigned score = i < total ? found[i].part.score : 0;
        int more = 0;
        const bool ties_here = i < total && total > capacity && score == cut;
        const int tie = tied + count_before(ties_here, of_warps, more);
        tied += more;
        const bool stays = i < total && (total <= capacity || score > cut || (ties_here && tie < ties));
        const int slot = kept + count_before(stays, of_warps, more);
        kept += more;
        if (!stays) continue;
        const Part part = found[i].part;
        const int corners[4] = {part.x0, part.y0, part.x1, part.y1};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            float value = static_cast<float>(static_cast<double>(corners[k]) * maps.unit[k & 1]);
            if (maps.factors)
                value = static_cast<float>(static_cast<double>(value) /
                                           reinterpret_cast<const double*>(maps.factors)[image * 2 + (k & 1)]);
            boxes[slot * 4 + k] = value;
        }
        scores[slot] = __uint_as_float(score);
        class_ids[slot] = found[i].number;
    }
    if (thread == 0) {
        counts[image] = total;
        status[image] = total > capacity ? CANDIDATES_DROPPED : 0;
    }
}
