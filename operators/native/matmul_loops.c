// The arithmetic of cpu_matmul (cpu.c): int8 activations times weights of 4 or 8 bits. hatch_build.py compiles
// this file once for each kind of processor: PRODUCTS is the name of what it gives.
//
// x is rounded to int8 by blocks, as ONNX Runtime does at accuracy_level 4; a block's product with a row of weights is
// exact, and its scales are float32. Zero points are taken apart: sum((w - zero) * x) = sum(w * x) - zero * sum(x).

#include "cpu.h"

#include <math.h>
#include <stdalign.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// BYTES of a vector
#ifdef __aarch64__
enum { BYTES = 16 };
#else
enum { BYTES = 64 };
#endif

enum {
  TOGETHER = 8,  // tokens that share what is read and unpacked of the weights
  FEW = 4,       // that do where there are not so many
  PAIR = 2,      // likewise
  AHEAD = 8192,  // bytes: a row is too short for the processor to foresee what is read next
};

// Where element j of a block is kept: with 4 bits, even and odd ones apart for every BYTES of weights, for a byte holds
// one of each.
static inline size_t place(size_t j, size_t bits, size_t block) {
  const size_t unit = block < 2 * BYTES ? block : 2 * BYTES;
  return bits == 8 ? j : j / unit * unit + j % 2 * (unit / 2) + j % unit / 2;
}

UNROLLED void quantize_token(const Product *p, size_t token, const size_t bits, const size_t block) {
  const float *x = p->x + token * p->k;
  int8_t *to = p->integers + token * p->k;
  for (size_t b = 0; b < p->blocks; ++b, x += block, to += block) {
    uint32_t magnitude = 0;  // of the largest: without its sign a float is ordered as its bits are
    for (size_t j = 0; j < block; ++j) {
      uint32_t unsigned_bits;
      memcpy(&unsigned_bits, x + j, sizeof unsigned_bits);
      unsigned_bits &= 0x7fffffff;
      magnitude = unsigned_bits > magnitude ? unsigned_bits : magnitude;
    }
    if (magnitude >= 0x7f800000) {  // infinite or NaN, which int8 cannot say: the product is NaN
      memset(to, 0, block);
      p->steps[token * p->stride + b] = p->sums[token * p->stride + b] = NAN;
      continue;
    }
    float most;
    memcpy(&most, &magnitude, sizeof most);
    const float scale = most > 0 ? 127 / most : 0;
    int total = 0;
    int8_t rounded[128];
    for (size_t j = 0; j < block; ++j) {
      const int whole = (int)rintf(x[j] * scale);
      rounded[j] = (int8_t)whole;
      total += whole;
    }
    for (size_t j = 0; j < block; ++j) to[place(j, bits, block)] = rounded[j];
    p->steps[token * p->stride + b] = most / 127;
    p->sums[token * p->stride + b] = most / 127 * (float)total;
  }
  for (size_t b = p->blocks; b < p->stride; ++b) p->steps[token * p->stride + b] = p->sums[token * p->stride + b] = 0;
}

// A scale, of those of all rows.
[[maybe_unused]] static inline float scale_of(const Product *p, size_t i) {
  return p->half ? (float)((const _Float16 *)p->scales)[i] : ((const float *)p->scales)[i];
}

#ifdef __AVX2__

// The row's scales and zero points of blocks b to b + BLOCKS; 0 for what is beyond the last.
UNROLLED void take_scales(const Product *p, size_t row, size_t b, const size_t bits, __m256 *scales, __m256 *zeros) {
  const size_t at = row * p->blocks + b, count = p->blocks - b < BLOCKS ? p->blocks - b : BLOCKS;
  const uint8_t *packed = p->zeros + row * p->zero_bytes + b * bits / 8;
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), lanes);
  uint64_t bytes = 0;
  if (count == BLOCKS) {
    memcpy(&bytes, packed, bits);  // as many bytes as a zero point has bits
  } else {
    for (size_t i = 0; i < (count * bits + 7) / 8; ++i) bytes |= (uint64_t)packed[i] << 8 * i;
  }
  if (p->half) {
    const _Float16 *from = (const _Float16 *)p->scales + at;
    __m128i half = _mm_setzero_si128();
    if (at + BLOCKS <= p->n * p->blocks) half = _mm_loadu_si128((const __m128i *)from);
    else memcpy(&half, from, count * sizeof *from);
    *scales = _mm256_cvtph_ps(half);
    if (count < BLOCKS) *scales = _mm256_and_ps(*scales, _mm256_castsi256_ps(there));
  } else if (count == BLOCKS) {
    *scales = _mm256_loadu_ps((const float *)p->scales + at);
  } else {
    *scales = _mm256_maskload_ps((const float *)p->scales + at, there);
  }
  __m256i whole;
  if (bits == 8) {
    whole = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
  } else {
    whole = _mm256_srlv_epi32(_mm256_set1_epi32((int)bytes), _mm256_slli_epi32(lanes, 2));
    whole = _mm256_and_si256(whole, _mm256_set1_epi32(15));
  }
  *zeros = _mm256_cvtepi32_ps(whole);
}

