// The operators in a CUDA session, float16 (domain olivepress.cuda):
//
//   LoraBegin   (x [.., K], A [rank, K], B [rank, N]) -> (x, t [tokens, rank], delta [tokens, N])
//   LoraAdd     (base [.., N], t, delta, x) -> y = base + delta
//   LoraAddGate (base [.., N], t, delta, x) -> y [.., N/2] = SiLU(g) · u, where [g, u] = base + delta
//   LoraAddNorm (base [.., N], t, delta, x, skip [.., N], gamma [N]; epsilon) -> (y, sum),
//               where sum = base + delta + skip and y = RMSNorm(sum) · gamma
//
// A quantized projection stands between LoraBegin and one of the others. It reads LoraBegin's x, which is the input
// under another name, so that it comes after it. delta = (x·Aᵀ)·B. For one token LoraBegin starts that on a stream
// beside the session's, where it runs along with the projection, and the second operator waits for it. For more tokens
// it calls cuBLAS on the session's own stream. The second operators take t and x only so that their memory is not used
// again before that work is done. Without an adapter (rank 0) x and base pass through in place, and LoraBegin and
// LoraAdd start nothing.

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <core/providers/cuda/cuda_resource.h>

#include "operators.h"

static const unsigned char ptx[] = {
#embed "lora.ptx"
    , 0};

// ---- CUDA, from the libraries that the session has loaded -------------------------------------------------

typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUfunc_st *CUfunction;
typedef uint64_t CUdeviceptr;

static struct {
  int (*load)(void **module, const void *image);
  int (*function)(CUfunction *, void *module, const char *name);
  int (*launch)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **,
                void **);
  int (*copy)(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream);
  int (*new_stream)(CUstream *, unsigned flags);
  int (*new_event)(CUevent *, unsigned flags);
  int (*record)(CUevent, CUstream);
  int (*wait)(CUstream, CUevent, unsigned flags);
  int (*context)(void **);
  int (*error_name)(int, const char **);
  int (*gemm)(void *handle, int, int, int, int, int, const void *alpha, const void *, int, int, const void *, int, int,
              const void *beta, void *, int, int, int, int);
} cuda;

// What belongs to one session's stream: the stream beside it, the kernels, and an event for each direction in which one
// stream waits for the other (with one for both, two generators in two threads could take it from each other).
typedef struct Lane {
  struct Lane *next;
  void *context;
  CUstream stream, beside;
  CUevent begun, done;
  CUfunction down, up, add, add_gate, add_norm;
} Lane;

static Lane *lanes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static OrtStatus *failed(const char *what, int code) {
  const char *name = NULL;
  char text[200];
  if (cuda.error_name) cuda.error_name(code, &name);
  snprintf(text, sizeof text, "Olive Press's LoRA operator: %s: %s (%d)", what, name ? name : "error", code);
  return failure(api, text);
}

#define TRY(call)                                \
  do {                                           \
    int code_ = (call);                          \
    if (code_) return failed(#call, code_);      \
  } while (0)

static OrtStatus *find(void **function, void *library, const char *name) {
  *function = library ? dlsym(library, name) : NULL;
  if (*function) return NULL;
  char text[200];
  snprintf(text, sizeof text, "Olive Press's LoRA operator: %s is not in this process: is this a CUDA session?", name);
  return failure(api, text);
}

static OrtStatus *find_cuda(void) {
  static const char *const versions[] = {"libcublas.so.12", "libcublas.so.13", "libcublas.so.11"};
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY), *cublas = NULL;
  for (int i = 0; i < 3 && !cublas; ++i) cublas = dlopen(versions[i], RTLD_LAZY | RTLD_NOLOAD);
  ORT(find((void **)&cuda.gemm, cublas, "cublasGemmEx"));
  ORT(find((void **)&cuda.error_name, driver, "cuGetErrorName"));
  ORT(find((void **)&cuda.load, driver, "cuModuleLoadData"));
  ORT(find((void **)&cuda.function, driver, "cuModuleGetFunction"));
  ORT(find((void **)&cuda.launch, driver, "cuLaunchKernel"));
  ORT(find((void **)&cuda.copy, driver, "cuMemcpyDtoDAsync_v2"));
  ORT(find((void **)&cuda.new_stream, driver, "cuStreamCreate"));
  ORT(find((void **)&cuda.new_event, driver, "cuEventCreate"));
  ORT(find((void **)&cuda.record, driver, "cuEventRecord"));
  ORT(find((void **)&cuda.wait, driver, "cuStreamWaitEvent"));
  return find((void **)&cuda.context, driver, "cuCtxGetCurrent");
}

