// What cpu.c asks of cpu_loops.c and matmul_loops.c, which are compiled once for each kind of processor.

#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif

// Inlined with constants for its counts, so that its sums stay in registers.
#define UNROLLED __attribute__((always_inline)) static inline

enum {
  TOKENS = 4,       // that share what is read of A and B
  ROWS = 4,         // of A or B at a time
  ROWS_A_TASK = 8,  // of A
  COLUMNS = 512,    // of B in one task at most
  ROWS_A_PRODUCT = 32,  // of a matrix of few bits in one task
  BLOCKS = 8,           // of it whose scales are taken at once
};

enum { MOST_BLOCKS = 3 };  // of a packed projection: q, k and v

// One operator's inputs and outputs, as in cpu.c; ``t`` [tokens, rank] and ``squares`` [tokens, chunks] are scratch.
// A has ``rank`` rows, B ``rows``: fewer where the projection is packed. Then its columns are in ``blocks``, each of which
// ends at one of ``ends`` and belongs to the next ``rows`` of A.
typedef struct Work {
  const float *base, *x, *skip, *gamma;
  const _Float16 *a, *b;
  float *t, *y, *total, *squares;
  size_t tokens, k, n, rank, rows, columns, chunks, blocks, ends[MOST_BLOCKS];
  float epsilon;
} Work;

// ``width`` columns as ``chunks`` of ``columns``, one a task: an even number about as wide, so that two threads, or a
// few, have as much to do.
static inline void split_columns(Work *w, size_t width) {
  const size_t chunks = (width + 2 * COLUMNS - 1) / (2 * COLUMNS) * 2, step = 16;
  w->columns = (width + chunks * step - 1) / (chunks * step) * step;
  w->chunks = (width + w->columns - 1) / w->columns;
}

// A task of a kind, one of a known number. Rows of A: TOKENS tokens times ROWS_A_TASK rows. Columns: TOKENS tokens times
// a chunk of them.
typedef void Task(void *work, size_t i);

typedef struct Loops {
  Task *down, *add, *add_gate, *add_norm, *norm;
} Loops;

// MatMulNBits: x [tokens, k], weights [n, blocks, block] of 4 or 8 bits, scales [n, blocks], float32 or, if ``half``,
// float16, zeros [n, zero_bytes], y [tokens, n]. Scratch: x as int8, and for each block its step and that times the sum
// of its int8, [tokens, stride] each, where ``stride`` is ``blocks`` up to a multiple of BLOCKS, and what is beyond them
// is 0.
typedef struct Product {
  const float *x;
  const void *scales;
  const uint8_t *weights, *zeros;
  float *y, *steps, *sums;
  int8_t *integers;
  size_t tokens, k, n, bits, block, blocks, stride, zero_bytes;
  bool half;
} Product;

// A task: one token; ROWS_A_PRODUCT rows of weights, all tokens.
typedef struct Products {
  Task *quantize, *product;
} Products;

// What a kind of processor computes with; its name is for people.
typedef struct Processor {
  const char *name;
  const Loops *loops;
  const Products *products;
  const struct AttentionLoops *attention;  // attention.h
} Processor;

// processor.c: the best that this processor and its system can run; how many of them this process may use at once
const Processor *processor(void);
size_t cores(void);