// Rows of weights are the lanes of a vector, for one token and for many, so that a block's exact product is scaled once
// and not part by part.
enum { ROWS_ONE = 8 };

// Rows become columns.
UNROLLED void transpose_eight(__m256 *v) {
  __m256 a[8], b[8];
  for (size_t i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (size_t i = 0; i < 8; i += 4)
    for (size_t j = 0; j < 2; ++j) {
      b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
      b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
    }
  for (size_t i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

// The scales of ROWS_ONE rows in blocks b to b + BLOCKS, and these times the zero points: a block a vector, a row a
// lane.
UNROLLED void take_columns(const Product *p, size_t row, size_t b, const size_t bits, __m256 *scales, __m256 *shifts) {
  for (size_t r = 0; r < ROWS_ONE; ++r) {
    take_scales(p, row + r < p->n ? row + r : p->n - 1, b, bits, scales + r, shifts + r);
    shifts[r] = _mm256_mul_ps(scales[r], shifts[r]);
  }
  transpose_eight(scales);
  transpose_eight(shifts);
}

// Where the weights of ROWS_ONE rows begin; what is beyond the last is the last again.
UNROLLED void rows_from(const Product *p, size_t row, size_t row_bytes, const uint8_t **from) {
  for (size_t r = 0; r < ROWS_ONE; ++r) from[r] = p->weights + (row + r < p->n ? row + r : p->n - 1) * row_bytes;
}

// y and one block more, whose exact product is ``total``.
UNROLLED __m256 add_block(__m256 y, __m256i total, __m256 scale, __m256 shift, float step, float sum) {
  y = _mm256_fnmadd_ps(shift, _mm256_set1_ps(sum), y);
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), _mm256_mul_ps(scale, _mm256_set1_ps(step)), y);
}

// A token's results of ROWS_ONE rows, as far as there are.
UNROLLED __m256i rows_there(const Product *p, size_t row) {
  const int count = row + ROWS_ONE <= p->n ? ROWS_ONE : row < p->n ? (int)(p->n - row) : 0;
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
UNROLLED void store_rows(const Product *p, size_t row, size_t token, __m256 y) {
  float *to = p->y + token * p->n + row;
  if (row + ROWS_ONE <= p->n) _mm256_storeu_ps(to, y);
  else _mm256_maskstore_ps(to, rows_there(p, row), y);
}

// PANEL rows of weights side by side, four bytes of each, in blocks ``begin`` to ``end``:
// ``weights`` [bytes / 4, PANEL, 4], SPREAD times the bytes; ``scales`` and ``shifts`` [blocks, PANEL].
typedef struct Panel {
  size_t row, begin, end;
  uint8_t *weights;
  float *scales, *shifts;
} Panel;

#ifdef __AVX512VNNI__
#include "matmul_vnni.h"
#else
#include "matmul_avx2.h"
#endif

// y for ROWS_ONE rows of weights, as far as there are, and ``count`` tokens
UNROLLED void few_tokens(const Product *p, size_t row, size_t first, const size_t count, const size_t bits,
                         const size_t block) {
  const size_t bytes = block * bits / 8, row_bytes = p->blocks * bytes;
  const float *steps = p->steps + first * p->stride, *sums = p->sums + first * p->stride;
  const uint8_t *from[ROWS_ONE], *later = p->weights + (row + SOON * ROWS_ONE) * row_bytes;
  rows_from(p, row, row_bytes, from);
  __m256 y[SHARE];
  for (size_t t = 0; t < count; ++t) y[t] = _mm256_setzero_ps();
  for (size_t b = 0; b < p->blocks; b += BLOCKS) {
    __m256 scales[BLOCKS], shifts[BLOCKS];
    take_columns(p, row, b, bits, scales, shifts);
    const size_t end = p->blocks - b < BLOCKS ? p->blocks : b + BLOCKS;
    for (size_t i = b; i < end; ++i) {
      for (size_t line = 0; line < ROWS_ONE * bytes; line += 64)
        __builtin_prefetch(later + i * bytes * ROWS_ONE + line, 0, 2);
      __m256i total[SHARE];
      dots(from, i * bytes, p->integers + first * p->k + i * block, p->k, count, bits, block, total);
      for (size_t t = 0; t < count; ++t) {
        const float step = steps[t * p->stride + i], sum = sums[t * p->stride + i];
        y[t] = add_block(y[t], total[t], scales[i - b], shifts[i - b], step, sum);
      }
    }
  }
  for (size_t t = 0; t < count; ++t) store_rows(p, row, first + t, y[t]);
}

// Token by token a result is the same whichever other tokens there are: each sum is taken in one order.
UNROLLED void rows_of_few(const Product *p, size_t begin, size_t end, const size_t bits, const size_t block) {
  size_t first = 0;
  for (; SHARE >= FEW && first + FEW <= p->tokens; first += FEW)
    for (size_t row = begin; row < end; row += ROWS_ONE) few_tokens(p, row, first, FEW, bits, block);
  for (; SHARE >= PAIR && first + PAIR <= p->tokens; first += PAIR)
    for (size_t row = begin; row < end; row += ROWS_ONE) few_tokens(p, row, first, PAIR, bits, block);
  for (; first < p->tokens; ++first)
    for (size_t row = begin; row < end; row += ROWS_ONE) few_tokens(p, row, first, 1, bits, block);
}

UNROLLED void rows(const Product *p, size_t i, const size_t bits, const size_t block) {
  const size_t begin = i * ROWS_A_PRODUCT, end = begin + ROWS_A_PRODUCT < p->n ? begin + ROWS_A_PRODUCT : p->n;
  if (p->tokens < pays(bits, block)) {
    rows_of_few(p, begin, end, bits, block);
    return;
  }
  // as many columns at a time as stay in the processor's first cache
  alignas(64) uint8_t weights[SPREAD * PANEL * PANEL_COLUMNS];
  alignas(64) float scales[PANEL * PANEL_COLUMNS / 32], shifts[PANEL * PANEL_COLUMNS / 32];
  const size_t most = bits == 8 ? MOST_BYTES : MOST, blocks = PANEL_COLUMNS / block;
  Panel panel = {.weights = weights, .scales = scales, .shifts = shifts};
  for (panel.row = begin; panel.row < end; panel.row += PANEL)
    for (panel.begin = 0; panel.begin < p->blocks; panel.begin = panel.end) {
      panel.end = p->blocks - panel.begin < blocks ? p->blocks : panel.begin + blocks;
      fill(&panel, p, bits, block);
      size_t first = 0;
      for (; first + most <= p->tokens; first += most) tokens(&panel, p, first, most, bits, block);
      for (; most > FEW && first + FEW <= p->tokens; first += FEW) tokens(&panel, p, first, FEW, bits, block);
      for (; most > PAIR && first + PAIR <= p->tokens; first += PAIR) tokens(&panel, p, first, PAIR, bits, block);
      for (; first < p->tokens; ++first) tokens(&panel, p, first, 1, bits, block);
    }
}

#else

#ifdef __aarch64__

// total += w · x, four products to a lane. Without the dot product of ARMv8.2, 16 bits hold the sum of two products.
static inline int32x4_t dot(int32x4_t total, int8x16_t w, int8x16_t x) {
#ifdef __ARM_FEATURE_DOTPROD
  return vdotq_s32(total, w, x);
#else
  return vpadalq_s16(total, vmlal_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vget_high_s8(w), vget_high_s8(x)));
#endif
}

// y for one row of weights and ``count`` tokens. Weights are signed here: of 8 bits, 128 is taken from each, and from
// their zero point.
UNROLLED void tile(const Product *p, size_t row, size_t first, const size_t count, const size_t bits,
                   const size_t block) {
  const size_t bytes = block * bits / 8;
  const uint8_t *from = p->weights + row * p->blocks * bytes, *zeros = p->zeros + row * p->zero_bytes;
  const float *steps = p->steps + first * p->stride, *sums = p->sums + first * p->stride;
  float32x4_t y[TOGETHER] = {};
  float shift[TOGETHER] = {};
  for (size_t b = 0; b < p->blocks; ++b, from += bytes) {
    const int zero = bits == 8 ? zeros[b] - 128 : zeros[b / 2] >> b % 2 * 4 & 15;
    const float scale = scale_of(p, row * p->blocks + b);
    int8x16_t w[8];
    for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line + AHEAD, 0, 2);
    for (size_t i = 0; i < bytes / 16; ++i) {
      const uint8x16_t both = vld1q_u8(from + 16 * i);
      if (bits == 8) {
        w[i] = vreinterpretq_s8_u8(veorq_u8(both, vdupq_n_u8(128)));
      } else {
        w[2 * i] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
        w[2 * i + 1] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
      }
    }
    const int8_t *x = p->integers + first * p->k + b * block;
    for (size_t t = 0; t < count; ++t) {
      int32x4_t total = {};
      for (size_t i = 0; i < block / 16; ++i) total = dot(total, w[i], vld1q_s8(x + t * p->k + 16 * i));
      y[t] = vfmaq_n_f32(y[t], vcvtq_f32_s32(total), scale * steps[t * p->stride + b]);
      shift[t] += scale * (float)zero * sums[t * p->stride + b];
    }
  }
  for (size_t t = 0; t < count; ++t) p->y[(first + t) * p->n + row] = vaddvq_f32(y[t]) - shift[t];
}

