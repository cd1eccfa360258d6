// What matmul_loops.c computes with on a processor that has AVX-512 VNNI.

#pragma once

enum {
  VECTORS = 2,           // of a block's weights
  PANEL = 16,            // rows of weights, for many tokens
  PANEL_COLUMNS = 4096,  // of them at a time
  SPREAD = 1,            // they are packed there as they are
  SOON = 3,              // times ROWS_ONE rows: eight rows side by side are not what a processor foresees
  SHARE = 1,             // tokens without a panel that share what is unpacked
  MOST = TOGETHER,       // tokens that share what is read of a panel
  MOST_BYTES = TOGETHER,
};

// For how many tokens a panel pays: their scales are fewer, if blocks are large.
UNROLLED size_t pays(const size_t bits, const size_t block) { return block * bits > 256 ? 3 : 2; }

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
UNROLLED __m256i dot(const uint8_t *const *from, size_t offset, const int8_t *x, const size_t bits,
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

UNROLLED void dots(const uint8_t *const *from, size_t offset, const int8_t *x, size_t k, const size_t count,
                   const size_t bits, const size_t block, __m256i *found) {
  for (size_t t = 0; t < count; ++t) found[t] = dot(from, offset, x + t * k, bits, block);
}

// Rows become columns, of 32 bits.
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

// The scales of PANEL rows, and these times the zero points: a block a vector, a row a lane.
UNROLLED void fill_scales(const Panel *to, const Product *p, const size_t bits) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i nibbles = _mm512_and_si512(_mm512_slli_epi32(lanes, 2), _mm512_set1_epi32(31));
  for (size_t b = to->begin; b < to->end; b += PANEL) {
    const size_t count = to->end - b < PANEL ? to->end - b : PANEL, bytes = (count * bits + 7) / 8;
    const __mmask16 there = (__mmask16)((1u << count) - 1), packed = (__mmask16)((1u << bytes) - 1);
    __m512i scales[PANEL], shifts[PANEL];
    for (size_t r = 0; r < PANEL; ++r) {
      const size_t at = to->row + r < p->n ? to->row + r : p->n - 1;
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
      _mm512_storeu_si512(to->scales + (b - to->begin + i) * PANEL, scales[i]);
      _mm512_storeu_si512(to->shifts + (b - to->begin + i) * PANEL, shifts[i]);
    }
  }
}

UNROLLED void fill(const Panel *to, const Product *p, const size_t bits, const size_t block) {
  const size_t bytes = block * bits / 8, row_bytes = p->blocks * bytes, end = (to->end - to->begin) * bytes;
  fill_scales(to, p, bits);
  const uint8_t *from[PANEL], *later = p->weights + (to->row + PANEL) * row_bytes + to->begin * bytes * PANEL;
  for (size_t part = 0; part < PANEL; part += ROWS_ONE) rows_from(p, to->row + part, row_bytes, from + part);
  for (size_t at = 0; at < end; at += 64) {
    const size_t count = end - at < 64 ? (end - at) / 4 : PANEL;
    const __mmask16 there = (__mmask16)((1u << count) - 1);
    __m512i v[PANEL];
    for (size_t r = 0; r < PANEL; ++r) {
      __builtin_prefetch(later + at * PANEL + 64 * r, 0, 2);
      v[r] = _mm512_maskz_loadu_epi32(there, from[r] + to->begin * bytes + at);
    }
    transpose_sixteen(v);
    for (size_t i = 0; i < count; ++i) _mm512_storeu_si512(to->weights + (at + 4 * i) * PANEL, v[i]);
  }
}

// y for a panel and ``count`` tokens: for each of them what few_tokens does, in its order, so that no bit differs.
UNROLLED void tokens(const Panel *panel, const Product *p, size_t first, const size_t count, const size_t bits,
                     const size_t block) {
  const size_t bytes = block * bits / 8;
  const float *steps = p->steps + first * p->stride, *sums = p->sums + first * p->stride;
  const __m512i low = _mm512_set1_epi8(15);
  const size_t left = p->n - panel->row;
  const __mmask16 rows = left < PANEL ? (__mmask16)((1u << left) - 1) : 0xffff;
  float *to = p->y + first * p->n + panel->row;
  __m512 y[TOGETHER];
  for (size_t t = 0; t < count; ++t)
    y[t] = panel->begin ? _mm512_maskz_loadu_ps(rows, to + t * p->n) : _mm512_setzero_ps();
  for (size_t b = panel->begin; b < panel->end; ++b) {
    const size_t here = b - panel->begin;
    const uint8_t *from = panel->weights + here * bytes * PANEL;
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
    const __m512 scale = _mm512_loadu_ps(panel->scales + here * PANEL);
    const __m512 shift = _mm512_loadu_ps(panel->shifts + here * PANEL);
    for (size_t t = 0; t < count; ++t) {
      y[t] = _mm512_fnmadd_ps(shift, _mm512_set1_ps(sums[t * p->stride + b]), y[t]);
      const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(steps[t * p->stride + b]));
      y[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[t]), factor, y[t]);
    }
  }
  for (size_t t = 0; t < count; ++t) _mm512_mask_storeu_ps(to + t * p->n, rows, y[t]);
}
