// What one LoRA projection needs of the graphics card. float16 in memory, float32 sums, each in a fixed order, so the
// same input gives the same bits. Rows are read eight values at a time: K and N are multiples of 8.

#include "kernels.cuh"

struct alignas(16) Halves {
  half_bits at[8];
};

// Sum over a block of WARPS · 32 threads, given to all of them.
template <int WARPS>
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float sums[WARPS];
  for (int offset = 16; offset; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < WARPS; ++warp) sum += sums[warp];
  return sum;
}

// t [rank] = A [rank, K] · x [K]. One block of 128 threads for each row of A. Started in turn: started early it has cost
// more than it won.
extern "C" __global__ void __launch_bounds__(128) lora_down(
    const Halves* x, const Halves* a, half_bits* t, int k) {
  const Halves* row = a + (size_t)blockIdx.x * (k / 8);
  launch_what_follows();
  float sum = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < k / 8; i += 128) {
    const Halves left = x[i], right = row[i];
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += to_float(left.at[j]) * to_float(right.at[j]);
  }
  sum = block_sum<4>(sum);
  if (threadIdx.x == 0) t[blockIdx.x] = to_half(sum);
}

// delta [N] = t [rank] · B [rank, N]. A block of 256 threads has 128 columns, 8 a thread, and 16 shares of the rank. Only
// t depends on lora_down: B, of which a thread keeps up to four rows, comes while that runs. Six blocks a multiprocessor:
// 40 registers a thread are what the product that runs beside leaves.
extern "C" __global__ void __launch_bounds__(256, 6) lora_up(
    const half_bits* t, const Halves* b, half_bits* delta, int rank, int n) {
  constexpr int SHARES = 16, AHEAD = 4;
  const int group = threadIdx.x % 16, share = threadIdx.x / 16, column = blockIdx.x * 16 + group;
  const int rows = column < n / 8 ? rank : 0;
  launch_what_follows();
  Halves ahead[AHEAD];
#pragma unroll
  for (int i = 0; i < AHEAD; ++i)
    if (share + i * SHARES < rows) ahead[i] = b[(size_t)(share + i * SHARES) * (n / 8) + column];
  wait_for_what_came_before();
  float sum[8] = {};
  const auto add = [&](int row, const Halves& values) {
    const float factor = to_float(t[row]);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] += factor * to_float(values.at[j]);
  };
#pragma unroll
  for (int i = 0; i < AHEAD; ++i)
    if (share + i * SHARES < rows) add(share + i * SHARES, ahead[i]);
  for (int row = share + AHEAD * SHARES; row < rows; row += SHARES) add(row, b[(size_t)row * (n / 8) + column]);
  __shared__ float sums[SHARES][16][9];  // 9: neighbouring threads in different banks
#pragma unroll
  for (int j = 0; j < 8; ++j) sums[share][group][j] = sum[j];
  __syncthreads();
  const int at = blockIdx.x * 128 + threadIdx.x;
  if (threadIdx.x >= 128 || at >= n) return;
  float total = 0;
#pragma unroll
  for (int s = 0; s < SHARES; ++s) total += sums[s][threadIdx.x / 8][threadIdx.x % 8];
  delta[at] = to_half(total);
}

// Eight outputs of the projection, with LoRA's share if there is one; rounded where the unfused graph rounds too.
__device__ __forceinline__ void projected(const Halves* base, const Halves* delta, size_t i, float out[8]) {
  const Halves left = base[i];
#pragma unroll
  for (int j = 0; j < 8; ++j) out[j] = to_float(left.at[j]);
  if (!delta) return;
  const Halves right = delta[i];
#pragma unroll
  for (int j = 0; j < 8; ++j) out[j] = to_float(to_half(out[j] + to_float(right.at[j])));
}

// y = base + delta, ``count`` values; y may be base.
extern "C" __global__ void __launch_bounds__(128) lora_add(
    const Halves* base, const Halves* delta, Halves* y, long long count) {
  launch_what_follows();
  wait_for_what_came_before();
  const long long i = (long long)blockIdx.x * 128 + threadIdx.x;
  if (i >= count / 8) return;
  float values[8];
  projected(base, delta, i, values);
  Halves out;
#pragma unroll
  for (int j = 0; j < 8; ++j) out.at[j] = to_half(values[j]);
  y[i] = out;
}

// y [tokens, N/2] = SiLU(g) · u, where [g, u] [tokens, N] = base + delta. Grid: tokens, parts of a row.
extern "C" __global__ void __launch_bounds__(128) lora_add_gate(
    const Halves* base, const Halves* delta, Halves* y, int n) {
  launch_what_follows();
  wait_for_what_came_before();
  const int column = blockIdx.y * 128 + threadIdx.x, width = n / 16;
  if (column >= width) return;
  const size_t row = (size_t)blockIdx.x * (2 * width);
  float gate[8], up[8];
  projected(base, delta, row + column, gate);
  projected(base, delta, row + width + column, up);
  Halves out;
#pragma unroll
  for (int j = 0; j < 8; ++j) out.at[j] = to_half(gate[j] / (1 + expf(-gate[j])) * up[j]);
  y[(size_t)blockIdx.x * width + column] = out;
}

// sum [tokens, N] = base + delta + skip, y = RMSNorm(sum) · gamma (arXiv:1910.07467). One block of 512 threads for each
// token; N is at most 16,384.
extern "C" __global__ void __launch_bounds__(512) lora_add_norm(
    const Halves* base, const Halves* delta, const Halves* skip, const Halves* gamma, Halves* y, Halves* sum, int n,
    float epsilon) {
  const size_t row = (size_t)blockIdx.x * (n / 8);
  Halves weights[4];
  launch_what_follows();
#pragma unroll
  for (int part = 0; part < 4; ++part)  // gamma is a constant: it comes while the kernel before still runs
    if (part * 512 + threadIdx.x < n / 8) weights[part] = gamma[part * 512 + threadIdx.x];
  wait_for_what_came_before();
  float values[4][8], squares = 0;
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const int column = part * 512 + threadIdx.x;
    if (column >= n / 8) break;
    projected(base, delta, row + column, values[part]);
    const Halves other = skip[row + column];
    Halves out;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      values[part][j] += to_float(other.at[j]);
      squares += values[part][j] * values[part][j];
      out.at[j] = to_half(values[part][j]);
    }
    sum[row + column] = out;
  }
  const float scale = rsqrtf(block_sum<16>(squares) / n + epsilon);
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const int column = part * 512 + threadIdx.x;
    if (column >= n / 8) break;
    Halves out;
#pragma unroll
    for (int j = 0; j < 8; ++j) out.at[j] = to_half(values[part][j] * scale * to_float(weights[part].at[j]));
    y[row + column] = out;
  }
}
