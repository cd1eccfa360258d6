// Attention of new tokens over a cache of keys and values, float16 in memory, float32 sums, each in a fixed order: a row's
// bits depend on no other row, and on its own length alone.
//
// One token: the keys that a head sees are shared among up to SHARES blocks of threads; each has its own largest score, sum
// of weights and sum of values, and the last block to end puts them together (Dao et al. 2023, "Flash-Decoding"). What
// costs time is waiting for memory, so as much as can be is asked for at once, and the past's lines before the kernel
// ahead has ended. Several tokens: a tile of queries a block, keys tile by tile, on the tensor cores (Dao et al. 2022,
// "FlashAttention", arXiv:2205.14135).

#include "kernels.cuh"

enum {
  THREADS = 128,
  SHARES = 16,  // of a row's keys and values, for one token
  LEAST = 64,   // keys of a share
  STEP = 16,    // a share's keys are a multiple of it
  TILE = 64,    // queries, and keys at a time, of several tokens
  LINE = 128,   // bytes of L2
};

constexpr float LOG2_E = 1.4426950408889634f;
#define NEVER __int_as_float(0xff800000)  // minus infinity

// cuda.c fills it in. New tokens: q, k and v [batch, tokens, heads, SIZE], each token ``*_stride`` values behind the one
// before; y [batch, tokens, heads, SIZE]. The cache: [batch, kv_heads, capacity, SIZE], the one before of past_capacity,
// or none if it lies in place. cos and sin [positions, rotated / 2]. ``shares`` [batch, heads, SHARES, SIZE + 2] and
// ``counts`` [batch, heads], which are 0 between calls.
struct Attention {
  const half_bits *q, *k, *v, *cos, *sin, *past_keys, *past_values;
  half_bits *keys, *values, *y;
  const int* lengths;  // [batch]: of each row, this step's tokens included, less 1
  float* shares;
  unsigned* counts;
  int q_stride, kv_stride, past_capacity, capacity, tokens, kv_heads, group, rotated, positions, window, first;
  float scale;
};

// Tokens of a row before this step.
__device__ __forceinline__ int past_of(const Attention& a, int row) {
  return a.first ? 0 : a.lengths[row] + 1 - a.tokens;
}

// Value ``d`` of a head's query or key, rotated to its position, rounded.
__device__ __forceinline__ half_bits rotated(const Attention& a, const half_bits* head, int d, int position) {
  const int half = a.rotated / 2, i = d < half ? d : d - half;
  if (d >= a.rotated) return head[d];
  const float cos = to_float(a.cos[(size_t)position * half + i]), sin = to_float(a.sin[(size_t)position * half + i]);
  const float x = to_float(head[i]), y = to_float(head[half + i]);
  return to_half(d < half ? x * cos - y * sin : y * cos + x * sin);
}

__device__ __forceinline__ void widen(const uint4& eight, float (&to)[8]) {
  const half_bits* values = (const half_bits*)&eight;
#pragma unroll
  for (int i = 0; i < 8; ++i) to[i] = to_float(values[i]);
}

// ---- one token ------------------------------------------------------------------------------------------

// The sum, or the greatest, over a block of threads; ``scratch`` is written to.
template <bool SUM>
__device__ __forceinline__ float over_block(float value, float (&scratch)[THREADS / 32]) {
#pragma unroll
  for (int offset = 16; offset; offset /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, offset);
    value = SUM ? value + other : fmaxf(value, other);
  }
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = scratch[0];
#pragma unroll
  for (int w = 1; w < THREADS / 32; ++w) value = SUM ? value + scratch[w] : fmaxf(value, scratch[w]);
  return value;
}

// How the keys that a row's last token sees are shared, and which are this block's.
struct Share {
  int count, begin, end;
};

__device__ __forceinline__ Share share_of(const Attention& a, int length) {
  const int from = a.window > 0 && length > a.window ? length - a.window : 0, seen = length - from;
  const int keys = max((int)LEAST, ((seen + SHARES - 1) / SHARES + STEP - 1) / STEP * STEP);
  const int begin = from + blockIdx.y * keys;
  return {(seen + keys - 1) / keys, begin, min(begin + keys, length)};
}

