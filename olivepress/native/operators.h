// What cuda.c, cpu.c and operators.c share.

#pragma once
#include <stdbool.h>

#include "onnxruntime_abi.h"

extern const Api *api;

typedef struct Kernel {
  float epsilon;  // of a norm
} Kernel;

// Leave the function with ONNX Runtime's complaint, if it has one.
#define ORT(call)                 \
  do {                            \
    Status *status_ = (call);     \
    if (status_) return status_;  \
  } while (0)

Status *cuda_begin(void *kernel, Context *context);
Status *cuda_add(void *kernel, Context *context);
Status *cuda_add_gate(void *kernel, Context *context);
Status *cuda_add_norm(void *kernel, Context *context);
Status *cpu_add(void *kernel, Context *context);
Status *cpu_add_gate(void *kernel, Context *context);
Status *cpu_add_norm(void *kernel, Context *context);
