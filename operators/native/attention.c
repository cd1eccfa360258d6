// Attention on a CPU with its cache in float16:
//
//   GroupQueryAttention (query [batch, tokens, ..], key, value, past keys and values [batch, kv_heads, .., size],
//                        lengths less 1 [batch] int32, total length int32, cos and sin [positions, rotated / 2];
//                        num_heads, kv_num_heads, scale, local_window_size, do_rotary)
//                       -> y [batch, tokens, num_heads * size], present keys and values
//
// ONNX Runtime's own of that name, float32 but for the cache: past and present are float16, and new keys and values are
// read as the cache has them, so that a prompt and the same tokens one by one see the same numbers. key and value are
// missing where query has all three, cos and sin where nothing is rotated. Where past and present are one buffer
// nothing is copied. attention_loops.c says why the number of threads changes no bit, nor do the tokens beside a token.

#include <math.h>
#include <stdlib.h>

#include "phases.h"

// All that the loops take for granted.
OrtStatus *check_on_cpu(const Kernel *k, const Inputs *in) {
  ORT(check_attention(k, in));
  const int64_t tokens = in->query.shape[1], size = in->past_keys.shape[3], total = *(const int32_t *)in->total.data;
  if (size < 16 || size > LARGEST_HEAD || size % 16) return REFUSED("heads must be of 16, 32, .. 256 values");
  for (int64_t row = 0; row < in->query.shape[0]; ++row) {
    const int64_t length = ((const int32_t *)in->lengths.data)[row] + 1;
    if (length < 0 || length > total || (total > tokens && (length < tokens || length - tokens > in->past_keys.shape[2])))
      return REFUSED("a row's length is not between the tokens given and the total length, or its past is not there");
  }
  return NULL;
}

Attention new_attention(const Kernel *k, const Inputs *in, const Tensor *keys, const Tensor *values, float *y) {
  const size_t tokens = (size_t)in->query.shape[1], total = (size_t)*(const int32_t *)in->total.data;
  Attention a = {.q = in->query.data, .k = in->key.data, .v = in->value.data, .cos = in->cos.data, .sin = in->sin.data,
                 .keys = keys->data, .values = values->data, .lengths = in->lengths.data, .y = y,
                 .q_stride = (size_t)in->query.shape[2], .past_capacity = (size_t)in->past_keys.shape[2],
                 .capacity = (size_t)keys->shape[2], .batch = (size_t)in->query.shape[0], .tokens = tokens,
                 .total = total, .kv_heads = (size_t)k->kv_heads, .group = (size_t)(k->heads / k->kv_heads),
                 .size = (size_t)in->past_keys.shape[3], .rotated = k->rotary ? (size_t)in->cos.shape[1] * 2 : 0,
                 .window = k->window > 0 ? (size_t)k->window : 0, .first = tokens == total};
  a.scale = k->scale != 0 ? k->scale : 1 / sqrtf((float)a.size);
  a.past_keys = keys->data == in->past_keys.data ? NULL : in->past_keys.data;
  a.past_values = values->data == in->past_values.data ? NULL : in->past_values.data;
  a.k_stride = a.v_stride = a.kv_heads * a.size;
  a.pieces = (total + PIECE - 1) / PIECE;
  return a;
}

void read_packed(Attention *a, const float *qkv) {
  a->q = qkv;
  a->k = qkv + a->kv_heads * a->group * a->size;
  a->v = a->k + a->kv_heads * a->size;
  a->k_stride = a->v_stride = a->q_stride;
}

static bool few(const Attention *a) { return a->tokens < FEW_TOKENS; }
static size_t queries(const Attention *a) { return a->batch * a->kv_heads * a->group * a->tokens * a->size; }
static size_t shares(const Attention *a) {
  return few(a) ? a->batch * a->kv_heads * a->tokens * a->pieces * a->group : 0;
}

size_t attention_floats(const Attention *a) { return aligned(queries(a) + shares(a) * (a->size + 2) + 1); }

void attention_scratch(Attention *a, float *scratch) {
  a->queries = scratch;
  a->shares = scratch + queries(a);
  a->sums = a->shares + shares(a) * a->size;
}

void add_attention(Program *program, Attention *a) {
  const AttentionLoops *loops = processor()->attention;
  const size_t caches = a->batch * a->kv_heads, operations = 2 * queries(a) * a->total;
  if (a->past_keys || a->past_values)
    add_phase(program, loops->copy, caches, caches * a->capacity * a->size, a);
  add_phase(program, loops->place, a->batch * place_tasks(a), 4 * queries(a), a);
  if (few(a)) {
    add_phase(program, loops->share, caches * a->tokens * share_tasks(a), operations, a);
    add_phase(program, loops->join, caches * a->tokens, shares(a) * a->size, a);
  } else {
    add_phase(program, loops->tile, caches * tile_tasks(a), operations, a);
  }
}

OrtStatus *cpu_attention(void *kernel, OrtKernelContext *context) {
  const Kernel *k = kernel;
  Inputs in;
  Tensor y, keys, values;
  ORT(get_attention(context, &in));
  ORT(check_on_cpu(k, &in));
  const int64_t batch = in.query.shape[0], tokens = in.query.shape[1], size = in.past_keys.shape[3];
  ORT(new_output(api, context, 0, (int64_t[]){batch, tokens, k->heads * size}, 3, &y));
  ORT(new_cache(k, context, &in, 1, &keys, &values));
  if (!batch) return NULL;
  Attention a = new_attention(k, &in, &keys, &values, y.data);
  if (!in.key.dimensions) read_packed(&a, a.q);
  float *scratch = aligned_alloc(64, attention_floats(&a) * sizeof *scratch);
  if (!scratch) return REFUSED("out of memory");
  attention_scratch(&a, scratch);
  Program program;
  new_program(&program);
  add_attention(&program, &a);
  OrtStatus *status = run(context, &program);
  free(scratch);
  return !status && a.failed ? REFUSED("out of memory") : status;
}

OrtStatus *new_cache(const Kernel *k, OrtKernelContext *context, const Inputs *in, size_t index, Tensor *keys,
                     Tensor *values) {
  const int64_t total = *(const int32_t *)in->total.data, past = in->past_keys.shape[2];
  const int64_t shape[] = {in->past_keys.shape[0], k->kv_heads, past > total ? past : total, in->past_keys.shape[3]};
  ORT(new_output(api, context, index, shape, 4, keys));
  return new_output(api, context, index + 1, shape, 4, values);
}