// The block's threads ask for the lines of ``bytes`` behind ``from``, the last byte's, too.
__device__ __forceinline__ void ask_for(const void* from, int bytes) {
  for (int i = threadIdx.x; i <= bytes / LINE; i += THREADS) to_l2((const char*)from + min(i * LINE, bytes - 1));
}

// Before the kernel ahead has ended: the lines that this block is about to read, from memory to L2. The row's length may
// still be on its way, so it is read again behind the wait: the wrong lines cost time, never a result.
template <int SIZE>
__device__ __forceinline__ void ask_early(const Attention& a, int row, int head, size_t cache) {
  const int length = min(max(fresh(a.lengths + row), 0), a.capacity - 1) + 1;
  const Share share = share_of(a, length);
  if (share.end <= share.begin) return;
  if (a.rotated && length <= a.positions) {
    const size_t at = (size_t)(length - 1) * (a.rotated / 2);
    ask_for(a.cos + at, a.rotated);
    ask_for(a.sin + at, a.rotated);
  }
  if (head % a.group) return;  // the group's first head asks for all of it
  const int keys = min(share.end - share.begin, (int)THREADS);  // of a long share what is read first
  ask_for(a.keys + cache + (size_t)share.begin * SIZE, keys * SIZE * (int)sizeof(half_bits));
  ask_for(a.values + cache + (size_t)share.begin * SIZE, keys * SIZE * (int)sizeof(half_bits));
}

// Grid: rows times heads, shares. Heads that share one of the cache write the same new key and value, and each reads its
// own: the cache's second reading comes out of the card's L2.
template <int SIZE>
__device__ __forceinline__ void one_token(const Attention& a) {
  constexpr int EIGHTS = SIZE / 8, LANES = 4, A_LANE = EIGHTS / LANES, PARTS = THREADS / EIGHTS,
                AT_ONCE = THREADS / LANES,            // keys
                AHEAD = (LEAST + PARTS - 1) / PARTS;  // values that a thread asks for before it knows their weights
  __shared__ float query[SIZE], weights[THREADS], tops[THREADS / 32], sums[THREADS / 32], parts[PARTS][SIZE];
  __shared__ bool is_last;
  const int heads = a.kv_heads * a.group, row = blockIdx.x / heads, head = blockIdx.x % heads;
  const size_t cache = ((size_t)row * a.kv_heads + head / a.group) * a.capacity * SIZE;
  launch_what_follows();
  ask_early<SIZE>(a, row, head, cache);
  wait_for_what_came_before();
  const int length = a.lengths[row] + 1;
  const auto [shares, begin, end] = share_of(a, length);
  if ((int)blockIdx.y >= shares) return;
  for (int d = threadIdx.x; d < SIZE; d += THREADS) {
    query[d] = to_float(rotated(a, a.q + (size_t)row * a.q_stride + (size_t)head * SIZE, d, length - 1)) *
               (a.scale * LOG2_E);
    if (end == length) {  // the new key and value are in this share
      const size_t of = (size_t)row * a.kv_stride + (size_t)(head / a.group) * SIZE,
                   to = cache + (size_t)(length - 1) * SIZE + d;
      a.keys[to] = rotated(a, a.k + of, d, length - 1);
      a.values[to] = a.v[of + d];
    }
  }
  __syncthreads();

  float top = NEVER, sum = 0, value[8] = {};
  const int lane = threadIdx.x % LANES, column = threadIdx.x % EIGHTS, part = threadIdx.x / EIGHTS;
  for (int at = begin; at < end; at += THREADS) {
    const int count = min((int)THREADS, end - at);
    uint4 ahead[AHEAD];
#pragma unroll
    for (int n = 0; n < AHEAD; ++n)
      ahead[n] = ((const uint4*)(a.values + cache + (size_t)(at + min(part + n * PARTS, count - 1)) * SIZE))[column];
    // scores: four threads a key, of which they ask for two at a time
    for (int first = 0; first < count; first += 2 * AT_ONCE) {
      uint4 keys[2][A_LANE];
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int n = 0; n < A_LANE; ++n) {
          const int i = min(first + r * AT_ONCE + (int)threadIdx.x / LANES, count - 1);
          keys[r][n] = ((const uint4*)(a.keys + cache + (size_t)(at + i) * SIZE))[n * LANES + lane];
        }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int i = first + r * AT_ONCE + threadIdx.x / LANES;
        float score = 0;
#pragma unroll
        for (int n = 0; n < A_LANE; ++n) {
          float k[8];
          widen(keys[r][n], k);
#pragma unroll
          for (int j = 0; j < 8; ++j) score += query[(n * LANES + lane) * 8 + j] * k[j];
        }
        score += __shfl_xor_sync(0xffffffffu, score, 1);
        score += __shfl_xor_sync(0xffffffffu, score, 2);
        if (lane == 0 && i < count) weights[i] = score;
      }
    }
    __syncthreads();
    // weights: a thread a key
    const float score = (int)threadIdx.x < count ? weights[threadIdx.x] : NEVER;
    const float most = fmaxf(top, over_block<false>(score, tops)), shrink = power_of_2(top - most);
    const float weight = power_of_2(score - most);
    weights[threadIdx.x] = weight;
    sum = sum * shrink + over_block<true>(weight, sums);
    top = most;
