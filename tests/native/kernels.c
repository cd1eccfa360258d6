// The CPU operators' loops against double precision, for processors that no test machine has: pipeline/test_kernels.py
// compiles this with them. Prints what the processor was taken for and the largest error of each operator, relative to
// the sum of the magnitudes; fails above 1e-6, and where a token's bits depend on the tokens beside it.

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"

static bool fails;

static float uniform(void) { return (float)rand() / (float)RAND_MAX * 2 - 1; }

static float *uniforms(size_t count) {
  float *values = malloc(count * sizeof *values + 1);
  for (size_t i = 0; i < count; ++i) values[i] = uniform();
  return values;
}
static _Float16 *halves(size_t count) {
  _Float16 *values = malloc(count * sizeof *values + 1);
  for (size_t i = 0; i < count; ++i) values[i] = (_Float16)uniform();
  return values;
}

static void multiply(Product *p) {
  const Products *products = processor()->products;
  p->steps = calloc(p->tokens * p->stride, sizeof(float));
  p->sums = calloc(p->tokens * p->stride, sizeof(float));
  p->integers = calloc(p->tokens * p->k, 1);
  for (size_t t = 0; t < p->tokens; ++t) products->quantize(p, t);
  for (size_t i = 0; i * ROWS_A_PRODUCT < p->n; ++i) products->product(p, i);
}

static double product_error(size_t bits, size_t block, size_t blocks, size_t tokens) {
  enum { N = 40 };  // more than one task
  const size_t k = blocks * block, stride = (blocks + BLOCKS - 1) / BLOCKS * BLOCKS, zero_bytes = (blocks * bits + 7) / 8;
  float *x = uniforms(tokens * k), *scales = uniforms(N * blocks), *y = malloc(tokens * N * sizeof *y);
  uint8_t *weights = malloc(N * k), *zeros = malloc(N * zero_bytes);
  for (size_t i = 0; i < tokens * k; i += 7) x[i] *= 20;
  for (size_t i = 0; i < N * k; ++i) weights[i] = i % 5 ? (uint8_t)rand() : 255;
  for (size_t i = 0; i < N * zero_bytes; ++i) zeros[i] = (uint8_t)rand();
  Product p = {.x = x, .scales = scales, .weights = weights, .zeros = zeros, .y = y, .tokens = tokens, .k = k, .n = N,
               .bits = bits, .block = block, .blocks = blocks, .stride = stride, .zero_bytes = zero_bytes};
  multiply(&p);
  for (size_t t = 0; t < tokens; ++t) {
    float alone[N];
    Product one = p;
    one.x += t * k;
    one.y = alone;
    one.tokens = 1;
    multiply(&one);
    if (memcmp(alone, y + t * N, sizeof alone)) {
      printf("token %zu of %zu has other bits than alone: %zu bits in blocks of %zu\n", t, tokens, bits, block);
      fails = true;
    }
  }
  double worst = 0;
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t row = 0; row < N; ++row) {
      double expected = 0, size = 0;
      for (size_t b = 0; b < blocks; ++b) {
        float most = 0;
        for (size_t j = 0; j < block; ++j) most = fmaxf(most, fabsf(x[t * k + b * block + j]));
        const uint8_t *packed = zeros + row * zero_bytes;
        const int zero = bits == 8 ? packed[b] : packed[b / 2] >> b % 2 * 4 & 15;
        for (size_t j = 0; j < block; ++j) {
          const size_t i = (row * blocks + b) * block + j;
          const int w = bits == 8 ? weights[i] : weights[i / 2] >> i % 2 * 4 & 15;
          const double part = (double)scales[row * blocks + b] * (most / 127) * (w - zero) *
                              rintf(x[t * k + b * block + j] * (127 / most));
          expected += part;
          size += fabs(part);
        }
      }
      worst = fmax(worst, fabs(y[t * N + row] - expected) / size);
    }
  }
  return worst;
}

// A token with a value that int8 cannot say gets NaN, and no other does.
static void check_undefined(float value) {
  enum { K = 128, N = 40, BESIDE = 9, BAD = 3 };
  float *x = uniforms(BESIDE * K), *scales = uniforms(N), y[BESIDE * N];
  uint8_t weights[N * K / 2], zeros[N];
  memset(weights, 0x7b, sizeof weights);
  memset(zeros, 5, sizeof zeros);
  x[BAD * K + 77] = value;
  Product p = {.x = x, .scales = scales, .weights = weights, .zeros = zeros, .y = y, .tokens = BESIDE, .k = K, .n = N,
               .bits = 4, .block = K, .blocks = 1, .stride = BLOCKS, .zero_bytes = 1};
  multiply(&p);
  for (size_t i = 0; i < BESIDE * N; ++i) {
    if (isnan(y[i]) == (i / N == BAD)) continue;
    printf("%f in token %d: result %zu of token %zu is %f\n", value, BAD, i % N, i / N, y[i]);
    fails = true;
  }
}