#else

UNROLLED void tile(const Product *p, size_t row, size_t first, const size_t count, const size_t bits,
                   const size_t block) {
  const uint8_t *weights = p->weights + row * p->blocks * block * bits / 8;
  for (size_t t = first; t < first + count; ++t) {
    float y = 0;
    for (size_t b = 0; b < p->blocks; ++b) {
      const int8_t *x = p->integers + t * p->k + b * block;
      const size_t at = row * p->zero_bytes * 8 / bits + b;
      const int zero = bits == 8 ? p->zeros[at] : p->zeros[at / 2] >> at % 2 * 4 & 15;
      int total = 0;
      for (size_t j = 0; j < block; ++j) {
        const size_t i = b * block + j;
        total += ((bits == 8 ? weights[i] : weights[i / 2] >> i % 2 * 4 & 15) - zero) * x[place(j, bits, block)];
      }
      y += (float)total * scale_of(p, row * p->blocks + b) * p->steps[t * p->stride + b];
    }
    p->y[t * p->n + row] = y;
  }
}

#endif

// Token by token a result is the same whichever other tokens there are: ``tile`` takes its sums in one order.
UNROLLED void rows(const Product *p, size_t i, const size_t bits, const size_t block) {
  const size_t begin = i * ROWS_A_PRODUCT, end = begin + ROWS_A_PRODUCT < p->n ? begin + ROWS_A_PRODUCT : p->n;
  size_t first = 0;
  for (; first + TOGETHER <= p->tokens; first += TOGETHER)
    for (size_t row = begin; row < end; ++row) tile(p, row, first, TOGETHER, bits, block);
  for (; first + FEW <= p->tokens; first += FEW)
    for (size_t row = begin; row < end; ++row) tile(p, row, first, FEW, bits, block);
  for (; first + PAIR <= p->tokens; first += PAIR)
    for (size_t row = begin; row < end; ++row) tile(p, row, first, PAIR, bits, block);
  for (; first < p->tokens; ++first)
    for (size_t row = begin; row < end; ++row) tile(p, row, first, 1, bits, block);
}

#endif

// A call for each kind of weights, so that the counts of the inner loops are constants.
#define EACH_KIND(p, call)                                                                                   \
  do {                                                                                                       \
    if ((p)->bits == 4) {                                                                                    \
      (p)->block == 32 ? call(p, i, 4, 32) : (p)->block == 64 ? call(p, i, 4, 64) : call(p, i, 4, 128);      \
    } else {                                                                                                 \
      (p)->block == 32 ? call(p, i, 8, 32) : (p)->block == 64 ? call(p, i, 8, 64) : call(p, i, 8, 128);      \
    }                                                                                                        \
  } while (0)

static void quantize(void *user, size_t i) { EACH_KIND((const Product *)user, quantize_token); }
static void product(void *user, size_t i) { EACH_KIND((const Product *)user, rows); }

const Products PRODUCTS = {quantize, product};
