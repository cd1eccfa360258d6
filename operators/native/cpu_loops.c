// The arithmetic of cpu.c, in vectors. hatch_build.py compiles this file once for each kind of processor: LOOPS is the
// name of what it gives.

#include "cpu.h"

#include <math.h>
#include <string.h>

#include "lanes.h"

// t = x · Aᵀ for ``count`` tokens and ``rows`` rows of A
UNROLLED void down_rows(const Work *w, size_t first, const size_t count, size_t row, const size_t rows) {
  Lanes sums[TOKENS][ROWS] = {};
  for (size_t j = 0; j < w->k; j += LANES) {
    Lanes a[ROWS];
    for (size_t r = 0; r < rows; ++r) a[r] = load_half(w->a + (row + r) * w->k + j);
    for (size_t token = 0; token < count; ++token) {
      const Lanes x = load(w->x + (first + token) * w->k + j);
      for (size_t r = 0; r < rows; ++r) sums[token][r] += x * a[r];
    }
  }
  for (size_t token = 0; token < count; ++token)
    for (size_t r = 0; r < rows; ++r) w->t[(first + token) * w->rank + row + r] = sum(sums[token][r]);
}

// t [tokens, rank] = x · Aᵀ, for the tokens and rows of task i
static void down(void *user, size_t i) {
  const Work *w = user;
  const size_t tasks = (w->rank + ROWS_A_TASK - 1) / ROWS_A_TASK;
  const size_t first = i / tasks * TOKENS, last = first + TOKENS < w->tokens ? first + TOKENS : w->tokens;
  const size_t begin = i % tasks * ROWS_A_TASK, end = begin + ROWS_A_TASK < w->rank ? begin + ROWS_A_TASK : w->rank;
  size_t row = begin;
  if (last - first == TOKENS) {
    for (; row + 2 <= end; row += 2) down_rows(w, first, TOKENS, row, 2);
    if (row < end) down_rows(w, first, TOKENS, row, 1);
    return;
  }
  for (size_t token = first; token < last; ++token) {
    for (row = begin; row + ROWS <= end; row += ROWS) down_rows(w, token, 1, row, ROWS);
    for (; row < end; ++row) down_rows(w, token, 1, row, 1);
  }
}

// Columns of B, of one block, for tokens from ``first`` on; where those begin in what is computed of all blocks; the
// first of A's rows that they belong to.
typedef struct Columns {
  size_t first, column, width, at, rank;
} Columns;

// out [count, width] += t · B for ``rows`` rows of B
UNROLLED void up_rows(const Work *w, float out[][COLUMNS], const Columns *c, const size_t count, size_t row,
                      const size_t rows) {
  Lanes t[TOKENS][ROWS];
  for (size_t token = 0; token < count; ++token)
    for (size_t r = 0; r < rows; ++r) t[token][r] = (Lanes){} + w->t[(c->first + token) * w->rank + c->rank + row + r];
  const _Float16 *from = w->b + row * w->n + c->column;
  for (size_t j = 0; j < c->width; j += LANES) {
    Lanes b[ROWS];
    for (size_t r = 0; r < rows; ++r) {
      b[r] = load_half(from + r * w->n + j);
      __builtin_prefetch(from + (rows + r) * w->n + j);  // rows are far apart: the processor does not foresee the next
    }
    for (size_t token = 0; token < count; ++token) {
      Lanes sums = load(&out[token][c->at + j]);
      for (size_t r = 0; r < rows; ++r) sums += t[token][r] * b[r];
      store(&out[token][c->at + j], sums);
    }
  }
}

UNROLLED void up_tokens(const Work *w, float out[][COLUMNS], const Columns *c, const size_t count) {
  size_t row = 0;
  for (; row + ROWS <= w->rows; row += ROWS) up_rows(w, out, c, count, row, ROWS);
  for (; row < w->rows; ++row) up_rows(w, out, c, count, row, 1);
}

