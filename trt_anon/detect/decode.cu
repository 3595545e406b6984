// A network's raw outputs to a list of candidates per image, for every family of detectors, in one launch.
//
// The families' `decode` in NumPy says what the result is. A family is a table (heads.py): where scores, boxes and
// landmarks lie, and which of a few formulas makes boxes of them; so there is one path for all.
//
// 1. Every block looks at the scores of a chunk of the places of an image. What reaches the threshold goes into the
//    chunk's own part of the workspace, in order.
// 2. The block that finishes an image last puts the chunks' hits behind each other, the best of them where there are too
//    many, and makes their boxes. The order is that of the places, then of the classes, whichever blocks ran first.

#ifndef DECODE_THREADS
#define DECODE_THREADS 256
#endif
#ifndef DECODE_MAX_HEADS
#define DECODE_MAX_HEADS 8
#endif
#ifndef DECODE_MAX_ANCHORS
#define DECODE_MAX_ANCHORS 8
#endif
#ifndef DECODE_MAX_IMAGES
#define DECODE_MAX_IMAGES 1024
#endif

static_assert(DECODE_THREADS == 256, "a thread for each of the 256 values of a digit");

// Bits of an image's status; decode_cuda.py has the same.
#define CANDIDATES_DROPPED 1
#define NOT_FINITE 4
#define NOT_A_PROBABILITY 8
#define WRONG_CLASS 16
#define WRONG_COUNT 32

// The rest is in heads.py, too. Element types:
#define FLOAT32 0
#define FLOAT16 1
#define INT32 2
#define INT64 3
// Formulas for boxes:
#define CENTRE_SIZE 0
#define CORNERS 1
#define CELL_EXP 2
#define ANCHOR_EXP 3
#define ANCHOR_SQUARE 4
#define SIDES 5
#define PRIOR 6
#define POINT 7
// What landmarks are relative to:
#define OF_GRID 0
#define OF_ANCHOR 1
#define OF_BOX 2
// What the graph left to do:
#define NONE 0
#define SIGMOID 1
#define SOFTMAX 2

#define ALL_LANES 0xffffffffu
#define NO_LIMIT __uint_as_float(0x7f800000u)  // infinity
#define WARPS (DECODE_THREADS / 32)

typedef unsigned long long Word;

// Where the values of an output lie; steps are in elements. No address: there are none.
struct View {
    Word address;
    int image, anchor, cell, channel, type;
};
struct Head {
    View objectness, scores, xy, wh, marks;
    float anchor[DECODE_MAX_ANCHORS][2];  // (width, height)
    float stride, cell_offset, stretch;
    float mark_scale, mark_offset, mark_unit;
    int first;  // place
    int cells, columns, anchors;
};
struct Table {
    Head head[DECODE_MAX_HEADS];
    View labels;  // the class of a place, where the graph has chosen it
    View filled;  // how many places of an image count
    Word factors;  // (images, 2) double: pixels of the input per upright pixel; 0: boxes stay in pixels of the input
    Word class_map;  // (classes) int: the number that candidates shall carry, negative to leave them out; 0: their own
    Word landmarks;  // (images, capacity, marks, 2) float, or 0
    float box_scale[2];
    int heads, places, classes;
    int score_columns, first_class;  // of the scores of a place
    int formula, reg_max, activation;
    int geometric;  // score = sqrt(class * objectness), both clipped; else their product
    int scores_are_probabilities, objectness_is_probability;  // and so they are checked
    int multi_label;
    int anchors_last;  // place = cell * anchors + anchor, else anchor * cells + cell
    int swapped;  // y comes before x
    int sorted_corners;
    int marks, mark_step, mark_gap, marks_of, around_marks;
    int label_offset, drops_labels;
};
struct Place {
    int head, anchor, cell;
};

__device__ __forceinline__ float half_value(unsigned short bits) {
    const unsigned sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
    if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    return __uint_as_float(sign | rest << 13) * 0x1p112f;  // the difference of the exponents' biases; exact
}

