// What GroupQueryAttention is given, on a CPU (attention.c) and on a graphics card (cuda.c).

#pragma once
#include "operators.h"

#define REFUSED(what) failure(api, "Olive Press's GroupQueryAttention: " what)

typedef struct Inputs {
  Tensor query, key, value, past_keys, past_values, lengths, total, cos, sin;
} Inputs;

// Input ``index``; without dimensions if it is missing.
static inline OrtStatus *get_optional(const OrtKernelContext *context, size_t index, Tensor *out) {
  const OrtValue *value = NULL;
  size_t count;
  *out = (Tensor){};
  ORT(api->KernelContext_GetInputCount(context, &count));
  if (index < count) ORT(api->KernelContext_GetInput(context, index, &value));
  return value ? get_input(api, context, index, out) : NULL;
}

static inline OrtStatus *get_attention(const OrtKernelContext *context, Inputs *in) {
  Tensor *const tensors[] = {&in->query,   &in->key,   &in->value, &in->past_keys, &in->past_values,
                             &in->lengths, &in->total, &in->cos,   &in->sin};
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; ++i) ORT(get_optional(context, i, tensors[i]));
  return NULL;
}

// That the inputs go together; a past row's length is not looked at, which lies on the graphics card.
static inline OrtStatus *check_attention(const Kernel *k, const Inputs *in) {
  const Tensor *query = &in->query, *past = &in->past_keys, *cos = &in->cos;
  if (query->dimensions != 3 || past->dimensions != 4 || in->past_values.dimensions != 4)
    return REFUSED("query must have 3 dimensions, past keys and values 4");
  const int64_t batch = query->shape[0], tokens = query->shape[1], size = past->shape[3];
  for (size_t i = 0; i < 4; ++i)
    if (past->shape[i] != in->past_values.shape[i]) return REFUSED("past keys and values must have the same shape");
  if (past->shape[0] != batch || past->shape[1] != k->kv_heads)
    return REFUSED("the past must be [batch, kv_num_heads, length, head size], batch being the query's");
  if (!in->key.dimensions != !in->value.dimensions)
    return REFUSED("key and value must both be there, or be in the query");
  const int64_t packed = in->key.dimensions ? 0 : 2 * k->kv_heads;
  if (query->shape[2] != (k->heads + packed) * size) return REFUSED("the query's width is not that of its heads");
  for (const Tensor *one = &in->key; one <= &in->value && !packed; ++one)
    if (one->dimensions != 3 || one->shape[0] != batch || one->shape[1] != tokens ||
        one->shape[2] != k->kv_heads * size)
      return REFUSED("key and value must be [batch, tokens, kv_num_heads * head size], as the query and the past are");
  if (tensor_elements(&in->lengths) != batch || tensor_elements(&in->total) != 1 || !in->total.data)
    return REFUSED("there must be a length for each row, and one total length");
  const int64_t total = *(const int32_t *)in->total.data;
  if (total < tokens) return REFUSED("the total length is less than the tokens given");
  if (!k->rotary) return NULL;
  if (cos->dimensions != 2 || in->sin.dimensions != 2 || cos->shape[0] != in->sin.shape[0] ||
      cos->shape[1] != in->sin.shape[1] || 2 * cos->shape[1] > size)
    return REFUSED("cos and sin must be [positions, at most half of a head]");
  return cos->shape[0] < total ? REFUSED("cos and sin have fewer positions than the total length") : NULL;
}
