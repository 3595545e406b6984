// The small grey pictures of frames, as thumbnail.py specifies them, bit for bit; not turned upright.
//
// A thread makes one pixel from a square of 2^halvings samples a side, as means of means of 2x2, each rounded like there.

#ifndef THUMBNAIL_THREADS
#define THUMBNAIL_THREADS 256
#endif
#define MAX_JOBS 32

struct Jobs {
    unsigned long long plane[MAX_JOBS];  // of each frame, its first plane
    unsigned long long out[MAX_JOBS];    // (height, width) bytes
};

// All frames of a launch are alike.
struct Form {
    unsigned pitch_bytes;
    int width, height;  // of the small picture
    int step, place;    // samples of a pixel, and which of them is grey
    int halvings, shift, wide;
};

template <class Sample, int LEVEL>
struct Mean {
    static __device__ __forceinline__ unsigned of(const unsigned char* plane, const Form& form, int x, int y) {
        unsigned sum = 0;
        if (LEVEL <= 2) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sum += Mean<Sample, LEVEL - 1>::of(plane, form, 2 * x + (i & 1), 2 * y + (i >> 1));
        } else {
#pragma unroll 1
            for (int i = 0; i < 4; ++i) sum += Mean<Sample, LEVEL - 1>::of(plane, form, 2 * x + (i & 1), 2 * y + (i >> 1));
        }
        return (sum + 2) >> 2;
    }
};

template <class Sample>
struct Mean<Sample, 0> {
    static __device__ __forceinline__ unsigned of(const unsigned char* plane, const Form& form, int x, int y) {
        const unsigned char* const row = plane + static_cast<size_t>(y) * form.pitch_bytes;
        return reinterpret_cast<const Sample*>(row)[static_cast<size_t>(x) * form.step + form.place];
    }
};

template <class Sample>
__device__ __forceinline__ unsigned mean_of(const unsigned char* plane, const Form& form, int x, int y) {
    switch (form.halvings) {
        case 0: return Mean<Sample, 0>::of(plane, form, x, y);
        case 1: return Mean<Sample, 1>::of(plane, form, x, y);
        case 2: return Mean<Sample, 2>::of(plane, form, x, y);
        case 3: return Mean<Sample, 3>::of(plane, form, x, y);
        case 4: return Mean<Sample, 4>::of(plane, form, x, y);
        case 5: return Mean<Sample, 5>::of(plane, form, x, y);
        case 6: return Mean<Sample, 6>::of(plane, form, x, y);
        default: return Mean<Sample, 7>::of(plane, form, x, y);
    }
}

// Blocks: pixels of a small picture over THUMBNAIL_THREADS, 1, jobs.
extern "C" __global__ void __launch_bounds__(THUMBNAIL_THREADS) thumbnail(
    const Jobs __grid_constant__ jobs, const Form __grid_constant__ form) {
    const unsigned pixel = blockIdx.x * THUMBNAIL_THREADS + threadIdx.x;
    const unsigned width = form.width;
    if (pixel >= width * static_cast<unsigned>(form.height)) return;
    const int y = static_cast<int>(pixel / width), x = static_cast<int>(pixel - y * width);
    const unsigned char* const plane = reinterpret_cast<const unsigned char*>(jobs.plane[blockIdx.z]);
    const unsigned mean = form.wide ? mean_of<unsigned short>(plane, form, x, y) : mean_of<unsigned char>(plane, form, x, y);
    reinterpret_cast<unsigned char*>(jobs.out[blockIdx.z])[pixel] = static_cast<unsigned char>(mean >> form.shift);
}
