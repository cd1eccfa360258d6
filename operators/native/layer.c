// A decoder layer on a CPU, as one operator:
//
//   DecoderLayer (x [batch, tokens, width], skip [batch, tokens, width], past keys, past values, lengths, total length,
//                 the gamma [width] of two norms;
//                 of q k and v, of o, of gate and up, and of down: weights, scales, zero points, A, B;
//                 cos, sin; K, N, bits, block_size: four of each; epsilon: two; and the attributes of LoraAdd and of
//                 GroupQueryAttention)
//                -> (y, sum [batch, tokens, width], present keys, present values)
//
// It is the same as nine operators of this library, one after the other, to the bit:
//
//   MatMulNBits, LoraAdd, GroupQueryAttention, MatMulNBits, LoraAddNorm with skip, MatMulNBits, LoraAddGate, MatMulNBits,
//   LoraAddNorm with the first norm's sum
//
// For a token, each of them has less to do than ONNX Runtime for it: to find it, to make room for its results, and to
// wake a thread and wait for it two or three times. Here threads go from phase to phase by themselves (program.h).

#include "phases.h"

#define WRONG(what) failure(api, "Olive Press's DecoderLayer: " what)

// All that it reads, in the order of its inputs.
typedef struct Given {
  Tensor x, skip, gammas[2];
  Inputs attention;
  FewBits weights[PARTS];
  Tensor a[PARTS], b[PARTS];
} Given;

static OrtStatus *get(const Layer *layer, const OrtKernelContext *context, Given *in) {
  Inputs *attention = &in->attention;
  ORT(get_input(api, context, 0, &in->x));
  ORT(get_input(api, context, 1, &in->skip));
  Tensor *const tensors[] = {&attention->past_keys, &attention->past_values, &attention->lengths, &attention->total};
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; ++i) ORT(get_input(api, context, 2 + i, tensors[i]));
  for (size_t i = 0; i < 2; ++i) ORT(get_input(api, context, GAMMA + i, &in->gammas[i]));
  for (size_t i = 0; i < PARTS; ++i) {
    const size_t first = FIRST_PART + PART * i;
    ORT(get_weights(&layer->parts[i], context, first, &in->weights[i]));
    ORT(get_input(api, context, first + 3, &in->a[i]));
    ORT(get_input(api, context, first + 4, &in->b[i]));
  }
  ORT(get_optional(context, COS, &attention->cos));
  return get_optional(context, COS + 1, &attention->sin);
}

// That the inputs go together. The query is what the first product will give.
static OrtStatus *check(const Layer *layer, Given *in) {
  const Tensor *x = &in->x;
  if (x->dimensions != 3) return WRONG("x must be [batch, tokens, width]");
  const int64_t width = x->shape[2];
  const Kernel *parts = layer->parts;
  in->attention.query = (Tensor){.shape = {x->shape[0], x->shape[1], parts[QKV].n}, .dimensions = 3};
  ORT(check_on_cpu(&parts[QKV], &in->attention));
  if (parts[QKV].k != width || parts[OUT].k != parts[QKV].heads * in->attention.past_keys.shape[3] ||
      parts[OUT].n != width || parts[GATE_UP].k != width || parts[GATE_UP].n != 2 * parts[DOWN].k ||
      parts[DOWN].n != width || parts[DOWN].k % 16 || parts[QKV].n % 16 || width % 16)
    return WRONG("K and N of its products do not go together");
  if (tensor_elements(&in->skip) != tensor_elements(x) || tensor_elements(&in->gammas[0]) != width ||
      tensor_elements(&in->gammas[1]) != width)
    return WRONG("x, skip and the norms must have the same width");
  return NULL;
}

// A product, and LoRA's share of its result.
typedef struct Part {
  Product product;
  Work lora;
} Part;

// All four, of so many tokens.
static OrtStatus *new_parts(const Layer *layer, Given *in, int64_t tokens, Part *parts) {
  const Kernel *qkv = &layer->parts[QKV];
  const int64_t half = layer->parts[GATE_UP].n / 2, halves[] = {half, half};
  const size_t blocks[] = {[QKV] = qkv->blocks, [OUT] = 1, [GATE_UP] = 2, [DOWN] = 1};
  const int64_t *const widths[] = {[QKV] = qkv->widths, [GATE_UP] = halves, [DOWN] = NULL};
  for (size_t i = 0; i < PARTS; ++i) {
    const Kernel *kernel = &layer->parts[i];
    in->weights[i].tokens = tokens;
    parts[i] = (Part){new_product(kernel, &in->weights[i]), {.tokens = (size_t)tokens}};
    ORT(set_adapter(&parts[i].lora, &in->a[i], &in->b[i], kernel->k, kernel->n, blocks[i], widths[i]));
  }
  return NULL;
}

// x in int8, x·Aᵀ beside it, and the product into ``y``, to which LoRA's share is to be added.
static void add_part(Program *program, Part *part, const float *x, float *y) {
  part->product.x = part->lora.x = x;
  part->product.y = y;
  part->lora.base = y;
  add_quantize(program, &part->product);
  add_down(program, &part->lora);
  add_product(program, &part->product);
}

