// Exact greedy non-maximum suppression of a batch, one block per image; nms.py says what the result is.
//
// 1. The candidates are sorted by score, then index: a bitonic sort of 64-bit keys in shared memory.
// 2. Each thread keeps its candidates in registers. A warp holds a chunk of thirty-two, and finds who of them would
//    suppress whom. Chunk by chunk, in that order: the first of those still alive stays and takes out its victims, and
//    so on; then all later candidates are tested against those that stay, the next chunk's first, so that it is settled
//    while the others are still at it.
//
// Exactness: IoU > threshold is decided in float32 where that is certain, else in float64 by the reference's own steps.

#ifndef NMS_MAX_CANDIDATES
#define NMS_MAX_CANDIDATES 4096
#endif
#ifndef NMS_MAX_THREADS
#define NMS_MAX_THREADS 1024
#endif

#define TURNS (NMS_MAX_CANDIDATES / NMS_MAX_THREADS)  // places in the order that a thread looks after

static_assert(NMS_MAX_CANDIDATES % 32 == 0 && (NMS_MAX_CANDIDATES & (NMS_MAX_CANDIDATES - 1)) == 0, "a power of two");

// Bits of an image's status; nms_cuda.py has the same.
#define NMS_CANDIDATES_DROPPED 1
#define NMS_KEPT_DROPPED 2
#define NMS_NOT_FINITE 4

#define ALL_LANES 0xffffffffu

typedef unsigned long long Key;

struct Kind {
    int of_class, group;
};

// Boxes of one class do, unless they are distinct objects of one group.
__device__ __forceinline__ bool compete(const Kind& a, const Kind& b) {
    return a.of_class == b.of_class && (a.group != b.group || a.group < 0);
}

// Ascending keys are descending scores, then ascending indices; minus zero is zero.
__device__ __forceinline__ Key key_of(float score, unsigned index) {
    const unsigned bits = __float_as_uint(score + 0.0f);
    const unsigned ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<Key>(~ascending) << 32 | index;
}

__device__ __noinline__ bool suppresses_exactly(float4 a, float4 b, double threshold) {
    const double width = fmin(static_cast<double>(a.z), static_cast<double>(b.z)) -
                         fmax(static_cast<double>(a.x), static_cast<double>(b.x));
    const double height = fmin(static_cast<double>(a.w), static_cast<double>(b.w)) -
                          fmax(static_cast<double>(a.y), static_cast<double>(b.y));
    const double shared = fmax(width, 0.0) * fmax(height, 0.0);
    const double area_a = fmax(static_cast<double>(a.z) - static_cast<double>(a.x), 0.0) *
                          fmax(static_cast<double>(a.w) - static_cast<double>(a.y), 0.0);
    const double area_b = fmax(static_cast<double>(b.z) - static_cast<double>(b.x), 0.0) *
                          fmax(static_cast<double>(b.w) - static_cast<double>(b.y), 0.0);
    const double both = area_a + area_b - shared;
    return both > 0.0 && shared / both > threshold;
}

// Whether IoU(a, b) > threshold, which is not negative. The order of a and b makes no difference.
__device__ __forceinline__ bool suppresses(const float4& a, const float4& b, double threshold) {
    const float left = fmaxf(a.x, b.x), right = fminf(a.z, b.z), top = fmaxf(a.y, b.y), bottom = fminf(a.w, b.w);
    if (!(right > left && bottom > top)) return false;  // nothing is shared, and comparing is exact
    const float shared = (right - left) * (bottom - top);
    const float area_a = fmaxf(a.z - a.x, 0.0f) * fmaxf(a.w - a.y, 0.0f);
    const float area_b = fmaxf(b.z - b.x, 0.0f) * fmaxf(b.w - b.y, 0.0f);
    const float limit = static_cast<float>(threshold) * (area_a + area_b - shared);
    // Each step above is off by 2^-24 of its result, and the union by 2^-22 of itself at most: 1e-5 is ample, unless
    // something has left the range of normal numbers.
    if (shared > 1e-30f && limit > 1e-30f && shared < 1e30f && limit < 1e30f) {
        if (shared > limit * 1.00001f) return true;
        if (shared < limit * 0.99999f) return false;
    }
    return suppresses_exactly(a, b, threshold);
}

