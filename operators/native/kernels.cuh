// What lora.cu and matmul.cu share.

#pragma once

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
