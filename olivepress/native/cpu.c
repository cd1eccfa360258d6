// The operators in a session on a CPU (domain olivepress.cpu): float32, with A and B in float16, half the bytes to read.
//
//   LoraAdd     (base [.., N], x [.., K], A [rank, K], B [rank, N]) -> y = base + (x·Aᵀ)·B, in place
//   LoraAddGate (base [.., N], x, A, B) -> y [.., N/2] = SiLU(g) · u, where [g, u] = base + (x·Aᵀ)·B
//   LoraAddNorm (base [.., N], x, A, B, skip [.., N], gamma [N]; epsilon) -> (y, sum),
//               where sum = base + (x·Aᵀ)·B + skip and y = RMSNorm(sum) · gamma
//   MatMulNBits (x [.., K], weights [N, K/block, block*bits/8], scales [N, K/block], zero points; K, N, bits,
//               block_size) -> y [.., N]: ONNX Runtime's own of that name at accuracy_level 4, for 4 and 8 bits and
//               blocks of 32, 64 and 128. It reads the weights where the file is mapped, and keeps no packed copy.
//
// Every sum is taken in an order that depends on the shapes alone, so the number of threads changes no bit. K and N are
// multiples of 16, or of 32 for LoraAddGate.

#include <cpuid.h>
#include <stdlib.h>

#include "cpu.h"
#include "operators.h"

enum { WORTH_A_THREAD = 1 << 16 };  // operations below which waking the other threads takes longer than it wins

typedef struct Processor {
  const Loops *loops;
  const Products *products;
} Processor;

static const Processor any = {&loops_v1, &products_v1}, v3 = {&loops_v3, &products_v3}, v4 = {&loops_v4, &products_v3},
                       vnni = {&loops_v4, &products_vnni};

