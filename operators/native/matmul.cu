// Products with weights of 4 or 8 bits on the graphics card: y [tokens, N] = x [tokens, K] · Wᵀ. float16 in memory,
// float32 sums, each in a fixed order: a token's bits depend on no other token.
//
// W [N, K] is kept as MatMulNBits keeps it: by blocks of BLOCK weights with a scale and a zero point each. What costs time
// here is instructions, not memory, so the weights go to the tensor cores as they are: the bits of a small whole number
// n are those of the float16 n / 2^24, which is subnormal and exact. Of each block the product with those is scaled after
// it, and zero · sum(x) taken off.

#include "kernels.cuh"

enum {
  DEPTH = 4,    // units in shared memory, of which three are on their way
  ROWS = 16,    // of W, that a block of threads multiplies with at a time
  COLUMNS = 8,  // tokens of one instruction of the tensor cores
  WARPS = 8,
  THREADS = 32 * WARPS,
  TOGETHER = 4,  // parts of x that a thread asks for before it uses one
};

constexpr float UNIT = 1.0f / (1 << 24);  // of a subnormal float16

// W [n, k], of ``count`` blocks a row.
struct Matrix {
  const char* weights;
  const half_bits* scales;
  const unsigned char* zeros;
  int n, k, count;
};

// How a unit, 64 bytes or more of a row of W, is spread over the four lanes that share a row of mma.m16n8k16.
template <int BITS, int BLOCK>
struct Layout {
  static constexpr int lane_words = BLOCK / 4 * BITS / 32;  // of a block
  static constexpr int blocks = 64 * 8 / BITS > BLOCK ? 64 * 8 / BITS / BLOCK : 1;
};

// DEPTH units of rows i and i + ROWS / 2 in shared memory, of each what a lane needs: none reads what another fetched.
template <int BITS, int BLOCK>
struct Units {
  using L = Layout<BITS, BLOCK>;
  static constexpr int lane_words = L::blocks * L::lane_words, bytes = DEPTH * 4 * (2 * lane_words + L::blocks);
  unsigned *words_at, *numbers_at;

  __device__ __forceinline__ explicit Units(void* memory)
      : words_at((unsigned*)memory + threadIdx.x * lane_words),
        numbers_at((unsigned*)memory + DEPTH * 2 * lane_words * THREADS + threadIdx.x) {}
  __device__ __forceinline__ unsigned* words(int slot, int r) const {
    return words_at + (slot * 2 + r) * lane_words * THREADS;
  }
  // the four bytes with the lane's scale or zero point of a block
  __device__ __forceinline__ unsigned* number(int slot, int b) const {
    return numbers_at + (slot * L::blocks + b) * THREADS;
  }
};

template <int BYTES>
__device__ __forceinline__ void fetch(void* to, const void* from) {
  const unsigned shared = (unsigned)__cvta_generic_to_shared(to);
  if constexpr (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared), "l"(from), "n"(BYTES) : "memory");
}

// Where a lane is in W: rows ``row`` and ``row`` + ROWS / 2, and in them the unit that begins with block ``first``. Of
// four lanes the first two fetch the scales of the two rows, the others their zero points.
template <int BITS, int BLOCK>
struct Place {
  using L = Layout<BITS, BLOCK>;
  static constexpr int block_bytes = BLOCK * BITS / 8, step = WARPS * L::blocks;
  const char *weights[2], *numbers;
  int row, first, part, number_bits;  // of a block

  __device__ __forceinline__ Place(const Matrix& w)
      : row(blockIdx.x * ROWS + threadIdx.x % 32 / 4), part(threadIdx.x % 4), number_bits(part < 2 ? 16 : BITS) {
    at_row(w);
  }

