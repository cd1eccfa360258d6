// The operators in a session on a CPU (domain olivepress.cpu): float32, with A and B in float16, half the bytes to read.
//
//   LoraAdd     (base [.., N], x [.., K], A [rank, K], B [rank, N]; perhaps widths) -> y = base + (x·Aᵀ)·B, in place
//   LoraAddGate (base [.., N], x, A, B) -> y [.., N/2] = SiLU(g) · u, where [g, u] = base + (x·Aᵀ)·B
//   LoraAddNorm (base [.., N], x, A, B, skip [.., N], gamma [N]; epsilon) -> (y, sum),
//               where sum = base + (x·Aᵀ)·B + skip and y = RMSNorm(sum) · gamma
//   MatMulNBits (x [.., K], weights [N, K/block, block*bits/8], scales [N, K/block], zero points; K, N, bits,
//               block_size) -> y [.., N]: ONNX Runtime's own of that name at accuracy_level 4, for 4 and 8 bits and
//               blocks of 32, 64 and 128, with scales in float32 or float16. It reads the weights where the file is mapped,
//               and keeps no packed copy.
//
// Where a projection is packed, of gate and up, or of q, k and v (LoraAdd's widths say how wide they are), each block has an
// A and a B of its own, and B [blocks·rank, N] zeros where they do not meet. It may come without them: A [blocks·rank, K]
// and B [rank, N], whose columns belong to the rows of A that are their block's. The result has the same bits.
//
// Every sum is taken in an order that depends on the shapes alone, so the number of threads changes no bit. K and N are
// multiples of 16, or of 32 for LoraAddGate.

#include <stdlib.h>

#include "phases.h"

static const Loops *loops(void) { return processor()->loops; }

// ---- LoRA ------------------------------------------------------------------------------------------------

size_t lora_floats(Work *w, size_t width) {
  split_columns(w, width);
  return aligned(w->tokens * (w->rank + w->chunks));
}

void lora_scratch(Work *w, float *scratch) {
  w->t = scratch;
  w->squares = scratch + w->tokens * w->rank;
}

static_assert(sizeof((Kernel){}.widths) / sizeof(int64_t) == MOST_BLOCKS);

OrtStatus *set_adapter(Work *w, const Tensor *a, const Tensor *b, int64_t k, int64_t n, size_t blocks,
                       const int64_t *widths) {
  if (a->dimensions != 2 || b->dimensions != 2 || a->shape[1] != k || b->shape[1] != n)
    return failure(api, "Olive Press's LoRA operator: the adapter's A [rank, K] and B [rank, N] do not go together");
  if (n < 1 || n % 16 || k % 16) return failure(api, "Olive Press's LoRA operator: K and N must be multiples of 16");
  w->a = a->data;
  w->b = b->data;
  w->k = (size_t)k;
  w->n = (size_t)n;
  w->rank = (size_t)a->shape[0];
  w->rows = (size_t)b->shape[0];
  w->blocks = w->rank == w->rows ? 1 : blocks;
  size_t end = 0;
  for (size_t i = 0; i < w->blocks; ++i) w->ends[i] = end += w->blocks == 1 ? w->n : (size_t)widths[i];
  if (w->rank != w->blocks * w->rows || end != w->n)
    return failure(api, "Olive Press's LoRA operator: the adapter's A [rank, K] and B [rank, N] do not go together");
  return NULL;
}

static size_t blocks_of(const Work *w) { return (w->tokens + TOKENS - 1) / TOKENS; }

void add_down(Program *program, Work *w) {
  const size_t row_tasks = (w->rank + ROWS_A_TASK - 1) / ROWS_A_TASK;
  join_phase(program, loops()->down, blocks_of(w) * row_tasks, w->tokens * w->rank * w->k, w);
}

void add_up(Program *program, Work *w, Task *part, size_t width, Task *token) {
  add_phase(program, part, blocks_of(w) * w->chunks, w->tokens * (w->rows + 4) * w->n, w);
  if (token) add_phase(program, token, w->tokens, w->tokens * w->n, w);
}

// The operator on ``width`` columns of the result.
static OrtStatus *compute(const OrtKernelContext *context, Work *w, Task *part, size_t width, Task *token) {
  float *scratch = malloc((lora_floats(w, width) + 1) * sizeof *scratch);
  if (!scratch) return failure(api, "Olive Press's LoRA operator: out of memory");
  lora_scratch(w, scratch);
  Program program;
  new_program(&program);
  add_down(&program, w);
  add_up(&program, w, part, width, token);
  OrtStatus *status = run(context, &program);
  free(scratch);
  return status;
}

