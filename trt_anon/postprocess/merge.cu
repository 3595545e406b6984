// Several lists of candidates per image into one, before suppression; and what suppression kept out of it, after.
// nms.merge says what both come to.

#ifndef MERGE_MAX_LISTS
#define MERGE_MAX_LISTS 32
#endif
#ifndef MERGE_THREADS
#define MERGE_THREADS 256
#endif

static_assert(MERGE_THREADS % 32 == 0, "whole warps");

// Bits of an image's status; merge_cuda.py has the same.
#define CANDIDATES_DROPPED 1
#define WRONG_CLASS 16

#define ALL_LANES 0xffffffffu
#define WARPS (MERGE_THREADS / 32)

typedef unsigned long long Address;

// (images, capacity, ...) of one pass over the images.
struct List {
    Address boxes, scores, class_ids;
    Address counts;  // (images): candidates found, which may be more than capacity
    Address landmarks;  // (images, capacity, marks, 2), or 0
    Address class_map;  // (classes): numbers in the merged list, negative to leave out; 0: they are those already
    int capacity, marks, classes, distinct;
};
struct Lists {
    List list[MERGE_MAX_LISTS];
    Address landmarks;  // of the merged list (images, capacity, marks, 2), or 0
    int lists, marks;
};

// Of each thread how many threads before it stay; `total` is how many do at all.
__device__ __forceinline__ int staying_before(bool stays, int* of_warps, int& total) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const unsigned staying = __ballot_sync(ALL_LANES, stays);
    if (lane == 0) of_warps[warp] = __popc(staying);
    __syncthreads();
    int before = __popc(staying & ((1u << lane) - 1));
    total = 0;
    for (int i = 0; i < WARPS; ++i) {
        if (i < warp) before += of_warps[i];
        total += of_warps[i];
    }
    __syncthreads();
    return before;
}

// Written: boxes (images, capacity, 4), scores, class_ids, groups (images, capacity): the number of a list of distinct
// objects, else -1; counts, status (images). Capacity is at least the sum of the lists' capacities.
// The order is that of the lists, then that within each. A candidate whose score is not finite is never left out.
extern "C" __global__ void __launch_bounds__(MERGE_THREADS) concatenate(
    const Lists __grid_constant__ lists, float* __restrict__ boxes, float* __restrict__ scores,
    int* __restrict__ class_ids, int* __restrict__ groups, int* __restrict__ counts, int* __restrict__ status,
    int capacity) {
    __shared__ int of_warps[WARPS];
    const int image = blockIdx.x, thread = threadIdx.x;
    const size_t out = static_cast<size_t>(image) * capacity;
    int filled = 0, dropped = 0, wrong = 0;
    for (int number = 0; number < lists.lists; ++number) {
        const List& list = lists.list[number];
        const int found = reinterpret_cast<const int*>(list.counts)[image];
        const int count = min(max(found, 0), list.capacity);
        if (found > list.capacity) dropped = CANDIDATES_DROPPED;
        const size_t in = static_cast<size_t>(image) * list.capacity;
        for (int start = 0; start < count; start += MERGE_THREADS) {
            const size_t from = in + start + thread;
            float score = 0.0f;
            int of_class = -1;
            bool stays = start + thread < count;
            if (stays) {
                score = reinterpret_cast<const float*>(list.scores)[from];
                of_class = reinterpret_cast<const int*>(list.class_ids)[from];
                if (list.class_map) {
                    if (of_class >= 0 && of_class < list.classes) {
                        of_class = reinterpret_cast<const int*>(list.class_map)[of_class];
                    } else {  // a broken detector; what it found must not be lost
                        wrong = 1;
                        score = __uint_as_float(0x7fffffffu);
                    }
                }
                if (!isfinite(score)) of_class = max(of_class, 0);
                stays = of_class >= 0;
            }
            int total = 0;
            const size_t to = out + filled + staying_before(stays, of_warps, total);
            filled += total;
            if (!stays) continue;
            for (int i = 0; i < 4; ++i) boxes[to * 4 + i] = reinterpret_cast<const float*>(list.boxes)[from * 4 + i];
            scores[to] = score;
            class_ids[to] = of_class;
            groups[to] = list.distinct ? number : -1;
            if (lists.landmarks) {
                float* const marks = reinterpret_cast<float*>(lists.landmarks) + to * lists.marks * 2;
                const float* const own = reinterpret_cast<const float*>(list.landmarks) + from * list.marks * 2;
                for (int i = 0; i < lists.marks * 2; ++i)
                    marks[i] = list.landmarks && i < list.marks * 2 ? own[i] : __uint_as_float(0x7fffffffu);
            }
        }
    }
    wrong = __syncthreads_or(wrong);
    if (thread == 0) {
        counts[image] = filled;
        status[image] = dropped | (wrong ? WRONG_CLASS : 0);
    }
}

// Copies the candidates (images, capacity, ...) that `kept` (images, keep_capacity) points at, as many as kept_counts
// (images) says and fit, into the arrays called kept_... (images, keep_capacity, ...). Grid: (parts, images).
extern "C" __global__ void __launch_bounds__(MERGE_THREADS) take(
    const float* __restrict__ boxes, const float* __restrict__ scores, const int* __restrict__ class_ids,
    const float* __restrict__ landmarks, const int* __restrict__ kept, const int* __restrict__ kept_counts,
    float* __restrict__ kept_boxes, float* __restrict__ kept_scores, int* __restrict__ kept_class_ids,
    float* __restrict__ kept_landmarks, int capacity, int keep_capacity, int marks) {
    const int image = blockIdx.y, place = blockIdx.x * MERGE_THREADS + threadIdx.x;
    if (place >= min(kept_counts[image], keep_capacity)) return;
    const size_t to = static_cast<size_t>(image) * keep_capacity + place;
    const size_t from = static_cast<size_t>(image) * capacity + kept[to];
    for (int i = 0; i < 4; ++i) kept_boxes[to * 4 + i] = boxes[from * 4 + i];
    kept_scores[to] = scores[from];
    kept_class_ids[to] = class_ids[from];
    for (int i = 0; i < marks * 2; ++i) kept_landmarks[to * marks * 2 + i] = landmarks[from * marks * 2 + i];
}
