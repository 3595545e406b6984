// One kernel of many small cases, each for something that the host build must do as a GPU does, or must catch.

extern "C" __global__ void probe(int which, const float* __restrict__ in, float* out, int* numbers, int n) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    __shared__ float s[256];
    const int thread = threadIdx.x, i = blockIdx.x * blockDim.x + thread, lane = thread & 31;
    const unsigned all = 0xffffffffu;
    switch (which) {
        case 0:  // reversed within the block; 1 forgets the barrier
        case 1:
            s[thread] = in[i];
            if (which == 0) __syncthreads();
            out[i] = s[blockDim.x - 1 - thread];
            break;
        case 2:  // some threads return before the barrier
            if (thread >= n) return;
            __syncthreads();
            break;
        case 3:  // two barriers that are not the same
            if (thread < n) {
                __syncthreads();
            } else {
                __syncthreads();
            }
            break;
        case 4: out[i + n] = 1.0f; break;  // n may lead out of the array
        case 5: numbers[i] = static_cast<int>(in[i + n]); break;
        case 6: dynamic_shared[thread + n] = 1; break;
        case 7: s[thread + n] = 1.0f; out[i] = s[thread + n]; break;
        case 8:
            numbers[6 * i + 0] = static_cast<int>(__ballot_sync(all, lane % 3 == 0));
            numbers[6 * i + 1] = __shfl_xor_sync(all, i, 5);
            numbers[6 * i + 2] = __shfl_up_sync(all, i, 3, 16);
            numbers[6 * i + 3] = __shfl_down_sync(all, i, 3);
            numbers[6 * i + 4] = __reduce_max_sync(all, -i);
            numbers[6 * i + 5] = __reduce_add_sync(all, i);
            break;
        case 9:  // a lane returns, the others wait for it
            if (lane == n) return;
            __syncwarp();
            break;
        case 10: numbers[i] = __any_sync(~(1u << n), 1); break;  // lane n calls with a mask that leaves it out
        case 11:
            atomicAdd(&numbers[0], i);
            atomicMax(&numbers[1], i);
            atomicMin(&numbers[2], -i);
            atomicCAS(&numbers[3], 0, 7);
            atomicOr(reinterpret_cast<unsigned*>(&numbers[4]), 1u << lane);
            atomicAdd(&out[0], 1.0f);
            break;
        case 12: numbers[i] = atomicAdd(&numbers[n], 1); break;  // who came when
        case 13: numbers[i] = i / n; break;
        case 14:
            out[i] = __half2float(__ushort_as_half(static_cast<unsigned short>(i)));
            numbers[i] = __half_as_ushort(__float2half_rn(in[i]));
            break;
        case 15:
            if (lane < n) {
                __syncwarp();
            } else {
                __syncwarp();
            }
            break;
        case 16:
            numbers[3 * i + 0] = __syncthreads_count(thread % 3 == 0);
            numbers[3 * i + 1] = __syncthreads_or(thread == n);
            numbers[3 * i + 2] = __syncthreads_and(thread >= n);
            break;
        case 17: numbers[i] = 1 << n; break;
        case 18: {  // lanes in groups of their own, and of unequal pace
            const unsigned half_warp = lane < 16 ? 0xffffu : 0xffff0000u;
            int sum = i;
            for (int round = 0; round < (lane < 16 ? 3 : 1); ++round) sum += __shfl_xor_sync(half_warp, sum, 1);
            numbers[i] = __reduce_add_sync(all, sum);
            break;
        }
        case 19:
            numbers[2 * i] = __float2int_rn(in[i]);
            numbers[2 * i + 1] = static_cast<int>(__float2uint_rz(in[i]));
            break;
        default: out[i] = static_cast<float>(threadIdx.y * 100 + threadIdx.z * 10 + blockIdx.y + gridDim.z + thread);
    }
}