// The best that this processor and its system can run: x86-64-v4 (AVX-512) with or without VNNI, -v3 (AVX2, FMA, F16C),
// or any. By CPUID, as the x86-64 psABI defines the levels: in zig's runtime library __builtin_cpu_supports says no to
// everything.
static const Processor *choose(void) {
  enum { FMA_MOVBE_OSXSAVE_AVX_F16C = 1 << 12 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29, LZCNT = 1 << 5 };
  enum { BMI1_AVX2_BMI2 = 1 << 3 | 1 << 5 | 1 << 8, YMM = 0x06, ZMM = 0xe6, AVX512_VNNI = 1 << 11 };
  const unsigned avx512_f_dq_cd_bw_vl = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
  unsigned a, b, first = 0, c = 0, extended = 0, d, saved;
  __get_cpuid(1, &a, &b, &first, &d);
  if ((first & FMA_MOVBE_OSXSAVE_AVX_F16C) != FMA_MOVBE_OSXSAVE_AVX_F16C) return &any;
  b = 0;
  __get_cpuid(0x80000001, &a, &c, &extended, &d);
  __get_cpuid_count(7, 0, &a, &b, &c, &d);
  __asm__("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));  // the registers that the system keeps for each thread
  if ((b & BMI1_AVX2_BMI2) != BMI1_AVX2_BMI2 || !(extended & LZCNT) || (saved & YMM) != YMM) return &any;
  if ((b & avx512_f_dq_cd_bw_vl) != avx512_f_dq_cd_bw_vl || (saved & ZMM) != ZMM) return &v3;
  return c & AVX512_VNNI ? &vnni : &v4;
}

static const Processor *processor(void) {
  static _Atomic(const Processor *) chosen;
  if (!chosen) chosen = choose();
  return chosen;
}
static const Loops *loops(void) { return processor()->loops; }

// Run the tasks, on the session's threads if there is enough to do.
static Status *run(const Context *context, Task *task, size_t tasks, size_t operations, void *w) {
  if (tasks > 1 && operations >= WORTH_A_THREAD) return api_parallel(api, context, task, tasks, w);
  for (size_t i = 0; i < tasks; ++i) task(w, i);
  return NULL;
}

// x·Aᵀ, then ``part`` for every part of ``width`` columns, then ``token``, if there is one, for every token.
static Status *compute(const Context *context, Work *w, Task *part, size_t width, Task *token) {
  const size_t blocks = (w->tokens + TOKENS - 1) / TOKENS, row_tasks = (w->rank + ROWS_A_TASK - 1) / ROWS_A_TASK;
  w->chunks = (width + COLUMNS - 1) / COLUMNS;
  float *scratch = malloc((w->tokens * (w->rank + w->chunks) + 1) * sizeof *scratch);
  if (!scratch) return api_create_status(api, "Olive Press's LoRA operator: out of memory");
  w->t = scratch;
  w->squares = scratch + w->tokens * w->rank;
  Status *status = run(context, loops()->down, blocks * row_tasks, w->tokens * w->rank * w->k, w);
  if (!status) status = run(context, part, blocks * w->chunks, w->tokens * (w->rank + 4) * w->n, w);
  if (!status && token) status = run(context, token, w->tokens, w->tokens * w->n, w);
  free(scratch);
  return status;
}

// The inputs that all three have.
static Status *read(const Context *context, Tensor *base, Work *w) {
  Tensor x, a, b;
  ORT(api_input(api, context, 0, base));
  ORT(api_input(api, context, 1, &x));
  ORT(api_input(api, context, 2, &a));
  ORT(api_input(api, context, 3, &b));
  ORT(check_shapes(&x, &a, &b));
  *w = (Work){.base = base->data, .x = x.data, .a = a.data, .b = b.data, .rank = (size_t)a.shape[0]};
  w->k = (size_t)a.shape[1];
  w->n = (size_t)b.shape[1];
  w->tokens = (size_t)tensor_elements(base) / w->n;
  return NULL;
}

Status *cpu_add(void *kernel, Context *context) {
  Tensor base, y;
  Work work;
  ORT(read(context, &base, &work));
  ORT(api_output(api, context, 0, base.shape, base.dimensions, &y));
  work.y = y.data;
  if (!work.rank && y.data == base.data) return NULL;
  return compute(context, &work, loops()->add, work.n, NULL);
}

Status *cpu_add_gate(void *kernel, Context *context) {
  Tensor base, y;
  Work work;
  ORT(read(context, &base, &work));
  base.shape[base.dimensions - 1] /= 2;
  ORT(api_output(api, context, 0, base.shape, base.dimensions, &y));
  work.y = y.data;
  return compute(context, &work, loops()->add_gate, work.n / 2, NULL);
}

Status *cpu_add_norm(void *kernel, Context *context) {
  Tensor base, skip, gamma, y, total;
  Work work;
  ORT(read(context, &base, &work));
  ORT(api_input(api, context, 4, &skip));
  ORT(api_input(api, context, 5, &gamma));
  ORT(api_output(api, context, 0, base.shape, base.dimensions, &y));
  ORT(api_output(api, context, 1, base.shape, base.dimensions, &total));
  work.skip = skip.data;
  work.gamma = gamma.data;
  work.y = y.data;
  work.total = total.data;
  work.epsilon = ((Kernel *)kernel)->epsilon;
  return compute(context, &work, loops()->add_norm, work.n, loops()->norm);
}

Status *cpu_matmul(void *kernel, Context *context) {
  const Kernel *k = kernel;
  Tensor x, weights, scales, zeros, y;
  ORT(api_input(api, context, 0, &x));
  ORT(api_input(api, context, 1, &weights));
  ORT(api_input(api, context, 2, &scales));
  ORT(api_input(api, context, 3, &zeros));
  const int64_t blocks = k->block ? k->k / k->block : 0, zero_bytes = (blocks * k->bits + 7) / 8;
  if ((k->bits != 4 && k->bits != 8) || (k->block != 32 && k->block != 64 && k->block != 128) || k->k % k->block ||
      !x.dimensions || x.shape[x.dimensions - 1] != k->k || tensor_elements(&weights) != k->n * k->k * k->bits / 8 ||
      tensor_elements(&scales) != k->n * blocks || tensor_elements(&zeros) != k->n * zero_bytes)
    return api_create_status(api, "Olive Press's MatMulNBits: K, N, bits, block_size and the inputs do not go together");
  Product p = {.x = x.data, .scales = scales.data, .weights = weights.data, .zeros = zeros.data, .k = (size_t)k->k,
               .n = (size_t)k->n, .bits = (size_t)k->bits, .block = (size_t)k->block, .blocks = (size_t)blocks,
               .stride = (size_t)(blocks + BLOCKS - 1) / BLOCKS * BLOCKS, .zero_bytes = (size_t)zero_bytes};
  p.tokens = (size_t)(tensor_elements(&x) / k->k);
  x.shape[x.dimensions - 1] = k->n;
  ORT(api_output(api, context, 0, x.shape, x.dimensions, &y));
  p.y = y.data;
  float *scratch = calloc(1, p.tokens * (2 * p.stride * sizeof *scratch + p.k) + 1);
  if (!scratch) return api_create_status(api, "Olive Press's MatMulNBits: out of memory");
  p.steps = scratch;
  p.sums = scratch + p.tokens * p.stride;
  p.integers = (int8_t *)(p.sums + p.tokens * p.stride);
  const Products *products = processor()->products;
  Status *status = run(context, products->quantize, p.tokens, p.tokens * p.k, &p);
  if (!status)
    status = run(context, products->product, (p.n + ROWS_A_PRODUCT - 1) / ROWS_A_PRODUCT, p.tokens * p.n * p.k, &p);
  free(scratch);
  return status;
}