  __device__ __forceinline__ void at_row(const Matrix& w) {
    first = threadIdx.x / 32 * L::blocks;
    size_t there[2];  // of a row that is not there the last again
    for (int r = 0; r < 2; ++r) {
      there[r] = min(row + r * (ROWS / 2), w.n - 1);
      weights[r] = w.weights + (there[r] * w.count + first) * block_bytes + part * L::lane_words * 4;
    }
    numbers = (part < 2 ? (const char*)w.scales : (const char*)w.zeros) +
              (part % 2 ? there[1] : there[0]) * ((w.count * number_bits + 7) / 8);
  }

  // On to the warp's next unit, in the next rows where these end: then true.
  __device__ __forceinline__ bool next(const Matrix& w) {
    first += step, weights[0] += step * block_bytes, weights[1] += step * block_bytes;
    if (first - threadIdx.x / 32 * L::blocks < w.count) return false;
    row += gridDim.x * ROWS;
    at_row(w);
    return true;
  }

  __device__ __forceinline__ const char* number(int b) const { return numbers + ((first + b) * number_bits >> 3); }

  // where the lane's number begins in the four bytes around it
  __device__ __forceinline__ int shift(int b) const {
    return (unsigned)(size_t)number(b) % 4 * 8 + (BITS == 4 && part >= 2 ? (first + b) % 2 * 4 : 0);
  }

  // Begin to fetch a unit. Blocks that are not there are left as they are: nobody uses them.
  __device__ __forceinline__ void read(const Matrix& w, const Units<BITS, BLOCK>& to, int slot) const {
#pragma unroll
    for (int b = 0; b < L::blocks; ++b) {
      if (first + b >= w.count) break;
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int word = 0; word < L::lane_words; word += 4)
          fetch<(L::lane_words < 4 ? L::lane_words * 4 : 16)>(to.words(slot, r) + b * L::lane_words + word,
                                                              weights[r] + b * block_bytes + 4 * word);
      // four bytes with the number in them: buffers end at multiples of four
      fetch<4>(to.number(slot, b), (const char*)((size_t)number(b) & ~(size_t)3));
    }
  }
};

// Eight values of x in the order in which 4-bit weights lie in a word: 0 and 4, 2 and 6, then 1 and 5, 3 and 7, for
// those of the upper half of a byte.
__device__ __forceinline__ uint4 ordered(uint4 v) {
  return make_uint4(__byte_perm(v.x, v.z, 0x5410), __byte_perm(v.y, v.w, 0x5410), __byte_perm(v.x, v.z, 0x7632),
                    __byte_perm(v.y, v.w, 0x7632));
}

// A few small whole numbers as float32, without the slow instruction.
__device__ __forceinline__ float small(unsigned number) { return __uint_as_float(0x4b000000u | number) - 8388608.0f; }

// The blocks of one unit times x. ONE: of one token, ordered, in shared memory; else of eight tokens as they are.
// ``x``: this lane's share of the first block of W's rows. ``totals`` [tokens, blocks]: sums of x, times UNIT.
template <int BITS, int BLOCK, bool ONE>
__device__ __forceinline__ void add_unit(const Matrix& w, const Units<BITS, BLOCK>& units, int slot,
                                         const Place<BITS, BLOCK>& place, const half_bits* x, const float* totals,
                                         float (&sums)[4]) {
  using L = Layout<BITS, BLOCK>;
  unsigned words[2][Units<BITS, BLOCK>::lane_words];
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int i = 0; i < Units<BITS, BLOCK>::lane_words; i += 4)
      *(uint4*)(words[r] + i) = *(const uint4*)(units.words(slot, r) + i);
