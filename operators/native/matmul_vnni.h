// What matmul_loops.c computes with on a processor that has AVX-512 VNNI: rows of weights are the lanes of a vector, for one
// token and for many, so that a block's exact product is scaled once and not part by part.

#pragma once
#include <stdlib.h>

enum {
  VECTORS = 2,   // of a block's weights
  ROWS_ONE = 8,  // of weights, for a token: a row a lane
  PANEL = 16,    // of weights, for many tokens, likewise
  SOON = 3,      // times ROWS_ONE rows: eight rows side by side are not what a processor foresees
};

// A block's weights as bytes, in the order of ``place``; a block of 32 fills half a vector, and zeros the other.
UNROLLED void unpack(__m512i *w, const uint8_t *from, const size_t bits, const size_t block) {
  const __m512i low = _mm512_set1_epi8(15);
  if (bits == 8) {
    w[0] = block == 32 ? _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)from)) : _mm512_loadu_si512(from);
    if (block == 128) w[1] = _mm512_loadu_si512(from + 64);
  } else if (block == 128) {
    const __m512i both = _mm512_loadu_si512(from);
    w[0] = _mm512_and_si512(both, low);
    w[1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
  } else if (block == 64) {
    const __m512i both = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)from));
    w[0] = _mm512_and_si512(_mm512_mask_srli_epi16(both, 0xffff0000, both, 4), low);
  } else {
    const __m128i both = _mm_loadu_si128((const __m128i *)from);
    const __m512i pair = _mm512_zextsi256_si512(_mm256_set_m128i(_mm_srli_epi16(both, 4), both));
    w[0] = _mm512_and_si512(pair, low);
  }
}

// The sums of four vectors, by 128 bits: lane i of each is the i-th vector's.
UNROLLED __m512i add_four(const __m512i *v) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// A block of ROWS_ONE rows of weights times that of a token, exactly, a row a lane.
UNROLLED __m256i dots(const uint8_t *const *from, size_t offset, const int8_t *x, const size_t bits,
                      const size_t block) {
  const __m512i none = _mm512_setzero_si512();
  __m512i total[ROWS_ONE], q, r;
  if (block == 32) {  // two rows a vector
    const __m512i value = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)x));
    for (size_t i = 0; i < ROWS_ONE / 2; ++i) {
      const uint8_t *even = from[2 * i] + offset, *odd = from[2 * i + 1] + offset;
      __m512i w;
      if (bits == 8) {
        const __m512i first = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)even));
        w = _mm512_inserti64x4(first, _mm256_loadu_si256((const __m256i *)odd), 1);
      } else {
        const __m256i first = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)even));
        const __m256i two = _mm256_inserti128_si256(first, _mm_loadu_si128((const __m128i *)odd), 1);
        const __m512i both = _mm512_shuffle_i32x4(_mm512_castsi256_si512(two), _mm512_castsi256_si512(two), 0x50);
        w = _mm512_and_si512(_mm512_mask_srli_epi16(both, 0xff00ff00, both, 4), _mm512_set1_epi8(15));
      }
      total[i] = _mm512_dpbusd_epi32(none, w, value);
    }
    q = add_four(total);
    const __m256i even = _mm512_castsi512_si256(q), odd = _mm512_extracti64x4_epi64(q, 1);
    const __m256i sums =
        _mm256_add_epi32(_mm256_permute2x128_si256(even, odd, 0x20), _mm256_permute2x128_si256(even, odd, 0x31));
    return _mm256_permutevar8x32_epi32(sums, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  for (size_t i = 0; i < ROWS_ONE; ++i) {
    __m512i w[VECTORS];
    unpack(w, from[i] + offset, bits, block);
    total[i] = _mm512_dpbusd_epi32(none, w[0], _mm512_loadu_si512(x));
    if (block == 128) total[i] = _mm512_dpbusd_epi32(total[i], w[1], _mm512_loadu_si512(x + 64));
  }
  q = add_four(total);
  r = add_four(total + 4);
  const __m512i sums =
      _mm512_add_epi32(_mm512_shuffle_i64x2(q, r, 0x44), _mm512_shuffle_i64x2(q, r, 0xee));
  const __m256i first = _mm512_castsi512_si256(sums), second = _mm512_extracti64x4_epi64(sums, 1);
  return _mm256_add_epi32(_mm256_permute2x128_si256(first, second, 0x20),
                          _mm256_permute2x128_si256(first, second, 0x31));
}

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