#pragma unroll
    for (int j = 0; j < 8; ++j) value[j] *= shrink;
    // values: eight columns a thread, of every PARTS-th key
    if (part < PARTS) {
      const auto add = [&](int i, const uint4& of) {
        float v[8];
        widen(of, v);
#pragma unroll
        for (int j = 0; j < 8; ++j) value[j] += weights[i] * v[j];
      };
#pragma unroll
      for (int n = 0; n < AHEAD; ++n)
        if (part + n * PARTS < count) add(part + n * PARTS, ahead[n]);
#pragma unroll 4
      for (int i = part + AHEAD * PARTS; i < count; i += PARTS)
        add(i, ((const uint4*)(a.values + cache + (size_t)(at + i) * SIZE))[column]);
    }
    __syncthreads();
  }
  if (part < PARTS)
#pragma unroll
    for (int j = 0; j < 8; ++j) parts[part][column * 8 + j] = value[j];
  __syncthreads();
  half_bits* y = a.y + (size_t)blockIdx.x * SIZE;
  float *of_head = a.shares + (size_t)blockIdx.x * SHARES * (SIZE + 2), *own = of_head + blockIdx.y * (SIZE + 2);
  for (int d = threadIdx.x; d < SIZE; d += THREADS) {
    float all = 0;
#pragma unroll
    for (int p = 0; p < PARTS; ++p) all += parts[p][d];
    if (shares == 1)
      y[d] = to_half(all / sum);
    else
      own[d] = all;
  }
  if (shares == 1) return;
  if (threadIdx.x == 0) own[SIZE] = top, own[SIZE + 1] = sum;

  __syncthreads();
  if (threadIdx.x == 0) {  // its fences are the block's: the others' writes lie before a barrier, their reads behind one
    __threadfence();
    is_last = atomicAdd(a.counts + blockIdx.x, 1) == (unsigned)shares - 1;
    if (is_last) a.counts[blockIdx.x] = 0;
    __threadfence();
  }
  __syncthreads();
  if (!is_last || threadIdx.x >= SIZE) return;
  // All shares are asked for before one is used: each thread for a value of every share, a warp's lanes for a top and a
  // sum each. They are added in order.
  static_assert(SIZE <= THREADS && SIZE % 32 == 0 && SHARES <= 32);
  const float* of_lane = of_head + threadIdx.x % 32 * (SIZE + 2) + SIZE;
  const bool has_share = (int)threadIdx.x % 32 < shares;
  const float top_of = has_share ? fresh(of_lane) : NEVER, sum_of = has_share ? fresh(of_lane + 1) : 0;
  float values[SHARES], most = top_of, all = 0, total = 0;