// all_boxes (images, capacity, 4), at a multiple of 16 bytes; scores, classes and groups (images, capacity), groups
// looked at only if has_groups; counts (images): candidates found, which may be more than capacity;
// kept (images, keep_capacity): indices, best first; kept_counts (images): how many stay, also where that is more than
// keep_capacity, or -1 where a number is not finite; status (images).
// Threads: NMS_MAX_THREADS, or a multiple of 32 that is no less than capacity. Dynamic shared memory: a key for each of the next power of two of capacity, at least 32.
extern "C" __global__ void __launch_bounds__(NMS_MAX_THREADS) nms(
    const float* __restrict__ all_boxes, const float* __restrict__ scores, const int* __restrict__ classes,
    const int* __restrict__ groups, const int* __restrict__ counts, int* __restrict__ kept,
    int* __restrict__ kept_counts, int* __restrict__ status, int capacity, int keep_capacity, double iou_threshold,
    int class_aware, int has_groups) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    Key* const keys = reinterpret_cast<Key*>(dynamic_shared);
    __shared__ float4 own_box[NMS_MAX_THREADS / 32][32];  // of each warp: the chunk that it is looking at
    __shared__ Kind own_kind[NMS_MAX_THREADS / 32][32];
    __shared__ float4 strong_box[2][32];  // those that stay of a chunk; the next one is written meanwhile
    __shared__ Kind strong_kind[2][32];
    __shared__ int strong_count[2];

    const int image = blockIdx.x, thread = threadIdx.x, threads = blockDim.x;
    const int lane = thread & 31, warp = thread >> 5, warps = threads >> 5;
    const int found = counts[image];
    const int count = min(max(found, 0), capacity);
    const float4* const boxes = reinterpret_cast<const float4*>(all_boxes) + static_cast<size_t>(image) * capacity;
    scores += static_cast<size_t>(image) * capacity;
    classes += static_cast<size_t>(image) * capacity;
    groups += static_cast<size_t>(image) * capacity;
    kept += static_cast<size_t>(image) * keep_capacity;

    int padded = 32;
    while (padded < count) padded *= 2;
    int broken = 0;
    for (int i = thread; i < padded; i += threads) {
        if (i < count) {
            const float4 box = boxes[i];
            const float score = scores[i];
            broken |= !(isfinite(box.x) && isfinite(box.y) && isfinite(box.z) && isfinite(box.w) && isfinite(score));
            keys[i] = key_of(score, i);
        } else {
            keys[i] = ~static_cast<Key>(0);
        }
    }
    int flags = found > capacity ? NMS_CANDIDATES_DROPPED : 0;
    if (__syncthreads_or(broken)) {
        if (thread == 0) {
            kept_counts[image] = -1;
            status[image] = flags | NMS_NOT_FINITE;
        }
        return;
    }

    for (int run = 2; run <= padded; run *= 2) {
        for (int apart = run / 2; apart > 0; apart /= 2) {
            for (int pair = thread; pair < padded / 2; pair += threads) {
                const int low = 2 * pair - (pair & (apart - 1)), high = low + apart;
                const Key a = keys[low], b = keys[high];
                if ((a > b) == ((low & run) == 0)) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            __syncthreads();
        }
    }

    const auto kind_of = [=](unsigned candidate) {
        return Kind{class_aware ? classes[candidate] : 0, has_groups ? groups[candidate] : -1};
    };
    // Each thread keeps its places of the order in registers: place `turn * threads + thread`.
    float4 box[TURNS];
    unsigned gone = 0;  // a bit for each turn
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        const int place = turn * threads + thread;
        box[turn] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        Kind kind = {0, -1};
        if (place < count) {
            const unsigned index = static_cast<unsigned>(keys[place]);
            box[turn] = boxes[index];
            kind = kind_of(index);
        } else {
            gone |= 1u << turn;
        }
        if (turn * threads + warp * 32 >= count) continue;  // the whole warp
        own_box[warp][lane] = box[turn];
        own_kind[warp][lane] = kind;
        unsigned victims = 0;  // whom in its own chunk this place would take out
        __syncwarp();
        for (int strong = 0; strong < 31; ++strong) {
            const bool falls = lane > strong && compete(own_kind[warp][strong], kind) &&
                               suppresses(own_box[warp][strong], box[turn], iou_threshold);
            const unsigned fallen = __ballot_sync(ALL_LANES, falls);
            if (lane == strong) victims = fallen;
        }
        // In the place of the score, which has done its part.
        keys[place] = static_cast<Key>(victims) << 32 | static_cast<unsigned>(keys[place]);
        __syncwarp();
    }

    const int chunks = (count + 31) / 32;
    int stayed = 0;
    for (int chunk = -1; chunk < chunks; ++chunk) {  // the first round only settles chunk 0
        __syncthreads();
        const int rivals = chunk < 0 ? 0 : strong_count[chunk & 1];
        const float4* const rival_box = strong_box[chunk & 1];
        const Kind* const rival_kind = strong_kind[chunk & 1];
        stayed += rivals;
#pragma unroll
        for (int turn = 0; turn < TURNS; ++turn) {
            const int mine = turn * warps + warp;  // the chunk that this warp holds
            if (mine <= chunk || mine >= chunks) continue;
            bool falls = gone >> turn & 1;
            for (int rival = 0; rival < rivals && !falls; ++rival)
                falls = suppresses(rival_box[rival], box[turn], iou_threshold) &&
                        compete(rival_kind[rival], kind_of(static_cast<unsigned>(keys[mine * 32 + lane])));
            gone |= static_cast<unsigned>(falls) << turn;
        }
        const int next = chunk + 1;
        if (next >= chunks || next % warps != warp) continue;
        // Everything before is settled, so this warp can settle its chunk while the others still test theirs.
        const int turn = next / warps;
        float4 next_box = box[0];
#pragma unroll
        for (int other = 1; other < TURNS; ++other)
            if (turn == other) next_box = box[other];
        const Key key = keys[32 * next + lane];
        const unsigned next_victims = static_cast<unsigned>(key >> 32);
        unsigned alive = __ballot_sync(ALL_LANES, !(gone >> turn & 1));
        unsigned fighters = __ballot_sync(ALL_LANES, next_victims != 0) & alive;
        while (fighters) {
            const int strong = __ffs(static_cast<int>(fighters)) - 1;
            const unsigned fallen = __shfl_sync(ALL_LANES, next_victims, strong);
            alive &= ~fallen;
            fighters &= ~fallen & ~(1u << strong);
        }
        if (alive >> lane & 1) {
            const int rank = __popc(alive & ((1u << lane) - 1));
            strong_box[next & 1][rank] = next_box;
            strong_kind[next & 1][rank] = kind_of(static_cast<unsigned>(key));
            if (stayed + rank < keep_capacity) kept[stayed + rank] = static_cast<int>(static_cast<unsigned>(key));
        }
        if (lane == 0) strong_count[next & 1] = __popc(alive);
    }
    if (thread == 0) {
        kept_counts[image] = stayed;
        status[image] = flags | (stayed > keep_capacity ? NMS_KEPT_DROPPED : 0);
    }
}