__device__ __forceinline__ float load(const View& view, int image, int anchor, int cell, int channel) {
    const long long at =
        static_cast<long long>(image) * view.image + anchor * view.anchor + cell * view.cell + channel * view.channel;
    if (view.type == FLOAT32) return reinterpret_cast<const float*>(view.address)[at];
    if (view.type == FLOAT16) return half_value(reinterpret_cast<const unsigned short*>(view.address)[at]);
    if (view.type == INT32) return static_cast<float>(reinterpret_cast<const int*>(view.address)[at]);
    return static_cast<float>(reinterpret_cast<const long long*>(view.address)[at]);
}

__device__ __forceinline__ Place place_of(const Table& table, int at) {
    int head = 0;
    while (head + 1 < table.heads && at >= table.head[head + 1].first) ++head;
    const Head& one = table.head[head];
    const int local = at - one.first;
    if (table.anchors_last) {
        const int cell = local / one.anchors;
        return {head, local - cell * one.anchors, cell};
    }
    const int anchor = local / one.cells;
    return {head, anchor, local - anchor * one.cells};
}

__device__ __forceinline__ float clipped(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }

__device__ __forceinline__ float activated(float v, int activation) {
    if (activation != SIGMOID) return v;
    const float decay = expf(-fabsf(v));
    return (v >= 0.0f ? 1.0f : decay) / (1.0f + decay);
}

__device__ __forceinline__ int trouble(float v, int is_probability) {
    if (!isfinite(v)) return NOT_FINITE;
    return is_probability && !(v >= -1e-3f && v <= 1.001f) ? NOT_A_PROBABILITY : 0;
}

// What a softmax needs of all columns of a place.
struct Softmax {
    float top, sum;
};

__device__ __forceinline__ float score_of(const Table& table, float raw, float objectness, const Softmax& softmax) {
    const float share =
        table.activation == SOFTMAX ? expf(raw - softmax.top) / softmax.sum : activated(raw, table.activation);
    return table.geometric ? sqrtf(clipped(share) * clipped(objectness)) : share * objectness;
}

__device__ __forceinline__ int mapped(const Table& table, int of_class) {
    return table.class_map ? reinterpret_cast<const int*>(table.class_map)[of_class] : of_class;
}

// Of each thread the sum of `value` over the threads before it; `total` is that over all.
__device__ __forceinline__ int sum_before(int value, int* of_warps, int& total) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int sum = value;
    for (int apart = 1; apart < 32; apart *= 2) {
        const int below = __shfl_up_sync(ALL_LANES, sum, apart);
        if (lane >= apart) sum += below;
    }
    if (lane == 31) of_warps[warp] = sum;
    __syncthreads();
    int before = 0;
    total = 0;
    for (int i = 0; i < WARPS; ++i) {
        if (i < warp) before += of_warps[i];
        total += of_warps[i];
    }
    __syncthreads();
    return before + sum - value;
}

// ---- 1. Scores ------------------------------------------------------------------------------------------------------

struct Shared {
    float best[DECODE_THREADS], top[DECODE_THREADS], sum[DECODE_THREADS];
    int of_class[DECODE_THREADS];  // of the best; with multi_label how many classes reach the threshold
    int of_warps[WARPS];
    int flags;
};

// The threads that share a place hold a part of its columns each; they count as `slices`, which is a power of two.
struct Team {
    int slices, across_warps;
    __device__ __forceinline__ int thread(int place, int slice) const {
        return across_warps ? slice * (DECODE_THREADS / slices) + place : place * slices + slice;
    }
};

__device__ __forceinline__ Softmax reduced(const Shared& shared, const Team& team, int place) {
    Softmax all = {-NO_LIMIT, 0.0f};
    for (int i = 0; i < team.slices; ++i) all.top = fmaxf(all.top, shared.top[team.thread(place, i)]);
    for (int i = 0; i < team.slices; ++i) all.sum += shared.sum[team.thread(place, i)];
    return all;
}