static OrtStatus *new_lane(Lane **out, void *context, CUstream stream) {
  void *module;
  Lane *lane = calloc(1, sizeof *lane);
  *lane = (Lane){.next = lanes, .context = context, .stream = stream};
  TRY(cuda.load(&module, ptx));
  TRY(cuda.function(&lane->down, module, "lora_down"));
  TRY(cuda.function(&lane->up, module, "lora_up"));
  TRY(cuda.function(&lane->add, module, "lora_add"));
  TRY(cuda.function(&lane->add_gate, module, "lora_add_gate"));
  TRY(cuda.function(&lane->add_norm, module, "lora_add_norm"));
  TRY(cuda.new_stream(&lane->beside, 1));  // CU_STREAM_NON_BLOCKING
  TRY(cuda.new_event(&lane->begun, 2));    // CU_EVENT_DISABLE_TIMING
  TRY(cuda.new_event(&lane->done, 2));
  *out = lanes = lane;
  return NULL;
}

static OrtStatus *lane_of(Lane **out, const OrtKernelContext *context) {
  void *stream, *current;
  ORT(api->KernelContext_GetGPUComputeStream(context, &stream));
  pthread_mutex_lock(&lock);
  OrtStatus *status = cuda.context ? NULL : find_cuda();
  *out = NULL;
  if (!status) {
    cuda.context(&current);
    for (Lane *lane = lanes; lane && !*out; lane = lane->next)
      if (lane->context == current && lane->stream == stream) *out = lane;
    if (!*out) status = new_lane(out, current, stream);
  }
  pthread_mutex_unlock(&lock);
  return status;
}

static OrtStatus *launch(CUfunction function, int64_t blocks, int64_t parts, unsigned threads, CUstream stream,
                      void **arguments) {
  TRY(cuda.launch(function, (unsigned)blocks, (unsigned)parts, 1, threads, 1, 1, 0, stream, arguments, NULL));
  return NULL;
}

