// The operators in a CUDA session, float16 (domain olivepress.cuda):
//
//   LoraBegin   (x [.., K], A [rank, K], B [rank, N]) -> (x, t [tokens, rank], delta [tokens, N])
//   LoraAdd     (base [.., N], t, delta, x) -> y = base + delta
//   LoraAddGate (base [.., N], t, delta, x) -> y [.., N/2] = SiLU(g) · u, where [g, u] = base + delta
//   LoraAddNorm (base [.., N], t, delta, x, skip [.., N], gamma [N]; epsilon) -> (y, sum),
//               where sum = base + delta + skip and y = RMSNorm(sum) · gamma
//   MatMulNBits (x [.., K], weights, scales, zero points; K, N, bits, block_size) -> (y [.., N], W [N, K] or nothing),
//               the quantized projection itself, as ONNX Runtime's operator of that name has it
//   GroupQueryAttention (as of attention.c, but all float16 and the lengths on the card) -> (y, present keys and values,
//               scratch, float32), of heads of 64, 96 or 128 values
//
// A quantized projection stands between LoraBegin and one of the others. It reads LoraBegin's x, which is the input
// under another name, so that it comes after it. delta = (x·Aᵀ)·B. For one token LoraBegin starts that on a stream
// beside the session's, where it runs along with the projection, and the second operator waits for it. For more tokens
// it calls cuBLAS on the session's own stream. The second operators take t and x only so that their memory is not used
// again before that work is done. Without an adapter (rank 0) x and base pass through in place, and LoraBegin and
// LoraAdd start nothing.
//
// MatMulNBits multiplies up to FEW_TOKENS tokens with the weights as they are (matmul.cu); for more it writes them in
// float16 to its second output, which nobody reads, and leaves the product to cuBLAS. attention.cu says how attention is
// computed; ONNX Runtime's own takes two to four times as long for one token, and two kernels more to clear memory.

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <core/providers/cuda/cuda_resource.h>

#include "group_query.h"

static const unsigned char attention_80[] = {
#embed "attention.compute_80.ptx"
    , 0};
static const unsigned char attention_90[] = {
#embed "attention.compute_90.ptx"
    , 0};
static const unsigned char lora_80[] = {
#embed "lora.compute_80.ptx"
    , 0};
static const unsigned char lora_90[] = {
#embed "lora.compute_90.ptx"
    , 0};
static const unsigned char matmul_80[] = {
#embed "matmul.compute_80.ptx"
    , 0};
static const unsigned char matmul_90[] = {
#embed "matmul.compute_90.ptx"
    , 0};

enum {
  FEW_TOKENS = 32,
  // matmul.cu's ROWS, COLUMNS, THREADS and DEPTH
  ROWS = 16,
  COLUMNS = 8,
  THREADS = 256,
  DEPTH = 4,
  BLOCKS_A_CARD = 3,   // of threads on each multiprocessor: they take more rows rather than be more
  SHARED = 80 << 10,  // bytes that a block of threads may ask for; every card since Ampere has them
  // attention.cu's
  ATTENDING = 128,  // threads
  SHARES = 16,
  TILE = 64,
  COUNTS = 1 << 14,  // rows times heads that one call may have
  HOPPER = 9,         // major compute capability of the first card that starts a kernel before the last has ended
};

// ---- CUDA, from the libraries that the session has loaded -------------------------------------------------

typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUfunc_st *CUfunction;
typedef uint64_t CUdeviceptr;

typedef struct CUattribute {  // CUlaunchAttribute
  int id;
  union {
    char bytes[64];
    int allowed;
  } __attribute__((aligned(8))) value;
} CUattribute;

typedef struct CUlaunch {  // CUlaunchConfig
  unsigned grid[3], block[3], shared_bytes;
  CUstream stream;
  CUattribute *attributes;
  unsigned attribute_count;
} CUlaunch;