#pragma unroll
  for (int s = 0; s < SHARES; ++s) values[s] = s < shares ? fresh(of_head + s * (SIZE + 2) + threadIdx.x) : 0;
#pragma unroll
  for (int offset = 16; offset; offset /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, offset));
  const float shrink_of = power_of_2(top_of - most);
#pragma unroll
  for (int s = 0; s < SHARES; ++s) {
    if (s >= shares) break;
    const float shrink = __shfl_sync(0xffffffffu, shrink_of, s);
    all += shrink * values[s];
    total += shrink * __shfl_sync(0xffffffffu, sum_of, s);
  }
  y[threadIdx.x] = to_half(all / total);
}

// ---- several tokens -------------------------------------------------------------------------------------

// New keys and values to the cache, and the past, if it lies elsewhere. Grid: tokens, new ones or all, rows times its heads.
extern "C" __global__ void __launch_bounds__(THREADS) place(Attention a, int size) {
  const int row = blockIdx.y / a.kv_heads, head = blockIdx.y % a.kv_heads;
  wait_for_what_came_before();
  const int past = past_of(a, row), position = a.past_keys ? blockIdx.x : past + blockIdx.x, token = position - past;
  half_bits *key = a.keys + ((size_t)blockIdx.y * a.capacity + position) * size,
            *value = a.values + ((size_t)blockIdx.y * a.capacity + position) * size;
  if (token >= a.tokens) return;
  if (token < 0) {
    const size_t from = ((size_t)blockIdx.y * a.past_capacity + position) * size;
    for (int d = threadIdx.x; d < size; d += THREADS)
      key[d] = a.past_keys[from + d], value[d] = a.past_values[from + d];
    return;
  }
  const size_t of = ((size_t)row * a.tokens + token) * a.kv_stride + (size_t)head * size;
  for (int d = threadIdx.x; d < size; d += THREADS) {
    key[d] = rotated(a, a.k + of, d, position);
    value[d] = a.v[of + d];
  }
}

__device__ __forceinline__ unsigned pair(float low, float high) {
  return to_half(low) | (unsigned)to_half(high) << 16;
}