// The same for at most TOKENS tokens
static void up_block(const Work *w, float out[][COLUMNS], Columns c, size_t count) {
  if (count == TOKENS) {
    up_tokens(w, out, &c, TOKENS);
  } else {
    for (size_t token = 0; token < count; ++token, ++c.first) up_tokens(w, out + token, &c, 1);
  }
}

// out [count, width] += t · B[:, column:column + width], block by block
static void up(const Work *w, float out[][COLUMNS], size_t first, size_t count, size_t column, size_t width) {
  for (size_t block = 0, begin = 0; block < w->blocks; begin = w->ends[block++]) {
    const size_t from = column > begin ? column : begin;
    const size_t to = column + width < w->ends[block] ? column + width : w->ends[block];
    if (from < to) up_block(w, out, (Columns){first, from, to - from, from - column, block * w->rows}, count);
  }
}

// The tokens and columns of one task.
typedef struct Part {
  size_t first, count, column, width;
} Part;

static inline Part part_of(const Work *w, size_t i, size_t width) {
  const size_t first = i / w->chunks * TOKENS, column = i % w->chunks * w->columns;
  return (Part){first, first + TOKENS < w->tokens ? TOKENS : w->tokens - first, column,
                column + w->columns < width ? w->columns : width - column};
}

static inline void projected(const Work *w, const Part *part, size_t column, float out[][COLUMNS]) {
  for (size_t token = 0; token < part->count; ++token)
    memcpy(out[token], w->base + (part->first + token) * w->n + column, part->width * sizeof(float));
  up(w, out, part->first, part->count, column, part->width);
}

static void add_part(void *user, size_t i) {
  const Work *w = user;
  const Part part = part_of(w, i, w->n);
  float out[TOKENS][COLUMNS];
  projected(w, &part, part.column, out);
  for (size_t token = 0; token < part.count; ++token)
    memcpy(w->y + (part.first + token) * w->n + part.column, out[token], part.width * sizeof(float));
}

static void gate_part(void *user, size_t i) {
  const Work *w = user;
  const size_t half = w->n / 2;
  const Part part = part_of(w, i, half);
  float gate[TOKENS][COLUMNS], upper[TOKENS][COLUMNS];
  projected(w, &part, part.column, gate);
  projected(w, &part, half + part.column, upper);
  for (size_t token = 0; token < part.count; ++token) {
    for (size_t j = 0; j < part.width; j += LANES) {
      const Lanes g = load(&gate[token][j]);
      store(w->y + (part.first + token) * half + part.column + j,
            g / (1.0f + exponential(-g)) * load(&upper[token][j]));
    }
  }
}

static void norm_part(void *user, size_t i) {
  const Work *w = user;
  const Part part = part_of(w, i, w->n);
  float out[TOKENS][COLUMNS];
  projected(w, &part, part.column, out);
  for (size_t token = 0; token < part.count; ++token) {
    const size_t at = (part.first + token) * w->n + part.column;
    Lanes squares = {};
    for (size_t j = 0; j < part.width; j += LANES) {
      const Lanes value = load(&out[token][j]) + load(w->skip + at + j);
      store(w->total + at + j, value);
      squares += value * value;
    }
    w->squares[(part.first + token) * w->chunks + part.column / w->columns] = sum(squares);
  }
}

static void norm_token(void *user, size_t token) {
  const Work *w = user;
  float squares = 0;
  for (size_t chunk = 0; chunk < w->chunks; ++chunk) squares += w->squares[token * w->chunks + chunk];
  const float scale = 1 / sqrtf(squares / (float)w->n + w->epsilon);
  for (size_t j = 0; j < w->n; j += LANES)
    store(w->y + token * w->n + j, load(w->total + token * w->n + j) * scale * load(w->gamma + j));
}

const Loops LOOPS = {down, add_part, gate_part, norm_part, norm_token};