// Writes the chunk's hits, score and code (place * classes + class), and returns how many there are.
__device__ __forceinline__ int find_hits(const Table& table, Shared& shared, const Team& team, int image, int begin,
                                         int rounds, float threshold, float bound, Word* hits) {
    const int thread = threadIdx.x, teams = DECODE_THREADS / team.slices;
    const int mine = team.across_warps ? thread % teams : thread / team.slices;
    const int slice = team.across_warps ? thread / teams : thread % team.slices;
    int found = 0, flags = 0;
    for (int round = 0; round < rounds; ++round) {
        const int at = begin + round * teams + mine;
        bool looks = at < table.places;
        Place place = {0, 0, 0};
        float objectness = 1.0f;
        if (looks) {
            place = place_of(table, at);
            if (table.filled.address) {
                const float filled = load(table.filled, image, 0, 0, 0);
                if (!isfinite(filled)) flags |= NOT_FINITE;
                else if (fabsf(filled - rintf(filled)) > 1e-3f || filled < 0.0f || filled > static_cast<float>(table.places))
                    flags |= WRONG_COUNT;
                looks = static_cast<float>(at) < rintf(filled);
            }
        }
        const Head& head = table.head[place.head];
        bool may_reach = looks;
        if (looks && head.objectness.address) {
            const float raw = load(head.objectness, image, place.anchor, place.cell, 0);
            flags |= trouble(raw, table.objectness_is_probability);
            objectness = activated(raw, table.activation);
            may_reach = table.geometric || objectness >= bound;
        }
        Softmax softmax = {0.0f, 1.0f};
        if (table.activation == SOFTMAX) {
            float top = -NO_LIMIT, sum = 0.0f;
            if (looks)
                for (int column = slice; column < table.score_columns; column += team.slices)
                    top = fmaxf(top, load(head.scores, image, place.anchor, place.cell, column));
            shared.top[thread] = top;
            shared.sum[thread] = 0.0f;
            __syncthreads();
            top = reduced(shared, team, mine).top;
            if (looks)
                for (int column = slice; column < table.score_columns; column += team.slices)
                    sum += expf(load(head.scores, image, place.anchor, place.cell, column) - top);
            shared.sum[thread] = sum;
            __syncthreads();
            softmax = reduced(shared, team, mine);
        }
        float best = -NO_LIMIT;
        int of_class = 0;
        if (looks) {
            for (int column = slice; column < table.score_columns; column += team.slices) {
                const float raw = load(head.scores, image, place.anchor, place.cell, column);
                flags |= trouble(raw, table.scores_are_probabilities);
                const int label = column - table.first_class;
                if (!may_reach || label < 0 || label >= table.classes) continue;
                const float score = score_of(table, raw, objectness, softmax);
                if (table.multi_label) {
                    of_class += score >= threshold && mapped(table, label) >= 0;
                } else if (score > best) {
                    best = score;
                    of_class = label;
                }
            }
        }
        shared.best[thread] = best;
        shared.of_class[thread] = of_class;
        __syncthreads();

        // One thread for each place from here on.
        const int own = begin + round * teams + thread;
        const bool owns = thread < teams && own < table.places;
        int count = 0;
        if (owns) {
            best = -NO_LIMIT;
            of_class = 0;
            for (int i = 0; i < team.slices; ++i) {
                const int other = team.thread(thread, i);
                count += shared.of_class[other];
                if (shared.best[other] > best || (shared.best[other] == best && shared.of_class[other] < of_class)) {
                    best = shared.best[other];
                    of_class = shared.of_class[other];
                }
            }
            if (!table.multi_label) {
                count = best >= threshold;
                if (count && table.labels.address) {
                    const Place there = place_of(table, own);
                    const float label = load(table.labels, image, there.anchor, there.cell, 0);
                    const float whole = rintf(label);
                    const float numbered = whole - static_cast<float>(table.label_offset);
                    if (!isfinite(label)) flags |= NOT_FINITE;
                    const bool wrong = fabsf(whole - label) > 1e-3f || !(numbered < static_cast<float>(table.classes)) ||
                                       (numbered < 0.0f && !table.drops_labels);
                    if (wrong) flags |= WRONG_CLASS;
                    count = !wrong && numbered >= 0.0f;
                    of_class = count ? static_cast<int>(numbered) : 0;
                }
                count = count && mapped(table, of_class) >= 0;
            }
        }
        if (__syncthreads_or(count)) {
            int total = 0;
            int slot = found + sum_before(count, shared.of_warps, total);
            found += total;
            if (count && !table.multi_label) {
                const Word code = static_cast<unsigned>(own * table.classes + of_class);
                hits[slot] = static_cast<Word>(__float_as_uint(clipped(best))) << 32 | code;
            } else if (count) {
                const Place there = place_of(table, own);
                const Head& its = table.head[there.head];
                const float object = its.objectness.address
                    ? activated(load(its.objectness, image, there.anchor, there.cell, 0), table.activation)
                    : 1.0f;
                if (table.activation == SOFTMAX) softmax = reduced(shared, team, thread);
                for (int label = 0; label < table.classes; ++label) {
                    const float raw = load(its.scores, image, there.anchor, there.cell, label + table.first_class);
                    const float score = score_of(table, raw, object, softmax);
                    if (!(score >= threshold) || mapped(table, label) < 0) continue;
                    const Word code = static_cast<unsigned>(own * table.classes + label);
                    hits[slot++] = static_cast<Word>(__float_as_uint(clipped(score))) << 32 | code;
                }
            }
        }
        __syncthreads();  // what is shared is written again
    }
    if (flags) atomicOr(&shared.flags, flags);
    return found;
}

