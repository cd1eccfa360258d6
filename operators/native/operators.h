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
  size_t blocks;      // that are packed in the projection before LoraAdd, on a CPU; 1 if it is not
  int64_t widths[3];  // of each
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

// What MatMulNBits is given: x [.., K], weights [N, K/block, block·bits/8], scales and zero points of each block.
typedef struct FewBits {
  Tensor x, weights, scales, zeros;
  int64_t tokens, blocks, zero_bytes;  // blocks and bytes of zero points in a row of weights
} FewBits;

// Weights, scales and zero points: the inputs ``index`` and the two after it.
static inline OrtStatus *get_weights(const Kernel *kernel, const OrtKernelContext *context, size_t index, FewBits *out) {
  const int64_t k = kernel->k, n = kernel->n, bits = kernel->bits, block = kernel->block;
  ORT(get_input(api, context, index, &out->weights));
  ORT(get_input(api, context, index + 1, &out->scales));
  ORT(get_input(api, context, index + 2, &out->zeros));
  out->blocks = block ? k / block : 0;
  out->zero_bytes = (out->blocks * bits + 7) / 8;
  if ((bits != 4 && bits != 8) || (block != 32 && block != 64 && block != 128) || k <= 0 || k % block ||
      tensor_elements(&out->weights) != n * k * bits / 8 || tensor_elements(&out->scales) != n * out->blocks ||
      tensor_elements(&out->zeros) != n * out->zero_bytes)
    return failure(api, "Olive Press's MatMulNBits: K, N, bits, block_size and the inputs do not go together");
  if (out->scales.type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && out->scales.type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16)
    return failure(api, "Olive Press's MatMulNBits: scales must be float32 or float16");
  return NULL;
}

static inline OrtStatus *get_few_bits(const Kernel *kernel, const OrtKernelContext *context, FewBits *out) {
  ORT(get_input(api, context, 0, &out->x));
  ORT(get_weights(kernel, context, 1, out));
  if (!out->x.dimensions || out->x.shape[out->x.dimensions - 1] != kernel->k)
    return failure(api, "Olive Press's MatMulNBits: x must be [.., K]");
  out->tokens = tensor_elements(&out->x) / kernel->k;
  return NULL;
}

// What a decoder layer consists of, each with what follows it: QKV with attention, OUT and DOWN with a norm. And where
// its inputs begin: norms; five of each part (weights, scales, zero points, A, B); cos and sin.
enum { QKV, OUT, GATE_UP, DOWN, PARTS };
enum { GAMMA = 6, FIRST_PART = 8, PART = 5, COS = FIRST_PART + PART * PARTS };

typedef struct Layer {
  Kernel parts[PARTS];
} Layer;

OrtStatus *cuda_begin(void *kernel, OrtKernelContext *context);
OrtStatus *cuda_add(void *kernel, OrtKernelContext *context);
OrtStatus *cuda_add_gate(void *kernel, OrtKernelContext *context);
OrtStatus *cuda_add_norm(void *kernel, OrtKernelContext *context);
OrtStatus *cuda_matmul(void *kernel, OrtKernelContext *context);
OrtStatus *cuda_attention(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_add(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_add_gate(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_add_norm(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_matmul(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_attention(void *kernel, OrtKernelContext *context);
OrtStatus *cpu_layer(void *kernel, OrtKernelContext *context);