// Likewise, of 32 bits.
UNROLLED void transpose_sixteen(__m512i *v) {
  __m512i a[16], b[16];
  for (size_t i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (size_t i = 0; i < 16; i += 4)
    for (size_t j = 0; j < 2; ++j) {
      b[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + j + 2]);
      b[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + j + 2]);
    }
  for (size_t j = 0; j < 4; ++j) {
    const __m512i first = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x44), third = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xee);
    const __m512i second = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x44);
    const __m512i fourth = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xee);
    v[j] = _mm512_shuffle_i32x4(first, second, 0x88);
    v[4 + j] = _mm512_shuffle_i32x4(first, second, 0xdd);
    v[8 + j] = _mm512_shuffle_i32x4(third, fourth, 0x88);
    v[12 + j] = _mm512_shuffle_i32x4(third, fourth, 0xdd);
  }
}

// The scales of ROWS_ONE rows in blocks b to b + BLOCKS, and these times the zero points: a block a vector, a row a lane.
UNROLLED void take_columns(const Product *p, size_t row, size_t b, const size_t bits, __m256 *scales, __m256 *shifts) {
  for (size_t r = 0; r < ROWS_ONE; ++r) {
    take_scales(p, row + r < p->n ? row + r : p->n - 1, b, bits, scales + r, shifts + r);
    shifts[r] = _mm256_mul_ps(scales[r], shifts[r]);
  }
  transpose_eight(scales);
  transpose_eight(shifts);
}

// y for ROWS_ONE rows of weights, as far as there are, and one token
UNROLLED void one_token(const Product *p, size_t row, size_t token, const size_t bits, const size_t block) {
  const size_t bytes = block * bits / 8, row_bytes = p->blocks * bytes;
  const float *steps = p->steps + token * p->stride, *sums = p->sums + token * p->stride;
  const int8_t *x = p->integers + token * p->k;
  const uint8_t *from[ROWS_ONE];
  for (size_t r = 0; r < ROWS_ONE; ++r) from[r] = p->weights + (row + r < p->n ? row + r : p->n - 1) * row_bytes;
  const uint8_t *later = p->weights + (row + SOON * ROWS_ONE) * row_bytes;
  __m256 y = _mm256_setzero_ps();
  for (size_t b = 0; b < p->blocks; b += BLOCKS) {
    __m256 scales[BLOCKS], shifts[BLOCKS];
    take_columns(p, row, b, bits, scales, shifts);
    const size_t end = p->blocks - b < BLOCKS ? p->blocks - b : BLOCKS;
    for (size_t i = 0; i < end; ++i) {
      const size_t at = (b + i) * bytes;
      for (size_t line = 0; line < ROWS_ONE * bytes; line += 64)
        __builtin_prefetch(later + at * ROWS_ONE + line, 0, 2);
      const __m256 whole = _mm256_cvtepi32_ps(dots(from, at, x + (b + i) * block, bits, block));
      y = _mm256_fnmadd_ps(shifts[i], _mm256_set1_ps(sums[b + i]), y);
      y = _mm256_fmadd_ps(whole, _mm256_mul_ps(scales[i], _mm256_set1_ps(steps[b + i])), y);
    }
  }
  const size_t count = p->n - row < ROWS_ONE ? p->n - row : ROWS_ONE;
  _mm256_mask_storeu_ps(p->y + token * p->n + row, (__mmask8)((1u << count) - 1), y);
}