#pragma unroll
  for (int b = 0; b < L::blocks; ++b) {
    const int block = place.first + b;
    if (block >= w.count) break;
    float low[4] = {}, high[4] = {};
#pragma unroll
    for (int word = 0; word < L::lane_words; ++word) {
      const unsigned left = words[0][b * L::lane_words + word], right = words[1][b * L::lane_words + word];
      const half_bits* at = x + block * BLOCK + word * (32 / BITS);
      if constexpr (BITS == 4) {
        const uint4 v = ONE ? *(const uint4*)at : ordered(*(const uint4*)at);
        multiply(low, left & 0x000f000fu, right & 0x000f000fu, left >> 8 & 0x000f000fu, right >> 8 & 0x000f000fu, v.x,
                 v.y);
        multiply(high, left & 0x00f000f0u, right & 0x00f000f0u, left >> 8 & 0x00f000f0u, right >> 8 & 0x00f000f0u,
                 v.z, v.w);
      } else {
        const uint2 v = *(const uint2*)at;
        multiply(low, __byte_perm(left, 0, 0x4140), __byte_perm(right, 0, 0x4140), __byte_perm(left, 0, 0x4342),
                 __byte_perm(right, 0, 0x4342), v.x, v.y);
      }
    }
    const unsigned bits = *units.number(slot, b) >> place.shift(b);
    const float number = place.part < 2 ? to_float(bits) : small(bits & ((1 << BITS) - 1));
    float scale[2], zero[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      scale[r] = __shfl_sync(0xffffffffu, number, r, 4);
      zero[r] = __shfl_sync(0xffffffffu, number, 2 + r, 4);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (ONE && i % 2) continue;  // the same token again
      const float product = BITS == 4 ? fmaf(high[i], 0.0625f, low[i]) : low[i];
      sums[i] = fmaf(scale[i / 2], fmaf(-zero[i / 2], totals[i % 2 * w.count + block], product), sums[i]);
    }
  }
}

// What is in shared memory before anything is multiplied: the sums of each block of x, times UNIT, and x itself, ordered, if ONE.
template <int BITS, int BLOCK, bool ONE>
__device__ __forceinline__ void share_x(const half_bits* x, int eights, half_bits* shared_x, float* totals) {
#pragma unroll 1
  for (int begin = threadIdx.x; begin - threadIdx.x < eights; begin += TOGETHER * THREADS) {
    uint4 v[TOGETHER];
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j) {
      const int i = begin + j * THREADS;
      v[j] = i < eights ? ((const uint4*)x)[i] : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j) {
      const int i = begin + j * THREADS;
      if (ONE && i < eights) ((uint4*)shared_x)[i] = BITS == 4 ? ordered(v[j]) : v[j];
      const half_bits* values = (const half_bits*)&v[j];
      float sum = 0;
#pragma unroll
      for (int n = 0; n < 8; ++n) sum += to_float(values[n]);
#pragma unroll
      for (int offset = 1; offset < BLOCK / 8; offset *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      if (i % (BLOCK / 8) == 0 && i < eights) totals[i / (BLOCK / 8)] = sum * UNIT;
    }
  }
  __syncthreads();
}

