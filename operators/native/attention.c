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

#include "attention.h"

#include <math.h>
#include <stdlib.h>

#include "group_query.h"

// All that the loops take for granted.
static OrtStatus *check(const Kernel *k, const Inputs *in) {
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

static OrtStatus *compute(const OrtKernelContext *context, Attention *a, size_t total) {
  const AttentionLoops *loops = processor()->attention;
  const size_t caches = a->batch * a->kv_heads, heads = caches * a->group, queries = heads * a->tokens * a->size;
  const bool few = a->tokens < FEW_TOKENS;
  a->pieces = (total + PIECE - 1) / PIECE;
  const size_t shares = few ? caches * a->tokens * a->pieces * a->group : 0;
  float *scratch = aligned_alloc(64, (queries + shares * (a->size + 2) + 16) / 16 * 64);
  if (!scratch) return REFUSED("out of memory");
  a->queries = scratch;
  a->shares = scratch + queries;
  a->sums = a->shares + shares * a->size;
  OrtStatus *status = NULL;
  if (a->past_keys || a->past_values)
    status = run(context, loops->copy, caches, ONE_BY_ONE, caches * a->capacity * a->size, a);
  if (!status) status = run(context, loops->place, a->batch * place_tasks(a), ONE_BY_ONE, 4 * queries, a);
  const size_t operations = 2 * queries * total;
  if (!status && few)
    status = run(context, loops->share, caches * a->tokens * share_tasks(a), ONE_BY_ONE, operations, a);
  if (!status && few) status = run(context, loops->join, caches * a->tokens, ONE_BY_ONE, shares * a->size, a);
  if (!status && !few) status = run(context, loops->tile, caches * tile_tasks(a), ONE_BY_ONE, operations, a);
  free(scratch);
  return !status && a->failed ? REFUSED("out of memory") : status;
}

OrtStatus *cpu_attention(void *kernel, OrtKernelContext *context) {
  const Kernel *k = kernel;
  Inputs in;
  Tensor y, keys, values;
  ORT(get_attention(context, &in));
  ORT(check(k, &in));
  const int64_t batch = in.query.shape[0], tokens = in.query.shape[1], size = in.past_keys.shape[3];
  const int64_t total = *(const int32_t *)in.total.data, past = in.past_keys.shape[2];
  const int64_t capacity = past > total ? past : total;
  ORT(new_output(api, context, 0, (int64_t[]){batch, tokens, k->heads * size}, 3, &y));
  ORT(new_output(api, context, 1, (int64_t[]){batch, k->kv_heads, capacity, size}, 4, &keys));
  ORT(new_output(api, context, 2, (int64_t[]){batch, k->kv_heads, capacity, size}, 4, &values));
  Attention a = {.q = in.query.data, .k = in.key.data, .v = in.value.data, .cos = in.cos.data, .sin = in.sin.data,
                 .keys = keys.data, .values = values.data, .lengths = in.lengths.data, .y = y.data,
                 .q_stride = (size_t)in.query.shape[2], .past_capacity = (size_t)past, .capacity = (size_t)capacity,
                 .batch = (size_t)batch, .tokens = (size_t)tokens, .kv_heads = (size_t)k->kv_heads,
                 .group = (size_t)(k->heads / k->kv_heads), .size = (size_t)size,
                 .rotated = k->rotary ? (size_t)in.cos.shape[1] * 2 : 0,
                 .window = k->window > 0 ? (size_t)k->window : 0, .first = tokens == total};
  a.scale = k->scale != 0 ? k->scale : 1 / sqrtf((float)size);
  a.past_keys = keys.data == in.past_keys.data ? NULL : in.past_keys.data;
  a.past_values = values.data == in.past_values.data ? NULL : in.past_values.data;
  a.k_stride = a.v_stride = a.kv_heads * a.size;
  if (!in.key.dimensions) {
    a.k = a.q + a.kv_heads * a.group * a.size;
    a.v = a.k + a.kv_heads * a.size;
    a.k_stride = a.v_stride = a.q_stride;
  }
  return batch ? compute(context, &a, (size_t)total) : NULL;
}