// Grid: tiles of tokens, rows times heads. A warp has 16 queries; of them a lane has two, 8 apart.
template <int SIZE>
__device__ __forceinline__ void several_tokens(const Attention& a) {
  constexpr int WIDTH = SIZE + 8;  // of a row in shared memory: neighbouring rows begin in different banks
  __shared__ __align__(16) half_bits left[TILE][WIDTH], right[TILE][WIDTH];  // queries, then keys; values
  const int heads = a.kv_heads * a.group, row = blockIdx.y / heads, head = blockIdx.y % heads;
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, part = threadIdx.x % 4;
  wait_for_what_came_before();
  const int past = past_of(a, row), first = blockIdx.x * TILE, count = min((int)TILE, a.tokens - first);
  const size_t cache = ((size_t)row * a.kv_heads + head / a.group) * a.capacity * SIZE;
  for (int i = threadIdx.x; i < TILE * SIZE; i += THREADS) {
    const int token = i / SIZE, d = i % SIZE;
    const half_bits* of = a.q + ((size_t)row * a.tokens + first + token) * a.q_stride + (size_t)head * SIZE;
    left[token][d] = token < count ? rotated(a, of, d, past + first + token) : 0;
  }
  __syncthreads();
  unsigned queries[SIZE / 16][4];
#pragma unroll
  for (int k = 0; k < SIZE / 16; ++k)
#pragma unroll
    for (int n = 0; n < 4; ++n)
      queries[k][n] = *(const unsigned*)&left[warp * 16 + group + n % 2 * 8][k * 16 + n / 2 * 8 + part * 2];
  float out[SIZE / 8][4] = {}, top[2] = {NEVER, NEVER}, sum[2] = {};
  const float scale = a.scale * LOG2_E;
  const int last = past + first + count;  // keys from there on nobody here sees
  const int begin = a.window > 0 ? max(0, past + first + 1 - a.window) / TILE * TILE : 0;
  for (int at = begin; at < last; at += TILE) {
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * SIZE / 8; i += THREADS) {
      const int key = i / (SIZE / 8), eight = i % (SIZE / 8);
      const size_t from = cache + (size_t)(at + key) * SIZE + eight * 8;
      const uint4 none = make_uint4(0, 0, 0, 0);
      *(uint4*)&left[key][eight * 8] = at + key < last ? *(const uint4*)(a.keys + from) : none;
      *(uint4*)&right[key][eight * 8] = at + key < last ? *(const uint4*)(a.values + from) : none;
    }
    __syncthreads();
    float scores[TILE / 8][4] = {};
#pragma unroll
    for (int n = 0; n < TILE / 8; ++n)
#pragma unroll
      for (int k = 0; k < SIZE / 16; ++k) {
        const half_bits* key = &left[n * 8 + group][k * 16 + part * 2];
        multiply(scores[n], queries[k][0], queries[k][1], queries[k][2], queries[k][3], *(const unsigned*)key,
                 *(const unsigned*)(key + 8));
      }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int position = past + first + warp * 16 + group + r * 8;
      float most = top[r];
#pragma unroll
      for (int n = 0; n < TILE / 8; ++n)
#pragma unroll
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          const int key = at + n * 8 + part * 2 + i % 2;
          const bool seen = key <= position && (a.window <= 0 || key > position - a.window);
          scores[n][i] = seen ? scores[n][i] * scale : NEVER;
          most = fmaxf(most, scores[n][i]);
        }
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const float base = most == NEVER ? 0 : most, shrink = power_of_2(top[r] - base);
      top[r] = most;
      float all = 0;
#pragma unroll
      for (int n = 0; n < TILE / 8; ++n)
#pragma unroll
        for (int i = 2 * r; i < 2 * r + 2; ++i) all += scores[n][i] = power_of_2(scores[n][i] - base);
      sum[r] = sum[r] * shrink + all;
#pragma unroll
      for (int n = 0; n < SIZE / 8; ++n) out[n][2 * r] *= shrink, out[n][2 * r + 1] *= shrink;
    }
#pragma unroll
    for (int k = 0; k < TILE / 16; ++k) {
      const unsigned weights[4] = {
          pair(scores[2 * k][0], scores[2 * k][1]), pair(scores[2 * k][2], scores[2 * k][3]),
          pair(scores[2 * k + 1][0], scores[2 * k + 1][1]), pair(scores[2 * k + 1][2], scores[2 * k + 1][3])};
      const unsigned lines = (unsigned)__cvta_generic_to_shared(&right[k * 16 + threadIdx.x % 16][0]);
#pragma unroll
      for (int n = 0; n < SIZE / 8; ++n) {
        unsigned b0, b1;
        load_lines(b0, b1, lines + n * 16);
        multiply(out[n], weights[0], weights[1], weights[2], weights[3], b0, b1);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    const int token = warp * 16 + group + r * 8;
    if (token >= count) continue;
    half_bits* y = a.y + (((size_t)row * a.tokens + first + token) * heads + head) * SIZE + part * 2;
#pragma unroll
    for (int n = 0; n < SIZE / 8; ++n)
      *(unsigned*)(y + n * 8) = pair(out[n][2 * r] / sum[r], out[n][2 * r + 1] / sum[r]);
  }
}

#define ATTEND(size)                                                                                           \
  extern "C" __global__ void __launch_bounds__(THREADS) attend_one_##size(Attention a) { one_token<size>(a); } \
  extern "C" __global__ void __launch_bounds__(THREADS) attend_##size(Attention a) { several_tokens<size>(a); }
ATTEND(64)
ATTEND(96)
ATTEND(128)