typedef struct Errors {
  double add, gate, norm;
} Errors;

static void run_tasks(Task *task, size_t tasks, Work *w) {
  for (size_t i = 0; i < tasks; ++i) task(w, i);
}

// As cpu.c's compute: x·Aᵀ, ``part`` for ``width`` columns.
static void project(Work *w, Task *part, size_t width) {
  const size_t blocks = (w->tokens + TOKENS - 1) / TOKENS;
  split_columns(w, width);
  run_tasks(processor()->loops->down, blocks * ((w->rank + ROWS_A_TASK - 1) / ROWS_A_TASK), w);
  run_tasks(part, blocks * w->chunks, w);
}

// B with ``rows``; A with as many for each block.
static Errors lora_errors(size_t rows, size_t tokens, size_t blocks) {
  enum { K = 48, N = 1056, HALF = N / 2 };  // more columns than a task has, halved, too
  static const size_t ends[][MOST_BLOCKS] = {{N}, {HALF, N}, {576, 816, N}};
  const Loops *loops = processor()->loops;
  const size_t rank = blocks * rows;
  Work w = {.base = uniforms(tokens * N), .x = uniforms(tokens * K), .skip = uniforms(tokens * N), .gamma = uniforms(N),
            .a = halves(rank * K), .b = halves(rows * N), .tokens = tokens, .k = K, .n = N, .rank = rank, .rows = rows,
            .blocks = blocks, .epsilon = 1e-5f};
  memcpy(w.ends, ends[blocks - 1], sizeof w.ends);
  w.t = malloc(tokens * rank * sizeof(float) + 1);
  split_columns(&w, N);
  w.squares = malloc(tokens * w.chunks * sizeof(float));
  w.total = malloc(tokens * N * sizeof(float));
  float *added = w.y = malloc(tokens * N * sizeof(float));
  project(&w, loops->add, N);
  float *gated = w.y = malloc(tokens * HALF * sizeof(float));
  project(&w, loops->add_gate, HALF);
  float *normed = w.y = malloc(tokens * N * sizeof(float));
  project(&w, loops->add_norm, N);
  run_tasks(loops->norm, tokens, &w);
  Errors worst = {};
  for (size_t t = 0; t < tokens; ++t) {
    double shares[64] = {}, sizes[64] = {}, y[N], size[N], squares = 0;
    for (size_t r = 0; r < rank; ++r)
      for (size_t i = 0; i < K; ++i) {
        const double part = (double)w.x[t * K + i] * (double)w.a[r * K + i];
        shares[r] += part;
        sizes[r] += fabs(part);
      }
    for (size_t j = 0, block = 0; j < N; ++j) {
      block += j == w.ends[block];
      y[j] = w.base[t * N + j];
      size[j] = fabs(y[j]);
      for (size_t r = 0; r < rows; ++r) {
        y[j] += shares[block * rows + r] * (double)w.b[r * N + j];
        size[j] += sizes[block * rows + r] * fabs((double)w.b[r * N + j]);
      }
      worst.add = fmax(worst.add, fabs(added[t * N + j] - y[j]) / size[j]);
      const double total = y[j] + w.skip[t * N + j];
      squares += total * total;
    }
    for (size_t j = 0; j < HALF; ++j) {
      const double expected = y[j] / (1 + exp(-y[j])) * y[HALF + j];
      worst.gate = fmax(worst.gate, fabs(gated[t * HALF + j] - expected) / (size[j] * size[HALF + j]));
    }
    const double scale = 1 / sqrt(squares / N + 1e-5);
    for (size_t j = 0; j < N; ++j) {
      const double total = y[j] + w.skip[t * N + j], bound = size[j] + fabs(w.skip[t * N + j]);
      worst.norm = fmax(worst.norm, fabs(w.total[t * N + j] - total) / bound);
      worst.norm = fmax(worst.norm, fabs(normed[t * N + j] - total * scale * w.gamma[j]) / (bound * scale));
    }
  }
  return worst;
}