// The inputs that all three have, of a projection packed of ``blocks``.
static OrtStatus *read(const OrtKernelContext *context, Tensor *base, Work *w, size_t blocks, const int64_t *widths) {
  Tensor x, a, b;
  ORT(get_input(api, context, 0, base));
  ORT(get_input(api, context, 1, &x));
  ORT(get_input(api, context, 2, &a));
  ORT(get_input(api, context, 3, &b));
  if (!x.dimensions || !base->dimensions) return failure(api, "Olive Press's LoRA operator: x and base have no columns");
  *w = (Work){.base = base->data, .x = x.data};
  ORT(set_adapter(w, &a, &b, x.shape[x.dimensions - 1], base->shape[base->dimensions - 1], blocks, widths));
  w->tokens = (size_t)tensor_elements(base) / w->n;
  return NULL;
}

OrtStatus *cpu_add(void *kernel, OrtKernelContext *context) {
  const Kernel *k = kernel;
  Tensor base, y;
  Work work;
  ORT(read(context, &base, &work, k->blocks, k->widths));
  ORT(new_output(api, context, 0, base.shape, base.dimensions, &y));
  work.y = y.data;
  if (!work.rank && y.data == base.data) return NULL;
  return compute(context, &work, loops()->add, work.n, NULL);
}

OrtStatus *cpu_add_gate(void *kernel, OrtKernelContext *context) {
  Tensor base, y;
  Work work;
  ORT(get_input(api, context, 0, &base));
  const int64_t half = base.dimensions ? base.shape[base.dimensions - 1] / 2 : 0;
  ORT(read(context, &base, &work, 2, (int64_t[]){half, half}));
  base.shape[base.dimensions - 1] = half;
  ORT(new_output(api, context, 0, base.shape, base.dimensions, &y));
  work.y = y.data;
  return compute(context, &work, loops()->add_gate, work.n / 2, NULL);
}

OrtStatus *cpu_add_norm(void *kernel, OrtKernelContext *context) {
  Tensor base, skip, gamma, y, total;
  Work work;
  ORT(read(context, &base, &work, 1, NULL));
  ORT(get_input(api, context, 4, &skip));
  ORT(get_input(api, context, 5, &gamma));
  ORT(new_output(api, context, 0, base.shape, base.dimensions, &y));
  ORT(new_output(api, context, 1, base.shape, base.dimensions, &total));
  work.skip = skip.data;
  work.gamma = gamma.data;
  work.y = y.data;
  work.total = total.data;
  work.epsilon = ((Kernel *)kernel)->epsilon;
  return compute(context, &work, loops()->add_norm, work.n, loops()->norm);
}

// ---- products with few bits --------------------------------------------------------------------------------

Product new_product(const Kernel *k, const FewBits *in) {
  return (Product){.x = in->x.data, .scales = in->scales.data, .weights = in->weights.data, .zeros = in->zeros.data,
                   .tokens = (size_t)in->tokens, .k = (size_t)k->k, .n = (size_t)k->n, .bits = (size_t)k->bits,
                   .block = (size_t)k->block, .blocks = (size_t)in->blocks,
                   .stride = (size_t)(in->blocks + BLOCKS - 1) / BLOCKS * BLOCKS,
                   .zero_bytes = (size_t)in->zero_bytes,
                   .half = in->scales.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16};
}

size_t product_floats(const Product *p) { return aligned(p->tokens * (2 * p->stride + (p->k + 3) / 4)); }

void product_scratch(Product *p, float *scratch) {
  p->steps = scratch;
  p->sums = scratch + p->tokens * p->stride;
  p->integers = (int8_t *)(p->sums + p->tokens * p->stride);
}

void add_quantize(Program *program, Product *p) {
  add_phase(program, processor()->products->quantize, p->tokens, p->tokens * p->k, p);
}

void add_product(Program *program, Product *p) {
  const size_t tasks = (p->n + ROWS_A_PRODUCT - 1) / ROWS_A_PRODUCT;
  add_phase(program, processor()->products->product, tasks, p->tokens * p->n * p->k, p);
}

OrtStatus *cpu_matmul(void *kernel, OrtKernelContext *context) {
  const Kernel *k = kernel;
  FewBits in;
  Tensor y;
  ORT(get_few_bits(k, context, &in));
  Product p = new_product(k, &in);
  in.x.shape[in.x.dimensions - 1] = k->n;
  ORT(new_output(api, context, 0, in.x.shape, in.x.dimensions, &y));
  p.y = y.data;
  if (!p.tokens) return NULL;
  float *scratch = malloc(product_floats(&p) * sizeof *scratch);
  if (!scratch) return failure(api, "Olive Press's MatMulNBits: out of memory");
  product_scratch(&p, scratch);
  Program program;
  new_program(&program);
  add_quantize(&program, &p);
  add_product(&program, &p);
  OrtStatus *status = run(context, &program);
  free(scratch);
  return status;
}