// ---- 2. The list ----------------------------------------------------------------------------------------------------

struct Selection {
    int digits[256];
    int offset[DECODE_THREADS], ties_before[DECODE_THREADS];  // of each chunk of a group of them
    int above[DECODE_THREADS], at_cut[DECODE_THREADS];
    int of_warps[WARPS];
    int chosen, rest;
};

// Among the hits of all chunks: the bits of the score at place `capacity`, and how many of just that score fit.
__device__ __forceinline__ void find_cut(Selection& shared, const Word* hits, const Word* entries, int chunks,
                                         int chunk_slots, int capacity, unsigned& cut, int& ties) {
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    cut = 0;
    ties = capacity;
    for (int shift = 24; shift >= 0; shift -= 8) {
        shared.digits[thread] = 0;
        __syncthreads();
        for (int chunk = warp; chunk < chunks; chunk += WARPS) {
            const int count = static_cast<int>(static_cast<unsigned>(entries[chunk]));
            for (int i = lane; i < count; i += 32) {
                const unsigned bits = static_cast<unsigned>(hits[static_cast<size_t>(chunk) * chunk_slots + i] >> 32);
                if (shift == 24 || bits >> (shift + 8) == cut >> (shift + 8))
                    atomicAdd(&shared.digits[bits >> shift & 255u], 1);
            }
        }
        __syncthreads();
        if (thread == 0) {
            int digit = 255, left = ties;
            while (shared.digits[digit] < left) left -= shared.digits[digit--];
            shared.chosen = digit;
            shared.rest = left;
        }
        __syncthreads();
        cut |= static_cast<unsigned>(shared.chosen) << shift;
        ties = shared.rest;
    }
}