// A row of ``tokens`` behind ``past`` others, by tiles and token by token, which give the same bits.
static double attention_error(size_t group, size_t size, size_t tokens, size_t past, size_t window) {
  enum { KV_HEADS = 2 };
  const AttentionLoops *loops = processor()->attention;
  const size_t total = past + tokens, heads = KV_HEADS * group, width = heads * size, rotated = size / 2;
  const int32_t length = (int32_t)total - 1;
  const size_t pairs = total * rotated / 2;
  float *angles = uniforms(pairs), *cos = uniforms(pairs), *sin = uniforms(pairs);
  for (size_t i = 0; i < pairs; ++i) {
    cos[i] = cosf(angles[i]);
    sin[i] = sinf(angles[i]);
  }
  Attention a = {.q = uniforms(tokens * width), .k = uniforms(tokens * KV_HEADS * size), .cos = cos, .sin = sin,
                 .v = uniforms(tokens * KV_HEADS * size), .keys = halves(KV_HEADS * total * size),
                 .values = halves(KV_HEADS * total * size), .lengths = &length, .q_stride = width,
                 .k_stride = KV_HEADS * size, .v_stride = KV_HEADS * size, .capacity = total, .batch = 1,
                 .tokens = tokens, .kv_heads = KV_HEADS, .group = group, .size = size, .rotated = rotated,
                 .pieces = (total + PIECE - 1) / PIECE, .window = window, .scale = 0.3f, .first = !past};
  const size_t results = tokens * heads, shares = results * a.pieces;
  a.queries = malloc(results * size * sizeof(float));
  a.shares = malloc(shares * size * sizeof(float));
  a.sums = malloc(2 * shares * sizeof(float));
  float *one = malloc(results * size * sizeof(float)), *many = malloc(results * size * sizeof(float));
  for (size_t i = 0; i < place_tasks(&a); ++i) loops->place(&a, i);
  a.y = one;
  for (size_t i = 0; i < KV_HEADS * tokens * share_tasks(&a); ++i) loops->share(&a, i);
  for (size_t i = 0; i < KV_HEADS * tokens; ++i) loops->join(&a, i);
  a.y = many;
  for (size_t i = 0; i < KV_HEADS * tile_tasks(&a); ++i) loops->tile(&a, i);
  for (size_t i = 0; i < results * size; ++i) {
    if (one[i] == many[i]) continue;
    printf("attention: heads of %zu, result %zu is %a alone and %a among others\n", size, i, one[i], many[i]);
    fails = true;
    break;
  }
  double worst = 0;
  for (size_t token = 0; token < tokens; ++token) {
    const size_t to = past + token + 1, from = window && to > window ? to - window : 0;
    for (size_t head = 0; head < heads; ++head) {
      const size_t cache = head / group * total;
      const float *q = a.q + token * width + head * size;
      double turned[LARGEST_HEAD], y[LARGEST_HEAD] = {}, bound[LARGEST_HEAD] = {}, weights = 0;
      for (size_t j = 0; j < size; ++j) {
        const size_t half = rotated / 2, pair = j < half ? j + half : j - half, at = (to - 1) * half + j % half;
        turned[j] = j >= rotated ? q[j] : q[j] * (double)cos[at] + (j < half ? -1 : 1) * q[pair] * (double)sin[at];
      }
      for (size_t key = from; key < to; ++key) {
        double score = 0;
        for (size_t j = 0; j < size; ++j) score += turned[j] * (double)a.keys[(cache + key) * size + j];
        const double weight = exp(0.3 * score);
        weights += weight;
        for (size_t j = 0; j < size; ++j) {
          const double part = weight * (double)a.values[(cache + key) * size + j];
          y[j] += part;
          bound[j] += fabs(part);
        }
      }
      for (size_t j = 0; j < size; ++j)
        worst = fmax(worst, fabs(one[(token * heads + head) * size + j] - y[j] / weights) / (bound[j] / weights));
    }
  }
  return worst;
}

static void report(const char *name, double error) {
  printf("%s %.1e\n", name, error);
  fails |= !(error < 1e-6);
}

int main(void) {
  printf("%s\n", processor()->name);
  double product = 0;
  const size_t tokens[] = {1, 8, 11};
  for (size_t bits = 4; bits <= 8; bits += 4)
    for (size_t block = 32; block <= 128; block *= 2)
      for (size_t blocks = 1; blocks <= 9; blocks += 4)
        for (int i = 0; i < 3; ++i) product = fmax(product, product_error(bits, block, blocks, tokens[i]));
  report("product", product);
  check_undefined(NAN);
  check_undefined(-INFINITY);
  Errors lora = {};
  for (size_t rank = 0; rank <= 17; ++rank) {
    const int blocks = rank < 2 * ROWS ? 3 : 1;  // of more rows the loops know nothing new, and an emulator is slow
    for (int i = 0; i < 3 * blocks; ++i) {
      const Errors found = lora_errors(rank, tokens[i % 3], (size_t)(1 + i / 3));
      lora = (Errors){fmax(lora.add, found.add), fmax(lora.gate, found.gate), fmax(lora.norm, found.norm)};
    }
  }
  report("add", lora.add);
  report("gate", lora.gate);
  report("norm", lora.norm);
  double attention = 0;
  const size_t sizes[] = {16, 64, 80, 96, 128, 256}, groups[] = {1, 2, 3, 4, 5, 7};
  for (int i = 0; i < 6; ++i) {
    attention = fmax(attention, attention_error(groups[i], sizes[i], 1, 300, 0));
    attention = fmax(attention, attention_error(groups[i], sizes[i], 70, 0, 0));
    attention = fmax(attention, attention_error(groups[i], sizes[5 - i], 37, 140, 50));
  }
  report("attention", attention);
  return fails;
}
