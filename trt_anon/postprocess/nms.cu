// Exact greedy non-maximum suppression of a batch, one block per image; nms.py says what the result is.
//
// 1. The candidates are sorted by score, then index: a bitonic sort of 64-bit keys in shared memory.
// 2. Thirty-two at a time, in that order: the warps find who of them would suppress whom, the first of those still
//    alive stays and takes out its victims, and so on; then each thread tests later candidates against those that stay.
//
// Exactness: IoU > threshold is decided in float32 where that is certain, else in float64 by the reference's own steps.

#ifndef NMS_MAX_CANDIDATES
#define NMS_MAX_CANDIDATES 4096
#endif
#ifndef NMS_MAX_THREADS
#define NMS_MAX_THREADS 1024
#endif

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
// Threads: a multiple of 32. Dynamic shared memory: a key for each of the next power of two of capacity, at least 32.
extern "C" __global__ void __launch_bounds__(NMS_MAX_THREADS) nms(
    const float* __restrict__ all_boxes, const float* __restrict__ scores, const int* __restrict__ classes,
    const int* __restrict__ groups, const int* __restrict__ counts, int* __restrict__ kept,
    int* __restrict__ kept_counts, int* __restrict__ status, int capacity, int keep_capacity, double iou_threshold,
    int class_aware, int has_groups) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    Key* const keys = reinterpret_cast<Key*>(dynamic_shared);
    __shared__ unsigned gone[NMS_MAX_CANDIDATES / 32];  // a bit for each place in the order
    __shared__ unsigned victims[32];  // of each place in the chunk: who else in it would fall to it
    __shared__ float4 chunk_box[32];
    __shared__ Kind chunk_kind[32];

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
    for (int i = thread; i < padded / 32; i += threads) gone[i] = 0;
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

    int stayed = 0;
    for (int start = 0; start < count; start += 32) {
        const int in_chunk = min(32, count - start);
        unsigned alive = ~gone[start / 32] & (in_chunk == 32 ? ALL_LANES : (1u << in_chunk) - 1);
        if (alive == 0) continue;  // the same for every thread: the chunk before ended with a barrier
        const int index = lane < in_chunk ? static_cast<int>(static_cast<unsigned>(keys[start + lane])) : -1;
        float4 box = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        Kind kind = {0, -1};
        if (index >= 0) {
            box = boxes[index];
            kind = {class_aware ? classes[index] : 0, has_groups ? groups[index] : -1};
        }
        if (warp == 0) {
            chunk_box[lane] = box;
            chunk_kind[lane] = kind;
        }
        for (int strong = warp; strong < 32; strong += warps) {
            // Every warp holds the whole chunk, a box to a lane.
            const float4 rival = {__shfl_sync(ALL_LANES, box.x, strong), __shfl_sync(ALL_LANES, box.y, strong),
                                  __shfl_sync(ALL_LANES, box.z, strong), __shfl_sync(ALL_LANES, box.w, strong)};
            const Kind rival_kind = {__shfl_sync(ALL_LANES, kind.of_class, strong),
                                     __shfl_sync(ALL_LANES, kind.group, strong)};
            const bool falls = lane > strong && compete(rival_kind, kind) && suppresses(rival, box, iou_threshold);
            const unsigned fallen = __ballot_sync(ALL_LANES, falls);
            if (lane == 0) victims[strong] = fallen;
        }
        __syncthreads();
        for (int strong = 0; strong < in_chunk; ++strong)
            if (alive >> strong & 1) alive &= ~victims[strong];
        if (warp == 0 && alive >> lane & 1) {
            const int place = stayed + __popc(alive & ((1u << lane) - 1));
            if (place < keep_capacity) kept[place] = index;
        }
        stayed += __popc(alive);
        // A warp looks after 32 later places at a time, so it alone writes their word.
        for (int word = start / 32 + 1 + warp; word * 32 < count; word += warps) {
            const unsigned before = gone[word];
            if (before == ALL_LANES) continue;
            const int place = word * 32 + lane;
            bool falls = false;
            if (place < count && !(before >> lane & 1)) {
                const int weak = static_cast<int>(static_cast<unsigned>(keys[place]));
                const float4 weak_box = boxes[weak];
                const Kind weak_kind = {class_aware ? classes[weak] : 0, has_groups ? groups[weak] : -1};
                for (unsigned left = alive; left && !falls; left &= left - 1) {
                    const int strong = __ffs(static_cast<int>(left)) - 1;
                    falls = compete(chunk_kind[strong], weak_kind) &&
                            suppresses(chunk_box[strong], weak_box, iou_threshold);
                }
            }
            const unsigned fallen = __ballot_sync(ALL_LANES, falls);
            if (lane == 0) gone[word] = before | fallen;
        }
        __syncthreads();
    }
    if (thread == 0) {
        kept_counts[image] = stayed;
        status[image] = flags | (stayed > keep_capacity ? NMS_KEPT_DROPPED : 0);
    }
}
