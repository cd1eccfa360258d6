// What cpu.c asks of cpu_loops.c, which is compiled once for each kind of processor.

#pragma once
#include <stddef.h>

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif

enum {
  TOKENS = 4,       // that share what is read of A and B
  ROWS = 4,         // of A or B at a time
  ROWS_A_TASK = 8,  // of A
  COLUMNS = 512,    // of B in one task
};

// One operator's inputs and outputs, as in cpu.c; ``t`` [tokens, rank] and ``squares`` [tokens, chunks] are scratch.
typedef struct Work {
  const float *base, *x, *skip, *gamma;
  const _Float16 *a, *b;
  float *t, *y, *total, *squares;
  size_t tokens, k, n, rank, chunks;
  float epsilon;
} Work;

// A task of a kind, one of a known number. Rows of A: TOKENS tokens times ROWS_A_TASK rows. Columns: TOKENS tokens times
// COLUMNS columns.
typedef void Task(void *work, size_t i);

typedef struct Loops {
  Task *down, *add, *add_gate, *add_norm, *norm;
} Loops;

extern const Loops loops_v4, loops_v3, loops_v1;
