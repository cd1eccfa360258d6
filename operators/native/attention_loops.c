// The arithmetic of cpu_attention (attention.c): scores of a token's heads with the keys, softmax, weighted values.
// hatch_build.py compiles this file once for each kind of processor: ATTENTION is the name of what it gives.
//
// A token's result is the same bits whichever tokens are computed beside it and whichever threads there are. It is the
// sum of shares, one of each piece of the keys, in their order; and each sum within a share has one order, too, whether
// heads of one token share what is read of the cache (``share``) or the rows of a tile do (``tile``): a score has one sum
// a lane, over every LANES-th element, and the lanes' sums are added by a tree, ((0 + 2) + (1 + 3)) of each four;
// weights and weighted values are added key after key.

#include "attention.h"

#include <math.h>
#include <stdlib.h>

#include "lanes.h"

enum {
  QUERIES = 4,  // of a tile at a time
#ifdef __AVX512F__
  HEADS = 4,    // of a token that share what is read
  VECTORS = 4,  // of their values at a time
#else
  HEADS = 3,
  VECTORS = 2,
#endif
};

typedef struct Range {
  size_t from, to;
} Range;

// The keys that a token of a row sees; of padding those that the row has.
static inline Range visible(const Attention *a, size_t row, size_t token) {
  const size_t length = (size_t)a->lengths[row] + 1, next = past_of(a, row) + token + 1;
  const size_t to = next < length ? next : length;
  return (Range){a->window && to > a->window ? to - a->window : 0, to};
}

// What of ``keys`` lies in the piece that begins at ``begin``, counted from there; from == to if nothing does.
static inline Range within(Range keys, size_t begin) {
  const size_t to = keys.to > begin ? keys.to - begin : 0, from = keys.from > begin ? keys.from - begin : 0;
  const size_t last = to < PIECE ? to : PIECE;
  return (Range){from < last ? from : last, last};
}

static inline void store_half(_Float16 *to, Lanes lanes) {
  const HalfLanes half = __builtin_convertvector(lanes, HalfLanes);
  memcpy(to, &half, sizeof half);
}

// ---- before: the cache, and what is rotated --------------------------------------------------------------

// The past of a row and a head into the present, and zeros behind what there will be.
static void copy(void *user, size_t i) {
  const Attention *a = user;
  const size_t row = i / a->kv_heads, past = past_of(a, row), next = past + a->tokens;
  const size_t from = i * a->past_capacity * a->size, to = i * a->capacity * a->size;
  const size_t rest = (a->capacity - next) * a->size * sizeof(_Float16);
  if (a->past_keys) {
    memcpy(a->keys + to, a->past_keys + from, past * a->size * sizeof(_Float16));
    memset(a->keys + to + next * a->size, 0, rest);
  }
  if (a->past_values) {
    memcpy(a->values + to, a->past_values + from, past * a->size * sizeof(_Float16));
    memset(a->values + to + next * a->size, 0, rest);
  }
}

static inline void rotate(const Attention *a, float *to, const float *from, size_t position, float scale) {
  const size_t half = a->rotated / 2;
  const float *cos = a->cos + position * half, *sin = a->sin + position * half;
  for (size_t j = 0; j < half; ++j) {
    const float x = from[j], y = from[half + j];
    to[j] = (x * cos[j] - y * sin[j]) * scale;
    to[half + j] = (y * cos[j] + x * sin[j]) * scale;
  }
  for (size_t j = a->rotated; j < a->size; ++j) to[j] = from[j] * scale;
}

static void place(void *user, size_t i) {
  const Attention *a = user;
  const size_t tasks = place_tasks(a), row = i / tasks, begin = i % tasks * PLACED_A_TASK, past = past_of(a, row);
  const size_t end = begin + PLACED_A_TASK < a->tokens ? begin + PLACED_A_TASK : a->tokens;
  for (size_t token = begin; token < end; ++token) {
    const size_t at = row * a->tokens + token;
    for (size_t head = 0; head < a->kv_heads; ++head) {
      const size_t cache = row * a->kv_heads + head, to = (cache * a->capacity + past + token) * a->size;
      for (size_t j = 0; j < a->group; ++j)
        rotate(a, a->queries + ((cache * a->tokens + token) * a->group + j) * a->size,
               a->q + at * a->q_stride + (head * a->group + j) * a->size, past + token, a->scale);
      float key[LARGEST_HEAD];
      rotate(a, key, a->k + at * a->k_stride + head * a->size, past + token, 1);
      const float *value = a->v + at * a->v_stride + head * a->size;
      for (size_t j = 0; j < a->size; j += LANES) {
        store_half(a->keys + to + j, load(key + j));
        store_half(a->values + to + j, load(value + j));
      }
    }
  }
}