// The norm of ``sum``, which is what lies there, LoRA's share and ``skip``.
static void add_norm(Program *program, Part *part, const Tensor *gamma, float epsilon, const float *skip, float *sum,
                     float *y) {
  Work *lora = &part->lora;
  lora->skip = skip;
  lora->gamma = gamma->data;
  lora->epsilon = epsilon;
  lora->total = sum;
  lora->y = y;
  add_up(program, lora, processor()->loops->add_norm, lora->n, processor()->loops->norm);
}

// Where results lie, in floats from the beginning of the scratch. Those of attention are no longer read when those of the
// MLP are made.
typedef struct Places {
  size_t sum, normed, integers, lora, qkv, attended, attention, gate_up, gated, end;
} Places;

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static Places lay_out(Part *parts, const Attention *attention) {
  size_t integers = 0, lora = 0, results[PARTS];
  for (size_t i = 0; i < PARTS; ++i) {
    Work *work = &parts[i].lora;
    integers = larger(integers, product_floats(&parts[i].product));
    lora = larger(lora, lora_floats(work, i == GATE_UP ? work->n / 2 : work->n));
    results[i] = aligned(work->tokens * work->n);
  }
  Places to = {.normed = results[OUT]};
  to.integers = to.normed + results[OUT];
  to.lora = to.integers + integers;
  to.qkv = to.gate_up = to.lora + lora;
  to.attended = to.qkv + results[QKV];
  to.attention = to.attended + aligned(parts[OUT].lora.tokens * parts[OUT].lora.k);
  to.gated = to.gate_up + results[GATE_UP];
  to.end = larger(to.attention + attention_floats(attention),
                  to.gated + aligned(parts[DOWN].lora.tokens * parts[DOWN].lora.k));
  return to;
}

// All phases, of results in ``scratch`` and at last in ``y`` and ``sum``.
static void write_program(Program *program, const Layer *layer, const Given *in, Part *parts, Attention *attention,
                          Places at, float *scratch, float *y, float *sum) {
  for (size_t i = 0; i < PARTS; ++i) {
    product_scratch(&parts[i].product, scratch + at.integers);
    lora_scratch(&parts[i].lora, scratch + at.lora);
  }
  float *qkv = scratch + at.qkv, *attended = scratch + at.attended, *gated = scratch + at.gated;
  float *first = scratch + at.sum, *normed = scratch + at.normed;
  new_program(program);
  add_part(program, &parts[QKV], in->x.data, qkv);
  parts[QKV].lora.y = qkv;
  if (parts[QKV].lora.rank) add_up(program, &parts[QKV].lora, processor()->loops->add, parts[QKV].lora.n, NULL);
  read_packed(attention, qkv);
  attention->y = attended;
  attention_scratch(attention, scratch + at.attention);
  add_attention(program, attention);
  add_part(program, &parts[OUT], attended, first);
  add_norm(program, &parts[OUT], &in->gammas[0], layer->parts[OUT].epsilon, in->skip.data, first, normed);
  add_part(program, &parts[GATE_UP], normed, scratch + at.gate_up);
  parts[GATE_UP].lora.y = gated;
  add_up(program, &parts[GATE_UP].lora, processor()->loops->add_gate, parts[GATE_UP].lora.n / 2, NULL);
  add_part(program, &parts[DOWN], gated, sum);
  add_norm(program, &parts[DOWN], &in->gammas[1], layer->parts[DOWN].epsilon, first, sum, y);
}

// Scratch from the session's own memory, which keeps it for the next layer.
static OrtStatus *new_scratch(const OrtKernelContext *context, size_t floats, OrtAllocator **allocator, void **out) {
  OrtMemoryInfo *info;
  ORT(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &info));
  OrtStatus *status = api->KernelContext_GetAllocator(context, info, allocator);
  api->ReleaseMemoryInfo(info);
  ORT(status);
  status = api->AllocatorAlloc(*allocator, floats * sizeof(float), out);
  if (status) api->ReleaseAllocator(*allocator);
  return status;
}

OrtStatus *cpu_layer(void *kernel, OrtKernelContext *context) {
  const Layer *layer = kernel;
  Given in = {};
  Tensor y, sum, keys, values;
  ORT(get(layer, context, &in));
  ORT(check(layer, &in));
  ORT(new_output(api, context, 0, in.x.shape, 3, &y));
  ORT(new_output(api, context, 1, in.x.shape, 3, &sum));
  ORT(new_cache(&layer->parts[QKV], context, &in.attention, 2, &keys, &values));
  const int64_t tokens = in.x.shape[0] * in.x.shape[1];
  if (!tokens) return NULL;
  Part parts[PARTS];
  ORT(new_parts(layer, &in, tokens, parts));
  Attention attention = new_attention(&layer->parts[QKV], &in.attention, &keys, &values, NULL);
  OrtAllocator *allocator;
  void *scratch;
  const Places at = lay_out(parts, &attention);
  ORT(new_scratch(context, at.end, &allocator, &scratch));
  Program program;
  write_program(&program, layer, &in, parts, &attention, at, scratch, y.data, sum.data);
  OrtStatus *status = run(context, &program);
  OrtStatus *freed = api->AllocatorFree(allocator, scratch);
  api->ReleaseAllocator(allocator);
  if (!status && attention.failed) status = WRONG("out of memory");
  if (!freed) return status;
  if (status) api->ReleaseStatus(status);
  return freed;
}