// C [rows, columns] = L [rows, inner] · R, R [inner, columns] or, transposed, [columns, inner]; all row-major.
static OrtStatus *product(const OrtKernelContext *context, const Tensor *c, const Tensor *l, const Tensor *r,
                          bool transposed) {
  enum { CUBLAS_OP_N, CUBLAS_OP_T, CUDA_R_16F = 2, CUBLAS_COMPUTE_32F = 68, CUBLAS_GEMM_DEFAULT = -1 };
  const float one = 1, zero = 0;
  const int rows = (int)c->shape[0], columns = (int)c->shape[1];
  const int inner = (int)r->shape[transposed ? 1 : 0];
  void *handle;
  ORT(api->KernelContext_GetResource(context, ORT_CUDA_RESOURCE_VERSION, cublas_handle_t, &handle));
  // cuBLAS counts in columns: its product is the transposed one
  TRY(cuda.gemm(handle, transposed ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, columns, rows, inner, &one, r->data,
                CUDA_R_16F, transposed ? inner : columns, l->data, CUDA_R_16F, inner, &zero, c->data, CUDA_R_16F,
                columns, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  return NULL;
}

// ---- the operators --------------------------------------------------------------------------------------

OrtStatus *cuda_begin(void *kernel, OrtKernelContext *context) {
  Tensor x, a, b, same, t, delta;
  ORT(get_input(api, context, 0, &x));
  ORT(get_input(api, context, 1, &a));
  ORT(get_input(api, context, 2, &b));
  ORT(check_shapes(&x, &a, &b));
  int k = (int)a.shape[1], n = (int)b.shape[1], rank = (int)a.shape[0];
  const int64_t tokens = tensor_elements(&x) / k;
  ORT(new_output(api, context, 0, x.shape, x.dimensions, &same));
  ORT(new_output(api, context, 1, (int64_t[]){tokens, rank}, 2, &t));
  ORT(new_output(api, context, 2, (int64_t[]){rank ? tokens : 0, n}, 2, &delta));
  if (!tokens || (!rank && same.data == x.data)) return NULL;
  Lane *lane;
  ORT(lane_of(&lane, context));
  if (same.data != x.data)  // ONNX Runtime did not take the offer to leave it where it is
    TRY(cuda.copy((CUdeviceptr)same.data, (CUdeviceptr)x.data, 2 * tokens * k, lane->stream));
  if (!rank) return NULL;
  if (tokens > 1) {
    ORT(product(context, &t, &x, &a, true));
    return product(context, &delta, &t, &b, false);
  }
  TRY(cuda.record(lane->begun, lane->stream));
  TRY(cuda.wait(lane->beside, lane->begun, 0));
  ORT(launch(lane->down, rank, 1, 128, lane->beside, (void *[]){&x.data, &a.data, &t.data, &k}));
  return launch(lane->up, (n + 127) / 128, 1, 256, lane->beside,
                (void *[]){&t.data, &b.data, &delta.data, &rank, &n});
}

// The inputs that LoraAdd, LoraAddGate and LoraAddNorm have in common; ``delta`` gets no data where there is none.
static OrtStatus *finish(const OrtKernelContext *context, Tensor *base, Tensor *delta, int64_t *tokens, Lane **lane) {
  Tensor t;
  ORT(get_input(api, context, 0, base));
  ORT(get_input(api, context, 1, &t));
  ORT(get_input(api, context, 2, delta));
  ORT(lane_of(lane, context));
  *tokens = t.shape[0];
  if (!t.shape[1]) delta->data = NULL;
  if (!delta->data || *tokens != 1) return NULL;
  TRY(cuda.record((*lane)->done, (*lane)->beside));
  TRY(cuda.wait((*lane)->stream, (*lane)->done, 0));
  return NULL;
}

OrtStatus *cuda_add(void *kernel, OrtKernelContext *context) {
  Tensor base, delta, y;
  int64_t tokens;
  Lane *lane;
  ORT(finish(context, &base, &delta, &tokens, &lane));
  ORT(new_output(api, context, 0, base.shape, base.dimensions, &y));
  long long count = tensor_elements(&base);
  if (!count || (!delta.data && y.data == base.data)) return NULL;
  return launch(lane->add, (count / 8 + 127) / 128, 1, 128, lane->stream,
                (void *[]){&base.data, &delta.data, &y.data, &count});
}

OrtStatus *cuda_add_gate(void *kernel, OrtKernelContext *context) {
  Tensor base, delta, y;
  int64_t tokens;
  Lane *lane;
  ORT(finish(context, &base, &delta, &tokens, &lane));
  int n = (int)delta.shape[1];
  base.shape[base.dimensions - 1] /= 2;
  ORT(new_output(api, context, 0, base.shape, base.dimensions, &y));
  if (!tokens) return NULL;
  return launch(lane->add_gate, tokens, (n / 16 + 127) / 128, 128, lane->stream,
                (void *[]){&base.data, &delta.data, &y.data, &n});
}

OrtStatus *cuda_add_norm(void *kernel, OrtKernelContext *context) {
  Tensor base, delta, skip, gamma, y, sum;
  int64_t tokens;
  Lane *lane;
  ORT(finish(context, &base, &delta, &tokens, &lane));
  ORT(get_input(api, context, 4, &skip));
  ORT(get_input(api, context, 5, &gamma));
  int n = (int)delta.shape[1];
  ORT(new_output(api, context, 0, base.shape, base.dimensions, &y));
  ORT(new_output(api, context, 1, base.shape, base.dimensions, &sum));
  if (!tokens) return NULL;
  return launch(lane->add_norm, tokens, 1, 512, lane->stream,
                (void *[]){&base.data, &delta.data, &skip.data, &gamma.data, &y.data, &sum.data, &n,
                           &((Kernel *)kernel)->epsilon});
}