// PANEL rows of weights, packed as they are: four bytes of each row a vector. ``weights`` [row_bytes / 4, PANEL, 4],
// ``scales`` and ``shifts`` [blocks, PANEL].
typedef struct Panel {
  uint8_t *weights;
  float *scales, *shifts;
} Panel;

// The scales of PANEL rows, and these times the zero points: a block a vector, a row a lane.
UNROLLED void fill_scales(const Panel *to, const Product *p, size_t row, const size_t bits) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i nibbles = _mm512_and_si512(_mm512_slli_epi32(lanes, 2), _mm512_set1_epi32(31));
  for (size_t b = 0; b < p->blocks; b += PANEL) {
    const size_t count = p->blocks - b < PANEL ? p->blocks - b : PANEL, bytes = (count * bits + 7) / 8;
    const __mmask16 there = (__mmask16)((1u << count) - 1), packed = (__mmask16)((1u << bytes) - 1);
    __m512i scales[PANEL], shifts[PANEL];
    for (size_t r = 0; r < PANEL; ++r) {
      const size_t at = row + r < p->n ? row + r : p->n - 1;
      const __m128i zeros = _mm_maskz_loadu_epi8(packed, p->zeros + at * p->zero_bytes + b * bits / 8);
      __m512i whole;
      if (bits == 8) {
        whole = _mm512_cvtepu8_epi32(zeros);
      } else {  // eight of them in 32 bits
        whole = _mm512_permutexvar_epi32(_mm512_srli_epi32(lanes, 3), _mm512_castsi128_si512(zeros));
        whole = _mm512_and_si512(_mm512_srlv_epi32(whole, nibbles), _mm512_set1_epi32(15));
      }
      const size_t first = at * p->blocks + b;
      const __m512 scale =
          p->half ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(there, (const _Float16 *)p->scales + first))
                  : _mm512_maskz_loadu_ps(there, (const float *)p->scales + first);
      scales[r] = _mm512_castps_si512(scale);
      shifts[r] = _mm512_castps_si512(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(whole)));
    }
    transpose_sixteen(scales);
    transpose_sixteen(shifts);
    for (size_t i = 0; i < count; ++i) {
      _mm512_storeu_si512(to->scales + (b + i) * PANEL, scales[i]);
      _mm512_storeu_si512(to->shifts + (b + i) * PANEL, shifts[i]);
    }
  }
}

UNROLLED void fill(const Panel *to, const Product *p, size_t row, const size_t bits, const size_t block) {
  const size_t row_bytes = p->blocks * block * bits / 8;
  fill_scales(to, p, row, bits);
  const uint8_t *from[PANEL];
  for (size_t r = 0; r < PANEL; ++r) from[r] = p->weights + (row + r < p->n ? row + r : p->n - 1) * row_bytes;
  const uint8_t *later = p->weights + (row + PANEL) * row_bytes;
  for (size_t at = 0; at < row_bytes; at += 64) {
    const size_t left = row_bytes - at, count = left < 64 ? left / 4 : PANEL;
    const __mmask16 there = (__mmask16)((1u << count) - 1);
    __m512i v[PANEL];
    for (size_t r = 0; r < PANEL; ++r) {
      __builtin_prefetch(later + at * PANEL + 64 * r, 0, 2);
      v[r] = _mm512_maskz_loadu_epi32(there, from[r] + at);
    }
    transpose_sixteen(v);
    for (size_t i = 0; i < count; ++i) _mm512_storeu_si512(to->weights + (at + 4 * i) * PANEL, v[i]);
  }
}