// Puts the hits that stay behind each other: scores, and codes in the place of classes. Returns how many they are.
__device__ __forceinline__ int gather(Selection& shared, const Word* hits, const Word* entries, int chunks,
                                      int chunk_slots, bool all, unsigned cut, int ties, float* scores, int* codes) {
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int kept = 0, tied = 0;
    for (int start = 0; start < chunks; start += DECODE_THREADS) {
        const int group = min(DECODE_THREADS, chunks - start);
        if (all) {
            shared.above[thread] = thread < group ? static_cast<int>(static_cast<unsigned>(entries[start + thread])) : 0;
            shared.at_cut[thread] = 0;
        } else {
            for (int chunk = warp; chunk < DECODE_THREADS; chunk += WARPS) {
                const int count = chunk < group ? static_cast<int>(static_cast<unsigned>(entries[start + chunk])) : 0;
                int above = 0, equal = 0;
                for (int first = 0; first < count; first += 32) {
                    const bool there = first + lane < count;
                    const size_t at = static_cast<size_t>(start + chunk) * chunk_slots + first + lane;
                    const unsigned bits = there ? static_cast<unsigned>(hits[at] >> 32) : 0;
                    above += __popc(__ballot_sync(ALL_LANES, there && bits > cut));
                    equal += __popc(__ballot_sync(ALL_LANES, there && bits == cut));
                }
                if (lane == 0) {
                    shared.above[chunk] = above;
                    shared.at_cut[chunk] = equal;
                }
            }
        }
        __syncthreads();
        int group_ties = 0, group_kept = 0;
        const int equal = shared.at_cut[thread];
        const int before = tied + sum_before(equal, shared.of_warps, group_ties);
        const int stays = shared.above[thread] + max(0, min(equal, ties - before));
        shared.ties_before[thread] = before;
        shared.offset[thread] = kept + sum_before(stays, shared.of_warps, group_kept);
        __syncthreads();
        for (int chunk = warp; chunk < group; chunk += WARPS) {
            const int count = static_cast<int>(static_cast<unsigned>(entries[start + chunk]));
            int slot = shared.offset[chunk], tie = shared.ties_before[chunk];
            for (int first = 0; first < count; first += 32) {
                const bool there = first + lane < count;
                const size_t at = static_cast<size_t>(start + chunk) * chunk_slots + first + lane;
                const Word hit = there ? hits[at] : 0;
                const unsigned bits = static_cast<unsigned>(hit >> 32), below = (1u << lane) - 1;
                const unsigned equals = all ? 0 : __ballot_sync(ALL_LANES, there && bits == cut);
                const bool stays_too =
                    there && (all || bits > cut || (bits == cut && tie + __popc(equals & below) < ties));
                const unsigned staying = __ballot_sync(ALL_LANES, stays_too);
                if (stays_too) {
                    const int to = slot + __popc(staying & below);
                    scores[to] = __uint_as_float(bits);
                    codes[to] = static_cast<int>(static_cast<unsigned>(hit));
                }
                slot += __popc(staying);
                tie += __popc(equals);
            }
        }
        kept += group_kept;
        tied += group_ties;
        __syncthreads();
    }
    return kept;
}

// The distances to the four sides, in cells: the mean of a distribution over 0 to reg_max - 1, or the value itself.
__device__ __forceinline__ float distance(const Table& table, const Head& head, int image, const Place& place, int side,
                                          bool& finite) {
    if (table.reg_max == 1) {
        const float value = load(head.xy, image, place.anchor, place.cell, side);
        finite = finite && isfinite(value);
        return value;
    }
    float top = -NO_LIMIT, sum = 0.0f, weighted = 0.0f;
    for (int i = 0; i < table.reg_max; ++i) {
        const float logit = load(head.xy, image, place.anchor, place.cell, side * table.reg_max + i);
        finite = finite && isfinite(logit);
        top = fmaxf(top, logit);
    }
    for (int i = 0; i < table.reg_max; ++i) {
        const float weight = expf(load(head.xy, image, place.anchor, place.cell, side * table.reg_max + i) - top);
        sum += weight;
        weighted += weight * static_cast<float>(i);
    }
    return weighted / sum;
}