// ---- what both ways have -----------------------------------------------------------------------------------

// All ones in the lanes of the keys ``at`` + lane that are in ``keys``.
static inline IntLanes inside(Range keys, size_t at) {
  static const int numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  IntLanes number;
  memcpy(&number, numbers, sizeof number);
  number += (int)at;
  return (number >= (int)keys.from) & (number < (int)keys.to);
}

static inline float largest(Lanes lanes) {
  float most = lanes[0];
  for (int i = 1; i < LANES; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

// What each key weighs in the place of its score, 0 outside of ``keys``, from the vector ``from`` is in up to ``to``.
// sums: the largest score, and the weights' sum. A score that is no finite number makes that NaN.
static inline void soften(float *scores, size_t from, size_t to, Range keys, float sums[2]) {
  const IntLanes lowest = (IntLanes)((Lanes){} - INFINITY);
  Lanes top = (Lanes)lowest, total = {};
  for (size_t at = from / LANES * LANES; at < to; at += LANES) {
    const IntLanes in = inside(keys, at);
    top = __builtin_elementwise_max(top, (Lanes)(((IntLanes)load(scores + at) & in) | (lowest & ~in)));
  }
  const float most = largest(top);
  for (size_t at = from / LANES * LANES; at < to; at += LANES) {
    const Lanes score = load(scores + at), weight = exponential(score - most) + score * 0.0f;
    const Lanes kept = (Lanes)((IntLanes)weight & inside(keys, at));
    total += kept;
    store(scores + at, kept);
  }
  sums[0] = most;
  sums[1] = sum(total);
}

UNROLLED void weigh_part(float *to, const float *weights, const void *values, Range keys, size_t size,
                         const size_t count, const size_t vectors, const bool half) {
  Lanes sums[QUERIES][VECTORS] = {};
  for (size_t key = keys.from; key < keys.to; ++key) {
    for (size_t v = 0; v < vectors; ++v) {
      const size_t at = key * size + v * LANES;
      const Lanes value = half ? load_half((const _Float16 *)values + at) : load((const float *)values + at);
      for (size_t c = 0; c < count; ++c) sums[c][v] += value * weights[c * PIECE + key];
    }
  }
  for (size_t c = 0; c < count; ++c)
    for (size_t v = 0; v < vectors; ++v) store(to + c * size + v * LANES, sums[c][v]);
}

// to [count, size] = weights [count, PIECE] · values, over ``keys`` of a piece's
UNROLLED void weigh(float *to, const float *weights, const void *values, Range keys, size_t size, const size_t count,
                    const bool half) {
  const size_t bytes = half ? sizeof(_Float16) : sizeof(float);
  size_t j = 0;
  for (; j + VECTORS * LANES <= size; j += VECTORS * LANES)
    weigh_part(to + j, weights, (const char *)values + j * bytes, keys, size, count, VECTORS, half);
  for (; j < size; j += LANES)
    weigh_part(to + j, weights, (const char *)values + j * bytes, keys, size, count, 1, half);
}

// A token's result so far takes in the share of the next piece.
static inline void take_in(float *result, float sums[2], const float *share, const float *share_sums, size_t size) {
  const float most = fmaxf(sums[0], share_sums[0]);
  const Lanes before = exponential((Lanes){} + (sums[0] - most)), now = exponential((Lanes){} + (share_sums[0] - most));
  for (size_t j = 0; j < size; j += LANES) store(result + j, load(result + j) * before + load(share + j) * now);
  sums[0] = most;
  sums[1] = sums[1] * before[0] + share_sums[1] * now[0];
}

static inline void finish(float *y, const float *result, float total, size_t size) {
  const float factor = total == 0 ? 0 : 1 / total;
  for (size_t j = 0; j < size; j += LANES) store(y + j, load(result + j) * factor);
}

// ---- token by token ----------------------------------------------------------------------------------------

#define LOW(i, n) i, i + 1, i + n, i + n + 1  // the first two of the four from i on, of two vectors of n
#define HIGH(i, n) i + 2, i + 3, i + n + 2, i + n + 3
#define EVEN(i, n) i, i + n, i + 1, i + n + 1
#define ODD(i, n) i + 2, i + n + 2, i + 3, i + n + 3
#define FOUR(i) i, i + 1, i + 2, i + 3

// Of four vectors, by fours of their lanes, (0 + 2) + (1 + 3): lane i of each four is the i-th vector's.
static inline Lanes add_four(const Lanes *v) {
#ifdef __AVX512F__
#define ADDED(a, b, low, high)                                                                           \
  (__builtin_shufflevector(a, b, low(0, 16), low(4, 16), low(8, 16), low(12, 16)) +                       \
   __builtin_shufflevector(a, b, high(0, 16), high(4, 16), high(8, 16), high(12, 16)))
#else
#define ADDED(a, b, low, high)                                 \
  (__builtin_shufflevector(a, b, low(0, 8), low(4, 8)) +       \
   __builtin_shufflevector(a, b, high(0, 8), high(4, 8)))
#endif
  const Lanes first = ADDED(v[0], v[1], EVEN, ODD), second = ADDED(v[2], v[3], EVEN, ODD);
  return ADDED(first, second, LOW, HIGH);
}

// Of LANES / 4 vectors, the sums of their fours: (0 + 2) + (1 + 3), or 0 + 1.
static inline Lanes add_fours(const Lanes *v) {
#ifdef __AVX512F__
#define HALVES(a, b)                                                                     \
  (__builtin_shufflevector(a, b, FOUR(0), FOUR(4), FOUR(16), FOUR(20)) +                 \
   __builtin_shufflevector(a, b, FOUR(8), FOUR(12), FOUR(24), FOUR(28)))
  const Lanes first = HALVES(v[0], v[1]), second = HALVES(v[2], v[3]);
  return __builtin_shufflevector(first, second, FOUR(0), FOUR(8), FOUR(16), FOUR(24)) +
         __builtin_shufflevector(first, second, FOUR(4), FOUR(12), FOUR(20), FOUR(28));
#else
  return __builtin_shufflevector(v[0], v[1], FOUR(0), FOUR(8)) + __builtin_shufflevector(v[0], v[1], FOUR(4), FOUR(12));
#endif
}

// Scores of ``count`` heads with LANES keys, of which ``there`` are there: a key a lane.
UNROLLED void score(Lanes *out, const float *q, const _Float16 *keys, size_t there, size_t size, const size_t count) {
  Lanes fours[HEADS][LANES / 4];
  for (size_t part = 0; part < LANES / 4; ++part) {
    const _Float16 *key[4];
    for (size_t i = 0; i < 4; ++i) key[i] = keys + (4 * part + i < there ? 4 * part + i : there - 1) * size;
    Lanes sums[HEADS][4] = {};
    for (size_t j = 0; j < size; j += LANES) {
      for (size_t i = 0; i < 4; ++i) {
        const Lanes k = load_half(key[i] + j);
        for (size_t c = 0; c < count; ++c) sums[c][i] += k * load(q + c * size + j);
      }
    }
    for (size_t c = 0; c < count; ++c) fours[c][part] = add_four(sums[c]);
  }
  for (size_t c = 0; c < count; ++c) out[c] = add_fours(fours[c]);
}

// The share of a piece in the results of ``count`` heads from ``head`` on of a token; ``n``: its number, and its head's.
UNROLLED void share_heads(const Attention *a, size_t n, size_t head, size_t piece, Range keys, const size_t count) {
  const size_t at = (n / a->tokens * a->capacity + piece * PIECE) * a->size;
  const size_t to = (n * a->pieces + piece) * a->group + head;
  const float *q = a->queries + (n * a->group + head) * a->size;
  float scores[HEADS][PIECE];
  for (size_t key = keys.from / LANES * LANES; key < keys.to; key += LANES) {
    Lanes out[HEADS];
    score(out, q, a->keys + at + key * a->size, keys.to - key, a->size, count);
    for (size_t c = 0; c < count; ++c) store(scores[c] + key, out[c]);
  }
  for (size_t c = 0; c < count; ++c) soften(scores[c], keys.from, keys.to, keys, a->sums + 2 * (to + c));
  weigh(a->shares + to * a->size, scores[0], a->values + at, keys, a->size, count, true);
}

static void share(void *user, size_t i) {
  const Attention *a = user;
  const size_t tasks = share_tasks(a), n = i / tasks, token = n % a->tokens, row = n / a->tokens / a->kv_heads;
  const size_t begin = i % tasks * PIECES_A_TASK, end = begin + PIECES_A_TASK;
  const size_t parts = (a->group + HEADS - 1) / HEADS, most = (a->group + parts - 1) / parts;
  const Range all = visible(a, row, token);
  for (size_t piece = begin; piece < end; ++piece) {
    const Range keys = within(all, piece * PIECE);
    if (keys.from == keys.to) continue;
    for (size_t head = 0; head < a->group; head += most) {
      const size_t count = a->group - head < most ? a->group - head : most;
      if (count == 1) share_heads(a, n, head, piece, keys, 1);
      if (count == 2) share_heads(a, n, head, piece, keys, 2);
      if (count == 3) share_heads(a, n, head, piece, keys, 3);
#ifdef __AVX512F__
      if (count == 4) share_heads(a, n, head, piece, keys, 4);
#endif
    }
  }
}

static void join(void *user, size_t n) {
  const Attention *a = user;
  const size_t token = n % a->tokens, cache = n / a->tokens, row = cache / a->kv_heads, head = cache % a->kv_heads;
  const Range all = visible(a, row, token);
  for (size_t j = 0; j < a->group; ++j) {
    float result[LARGEST_HEAD] = {}, sums[2] = {-INFINITY};
    for (size_t piece = all.from / PIECE; piece * PIECE < all.to; ++piece) {
      const size_t at = (n * a->pieces + piece) * a->group + j;
      take_in(result, sums, a->shares + at * a->size, a->sums + 2 * at, a->size);
    }
    finish(a->y + (((row * a->tokens + token) * a->kv_heads + head) * a->group + j) * a->size, result, sums[1], a->size);
  }
}

// ---- tiles -------------------------------------------------------------------------------------------------

// Rows become columns: four times (three, of eight lanes) the vectors of the two halves are interleaved.
static inline void transpose(Lanes *rows) {
  Lanes next[LANES];
  for (int step = 1; step < LANES; step *= 2) {
    for (int i = 0; i < LANES / 2; ++i) {
      const Lanes a = rows[i], b = rows[i + LANES / 2];
#ifdef __AVX512F__
      next[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      next[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
      next[2 * i] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
      next[2 * i + 1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#endif
    }
    memcpy(rows, next, sizeof next);
  }
}

// ``count`` keys and values in float32, keys by LANES of them: to_keys [.., size, LANES], to_values [count, size].
static void widen(float *to_keys, float *to_values, const _Float16 *keys, const _Float16 *values, size_t count,
                  size_t size) {
  for (size_t key = 0; key < count; key += LANES) {
    for (size_t j = 0; j < size; j += LANES) {
      Lanes rows[LANES];
      for (size_t i = 0; i < LANES; ++i)
        rows[i] = load_half(keys + (key + i < count ? key + i : count - 1) * size + j);
      transpose(rows);
      for (size_t i = 0; i < LANES; ++i) store(to_keys + key * size + (j + i) * LANES, rows[i]);
    }
  }
  for (size_t i = 0; i < count * size; i += LANES) store(to_values + i, load_half(values + i));
}

// A lane's sum as ``score`` has it, for LANES keys and ``count`` rows of q.
UNROLLED void lane(Lanes *sums, const float *q, const float *keys, const size_t number, const size_t size,
                   const size_t count) {
  for (size_t c = 0; c < count; ++c) sums[c] = (Lanes){};
  for (size_t j = number; j < size; j += LANES) {
    const Lanes k = load(keys + j * LANES);
    for (size_t c = 0; c < count; ++c) sums[c] += k * q[c * size + j];
  }
}

// A four of lanes, as add_four adds them.
UNROLLED void lanes_four(Lanes *sums, const float *q, const float *keys, const size_t number, const size_t size,
                         const size_t count) {
  Lanes second[QUERIES], other[QUERIES];
  lane(sums, q, keys, number, size, count);
  lane(second, q, keys, number + 2, size, count);
  for (size_t c = 0; c < count; ++c) sums[c] += second[c];
  lane(second, q, keys, number + 1, size, count);
  lane(other, q, keys, number + 3, size, count);
  for (size_t c = 0; c < count; ++c) sums[c] += second[c] + other[c];
}

UNROLLED void dots(float *scores, const float *q, const float *keys, const size_t size, const size_t count) {
  Lanes sums[QUERIES], second[QUERIES];
#ifdef __AVX512F__
  Lanes other[QUERIES];
  lanes_four(sums, q, keys, 0, size, count);
  lanes_four(second, q, keys, 8, size, count);
  for (size_t c = 0; c < count; ++c) sums[c] += second[c];
  lanes_four(second, q, keys, 4, size, count);
  lanes_four(other, q, keys, 12, size, count);
  for (size_t c = 0; c < count; ++c) sums[c] += second[c] + other[c];
#else
  lanes_four(sums, q, keys, 0, size, count);
  lanes_four(second, q, keys, 4, size, count);
  for (size_t c = 0; c < count; ++c) sums[c] += second[c];
#endif
  for (size_t c = 0; c < count; ++c) store(scores + c * PIECE, sums[c]);
}

// Scores [.., PIECE] of QUERIES rows of q with LANES keys, or of one; constants where heads of that size are common.
typedef void Dots(float *scores, const float *q, const float *keys, size_t size);
#define DOTS(name, size_, count)                                                        \
  static void name(float *scores, const float *q, const float *keys, size_t size) {     \
    dots(scores, q, keys, size_, count);                                                \
  }
DOTS(dots_64, 64, QUERIES)
DOTS(dots_96, 96, QUERIES)
DOTS(dots_128, 128, QUERIES)
DOTS(dots_any, size, QUERIES)
DOTS(dots_one, size, 1)

static Dots *dots_for(size_t size) {
  return size == 64 ? dots_64 : size == 96 ? dots_96 : size == 128 ? dots_128 : dots_any;
}

// Scratch of a tile: a piece's keys and values, the rows' results [rows, size] and their sums, a share.
typedef struct Tile {
  float *keys, *values, *results, *sums, *shares;
} Tile;

// ``count`` rows, QUERIES or one, take in the share of a piece; ``all``: the keys that each of them sees.
UNROLLED void tile_rows(const Tile *t, size_t row, const float *q, const Range *all, size_t begin, size_t size,
                        Dots *dots_of, const size_t count) {
  const Range any = within((Range){all[0].from, all[count - 1].to}, begin);
  if (any.from == any.to) return;
  float scores[QUERIES * PIECE];
  for (size_t key = any.from / LANES * LANES; key < any.to; key += LANES)
    dots_of(scores + key, q, t->keys + key * size, size);
  float sums[QUERIES][2];
  for (size_t c = 0; c < count; ++c)
    soften(scores + c * PIECE, any.from, any.to, within(all[c], begin), sums[c]);
  weigh(t->shares, scores, t->values, any, size, count, false);
  for (size_t c = 0; c < count; ++c) {
    const Range own = within(all[c], begin);
    if (own.from < own.to)
      take_in(t->results + (row + c) * size, t->sums + 2 * (row + c), t->shares + c * size, sums[c], size);
  }
}

static void tile(void *user, size_t i) {
  Attention *a = user;
  const size_t tiles = tile_tasks(a), cache = i / tiles, row = cache / a->kv_heads, head = cache % a->kv_heads;
  const size_t each = tile_tokens(a), first = (tiles - 1 - i % tiles) * each;  // those that take longest come first
  const size_t tokens = first + each < a->tokens ? each : a->tokens - first, rows = tokens * a->group, size = a->size;
  const size_t bytes = ((2 * PIECE + rows + QUERIES) * size + 2 * rows + 15) / 16 * 16 * sizeof(float);
  float *scratch = aligned_alloc(64, bytes);
  if (!scratch) {
    a->failed = true;
    return;
  }
  float *values = scratch + PIECE * size, *shares = values + PIECE * size, *results = shares + QUERIES * size;
  const Tile t = {scratch, values, results, results + rows * size, shares};
  memset(results, 0, rows * size * sizeof *results);
  for (size_t r = 0; r < rows; ++r) {
    t.sums[2 * r] = -INFINITY;
    t.sums[2 * r + 1] = 0;
  }
  const float *q = a->queries + (cache * a->tokens + first) * a->group * size;
  Dots *const dots_four = dots_for(size);
  const size_t end = visible(a, row, first + tokens - 1).to;
  for (size_t begin = visible(a, row, first).from / PIECE * PIECE; begin < end; begin += PIECE) {
    const size_t at = (cache * a->capacity + begin) * size;
    widen(t.keys, t.values, a->keys + at, a->values + at, end - begin < PIECE ? end - begin : PIECE, size);
    for (size_t r = 0; r < rows;) {
      Range all[QUERIES];
      const size_t count = rows - r < QUERIES ? 1 : QUERIES;
      for (size_t c = 0; c < count; ++c) all[c] = visible(a, row, first + (r + c) / a->group);
      if (count == QUERIES) {
        tile_rows(&t, r, q + r * size, all, begin, size, dots_four, QUERIES);
      } else {
        tile_rows(&t, r, q + r * size, all, begin, size, dots_one, 1);
      }
      r += count;
    }
  }
  for (size_t r = 0; r < rows; ++r) {
    const size_t token = row * a->tokens + first + r / a->group, column = head * a->group + r % a->group;
    finish(a->y + (token * a->kv_heads * a->group + column) * size, results + r * size, t.sums[2 * r + 1], size);
  }
  free(scratch);
}

const AttentionLoops ATTENTION = {copy, place, share, join, tile};