// y for a panel and ``count`` tokens: for each of them what one_token does, in its order, so that no bit differs.
UNROLLED void tokens(const Panel *panel, const Product *p, size_t row, size_t first, const size_t count,
                     const size_t bits, const size_t block) {
  const size_t bytes = block * bits / 8;
  const float *steps = p->steps + first * p->stride, *sums = p->sums + first * p->stride;
  const __m512i low = _mm512_set1_epi8(15);
  __m512 y[TOGETHER];
  for (size_t t = 0; t < count; ++t) y[t] = _mm512_setzero_ps();
  for (size_t b = 0; b < p->blocks; ++b) {
    const uint8_t *from = panel->weights + b * bytes * PANEL;
    const int8_t *x = p->integers + first * p->k + b * block;
    __m512i total[TOGETHER];
    for (size_t t = 0; t < count; ++t) total[t] = _mm512_setzero_si512();
    for (size_t q = 0; q < bytes / 4; ++q) {
      const __m512i both = _mm512_loadu_si512(from + 64 * q);
      const __m512i w = bits == 8 ? both : _mm512_and_si512(both, low);
      for (size_t t = 0; t < count; ++t) {
        int four;
        memcpy(&four, x + t * p->k + 4 * q, sizeof four);
        total[t] = _mm512_dpbusd_epi32(total[t], w, _mm512_set1_epi32(four));
      }
      if (bits == 8) continue;
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      for (size_t t = 0; t < count; ++t) {
        int four;
        memcpy(&four, x + t * p->k + block / 2 + 4 * q, sizeof four);
        total[t] = _mm512_dpbusd_epi32(total[t], high, _mm512_set1_epi32(four));
      }
    }
    const __m512 scale = _mm512_loadu_ps(panel->scales + b * PANEL), shift = _mm512_loadu_ps(panel->shifts + b * PANEL);
    for (size_t t = 0; t < count; ++t) {
      y[t] = _mm512_fnmadd_ps(shift, _mm512_set1_ps(sums[t * p->stride + b]), y[t]);
      const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(steps[t * p->stride + b]));
      y[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[t]), factor, y[t]);
    }
  }
  const __mmask16 rows = p->n - row < PANEL ? (__mmask16)((1u << (p->n - row)) - 1) : 0xffff;
  for (size_t t = 0; t < count; ++t) _mm512_mask_storeu_ps(p->y + (first + t) * p->n + row, rows, y[t]);
}

// Token by token a result is the same whichever other tokens there are. Many share what is unpacked of the weights; where
// there is no memory for that, each unpacks its own.
UNROLLED void rows(const Product *p, size_t i, const size_t bits, const size_t block) {
  const size_t begin = i * ROWS_A_PRODUCT, end = begin + ROWS_A_PRODUCT < p->n ? begin + ROWS_A_PRODUCT : p->n;
  const size_t columns = PANEL * p->blocks, bytes = block * bits / 8;
  const size_t few = block * bits > 256 ? 3 : 2;  // for which a panel pays: their scales are fewer, if blocks are large
  uint8_t *scratch = p->tokens < few ? NULL : aligned_alloc(64, columns * (bytes + 2 * sizeof(float)));
  if (!scratch) {
    for (size_t token = 0; token < p->tokens; ++token)
      for (size_t row = begin; row < end; row += ROWS_ONE) one_token(p, row, token, bits, block);
    return;
  }
  float *scales = (float *)(scratch + columns * bytes);
  const Panel panel = {scratch, scales, scales + columns};
  for (size_t row = begin; row < end; row += PANEL) {
    fill(&panel, p, row, bits, block);
    size_t first = 0;
    for (; first + TOGETHER <= p->tokens; first += TOGETHER) tokens(&panel, p, row, first, TOGETHER, bits, block);
    for (; first + FEW <= p->tokens; first += FEW) tokens(&panel, p, row, first, FEW, bits, block);
    for (; first + PAIR <= p->tokens; first += PAIR) tokens(&panel, p, row, first, PAIR, bits, block);
    for (; first < p->tokens; ++first) tokens(&panel, p, row, first, 1, bits, block);
  }
  free(scratch);
}
