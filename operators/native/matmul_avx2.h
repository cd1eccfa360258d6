// What matmul_loops.c computes with on a processor that has AVX2 and no VNNI. 16 bits hold the sum of 8 pairs of
// products of 15 by 127, so 8 bits are two times 4, low and high.

#pragma once

enum {
  PANEL = 16,            // rows of weights, for many tokens
  PANEL_COLUMNS = 1024,  // of them at a time: with 4 bits half of the processor's first cache
  SPREAD = 2,            // half a byte has a byte of its own there: what is unpacked is not for every few tokens again
  SOON = 1,              // times ROWS_ONE rows
  SHARE = 4,             // tokens without a panel that share what is unpacked
  MOST = 4,              // tokens that share what is read of a panel: their sums are eight vectors
  MOST_BYTES = 2,
};

enum { PARTS = PANEL / ROWS_ONE };

// For how many tokens a panel pays: as measured (docs/log/2026-11-30-prompts.md).
UNROLLED size_t pays(const size_t bits, const size_t block) { return bits == 8 ? 8 : block * 3 / 32; }

// The sums of eight vectors of 16 bits, times ``weight``: lane i is the i-th vector's. ``large``: 16 bits hold two of
// their numbers, and not four.
UNROLLED __m256i add_eight(const __m256i *v, const short weight, const bool large) {
  const __m256i weights = _mm256_set1_epi16(weight);
  __m256i half[2];
  for (size_t i = 0; i < 2; ++i) {
    const __m256i *r = v + 4 * i;
    __m256i ab = _mm256_add_epi16(_mm256_unpacklo_epi64(r[0], r[1]), _mm256_unpackhi_epi64(r[0], r[1]));
    __m256i cd = _mm256_add_epi16(_mm256_unpacklo_epi64(r[2], r[3]), _mm256_unpackhi_epi64(r[2], r[3]));
    if (large) {
      ab = _mm256_madd_epi16(ab, weights);
      cd = _mm256_madd_epi16(cd, weights);
    }
    const __m256 first = _mm256_castsi256_ps(ab), second = _mm256_castsi256_ps(cd);
    const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0x88));
    const __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0xdd));
    half[i] = large ? _mm256_add_epi32(even, odd) : _mm256_madd_epi16(_mm256_add_epi16(even, odd), weights);
  }
  return _mm256_add_epi32(_mm256_permute2x128_si256(half[0], half[1], 0x20),
                          _mm256_permute2x128_si256(half[0], half[1], 0x31));
}

// A block of ROWS_ONE rows of weights times that of each of ``count`` tokens, exactly, a row a lane.
UNROLLED void dots(const uint8_t *const *from, size_t offset, const int8_t *x, size_t k, const size_t count,
                   const size_t bits, const size_t block, __m256i *found) {
  const __m256i mask = _mm256_set1_epi8(15);
  const size_t vectors = block * bits / 256;  // of a row's weights; 0: half of one
  __m256i low[SHARE][ROWS_ONE], high[SHARE][ROWS_ONE];
  for (size_t r = 0; r < ROWS_ONE; ++r) {
    if (!vectors) {
      const __m128i both = _mm_loadu_si128((const __m128i *)(from[r] + offset));
      const __m256i w = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), mask);
      for (size_t t = 0; t < count; ++t)
        low[t][r] = _mm256_maddubs_epi16(w, _mm256_loadu_si256((const __m256i *)(x + t * k)));
    }
    for (size_t i = 0; i < vectors; ++i) {
      const __m256i both = _mm256_loadu_si256((const __m256i *)(from[r] + offset) + i);
      const __m256i w = _mm256_and_si256(both, mask), above = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
      for (size_t t = 0; t < count; ++t) {
        const int8_t *value = x + t * k + 32 * i, *other = bits == 8 ? value : value + block / 2;
        __m256i one = _mm256_maddubs_epi16(w, _mm256_loadu_si256((const __m256i *)value));
        const __m256i two = _mm256_maddubs_epi16(above, _mm256_loadu_si256((const __m256i *)other));
        if (bits == 8) high[t][r] = i ? _mm256_add_epi16(high[t][r], two) : two;
        else one = _mm256_add_epi16(one, two);
        low[t][r] = i ? _mm256_add_epi16(low[t][r], one) : one;
      }
    }
  }
  for (size_t t = 0; t < count; ++t) {
    found[t] = add_eight(low[t], 1, block == 128);
    if (bits == 8) found[t] = _mm256_add_epi32(found[t], add_eight(high[t], 16, block == 128));
  }
}

