// What attention.c asks of attention_loops.c, which is compiled once for each kind of processor.

#pragma once
#include "cpu.h"

enum {
  PIECE = 128,        // keys: a token's share of each piece is taken apart, and the shares are added in order
  PIECES_A_TASK = 1,  // of one token
  ROWS_A_TILE = 64,   // tokens times heads that share a piece's keys and values, converted once
  FEW_TOKENS = 4,     // fewer than these are computed one by one
  PLACED_A_TASK = 16, // tokens
  LARGEST_HEAD = 256,
};

// GroupQueryAttention. New q, k and v [batch, tokens, heads, size], each token ``*_stride`` floats behind the one
// before; cos and sin [positions, rotated / 2]. The cache, past and present: [batch, kv_heads, *_capacity, size].
// Scratch: q rotated and scaled, ``queries`` [batch, kv_heads, tokens, group, size]; for each of them and each piece its
// share, ``shares`` [.., pieces, group, size], with the largest score and the sum of the weights, ``sums`` [.., 2].
typedef struct Attention {
  const float *q, *k, *v, *cos, *sin;
  const _Float16 *past_keys, *past_values;  // NULL where they lie in the present ones' place
  _Float16 *keys, *values;
  const int32_t *lengths;  // [batch]: of each row, this step's tokens included, less 1
  float *queries, *shares, *sums, *y;
  size_t q_stride, k_stride, v_stride, past_capacity, capacity;
  size_t batch, tokens, total, kv_heads, group, size, rotated, pieces, window;
  float scale;
  bool first;  // no past: the first prompt, of rows that may be shorter than ``tokens``
  _Atomic bool failed;  // for want of memory
} Attention;

// A task: a row and a head of the cache; PLACED_A_TASK tokens of a row; PIECES_A_TASK pieces of a token and a head of
// the cache; such a token and head; tile_tokens tokens of a row and a head of the cache.
typedef struct AttentionLoops {
  Task *copy, *place, *share, *join, *tile;
} AttentionLoops;

// Tokens of a tile: with their heads a multiple of four rows where that is possible.
static inline size_t tile_tokens(const Attention *a) {
  const size_t tokens = ROWS_A_TILE / a->group / 4 * 4;
  return tokens ? tokens : 1;
}

// Tasks of each kind for a row and a head of the cache.
static inline size_t share_tasks(const Attention *a) { return (a->pieces + PIECES_A_TASK - 1) / PIECES_A_TASK; }
static inline size_t tile_tasks(const Attention *a) { return (a->tokens + tile_tokens(a) - 1) / tile_tokens(a); }
static inline size_t place_tasks(const Attention *a) { return (a->tokens + PLACED_A_TASK - 1) / PLACED_A_TASK; }

// Tokens of a row before this step.
static inline size_t past_of(const Attention *a, size_t row) {
  return a->first ? 0 : (size_t)a->lengths[row] + 1 - a->tokens;
}
