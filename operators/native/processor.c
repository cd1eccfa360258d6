// Which of the variants of cpu_loops.c, matmul_loops.c and attention_loops.c runs on this processor; hatch_build.py
// compiles them.

#define _GNU_SOURCE  // of sched_getaffinity
#include "attention.h"

#include <sched.h>

#ifdef __x86_64__

#include <cpuid.h>

extern const Products products_vnni, products_v3, products_v1;
extern const Loops loops_v4, loops_v3, loops_v1;
extern const AttentionLoops attention_v4, attention_v3, attention_v1;

static const Processor any = {"x86-64", &loops_v1, &products_v1, &attention_v1},
                       v3 = {"AVX2", &loops_v3, &products_v3, &attention_v3},
                       v4 = {"AVX-512", &loops_v4, &products_v3, &attention_v4},
                       vnni = {"VNNI", &loops_v4, &products_vnni, &attention_v4};

// The best that this processor and its system can run: x86-64-v4 (AVX-512) with or without VNNI, -v3 (AVX2, FMA, F16C),
// or any. By CPUID, as the x86-64 psABI defines the levels: in zig's runtime library __builtin_cpu_supports says no to
// everything.
static const Processor *choose(void) {
  enum { FMA_MOVBE_OSXSAVE_AVX_F16C = 1 << 12 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29, LZCNT = 1 << 5 };
  enum { BMI1_AVX2_BMI2 = 1 << 3 | 1 << 5 | 1 << 8, YMM = 0x06, ZMM = 0xe6, AVX512_VNNI = 1 << 11 };
  const unsigned avx512_f_dq_cd_bw_vl = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
  unsigned a, b, first = 0, c = 0, extended = 0, d, saved;
  __get_cpuid(1, &a, &b, &first, &d);
  if ((first & FMA_MOVBE_OSXSAVE_AVX_F16C) != FMA_MOVBE_OSXSAVE_AVX_F16C) return &any;
  b = 0;
  __get_cpuid(0x80000001, &a, &c, &extended, &d);
  __get_cpuid_count(7, 0, &a, &b, &c, &d);
  __asm__("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));  // the registers that the system keeps for each thread
  if ((b & BMI1_AVX2_BMI2) != BMI1_AVX2_BMI2 || !(extended & LZCNT) || (saved & YMM) != YMM) return &any;
  if ((b & avx512_f_dq_cd_bw_vl) != avx512_f_dq_cd_bw_vl || (saved & ZMM) != ZMM) return &v3;
  return c & AVX512_VNNI ? &vnni : &v4;
}

#else

#include <sys/auxv.h>

extern const Products products_dot, products_v8;
extern const Loops loops_v8;
extern const AttentionLoops attention_v8;

static const Processor any = {"ARMv8", &loops_v8, &products_v8, &attention_v8},
                       dot = {"dot product", &loops_v8, &products_dot, &attention_v8};

// The dot product of 8-bit integers, an option of ARMv8.2 and part of ARMv8.4, or any ARMv8.
static const Processor *choose(void) {
  enum { ASIMDDP = 1 << 20 };  // HWCAP_ASIMDDP of Linux
  return getauxval(AT_HWCAP) & ASIMDDP ? &dot : &any;
}

#endif

const Processor *processor(void) {
  static _Atomic(const Processor *) chosen;
  if (!chosen) chosen = choose();
  return chosen;
}

size_t cores(void) {
  static _Atomic size_t found;
  if (!found) {
    cpu_set_t allowed;
    found = sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : (size_t)CPU_COUNT(&allowed);
  }
  return found;
}