UNROLLED void fill(const Panel *to, const Product *p, const size_t bits, const size_t block) {
  const size_t bytes = block * bits / 8, row_bytes = p->blocks * bytes, end = (to->end - to->begin) * bytes;
  const __m256i mask = _mm256_set1_epi8(15), lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (size_t part = 0; part < PANEL; part += ROWS_ONE) {
    for (size_t b = to->begin; b < to->end; b += BLOCKS) {
      const size_t count = to->end - b < BLOCKS ? to->end - b : BLOCKS, at = (b - to->begin) * PANEL + part;
      __m256 scales[BLOCKS], shifts[BLOCKS];
      take_columns(p, to->row + part, b, bits, scales, shifts);
      for (size_t i = 0; i < count; ++i) {
        _mm256_store_ps(to->scales + at + i * PANEL, scales[i]);
        _mm256_store_ps(to->shifts + at + i * PANEL, shifts[i]);
      }
    }
    const uint8_t *from[ROWS_ONE];
    const uint8_t *later = p->weights + (to->row + part + PANEL) * row_bytes + to->begin * bytes * ROWS_ONE;
    rows_from(p, to->row + part, row_bytes, from);
    for (size_t at = 0; at < end; at += 32) {
      const size_t count = end - at < 32 ? (end - at) / 4 : 8;
      const __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), lanes);
      __m256 v[ROWS_ONE];
      for (size_t line = 0; line < 32 * ROWS_ONE; line += 64) __builtin_prefetch(later + at * ROWS_ONE + line, 0, 2);
      for (size_t r = 0; r < ROWS_ONE; ++r)
        v[r] = _mm256_maskload_ps((const float *)(from[r] + to->begin * bytes + at), there);
      transpose_eight(v);
      __m256i *next = (__m256i *)(to->weights + 2 * PANEL * at + 4 * part);
      for (size_t i = 0; i < count; ++i, next += PANEL / 4) {
        const __m256i both = _mm256_castps_si256(v[i]);
        _mm256_store_si256(next, _mm256_and_si256(both, mask));
        _mm256_store_si256(next + PANEL / 8, _mm256_and_si256(_mm256_srli_epi16(both, 4), mask));
      }
    }
  }
}

UNROLLED __m256 load_rows(const Product *p, size_t row, size_t token) {
  return _mm256_maskload_ps(p->y + token * p->n + row, rows_there(p, row));
}

// Four activations, again and again.
UNROLLED __m256i four(const int8_t *x) {
  int bytes;
  memcpy(&bytes, x, sizeof bytes);
  return _mm256_set1_epi32(bytes);
}

// y for a panel and ``count`` tokens: for each of them what few_tokens does, in its order, so that no bit differs.
UNROLLED void tokens(const Panel *panel, const Product *p, size_t first, const size_t count, const size_t bits,
                     const size_t block) {
  const size_t bytes = block * bits / 8, full = 4 * bits;  // bytes after which 16 bits are full
  const float *steps = p->steps + first * p->stride, *sums = p->sums + first * p->stride;
  const __m256i ones = _mm256_set1_epi16(1), sixteen = _mm256_set1_epi16(16);
  __m256 y[MOST][PARTS];
  for (size_t t = 0; t < count; ++t)
    for (size_t i = 0; i < PARTS; ++i)
      y[t][i] = panel->begin ? load_rows(p, panel->row + i * ROWS_ONE, first + t) : _mm256_setzero_ps();
  for (size_t b = panel->begin; b < panel->end; ++b) {
    const size_t here = b - panel->begin;
    const int8_t *x = p->integers + first * p->k + b * block;
    __m256i total[MOST][PARTS];
    for (size_t begin = 0; begin < bytes; begin += full) {
      __m256i low[MOST][PARTS], high[MOST][PARTS];
      for (size_t at = begin; at < begin + full; at += 4) {
        const __m256i *w = (const __m256i *)(panel->weights + 2 * PANEL * (here * bytes + at));
        for (size_t t = 0; t < count; ++t) {
          const __m256i value = four(x + t * p->k + at);
          for (size_t i = 0; i < PARTS; ++i) {
            const __m256i pairs = _mm256_maddubs_epi16(w[i], value);
            low[t][i] = at > begin ? _mm256_add_epi16(low[t][i], pairs) : pairs;
          }
        }
        for (size_t t = 0; t < count; ++t) {
          const __m256i value = four(x + t * p->k + at + (bits == 8 ? 0 : block / 2));
          for (size_t i = 0; i < PARTS; ++i) {
            const __m256i pairs = _mm256_maddubs_epi16(w[PARTS + i], value);
            if (bits == 4) low[t][i] = _mm256_add_epi16(low[t][i], pairs);
            else high[t][i] = at > begin ? _mm256_add_epi16(high[t][i], pairs) : pairs;
          }
        }
      }
      for (size_t t = 0; t < count; ++t)
        for (size_t i = 0; i < PARTS; ++i) {
          __m256i found = _mm256_madd_epi16(low[t][i], ones);
          if (bits == 8) found = _mm256_add_epi32(found, _mm256_madd_epi16(high[t][i], sixteen));
          total[t][i] = begin ? _mm256_add_epi32(total[t][i], found) : found;
        }
    }
    for (size_t i = 0; i < PARTS; ++i) {
      const __m256 scale = _mm256_load_ps(panel->scales + here * PANEL + i * ROWS_ONE);
      const __m256 shift = _mm256_load_ps(panel->shifts + here * PANEL + i * ROWS_ONE);
      for (size_t t = 0; t < count; ++t) {
        const float step = steps[t * p->stride + b], sum = sums[t * p->stride + b];
        y[t][i] = add_block(y[t][i], total[t][i], scale, shift, step, sum);
      }
    }
  }
  for (size_t t = 0; t < count; ++t)
    for (size_t i = 0; i < PARTS; ++i) store_rows(p, panel->row + i * ROWS_ONE, first + t, y[t][i]);
}
