// Vectors of LANES floats, for the loops of the CPU's operators (cpu_loops.c, attention_loops.c).

#pragma once
#include <string.h>

#include "cpu.h"

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef _Float16 HalfLanes __attribute__((vector_size(2 * LANES)));
typedef int IntLanes __attribute__((vector_size(4 * LANES)));

static inline Lanes load(const float *from) {
  Lanes lanes;
  memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
static inline void store(float *to, Lanes lanes) { memcpy(to, &lanes, sizeof lanes); }
static inline Lanes load_half(const _Float16 *from) {
  HalfLanes lanes;
  memcpy(&lanes, from, sizeof lanes);
  return __builtin_convertvector(lanes, Lanes);
}
static inline float sum(Lanes lanes) {
  float total = 0;
  for (int i = 0; i < LANES; ++i) total += lanes[i];
  return total;
}

// exp of each lane, by Cephes' expf: 2^n times a polynomial in what is left of x (S. Moshier, netlib.org/cephes).
static inline Lanes exponential(Lanes x) {
  x = __builtin_elementwise_min(__builtin_elementwise_max(x, (Lanes){} - 87.0f), (Lanes){} + 88.0f);
  const Lanes magic = (Lanes){} + 12582912.0f;  // 1.5 · 2^23: adding it rounds to a whole number
  const Lanes n = (x * 1.44269504f + magic) - magic;
  const Lanes rest = x - n * 0.693359375f + n * 2.12194440e-4f;
  Lanes y = (Lanes){} + 1.9875691500e-4f;
  y = y * rest + 1.3981999507e-3f;
  y = y * rest + 8.3334519073e-3f;
  y = y * rest + 4.1665795894e-2f;
  y = y * rest + 1.6666665459e-1f;
  y = y * rest + 5.0000001201e-1f;
  y = y * rest * rest + rest + 1.0f;
  const IntLanes power = (__builtin_convertvector(n, IntLanes) + 127) << 23;
  Lanes scale;
  memcpy(&scale, &power, sizeof scale);
  return y * scale;
}
