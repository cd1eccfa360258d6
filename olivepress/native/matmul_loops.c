// The arithmetic of cpu_matmul (cpu.c): int8 activations times weights of 4 or 8 bits. build_lora_operator.py compiles
// this file for three kinds of processor: PRODUCTS is the name of what each gives.
//
// x is rounded to int8 by blocks, as ONNX Runtime does at accuracy_level 4; a block's product with a row of weights is
// exact, and its scales are float32. Zero points come last: sum((w - zero) * x) = sum(w * x) - zero * sum(x).

#include "cpu.h"

#include <math.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define UNROLLED __attribute__((always_inline)) static inline

enum {
  TOGETHER = 8,  // tokens that share what is read and unpacked of the weights
  AHEAD = 1024,  // bytes: a row is too short for the processor to foresee what is read next
};

// Where element j of a block is kept: with 4 bits, even and odd ones apart for every 32 bytes of weights, for a byte
// holds one of each.
static inline size_t place(size_t j, size_t bits, size_t block) {
  const size_t unit = block < 64 ? block : 64;
  return bits == 8 ? j : j / unit * unit + j % 2 * (unit / 2) + j % unit / 2;
}

UNROLLED void quantize_token(const Product *p, size_t token, const size_t bits, const size_t block) {
  const float *x = p->x + token * p->k;
  int8_t *to = p->integers + token * p->k;
  for (size_t b = 0; b < p->blocks; ++b, x += block, to += block) {
    float most = 0;
    for (size_t j = 0; j < block; ++j) most = fabsf(x[j]) > most ? fabsf(x[j]) : most;
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
}

#ifdef __AVX2__

// A block's weights as bytes, in the order of ``place``: with AVX2 8 bits are two times 4, low and high, since no 16 bits
// hold the sum of two products of 8 by 8.
UNROLLED void unpack(__m256i *w, const uint8_t *from, const size_t bits, const size_t block) {
  const __m256i low = _mm256_set1_epi8(15);
  if (bits == 4 && block == 32) {
    const __m128i both = _mm_loadu_si128((const __m128i *)from);
    w[0] = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), low);
    return;
  }
  for (size_t i = 0; i < block * bits / 256; ++i) {
    const __m256i both = _mm256_loadu_si256((const __m256i *)from + i);
#ifdef __AVX512VNNI__
    if (bits == 8) {
      w[i] = both;
      continue;
    }
#endif
    w[2 * i] = _mm256_and_si256(both, low);
    w[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
  }
}

// The product of a block's weights and activations, in eight parts.
UNROLLED __m256i dot(const __m256i *w, const int8_t *x, const size_t bits, const size_t block) {
  const __m256i *values = (const __m256i *)x;
#ifdef __AVX512VNNI__
  __m256i total = _mm256_setzero_si256();
  for (size_t i = 0; i < block / 32; ++i) total = _mm256_dpbusd_epi32(total, w[i], _mm256_loadu_si256(values + i));
  return total;
#else
  // 16 bits hold 8 pairs of products of 15 by 127
  const size_t apart = bits / 4;
  __m256i sums[2] = {};
  for (size_t i = 0; i < block / 32; ++i) {
    const __m256i value = _mm256_loadu_si256(values + i);
    for (size_t half = 0; half < apart; ++half) {
      const __m256i pairs = _mm256_maddubs_epi16(w[apart * i + half], value);
      sums[half] = i ? _mm256_add_epi16(sums[half], pairs) : pairs;
    }
  }
  const __m256i total = _mm256_madd_epi16(sums[0], _mm256_set1_epi16(1));
  return bits == 4 ? total : _mm256_add_epi32(total, _mm256_madd_epi16(sums[1], _mm256_set1_epi16(16)));
#endif
}

static inline float sum(__m256 lanes) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// Scale times zero point of the row's blocks b to b + 8.
UNROLLED __m256 zeros(const Product *p, size_t row, size_t b, const size_t bits) {
  const float *scales = p->scales + row * p->blocks + b;
  const uint8_t *from = p->zeros + row * p->zero_bytes + b * bits / 8;
  float zero[8] = {}, scale[8] = {};
  if (b + 8 <= p->blocks) {
    __m256i whole;
    if (bits == 8) {
      whole = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
    } else {
      int nibbles;
      memcpy(&nibbles, from, sizeof nibbles);
      whole = _mm256_srlv_epi32(_mm256_set1_epi32(nibbles), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
      whole = _mm256_and_si256(whole, _mm256_set1_epi32(15));
    }
    return _mm256_mul_ps(_mm256_cvtepi32_ps(whole), _mm256_loadu_ps(scales));
  }
  for (size_t i = 0; i < p->blocks - b; ++i) {
    zero[i] = bits == 8 ? from[i] : from[i / 2] >> i % 2 * 4 & 15;
    scale[i] = scales[i];
  }
  return _mm256_mul_ps(_mm256_loadu_ps(zero), _mm256_loadu_ps(scale));
}

// y for one row of weights and ``count`` tokens
UNROLLED void tile(const Product *p, size_t row, size_t first, const size_t count, const size_t bits,
                   const size_t block) {
  const size_t bytes = block * bits / 8;
  const uint8_t *weights = p->weights + row * p->blocks * bytes;
  const float *scales = p->scales + row * p->blocks, *steps = p->steps + first * p->stride;
  const int8_t *x = p->integers + first * p->k;
  __m256 y[TOGETHER] = {};
  for (size_t b = 0; b < p->blocks; ++b) {
    __m256i w[8];
    for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(weights + b * bytes + line + AHEAD);
    unpack(w, weights + b * bytes, bits, block);
    const __m256 scale = _mm256_broadcast_ss(scales + b);
    for (size_t t = 0; t < count; ++t) {
      const __m256 product = _mm256_cvtepi32_ps(dot(w, x + t * p->k + b * block, bits, block));
      y[t] = _mm256_fmadd_ps(product, _mm256_mul_ps(scale, _mm256_broadcast_ss(steps + t * p->stride + b)), y[t]);
    }
  }
  for (size_t b = 0; b < p->blocks; b += 8) {
    const __m256 zero = zeros(p, row, b, bits);
    for (size_t t = 0; t < count; ++t)
      y[t] = _mm256_fnmadd_ps(zero, _mm256_loadu_ps(p->sums + (first + t) * p->stride + b), y[t]);
  }
  for (size_t t = 0; t < count; ++t) p->y[(first + t) * p->n + row] = sum(y[t]);
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
      y += (float)total * p->scales[row * p->blocks + b] * p->steps[t * p->stride + b];
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
  for (; first < p->tokens; ++first)
    for (size_t row = begin; row < end; ++row) tile(p, row, first, 1, bits, block);
}

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
