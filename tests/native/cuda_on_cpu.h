// What a CUDA kernel finds on the card, for one block of THREADS_A_BLOCK threads of a processor at a time: in the place of
// operators/native/kernels.cuh. Warps and blocks wait for each other where the card's do; shared memory is static.

#pragma once
#define KERNELS_CUH

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))

using std::max;
using std::min;

typedef unsigned short half_bits;
enum { THREADS_A_BLOCK = 128, WARP = 32 };

struct Index {
  unsigned x, y;
};
inline thread_local Index threadIdx;
inline Index blockIdx;

struct uint4 {
  unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float __int_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// ---- waiting ----------------------------------------------------------------------------------------------

struct Warp {
  std::barrier<> together{WARP};
  float values[WARP];
  unsigned a[WARP][4], b[WARP][2];
  const half_bits* lines[WARP];
};
inline std::barrier<> block{THREADS_A_BLOCK};
inline Warp warps[THREADS_A_BLOCK / WARP];

inline Warp& warp_of_this() { return warps[threadIdx.x / WARP]; }
inline void __syncthreads() { block.arrive_and_wait(); }
inline void __threadfence() {}
// What the kernel ahead writes last: not there before the wait, if a test says so.
inline std::function<void()> begun, ended;
inline void wait_for_what_came_before() {
  if (!ended) return;
  __syncthreads();
  if (threadIdx.x == 0) ended();
  __syncthreads();
}
inline void launch_what_follows() {}
inline unsigned atomicAdd(unsigned* to, unsigned value) {  // one block runs at a time, one thread of it adds
  const unsigned before = *to;
  *to += value;
  return before;
}

inline float __shfl_sync(unsigned, float value, int from) {
  Warp& warp = warp_of_this();
  warp.values[threadIdx.x % WARP] = value;
  warp.together.arrive_and_wait();
  const float other = warp.values[from];
  warp.together.arrive_and_wait();
  return other;
}
inline float __shfl_xor_sync(unsigned all, float value, int mask) {
  return __shfl_sync(all, value, threadIdx.x % WARP ^ mask);
}

// Run a kernel over a grid of ``x`` times ``y`` blocks, one after the other.
template <class Kernel>
void launch(unsigned x, unsigned y, Kernel kernel) {
  std::vector<std::thread> threads;
  for (unsigned number = 0; number < THREADS_A_BLOCK; ++number)
    threads.emplace_back([=] {
      threadIdx = {number, 0};
      for (unsigned i = 0; i < x * y; ++i) {
        if (!number) blockIdx = {i % x, i / x};
        if (!number && begun) begun();
        __syncthreads();
        kernel();
        __syncthreads();
      }
    });
  for (std::thread& thread : threads) thread.join();
}

// ---- what kernels.cuh has in PTX --------------------------------------------------------------------------

inline float to_float(half_bits bits) {
  _Float16 value;
  memcpy(&value, &bits, sizeof value);
  return (float)value;
}

inline half_bits to_half(float value) {
  const _Float16 half = (_Float16)value;
  half_bits bits;
  memcpy(&bits, &half, sizeof bits);
  return bits;
}

inline float power_of_2(float x) { return exp2f(x); }
template <class Number>
Number fresh(const Number* from) {
  return *from;
}
inline void to_l2(const void* at) { (void)*(const volatile char*)at; }  // an address that can be read

// Addresses in shared memory are 32 bits: counted from a place in the program's own.
inline const char origin = 0;
inline unsigned __cvta_generic_to_shared(const void* at) { return (unsigned)((const char*)at - &origin); }
inline const half_bits* shared_at(unsigned address) { return (const half_bits*)(&origin + (int)address); }

// sum [16, 8] += a [16, 16] · b [16, 8], by PTX's tables of which lane holds what in mma.m16n8k16.
inline void multiply(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  Warp& warp = warp_of_this();
  const int lane = threadIdx.x % WARP;
  const unsigned a[] = {a0, a1, a2, a3}, b[] = {b0, b1};
  memcpy(warp.a[lane], a, sizeof a);
  memcpy(warp.b[lane], b, sizeof b);
  warp.together.arrive_and_wait();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      const unsigned left = warp.a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
      const unsigned right = warp.b[column * 4 + k % 8 / 2][k / 8];
      sum[i] += to_float((half_bits)(left >> k % 2 * 16)) * to_float((half_bits)(right >> k % 2 * 16));
    }
  }
  warp.together.arrive_and_wait();
}

// As PTX's ldmatrix.x2.trans has it.
inline void load_lines(unsigned& b0, unsigned& b1, unsigned line) {
  Warp& warp = warp_of_this();
  const int lane = threadIdx.x % WARP, column = lane / 4, row = lane % 4 * 2;
  warp.lines[lane] = shared_at(line);
  warp.together.arrive_and_wait();
  const auto pair = [&](int at) { return warp.lines[at][column] | (unsigned)warp.lines[at + 1][column] << 16; };
  b0 = pair(row), b1 = pair(8 + row);
  warp.together.arrive_and_wait();
}
