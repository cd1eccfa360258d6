// How ONNX Runtime learns of the operators: cuda.c and cpu.c say what each computes.

#include <stdlib.h>

#include "operators.h"

const Api *api;

typedef struct Kind {
  Op op;
  const char *name;
  size_t inputs, outputs;
  bool on_cuda, epsilon, few_bits;
} Kind;

static Status *create(const Op *op, const Api *given, const void *info, void **out) {
  Kernel *kernel = calloc(1, sizeof *kernel);
  *out = kernel;
  if (((const Kind *)op)->epsilon) ORT(api_float(api, info, "epsilon", &kernel->epsilon));
  if (((const Kind *)op)->few_bits) {
    ORT(api_int(api, info, "K", &kernel->k));
    ORT(api_int(api, info, "N", &kernel->n));
    ORT(api_int(api, info, "bits", &kernel->bits));
    ORT(api_int(api, info, "block_size", &kernel->block));
  }
  return NULL;
}
static const char *name(const Op *op) { return ((const Kind *)op)->name; }
static size_t inputs(const Op *op) { return ((const Kind *)op)->inputs; }
static size_t outputs(const Op *op) { return ((const Kind *)op)->outputs; }
static const char *provider(const Op *op) {
  return ((const Kind *)op)->on_cuda ? "CUDAExecutionProvider" : "CPUExecutionProvider";
}
static int input_type(const Op *op, size_t index) {  // on a CPU only A and B, the third and fourth, are float16
  if (((const Kind *)op)->few_bits) return index % 2 ? ORT_UINT8 : ORT_FLOAT;
  return ((const Kind *)op)->on_cuda || index == 2 || index == 3 ? ORT_FLOAT16 : ORT_FLOAT;
}
static int output_type(const Op *op, size_t index) { return ((const Kind *)op)->on_cuda ? ORT_FLOAT16 : ORT_FLOAT; }
static int required(const Op *op, size_t index) { return 0; }
static int on_the_device(const Op *op, size_t index) { return 0; }
static int version(const Op *op) { return 1; }
static size_t first_to_first(int **input, int **output) {
  *input = calloc(1, sizeof(int));
  *output = calloc(1, sizeof(int));
  return 1;
}
static size_t none(int **input, int **output) {
  *input = *output = NULL;
  return 0;
}
static void release(int *input, int *output) {
  free(input);
  free(output);
}

#define OPERATOR(compute, in_place, alias)                                                                   \
  .op = {.version = ORT_VERSION, .GetName = name, .GetExecutionProviderType = provider,                      \
         .GetInputType = input_type, .GetInputTypeCount = inputs, .GetOutputType = output_type,              \
         .GetOutputTypeCount = outputs, .KernelDestroy = free, .GetInputCharacteristic = required,           \
         .GetOutputCharacteristic = required, .GetInputMemoryType = on_the_device, .CreateKernelV2 = create, \
         .KernelComputeV2 = compute, .GetStartVersion = version, .GetEndVersion = version,                   \
         .GetMayInplace = in_place, .ReleaseMayInplace = release, .GetAliasMap = alias,                      \
         .ReleaseAliasMap = release}

static const Kind kinds[] = {
    {OPERATOR(cuda_begin, none, first_to_first), "LoraBegin", .inputs = 3, .outputs = 3, .on_cuda = true},
    {OPERATOR(cuda_add, first_to_first, none), "LoraAdd", .inputs = 4, .outputs = 1, .on_cuda = true},
    {OPERATOR(cuda_add_gate, none, none), "LoraAddGate", .inputs = 4, .outputs = 1, .on_cuda = true},
    {OPERATOR(cuda_add_norm, none, none), "LoraAddNorm", .inputs = 6, .outputs = 2, .on_cuda = true, .epsilon = true},
    {OPERATOR(cpu_add, first_to_first, none), "LoraAdd", .inputs = 4, .outputs = 1},
    {OPERATOR(cpu_add_gate, none, none), "LoraAddGate", .inputs = 4, .outputs = 1},
    {OPERATOR(cpu_add_norm, none, none), "LoraAddNorm", .inputs = 6, .outputs = 2, .epsilon = true},
    {OPERATOR(cpu_matmul, none, none), "MatMulNBits", .inputs = 4, .outputs = 1, .few_bits = true},
};

__attribute__((visibility("default"))) Status *RegisterCustomOps(void *options, const ApiBase *base) {
  static const char *const names[] = {"olivepress.cpu", "olivepress.cuda"};
  api = base->GetApi(ORT_VERSION);
  for (int on_cuda = 0; on_cuda < 2; ++on_cuda) {
    void *domain;
    ORT(api_create_domain(api, names[on_cuda], &domain));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i)
      if (kinds[i].on_cuda == on_cuda) ORT(api_add_op(api, domain, &kinds[i].op));
    ORT(api_add_domain(api, options, domain));
  }
  return NULL;
}
