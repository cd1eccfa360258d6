// The few entries of ONNX Runtime's C interface that the operators use. No package carries its header; the interface is
// a table of function pointers that only ever grows, so a place in it stays.

#pragma once
#include <stddef.h>
#include <stdint.h>

enum { ORT_VERSION = 18 };              // of the interface: the first that has aliases for custom operators
enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_FLOAT16 = 10 };  // ONNXTensorElementDataType
enum { ORT_CUDA_CUBLAS_HANDLE = 10002 };  // CudaResource

typedef struct OrtStatus Status;
typedef struct OrtKernelContext Context;
typedef void (*Entry)(void);
typedef struct Api {
  Entry at[300];
} Api;
typedef struct ApiBase {
  const Api *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} ApiBase;

typedef struct Op Op;
struct Op {  // OrtCustomOp
  uint32_t version;
  void *(*CreateKernel)(const Op *, const Api *, const void *info);
  const char *(*GetName)(const Op *);
  const char *(*GetExecutionProviderType)(const Op *);
  int (*GetInputType)(const Op *, size_t);
  size_t (*GetInputTypeCount)(const Op *);
  int (*GetOutputType)(const Op *, size_t);
  size_t (*GetOutputTypeCount)(const Op *);
  void (*KernelCompute)(void *kernel, Context *);
  void (*KernelDestroy)(void *kernel);
  int (*GetInputCharacteristic)(const Op *, size_t);
  int (*GetOutputCharacteristic)(const Op *, size_t);
  int (*GetInputMemoryType)(const Op *, size_t);
  int (*GetVariadicInputMinArity)(const Op *);
  int (*GetVariadicInputHomogeneity)(const Op *);
  int (*GetVariadicOutputMinArity)(const Op *);
  int (*GetVariadicOutputHomogeneity)(const Op *);
  Status *(*CreateKernelV2)(const Op *, const Api *, const void *info, void **kernel);
  Status *(*KernelComputeV2)(void *kernel, Context *);
  Status *(*InferOutputShapeFn)(const Op *, void *);
  int (*GetStartVersion)(const Op *);
  int (*GetEndVersion)(const Op *);
  size_t (*GetMayInplace)(int **inputs, int **outputs);
  void (*ReleaseMayInplace)(int *inputs, int *outputs);
  size_t (*GetAliasMap)(int **inputs, int **outputs);
  void (*ReleaseAliasMap)(int *inputs, int *outputs);
};

#define ENTRY(index, ...) ((Status * (*)(__VA_ARGS__)) api->at[index])

static inline Status *api_create_status(const Api *api, const char *message) {
  return ENTRY(0, int code, const char *)(1, message);  // ORT_FAIL
}
static inline Status *api_create_domain(const Api *api, const char *name, void **domain) {
  return ENTRY(26, const char *, void **)(name, domain);
}
static inline Status *api_add_op(const Api *api, void *domain, const Op *op) {
  return ENTRY(27, void *, const Op *)(domain, op);
}
static inline Status *api_add_domain(const Api *api, void *options, void *domain) {
  return ENTRY(28, void *, void *)(options, domain);
}
static inline Status *api_float(const Api *api, const void *info, const char *name, float *value) {
  return ENTRY(85, const void *, const char *, float *)(info, name, value);  // KernelInfoGetAttribute_float
}
static inline Status *api_int(const Api *api, const void *info, const char *name, int64_t *value) {
  return ENTRY(86, const void *, const char *, int64_t *)(info, name, value);  // KernelInfoGetAttribute_int64
}
static inline Status *api_stream(const Api *api, const Context *context, void **stream) {
  return ENTRY(193, const Context *, void **)(context, stream);  // KernelContext_GetGPUComputeStream
}
// Calls task(user, i) for every i below count, on the session's threads.
static inline Status *api_parallel(const Api *api, const Context *context, void (*task)(void *user, size_t i),
                                   size_t count, void *user) {
  return ENTRY(274, const Context *, void (*)(void *, size_t), size_t, size_t, void *)(context, task, count, 0, user);
}
static inline Status *api_resource(const Api *api, const Context *context, int id, void **resource) {
  return ENTRY(265, const Context *, int, int, void **)(context, 3, id, resource);  // KernelContext_GetResource
}

typedef struct Tensor {
  void *data;
  int64_t shape[8];
  size_t dimensions;
} Tensor;

static inline int64_t tensor_elements(const Tensor *tensor) {
  int64_t count = 1;
  for (size_t i = 0; i < tensor->dimensions; ++i) count *= tensor->shape[i];
  return count;
}

static inline Status *api_data(const Api *api, const void *value, Tensor *out) {
  return ENTRY(51, const void *, void **)(value, &out->data);  // GetTensorMutableData
}

// Input ``index`` with its shape.
static inline Status *api_input(const Api *api, const Context *context, size_t index, Tensor *out) {
  const void *value;
  void *info;
  Status *status;
  if ((status = ENTRY(90, const Context *, size_t, const void **)(context, index, &value))) return status;
  if ((status = api_data(api, value, out))) return status;
  if ((status = ENTRY(65, const void *, void **)(value, &info))) return status;  // GetTensorTypeAndShape
  status = ENTRY(61, const void *, size_t *)(info, &out->dimensions);
  if (!status && out->dimensions > 8) status = api_create_status(api, "a tensor of more than 8 dimensions");
  if (!status) status = ENTRY(62, const void *, int64_t *, size_t)(info, out->shape, out->dimensions);
  ((void (*)(void *))api->at[99])(info);  // ReleaseTensorTypeAndShapeInfo
  return status;
}

// Output ``index``, allocated with the shape given.
static inline Status *api_output(const Api *api, Context *context, size_t index, const int64_t *shape,
                                 size_t dimensions, Tensor *out) {
  void *value;
  out->dimensions = dimensions;
  for (size_t i = 0; i < dimensions; ++i) out->shape[i] = shape[i];
  Status *status =
      ENTRY(91, Context *, size_t, const int64_t *, size_t, void **)(context, index, shape, dimensions, &value);
  return status ? status : api_data(api, value, out);
}
