// What cuda.c, cpu.c and operators.c share.

#pragma once
#include <stdbool.h>

#include "tensor.h"

extern const OrtApi *api;

typedef struct Kernel {
  float epsilon;             // of a norm
  int64_t k, n, bits, block;  // of MatMulNBits
  int64_t heads, kv_heads, window, rotary;  // of GroupQueryAttention, with scale
  float scale;
} Kernel;

// Leave the function with ONNX Runtime's complaint, if it has one.
#define ORT(call)                 \
  do {                            \
    OrtStatus *status_ = (call);  \
    if (status_) return status_;  \
  } while (0)

// x [.., K], A [rank, K] and B [rank, N] go together: an adapter file may hold any, or one without the other.
static inline OrtStatus *check_shapes(const Tensor *x, const Tensor *a, const Tensor *b) {
  if (a->dimensions == 2 && b->dimensions == 2 && a->shape[0] == b->shape[0] && x->dimensions &&
      x->shape[x->dimensions - 1] == a->shape[1])
    return NULL;
  return failure(api, "Olive Press's LoRA operator: the adapter's A [rank, K] and B [rank, N] do not go together");
}

OrtStatus *cuda_begin(void *kernel, OrtKernelContext *context);
OrtStatus *cuda_add(void *kernel, OrtKernelContext *context);
OrtStatus *cuda_add_gate(void *kernel, OrtKernelContext *context);
OrtStatus *cuda_add_norm(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_add(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_add_gate(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_add_norm(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_matmul(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_attention(void *kernel, OrtKernelContext *context);
