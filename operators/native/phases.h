// The phases that the CPU's operators consist of, alone (cpu.c, attention.c) and as a decoder layer (layer.c). Each
// function of scratch says how much there has to be, and the one after it where it lies.

#pragma once
#include "attention.h"
#include "group_query.h"
#include "program.h"

enum { ALIGNED = 16 };  // floats: what a region of scratch begins at a multiple of

static inline size_t aligned(size_t floats) { return (floats + ALIGNED - 1) / ALIGNED * ALIGNED; }

// What an adapter's A [rank, K] and B [rank, N] are for x [.., K] and a projection of N outputs. Where that is packed of
// ``blocks`` of these ``widths``, B may have the rows of one block's rank, and A those of all blocks, one after the other:
// a block's columns of B belong to its own rows of A.
OrtStatus *set_adapter(Work *work, const Tensor *a, const Tensor *b, int64_t k, int64_t n, size_t blocks,
                       const int64_t *widths);

// LoRA's share of ``width`` columns: floats; x·Aᵀ; then ``part`` for every part of the columns, and ``token``, if there is
// one, for every token.
size_t lora_floats(Work *work, size_t width);
void lora_scratch(Work *work, float *scratch);
void add_down(Program *program, Work *work);
void add_up(Program *program, Work *work, Task *part, size_t width, Task *token);

// A product with few bits: of ``kernel`` and its tensors; floats; x in int8; the product of it.
Product new_product(const Kernel *kernel, const FewBits *in);
size_t product_floats(const Product *product);
void product_scratch(Product *product, float *scratch);
void add_quantize(Program *program, Product *product);
void add_product(Program *program, Product *product);

// Attention: that its inputs go together; outputs ``index`` and the next, present keys and values; what it is then; where
// it finds q, k and v in one; floats; all of it. ``failed`` says afterwards whether it had the memory.
OrtStatus *check_on_cpu(const Kernel *kernel, const Inputs *in);
OrtStatus *new_cache(const Kernel *kernel, OrtKernelContext *context, const Inputs *in, size_t index, Tensor *keys,
                     Tensor *values);
Attention new_attention(const Kernel *kernel, const Inputs *in, const Tensor *keys, const Tensor *values, float *y);
void read_packed(Attention *attention, const float *qkv);
size_t attention_floats(const Attention *attention);
void attention_scratch(Attention *attention, float *scratch);
void add_attention(Program *program, Attention *attention);
