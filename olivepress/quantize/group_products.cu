// Compiled by PyTorch's NVRTC (group_products.py), which puts `constexpr int GROUP` in front: 16, 32, 64 or 128.
//
// out[c, t, g] = sum over group g of x[t, k] * w[c, k]: products rounded to float16, summed in float32 in the order of
// PyTorch's reduction over a contiguous last dimension: lane l adds elements l, l + LANES, ..., then neighbours pair.
constexpr int LANES = GROUP < 32 ? GROUP : 32, VALUES = GROUP / LANES, TILE = 64;

struct __align__(16) Eight { unsigned pair[4]; };  // 8 float16

static __device__ __forceinline__ unsigned product(unsigned a, unsigned b) {
  unsigned result;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

static __device__ __forceinline__ void widen(unsigned pair, float& low, float& high) {
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
      : "=f"(low), "=f"(high) : "r"(pair));
}

template <int FIRST, int COUNT> struct Tree {
  static __device__ __forceinline__ float sum(const Eight* x, const Eight* w) {
    return Tree<FIRST, COUNT / 2>::sum(x, w) + Tree<FIRST + COUNT / 2, COUNT / 2>::sum(x, w);
  }
};

template <int FIRST> struct Tree<FIRST, 8> {
  static __device__ __forceinline__ float sum(const Eight* x, const Eight* w) {
    float lane[8];
#pragma unroll
    for (int value = 0; value < VALUES; ++value) {
      const Eight a = x[(FIRST + value * LANES) / 8];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float low, high;
        widen(product(a.pair[i], w[(FIRST + value * LANES) / 8].pair[i]), low, high);
        lane[2 * i] = value ? lane[2 * i] + low : low;
        lane[2 * i + 1] = value ? lane[2 * i + 1] + high : high;
      }
    }
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  }
};

extern "C" __global__ void group_products(
    const Eight* x, const Eight* w, unsigned short* out, int tokens, int groups) {
  __shared__ Eight tile[TILE][GROUP / 8];
  const int group = blockIdx.x, channel = blockIdx.y * TILE + threadIdx.x, first = blockIdx.z * TILE;
  const int count = min(TILE, tokens - first);
  for (int i = threadIdx.x; i < count * (GROUP / 8); i += TILE) {
    const int token = i / (GROUP / 8), part = i % (GROUP / 8);
    tile[token][part] = x[((size_t)(first + token) * groups + group) * (GROUP / 8) + part];
  }
  Eight mine[GROUP / 8];
#pragma unroll
  for (int i = 0; i < GROUP / 8; ++i) mine[i] = w[((size_t)channel * groups + group) * (GROUP / 8) + i];
  __syncthreads();
#pragma unroll 1
  for (int token = 0; token < count; ++token) {
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(Tree<0, LANES>::sum(tile[token], mine)));
    out[((size_t)channel * tokens + first + token) * groups + group] = half;
  }
}
