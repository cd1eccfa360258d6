// How ONNX Runtime learns of the operators: cuda.c and cpu.c say what each computes. Compiled for each, with ON_CUDA or
// ON_CPU: a model for the one needs nothing of the other.

#include <stdlib.h>

#include "operators.h"

const OrtApi *api;

typedef ONNXTensorElementDataType Type;
static const Type FLOAT = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, FLOAT16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
                  UINT8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, INT32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
                  ANY = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;  // of scales, whose type get_weights looks at

typedef struct Kind {
  OrtCustomOp op;
  const char *name;
  size_t inputs, outputs;
  bool on_cuda, epsilon, few_bits, attention, layer, packed;
} Kind;

static OrtStatus *read_attention(const OrtKernelInfo *info, Kernel *kernel) {
  ORT(api->KernelInfoGetAttribute_int64(info, "num_heads", &kernel->heads));
  ORT(api->KernelInfoGetAttribute_int64(info, "kv_num_heads", &kernel->kv_heads));
  ORT(api->KernelInfoGetAttribute_int64(info, "local_window_size", &kernel->window));
  ORT(api->KernelInfoGetAttribute_int64(info, "do_rotary", &kernel->rotary));
  ORT(api->KernelInfoGetAttribute_float(info, "scale", &kernel->scale));
  if (kernel->kv_heads < 1 || kernel->heads < 1 || kernel->heads % kernel->kv_heads)
    return failure(api, "Olive Press's GroupQueryAttention: num_heads must be a multiple of kv_num_heads");
  return NULL;
}

// How wide the blocks of a packed projection are, such as q, k and v; without the attribute there is one.
static OrtStatus *read_widths(const OrtKernelInfo *info, Kernel *kernel) {
  size_t count = 0;
  kernel->blocks = 1;
  OrtStatus *lacks = api->KernelInfoGetAttributeArray_int64(info, "widths", NULL, &count);
  if (lacks) {
    api->ReleaseStatus(lacks);
    return NULL;
  }
  if (count < 1 || count > sizeof kernel->widths / sizeof *kernel->widths)
    return failure(api, "Olive Press's LoraAdd: widths must be one to three");
  kernel->blocks = count;
  ORT(api->KernelInfoGetAttributeArray_int64(info, "widths", kernel->widths, &count));
  for (size_t i = 0; i < count; ++i)
    if (kernel->widths[i] <= 0 || kernel->widths[i] % 16)
      return failure(api, "Olive Press's LoraAdd: widths must be multiples of 16");
  return NULL;
}

