// What the kernels share, and what of them is written in PTX, but for matmul.cu's asynchronous copies.

#ifndef KERNELS_CUH  // tests/native/cuda_on_cpu.h takes its place
#define KERNELS_CUH

typedef unsigned short half_bits;

__device__ __forceinline__ float to_float(half_bits bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ half_bits to_half(float value) {
  half_bits bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

// Since Hopper a kernel may be started while the one before it still runs ("programmatic dependent launch"). Every
// kernel that is started so waits before it reads what that one writes, and before it writes anything.
__device__ __forceinline__ void wait_for_what_came_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void launch_what_follows() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ __forceinline__ float power_of_2(float x) {
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
}

// What another block of threads has written.
__device__ __forceinline__ float fresh(const float* from) {
  float value;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(from) : "memory");
  return value;
}

__device__ __forceinline__ int fresh(const int* from) {
  int value;
  asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

// Begin to bring the line with ``at`` from memory to L2, where it is as fresh as in memory; of use only to a kernel that
// was started before the last has ended.
__device__ __forceinline__ void to_l2(const void* at) {
#if __CUDA_ARCH__ >= 900
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#endif
}

// sum [16, 8] += a [16, 16] · b [16, 8]; PTX's documentation has which lane holds what.
__device__ __forceinline__ void multiply(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                         unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// b [16, 8] for `multiply` from 16 lines of 8 values in shared memory; a lane of the first 16 has the address of one.
__device__ __forceinline__ void load_lines(unsigned& b0, unsigned& b1, unsigned line) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(b0), "=r"(b1) : "r"(line) : "memory");
}

#endif