// One axis of a box, from its centre and half its size; `c` and `s` are the values of the output.
struct Extent {
    float low, high;
};
__device__ __forceinline__ Extent extent(const Table& table, const Head& head, int axis, int anchor, float cell,
                                         float c, float s) {
    const float side = head.anchor[anchor][axis], point = (cell + head.cell_offset) * head.stride;
    float centre, half;
    if (table.formula == CENTRE_SIZE) {
        centre = c * table.box_scale[axis];
        half = s * table.box_scale[axis] / 2.0f;
    } else if (table.formula == CELL_EXP) {
        centre = (cell + c + head.cell_offset) * head.stride;
        half = expf(s) * (head.stride * 0.5f);
    } else if (table.formula == ANCHOR_EXP) {
        const float shift = activated(c, table.activation) * head.stretch - (head.stretch - 1.0f) / 2.0f;
        centre = (shift + cell) * head.stride;
        half = side * expf(s) * 0.5f;
    } else if (table.formula == ANCHOR_SQUARE) {
        const float doubled = 2.0f * activated(s, table.activation);
        centre = (2.0f * activated(c, table.activation) - 0.5f + cell) * head.stride;
        half = side * (doubled * doubled) / 2.0f;
    } else if (table.formula == PRIOR) {
        centre = point + c * 0.1f * side;
        half = side * expf(s * 0.2f) / 2.0f;
    } else {
        centre = point + c;
        half = s * 0.5f;
    }
    return {centre - half, centre + half};
}

// Makes the box and the landmarks of one candidate; whether all is finite.
__device__ __forceinline__ bool decode_one(const Table& table, int image, const Place& place, float* box, float* marks) {
    const Head& head = table.head[place.head];
    const int row = place.cell / head.columns, column = place.cell - row * head.columns;
    const float cell[2] = {static_cast<float>(column), static_cast<float>(row)};
    Extent extents[2];
    bool finite = true;
#pragma unroll
    for (int axis = 0; axis < 2; ++axis) {
        Extent& out = extents[axis];
        if (table.formula == SIDES) {
            const float centre = cell[axis] + head.cell_offset;
            out.low = (centre - distance(table, head, image, place, axis, finite)) * head.stride;
            out.high = (centre + distance(table, head, image, place, axis + 2, finite)) * head.stride;
        } else {
            const int channel = axis ^ table.swapped;
            const float c = load(head.xy, image, place.anchor, place.cell, channel);
            const float s = load(head.wh, image, place.anchor, place.cell, channel);
            finite = finite && isfinite(c) && isfinite(s);
            if (table.formula == CORNERS) out = {c * table.box_scale[axis], s * table.box_scale[axis]};
            else out = extent(table, head, axis, table.formula == CENTRE_SIZE ? 0 : place.anchor, cell[axis], c, s);
        }
        if (table.sorted_corners) out = {fminf(out.low, out.high), fmaxf(out.low, out.high)};
        const float low = out.low, size = out.high - out.low;
        const double factor =
            table.factors ? reinterpret_cast<const double*>(table.factors)[static_cast<size_t>(image) * 2 + axis] : 1.0;
        for (int i = 0; i < table.marks; ++i) {
            const int channel = i * table.mark_step + (i >= table.mark_gap ? 2 : 0) + (axis ^ table.swapped);
            const float value = load(head.marks, image, place.anchor, place.cell, channel);
            const float origin =
                table.marks_of == OF_BOX ? low : (cell[axis] + head.mark_offset) * head.mark_scale;
            const float unit = table.marks_of == OF_BOX      ? size
                               : table.marks_of == OF_ANCHOR ? head.mark_unit * head.anchor[place.anchor][axis]
                                                             : head.mark_unit;
            const float mark = value * unit + origin;
            finite = finite && isfinite(mark);
            if (table.around_marks) out = {fminf(out.low, mark), fmaxf(out.high, mark)};
            if (marks) marks[2 * i + axis] = static_cast<float>(static_cast<double>(mark) / factor);
        }
        finite = finite && isfinite(out.low) && isfinite(out.high);
        box[axis] = static_cast<float>(static_cast<double>(out.low) / factor);
        box[axis + 2] = static_cast<float>(static_cast<double>(out.high) / factor);
    }
    return finite;
}