// The attributes of a layer: of each product, in order; of each norm; of attention as alone.
static OrtStatus *read_layer(const OrtKernelInfo *info, Layer *layer) {
  static const char *const names[] = {"K", "N", "bits", "block_size"};
  int64_t values[4][PARTS];
  float epsilons[2];
  size_t counts[] = {PARTS, PARTS, PARTS, PARTS, 2};
  for (size_t i = 0; i < 4; ++i)
    ORT(api->KernelInfoGetAttributeArray_int64(info, names[i], values[i], &counts[i]));
  ORT(api->KernelInfoGetAttributeArray_float(info, "epsilon", epsilons, &counts[4]));
  for (size_t i = 0; i < 5; ++i)
    if (counts[i] != (i < 4 ? PARTS : 2))
      return failure(api, "Olive Press's DecoderLayer: K, N, bits and block_size must be four each, epsilon two");
  for (size_t i = 0; i < PARTS; ++i)
    layer->parts[i] = (Kernel){.k = values[0][i], .n = values[1][i], .bits = values[2][i], .block = values[3][i]};
  layer->parts[OUT].epsilon = epsilons[0];
  layer->parts[DOWN].epsilon = epsilons[1];
  ORT(read_widths(info, &layer->parts[QKV]));
  return read_attention(info, &layer->parts[QKV]);
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *given, const OrtKernelInfo *info, void **out) {
  const Kind *kind = (const Kind *)op;
  Kernel *kernel = calloc(1, kind->layer ? sizeof(Layer) : sizeof *kernel);
  *out = kernel;
  if (!kernel) return failure(api, "Olive Press's operators: out of memory");
  if (kind->layer) return read_layer(info, (Layer *)kernel);
  if (kind->epsilon) ORT(api->KernelInfoGetAttribute_float(info, "epsilon", &kernel->epsilon));
  if (kind->few_bits) {
    ORT(api->KernelInfoGetAttribute_int64(info, "K", &kernel->k));
    ORT(api->KernelInfoGetAttribute_int64(info, "N", &kernel->n));
    ORT(api->KernelInfoGetAttribute_int64(info, "bits", &kernel->bits));
    ORT(api->KernelInfoGetAttribute_int64(info, "block_size", &kernel->block));
  }
  if (kind->packed) return read_widths(info, kernel);
  return kind->attention ? read_attention(info, kernel) : NULL;
}
static const char *name(const OrtCustomOp *op) { return ((const Kind *)op)->name; }
static size_t inputs(const OrtCustomOp *op) { return ((const Kind *)op)->inputs; }
static size_t outputs(const OrtCustomOp *op) { return ((const Kind *)op)->outputs; }
static const char *provider(const OrtCustomOp *op) {
  return ((const Kind *)op)->on_cuda ? "CUDAExecutionProvider" : "CPUExecutionProvider";
}
static Type layer_input(size_t index) {  // in the order that layer.c says
  const size_t first = index / 2, part = (index - FIRST_PART) % PART;
  if (index < FIRST_PART) return first == 1 ? FLOAT16 : first == 2 ? INT32 : FLOAT;
  if (index >= COS) return FLOAT;
  return part == 1 ? ANY : part < 3 ? UINT8 : FLOAT16;
}
static Type input_type(const OrtCustomOp *op, size_t index) {  // on a CPU A and B, third and fourth, are float16
  const Kind *kind = (const Kind *)op;
  if (kind->layer) return layer_input(index);
  if (kind->few_bits) return index % 2 ? UINT8 : kind->on_cuda ? FLOAT16 : index ? ANY : FLOAT;
  if (kind->attention)  // past keys and values; lengths
    return index == 5 || index == 6 ? INT32 : kind->on_cuda || index == 3 || index == 4 ? FLOAT16 : FLOAT;
  return kind->on_cuda || index == 2 || index == 3 ? FLOAT16 : FLOAT;
}
static Type output_type(const OrtCustomOp *op, size_t index) {  // the attention's second and third are its cache
  const Kind *kind = (const Kind *)op;
  if (kind->layer) return index < 2 ? FLOAT : FLOAT16;
  if (kind->attention && index == 3) return FLOAT;
  return kind->on_cuda || (kind->attention && index) ? FLOAT16 : FLOAT;
}
static OrtCustomOpInputOutputCharacteristic input_required(const OrtCustomOp *op, size_t index) {
  const Kind *kind = (const Kind *)op;
  const bool may_lack = kind->layer ? index >= COS  // and sin
                                    : kind->attention && (index == 1 || index == 2 || index >= 7);  // key and value, too
  return may_lack ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
}
static OrtCustomOpInputOutputCharacteristic required(const OrtCustomOp *op, size_t index) {
  return INPUT_OUTPUT_REQUIRED;
}
static OrtMemType memory(const OrtCustomOp *op, size_t index) {  // the attention's total length is a number for the host
  return ((const Kind *)op)->attention && index == 6 ? OrtMemTypeCPUInput : OrtMemTypeDefault;
}
static int version(const OrtCustomOp *op) { return 1; }
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
  .op = {.version = API_VERSION, .GetName = name, .GetExecutionProviderType = provider,                      \
         .GetInputType = input_type, .GetInputTypeCount = inputs, .GetOutputType = output_type,              \
         .GetOutputTypeCount = outputs, .KernelDestroy = free, .GetInputCharacteristic = input_required,           \
         .GetOutputCharacteristic = required, .GetInputMemoryType = memory, .CreateKernelV2 = create, \
         .KernelComputeV2 = compute, .GetStartVersion = version, .GetEndVersion = version,                   \
         .GetMayInplace = in_place, .ReleaseMayInplace = release, .GetAliasMap = alias,                      \
         .ReleaseAliasMap = release}

static const Kind kinds[] = {
#ifdef ON_CUDA
    {OPERATOR(cuda_begin, none, first_to_first), "LoraBegin", .inputs = 3, .outputs = 3, .on_cuda = true},
    {OPERATOR(cuda_add, first_to_first, none), "LoraAdd", .inputs = 4, .outputs = 1, .on_cuda = true},
    {OPERATOR(cuda_add_gate, none, none), "LoraAddGate", .inputs = 4, .outputs = 1, .on_cuda = true},
    {OPERATOR(cuda_add_norm, none, none), "LoraAddNorm", .inputs = 6, .outputs = 2, .on_cuda = true, .epsilon = true},
    {OPERATOR(cuda_matmul, none, none), "MatMulNBits", .inputs = 4, .outputs = 2, .on_cuda = true, .few_bits = true},
    {OPERATOR(cuda_attention, none, none), "GroupQueryAttention", .inputs = 9, .outputs = 4, .on_cuda = true,
     .attention = true},
#else
    {OPERATOR(cpu_add, first_to_first, none), "LoraAdd", .inputs = 4, .outputs = 1, .packed = true},
    {OPERATOR(cpu_add_gate, none, none), "LoraAddGate", .inputs = 4, .outputs = 1},
    {OPERATOR(cpu_add_norm, none, none), "LoraAddNorm", .inputs = 6, .outputs = 2, .epsilon = true},
    {OPERATOR(cpu_matmul, none, none), "MatMulNBits", .inputs = 4, .outputs = 1, .few_bits = true},
    {OPERATOR(cpu_attention, none, none), "GroupQueryAttention", .inputs = 9, .outputs = 3, .attention = true},
    {OPERATOR(cpu_layer, none, none), "DecoderLayer", .inputs = COS + 2, .outputs = 4, .layer = true},
#endif
};

__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options,
                                                                    const OrtApiBase *base) {
  OrtCustomOpDomain *domain;
  api = base->GetApi(API_VERSION);
  ORT(api->CreateCustomOpDomain(kinds[0].on_cuda ? "olivepress.cuda" : "olivepress.cpu", &domain));
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i) ORT(api->CustomOpDomain_Add(domain, &kinds[i].op));
  return api->AddCustomOpDomain(options, domain);
}
