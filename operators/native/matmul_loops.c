// The arithmetic of cpu_matmul (cpu.c): int8 activations times weights of 4 or 8 bits. hatch_build.py compiles
// this file once for each kind of processor: PRODUCTS is the name of what it gives.
//
// x is rounded to int8 by blocks, as ONNX Runtime does at accuracy_level 4; a block's product with a row of weights is
// exact, and its scales are float32. Zero points are taken apart: sum((w - zero) * x) = sum(w * x) - zero * sum(x).

#include "cpu.h"

#include <math.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// BYTES of a vector
#ifdef __AVX512VNNI__
enum { BYTES = 64 };
#elif defined(__aarch64__)
enum { BYTES = 16 };
#else
enum { BYTES = 32 };
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

#endif

#ifdef __AVX512VNNI__

#include "matmul_vnni.h"

#else

#ifdef __AVX2__

enum { VECTORS = 8 };

// A block's weights as bytes, in the order of ``place``: 8 bits are two times 4, low and high, since no 16 bits hold
// the sum of two products of 8 by 8.
UNROLLED void unpack(__m256i *w, const uint8_t *from, const size_t bits, const size_t block) {
  const __m256i low = _mm256_set1_epi8(15);
  if (bits == 4 && block == 32) {
    const __m128i both = _mm_loadu_si128((const __m128i *)from);
    w[0] = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), low);
    return;
  }
  for (size_t i = 0; i < block * bits / 256; ++i) {
    const __m256i both = _mm256_loadu_si256((const __m256i *)from + i);
    w[2 * i] = _mm256_and_si256(both, low);
    w[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
  }
}

// The product of a block's weights and activations, in parts; 16 bits hold 8 pairs of products of 15 by 127.
UNROLLED __m256 dot(const __m256i *w, const int8_t *x, const size_t bits, const size_t block) {
  const __m256i *values = (const __m256i *)x;
  const size_t apart = bits / 4;
  __m256i sums[2] = {};
  for (size_t i = 0; i < block / 32; ++i) {
    const __m256i value = _mm256_loadu_si256(values + i);
    for (size_t half = 0; half < apart; ++half) {
      const __m256i pairs = _mm256_maddubs_epi16(w[apart * i + half], value);
      sums[half] = i ? _mm256_add_epi16(sums[half], pairs) : pairs;
    }
  }
  __m256i total = _mm256_madd_epi16(sums[0], _mm256_set1_epi16(1));
  if (bits == 8) total = _mm256_add_epi32(total, _mm256_madd_epi16(sums[1], _mm256_set1_epi16(16)));
  return _mm256_cvtepi32_ps(total);
}

static inline float sum(__m256 lanes) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// y for one row of weights and ``count`` tokens
UNROLLED void tile(const Product *p, size_t row, size_t first, const size_t count, const size_t bits,
                   const size_t block) {
  const size_t bytes = block * bits / 8;
  const float *steps = p->steps + first * p->stride, *sums = p->sums + first * p->stride;
  __m256 y[TOGETHER] = {};
  for (size_t b = 0; b < p->blocks; b += BLOCKS) {
    float factors[TOGETHER][BLOCKS];
    __m256 scale, zero;
    take_scales(p, row, b, bits, &scale, &zero);
    for (size_t t = 0; t < count; ++t) {
      _mm256_storeu_ps(factors[t], _mm256_mul_ps(scale, _mm256_loadu_ps(steps + t * p->stride + b)));
      y[t] -= _mm256_mul_ps(_mm256_mul_ps(scale, zero), _mm256_loadu_ps(sums + t * p->stride + b));
    }
    const size_t end = p->blocks - b < BLOCKS ? p->blocks - b : BLOCKS;
    for (size_t i = 0; i < end; ++i) {
      __m256i w[VECTORS];
      const uint8_t *from = p->weights + (row * p->blocks + b + i) * bytes;
      for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line + AHEAD, 0, 2);
      unpack(w, from, bits, block);
      const int8_t *x = p->integers + first * p->k + (b + i) * block;
      for (size_t t = 0; t < count; ++t) y[t] += dot(w, x + t * p->k, bits, block) * factors[t][i];
    }
  }
  for (size_t t = 0; t < count; ++t) p->y[(first + t) * p->n + row] = sum(y[t]);
}

#elif defined(__aarch64__)

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
