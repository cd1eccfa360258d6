// The inputs and outputs of a kernel, by ONNX Runtime's C interface.

#pragma once
#include <onnxruntime_c_api.h>

// The interface that is asked for: the first that has aliases for custom operators. The header is of a later one, and
// of what it declares since then nothing may be called: runtimes that lack it load the library, too.
enum { API_VERSION = 18 };

static inline OrtStatus *failure(const OrtApi *api, const char *message) {
  return api->CreateStatus(ORT_FAIL, message);
}

typedef struct Tensor {
  void *data;
  int64_t shape[8];
  size_t dimensions;
  ONNXTensorElementDataType type;
} Tensor;

static inline int64_t tensor_elements(const Tensor *tensor) {
  int64_t count = 1;
  for (size_t i = 0; i < tensor->dimensions; ++i) count *= tensor->shape[i];
  return count;
}

// Input ``index`` with its shape and type.
static inline OrtStatus *get_input(const OrtApi *api, const OrtKernelContext *context, size_t index, Tensor *out) {
  const OrtValue *value;
  OrtTensorTypeAndShapeInfo *info;
  OrtStatus *status;
  if ((status = api->KernelContext_GetInput(context, index, &value))) return status;
  if ((status = api->GetTensorMutableData((OrtValue *)value, &out->data))) return status;
  if ((status = api->GetTensorTypeAndShape(value, &info))) return status;
  status = api->GetDimensionsCount(info, &out->dimensions);
  if (!status && out->dimensions > 8) status = failure(api, "a tensor of more than 8 dimensions");
  if (!status) status = api->GetDimensions(info, out->shape, out->dimensions);
  if (!status) status = api->GetTensorElementType(info, &out->type);
  api->ReleaseTensorTypeAndShapeInfo(info);
  return status;
}

// Output ``index``, allocated with the shape given.
static inline OrtStatus *new_output(const OrtApi *api, OrtKernelContext *context, size_t index, const int64_t *shape,
                                    size_t dimensions, Tensor *out) {
  OrtValue *value;
  out->dimensions = dimensions;
  for (size_t i = 0; i < dimensions; ++i) out->shape[i] = shape[i];
  OrtStatus *status = api->KernelContext_GetOutput(context, index, shape, dimensions, &value);
  return status ? status : api->GetTensorMutableData(value, &out->data);
}