// Blocks of threads take ROWS rows of W at a time, for all tokens, which are one or at most eight; the warps of one share
// the blocks of K. Units that come next are fetched while the last is multiplied, across rows, too.
template <int BITS, int BLOCK, bool ONE>
__device__ __forceinline__ void few_tokens(const half_bits* x, const Matrix& w, half_bits* y, int tokens) {
  __shared__ float sums_of[2][WARPS][ONE ? 1 : COLUMNS][ROWS + 1];
  extern __shared__ uint4 dynamic[];  // units, x if it is of one token, totals [tokens + 1, blocks]
  const Units<BITS, BLOCK> units(dynamic);
  half_bits* shared_x = (half_bits*)((char*)dynamic + Units<BITS, BLOCK>::bytes * THREADS);
  float* totals = (float*)(shared_x + (ONE ? w.k : 0));
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, part = threadIdx.x % 4, column = part * 2,
            step = Place<BITS, BLOCK>::step, steps = (w.count + step - 1) / step, all = (w.n + ROWS - 1) / ROWS,
            mine = (all - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;
  Place<BITS, BLOCK> ahead(w), place = ahead;
  int to_read = mine * steps, slot = 0, parity = 0;
  auto read = [&](int to) {
    if (to_read-- > 0) ahead.read(w, units, to), ahead.next(w);
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  for (int u = 0; u < DEPTH - 1; ++u) read(u);
  launch_what_follows();
  wait_for_what_came_before();  // only x depends on it: weights are under way
  share_x<BITS, BLOCK, ONE>(x, tokens * w.k / 8, shared_x, totals);

  // tokens that are not there: the first again, nobody reads what it gives
  const half_bits* own_x = (ONE ? shared_x : x + (size_t)(group < tokens ? group : 0) * w.k) + part * (BLOCK / 4);
  const float* own_totals = totals + (column < tokens ? column : 0) * w.count;
  float sums[4] = {};
  for (int left = mine * steps; left > 0; --left) {
    asm volatile("cp.async.wait_group %0;" ::"n"(DEPTH - 2) : "memory");
    read(slot ? slot - 1 : DEPTH - 1);
    add_unit<BITS, BLOCK, ONE>(w, units, slot, place, own_x, own_totals, sums);
    slot = slot == DEPTH - 1 ? 0 : slot + 1;
    const int first_row = place.row - group;
    if (!place.next(w)) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!ONE || (part == 0 && i % 2 == 0))
        sums_of[parity][warp][ONE ? 0 : column + i % 2][group + i / 2 * (ROWS / 2)] = sums[i];
      sums[i] = 0;
    }
    __syncthreads();  // one for each ROWS rows: the next go to the other half
    const int token = threadIdx.x / ROWS, row = threadIdx.x % ROWS;
    if (token < tokens && first_row + row < w.n) {
      float sum = 0;
#pragma unroll
      for (int from = 0; from < WARPS; ++from) sum += sums_of[parity][from][token][row];
      y[(size_t)token * w.n + first_row + row] = to_half(sum * (1 << 24));
    }
    parity ^= 1;
  }
}

// W in float16, for cuBLAS: a thread for each word of weights. Grid: rows, parts of a row.
extern "C" __global__ void __launch_bounds__(128) to_float16(Matrix w, half_bits* out, int bits) {
  const int together = 32 / bits, row = blockIdx.x, at = blockIdx.y * blockDim.x + threadIdx.x,
            zero_bytes = (w.count * bits + 7) / 8;
  if (at >= w.k / together) return;
  const int block = at * together / (w.k / w.count);
  const float scale = to_float(w.scales[(size_t)row * w.count + block]);
  const unsigned byte = w.zeros[(size_t)row * zero_bytes + (bits == 4 ? block / 2 : block)];
  const int zero = bits == 8 ? byte : byte >> (block % 2 * 4) & 15;
  const unsigned word = ((const unsigned*)w.weights)[(size_t)row * (w.k / together) + at];
  const auto pair = [&](int i) {  // weights i and i + 1
    const int mask = (1 << bits) - 1, first = word >> (bits * i) & mask, second = word >> (bits * i + bits) & mask;
    return to_half((first - zero) * scale) | (unsigned)to_half((second - zero) * scale) << 16;
  };
  half_bits* to = out + (size_t)row * w.k + at * together;
  if (bits == 4)
    *(uint4*)to = make_uint4(pair(0), pair(2), pair(4), pair(6));
  else
    *(uint2*)to = make_uint2(pair(0), pair(2));
}

// one: of one token. eight: of up to eight in each row of the grid.
#define PRODUCTS(bits, block)                                                                               \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                  \
      one_##bits##_##block(const half_bits* x, Matrix w, half_bits* y, int) {                               \
    few_tokens<bits, block, true>(x, w, y, 1);                                                              \
  }                                                                                                         \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                  \
      eight_##bits##_##block(const half_bits* x, Matrix w, half_bits* y, int tokens) {                      \
    const int before = blockIdx.y * COLUMNS;                                                                \
    few_tokens<bits, block, false>(x + (size_t)before * w.k, w, y + (size_t)before * w.n,                   \
                                   min(tokens - before, (int)COLUMNS));                                     \
  }
PRODUCTS(4, 32)
PRODUCTS(4, 64)
PRODUCTS(4, 128)
PRODUCTS(8, 32)
PRODUCTS(8, 64)
PRODUCTS(8, 128)