static struct {
  int (*load)(void **module, const void *image);
  int (*function)(CUfunction *, void *module, const char *name);
  int (*launch)(const CUlaunch *, CUfunction, void **arguments, void **);
  int (*device)(int *);
  int (*attribute)(int *, int attribute, int device);
  int (*set_attribute)(CUfunction, int attribute, int value);
  int (*allocate)(CUdeviceptr *, size_t bytes);
  int (*clear)(CUdeviceptr, unsigned char value, size_t bytes);
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
  bool overlaps;  // the card starts a kernel before the last one has ended
  int processors;
  CUfunction down, up, add, add_gate, add_norm, few[2][2][3], to_float16;  // few: one, eight; bits 4, 8; blocks 32, 64, 128
  CUfunction attend_one[3], attend[3], place;  // heads of 64, 96, 128 values
  CUdeviceptr counts;  // [COUNTS] of attention.cu, 0 between calls
} Lane;

static Lane *lanes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static OrtStatus *failed(const char *what, int code) {
  const char *name = NULL;
  char text[200];
  if (cuda.error_name) cuda.error_name(code, &name);
  snprintf(text, sizeof text, "Olive Press's CUDA operators: %s: %s (%d)", what, name ? name : "error", code);
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
  snprintf(text, sizeof text, "Olive Press's CUDA operators: %s is not in this process: is this a CUDA session?", name);
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
  ORT(find((void **)&cuda.launch, driver, "cuLaunchKernelEx"));
  ORT(find((void **)&cuda.device, driver, "cuCtxGetDevice"));
  ORT(find((void **)&cuda.attribute, driver, "cuDeviceGetAttribute"));
  ORT(find((void **)&cuda.set_attribute, driver, "cuFuncSetAttribute"));
  ORT(find((void **)&cuda.allocate, driver, "cuMemAlloc_v2"));
  ORT(find((void **)&cuda.clear, driver, "cuMemsetD8_v2"));
  ORT(find((void **)&cuda.copy, driver, "cuMemcpyDtoDAsync_v2"));
  ORT(find((void **)&cuda.new_stream, driver, "cuStreamCreate"));
  ORT(find((void **)&cuda.new_event, driver, "cuEventCreate"));
  ORT(find((void **)&cuda.record, driver, "cuEventRecord"));
  ORT(find((void **)&cuda.wait, driver, "cuStreamWaitEvent"));
  return find((void **)&cuda.context, driver, "cuCtxGetCurrent");
}