// boxes (images, capacity, 4); scores, class_ids (images, capacity); counts, status (images). An image whose status says
// that the network is broken gets one candidate whose score is NaN, which no suppression lets pass.
// workspace: DECODE_MAX_IMAGES words that are 0, before and after; an entry for each chunk: count, flags << 32; hits.
// Grid: (chunks, images). A chunk is `rounds` times as many places as teams of `slices` threads are in a block.
extern "C" __global__ void __launch_bounds__(DECODE_THREADS, 4) decode(
    const Table __grid_constant__ table, float* __restrict__ boxes, float* __restrict__ scores,
    int* __restrict__ class_ids, int* __restrict__ counts, int* __restrict__ status, Word* workspace, int capacity,
    float threshold, float bound, int slices, int across_warps, int rounds) {
    __shared__ union {
        Shared scores;
        Selection list;
    } shared;
    __shared__ int is_last, broken;
    const int thread = threadIdx.x, chunk = blockIdx.x, chunks = gridDim.x, image = blockIdx.y, images = gridDim.y;
    const Team team = {slices, across_warps};
    const int chunk_places = rounds * (DECODE_THREADS / slices);
    const int chunk_slots = chunk_places * (table.multi_label ? table.classes : 1);
    Word* const entries = workspace + DECODE_MAX_IMAGES + static_cast<size_t>(image) * chunks;
    Word* const hits = workspace + DECODE_MAX_IMAGES + static_cast<size_t>(images) * chunks +
                       static_cast<size_t>(image) * chunks * chunk_slots;

    if (thread == 0) shared.scores.flags = broken = 0;
    __syncthreads();
    const int found = find_hits(table, shared.scores, team, image, chunk * chunk_places, rounds, threshold, bound,
                                hits + static_cast<size_t>(chunk) * chunk_slots);
    __syncthreads();
    if (thread == 0) entries[chunk] = static_cast<Word>(static_cast<unsigned>(shared.scores.flags)) << 32 | found;
    __threadfence();  // the hits and the entry are seen before the count below is
    __syncthreads();
    if (thread == 0) is_last = atomicAdd(&workspace[image], static_cast<Word>(1)) == static_cast<Word>(chunks) - 1;
    __syncthreads();
    if (!is_last) return;
    __threadfence();

    if (thread == 0) workspace[image] = 0;
    if (thread == 0) shared.list.chosen = shared.list.rest = 0;
    __syncthreads();
    for (int i = thread; i < chunks; i += DECODE_THREADS) {
        const Word entry = entries[i];
        if (entry) {
            atomicAdd(&shared.list.chosen, static_cast<int>(static_cast<unsigned>(entry)));
            atomicOr(&shared.list.rest, static_cast<int>(entry >> 32));
        }
    }
    __syncthreads();
    const int total = shared.list.chosen;
    int flags = shared.list.rest;
    __syncthreads();
    boxes += static_cast<size_t>(image) * capacity * 4;
    scores += static_cast<size_t>(image) * capacity;
    class_ids += static_cast<size_t>(image) * capacity;
    if (!flags) {
        const bool all = total <= capacity;
        unsigned cut = 0;
        int ties = 0;
        if (!all) find_cut(shared.list, hits, entries, chunks, chunk_slots, capacity, cut, ties);
        const int kept = gather(shared.list, hits, entries, chunks, chunk_slots, all, cut, ties, scores, class_ids);
        float* const landmarks = reinterpret_cast<float*>(table.landmarks);
        for (int slot = thread; slot < kept; slot += DECODE_THREADS) {
            const int code = class_ids[slot], at = code / table.classes;
            float* const marks =
                landmarks ? landmarks + (static_cast<size_t>(image) * capacity + slot) * table.marks * 2 : nullptr;
            if (!decode_one(table, image, place_of(table, at), boxes + slot * 4, marks)) atomicOr(&broken, NOT_FINITE);
            class_ids[slot] = mapped(table, code - at * table.classes);
        }
        __syncthreads();
        flags = broken;
    }
    if (thread == 0) {
        counts[image] = flags ? 1 : total;
        status[image] = flags ? flags : (total > capacity ? CANDIDATES_DROPPED : 0);
        if (flags) {
            scores[0] = __uint_as_float(0x7fffffffu);
            class_ids[0] = 0;
            boxes[0] = boxes[1] = boxes[2] = boxes[3] = 0.0f;
        }
    }
}