static OrtStatus *new_lane(Lane **out, void *context, CUstream stream) {
  enum { CU_MULTIPROCESSOR_COUNT = 16, CU_COMPUTE_CAPABILITY_MAJOR = 75, CU_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 };
  void *module, *products, *attention;
  int device, major;
  TRY(cuda.device(&device));
  TRY(cuda.attribute(&major, CU_COMPUTE_CAPABILITY_MAJOR, device));
  Lane *lane = calloc(1, sizeof *lane);
  if (!lane) return failure(api, "Olive Press's CUDA operators: out of memory");
  *lane = (Lane){.next = lanes, .context = context, .stream = stream, .overlaps = major >= HOPPER};
  TRY(cuda.load(&module, lane->overlaps ? lora_90 : lora_80));
  TRY(cuda.load(&products, lane->overlaps ? matmul_90 : matmul_80));
  TRY(cuda.load(&attention, lane->overlaps ? attention_90 : attention_80));
  TRY(cuda.function(&lane->down, module, "lora_down"));
  TRY(cuda.function(&lane->up, module, "lora_up"));
  TRY(cuda.function(&lane->add, module, "lora_add"));
  TRY(cuda.function(&lane->add_gate, module, "lora_add_gate"));
  TRY(cuda.function(&lane->add_norm, module, "lora_add_norm"));
  TRY(cuda.attribute(&lane->processors, CU_MULTIPROCESSOR_COUNT, device));
  TRY(cuda.function(&lane->to_float16, products, "to_float16"));
  for (int i = 0; i < 12; ++i) {
    const int eight = i / 6, wide = i / 3 % 2, size = i % 3;
    CUfunction *few = &lane->few[eight][wide][size];
    char name[32];
    snprintf(name, sizeof name, "%s_%d_%d", eight ? "eight" : "one", wide ? 8 : 4, 32 << size);
    TRY(cuda.function(few, products, name));
    TRY(cuda.set_attribute(*few, CU_MAX_DYNAMIC_SHARED_SIZE_BYTES, SHARED));
  }
  for (int i = 0; i < 3; ++i) {
    char name[32];
    snprintf(name, sizeof name, "attend_%d", 64 + 32 * i);
    TRY(cuda.function(&lane->attend[i], attention, name));
    snprintf(name, sizeof name, "attend_one_%d", 64 + 32 * i);
    TRY(cuda.function(&lane->attend_one[i], attention, name));
  }
  TRY(cuda.function(&lane->place, attention, "place"));
  TRY(cuda.allocate(&lane->counts, COUNTS * sizeof(unsigned)));
  TRY(cuda.clear(lane->counts, 0, COUNTS * sizeof(unsigned)));
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

typedef enum { IN_TURN, OVERLAPPING } Start;

// OVERLAPPING: where the card can, before the kernel ahead of it in ``stream`` has ended; the kernel itself waits. Behind
// an event of another stream, too: a captured graph then has such an edge from either kernel, and the wait is for both;
// without a graph the start is behind the event.
static OrtStatus *launch(const Lane *lane, CUfunction function, int64_t blocks, int64_t parts, unsigned threads,
                         int64_t shared, CUstream stream, Start start, void **arguments) {
  enum { CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6 };
  CUattribute early = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, .value.allowed = 1};
  const CUlaunch how = {.grid = {(unsigned)blocks, (unsigned)parts, 1}, .block = {threads, 1, 1},
                        .shared_bytes = (unsigned)shared, .stream = stream,
                        .attributes = &early, .attribute_count = start == OVERLAPPING && lane->overlaps};
  TRY(cuda.launch(&how, function, arguments, NULL));
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
  ORT(launch(lane, lane->down, rank, 1, 128, 0, lane->beside, IN_TURN, (void *[]){&x.data, &a.data, &t.data, &k}));
  return launch(lane, lane->up, (n + 127) / 128, 1, 256, 0, lane->beside, OVERLAPPING,
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
  return launch(lane, lane->add, (count / 8 + 127) / 128, 1, 128, 0, lane->stream, OVERLAPPING,
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
  return launch(lane, lane->add_gate, tokens, (n / 16 + 127) / 128, 128, 0, lane->stream, OVERLAPPING,
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
  return launch(lane, lane->add_norm, tokens, 1, 512, 0, lane->stream, OVERLAPPING,
                (void *[]){&base.data, &delta.data, &skip.data, &gamma.data, &y.data, &sum.data, &n,
                           &((Kernel *)kernel)->epsilon});
}


// W as matmul.cu's Matrix has it.
typedef struct Matrix {
  const void *weights, *scales, *zeros;
  int n, k, count;
} Matrix;

OrtStatus *cuda_matmul(void *kernel, OrtKernelContext *context) {
  const Kernel *of = kernel;
  FewBits in;
  Tensor y, w;
  ORT(get_few_bits(of, context, &in));
  int tokens = (int)in.tokens, bits = (int)of->bits;
  const int64_t k = of->k, n = of->n, block = of->block, counted = tokens < COLUMNS ? tokens : COLUMNS,
                unit_bytes = DEPTH * 4 * (bits == 8 && block == 128 ? 16 + 1 : 8 + (512 / bits + block - 1) / block),
                without_x = unit_bytes * THREADS + 4 * (counted + 1) * in.blocks;
  const bool one = tokens == 1 && without_x + 2 * k <= SHARED;
  const int64_t shared = without_x + (one ? 2 * k : 0);
  const bool few = tokens <= FEW_TOKENS && shared <= SHARED;
  in.x.shape[in.x.dimensions - 1] = n;
  ORT(new_output(api, context, 0, in.x.shape, in.x.dimensions, &y));
  ORT(new_output(api, context, 1, (int64_t[]){few ? 0 : n, k}, 2, &w));
  if (!tokens || !n) return NULL;
  Lane *lane;
  ORT(lane_of(&lane, context));
  Matrix matrix = {in.weights.data, in.scales.data, in.zeros.data, (int)n, (int)k, (int)in.blocks};
  if (few) {
    const CUfunction function = lane->few[!one][bits == 8][block == 32 ? 0 : block == 64 ? 1 : 2];
    const int64_t parts = (n + ROWS - 1) / ROWS, most = BLOCKS_A_CARD * lane->processors;
    return launch(lane, function, parts < most ? parts : most, (tokens + COLUMNS - 1) / COLUMNS, THREADS, shared,
                  lane->stream, OVERLAPPING, (void *[]){&in.x.data, &matrix, &y.data, &tokens});
  }
  ORT(launch(lane, lane->to_float16, n, (k * bits / 32 + 127) / 128, 128, 0, lane->stream, IN_TURN,
             (void *[]){&matrix, &w.data, &bits}));
  const Tensor rows = {.data = in.x.data, .shape = {tokens, k}, .dimensions = 2};
  const Tensor out = {.data = y.data, .shape = {tokens, n}, .dimensions = 2};
  return product(context, &out, &rows, &w, true);
}

// As attention.cu has it.
typedef struct Attention {
  const uint16_t *q, *k, *v, *cos, *sin, *past_keys, *past_values;
  uint16_t *keys, *values, *y;
  const int32_t *lengths;
  float *shares;
  unsigned *counts;
  int q_stride, kv_stride, past_capacity, capacity, tokens, kv_heads, group, rotated, positions, window, first;
  float scale;
} Attention;

OrtStatus *cuda_attention(void *kernel, OrtKernelContext *context) {
  const Kernel *of = kernel;
  Inputs in;
  Tensor y, keys, values, shares;
  ORT(get_attention(context, &in));
  ORT(check_attention(of, &in));
  const int64_t batch = in.query.shape[0], tokens = in.query.shape[1], size = in.past_keys.shape[3],
                total = *(const int32_t *)in.total.data, past = in.past_keys.shape[2],
                capacity = past > total ? past : total, heads = batch * of->heads;
  if (size != 64 && size != 96 && size != 128) return REFUSED("heads must be of 64, 96 or 128 values");
  if (heads > COUNTS) return REFUSED("too many rows at a time");
  ORT(new_output(api, context, 0, (int64_t[]){batch, tokens, of->heads * size}, 3, &y));
  ORT(new_output(api, context, 1, (int64_t[]){batch, of->kv_heads, capacity, size}, 4, &keys));
  ORT(new_output(api, context, 2, (int64_t[]){batch, of->kv_heads, capacity, size}, 4, &values));
  ORT(new_output(api, context, 3, (int64_t[]){tokens == 1 ? heads * SHARES : 0, size + 2}, 2, &shares));
  const bool in_place = keys.data == in.past_keys.data && values.data == in.past_values.data;
  if (!batch || !total || (!tokens && in_place)) return NULL;
  Lane *lane;
  ORT(lane_of(&lane, context));
  Attention a = {.q = in.query.data, .k = in.key.data, .v = in.value.data, .cos = in.cos.data, .sin = in.sin.data,
                 .past_keys = in_place ? NULL : in.past_keys.data, .past_values = in.past_values.data,
                 .keys = keys.data, .values = values.data, .y = y.data, .lengths = in.lengths.data,
                 .shares = shares.data, .counts = (unsigned *)lane->counts, .q_stride = (int)in.query.shape[2],
                 .kv_stride = (int)(of->kv_heads * size), .past_capacity = (int)past, .capacity = (int)capacity,
                 .tokens = (int)tokens, .kv_heads = (int)of->kv_heads, .group = (int)(of->heads / of->kv_heads),
                 .rotated = of->rotary ? (int)in.cos.shape[1] * 2 : 0,
                 .positions = of->rotary ? (int)in.cos.shape[0] : 0, .window = (int)of->window,
                 .first = tokens == total, .scale = of->scale != 0 ? of->scale : 1 / sqrtf((float)size)};
  if (!in.key.dimensions) {
    a.k = a.q + of->heads * size;
    a.v = a.k + a.kv_stride;
    a.kv_stride = a.q_stride;
  }
  int head = (int)size;
  const int which = head / 32 - 2;
  if (tokens > 1 || !in_place)
    ORT(launch(lane, lane->place, in_place ? tokens : total, batch * of->kv_heads, ATTENDING, 0, lane->stream, IN_TURN,
               (void *[]){&a, &head}));
  if (!tokens) return NULL;
  if (tokens == 1)
    return launch(lane, lane->attend_one[which], heads, SHARES, ATTENDING, 0, lane->stream, OVERLAPPING,
                  (void *[]){&a});
  return launch(lane, lane->attend[which], (tokens + TILE - 1) / TILE, heads, ATTENDING, 0, lane->stream, IN_TURN,
                (void *[]){&a});
}
