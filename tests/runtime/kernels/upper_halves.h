// Whether this thread's vector registers hold anything above their lowest 128 bits, which slows down code for SSE.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

// False too where the processor does not tell (XGETBV with ECX = 1; Intel's manual, volume 1, 13.2).
inline bool upper_halves_in_use() {
#if defined(__x86_64__)
  constexpr uint32_t kTells = 1 << 2, kUpperHalves = 1 << 2 | 1 << 6;  // of YMM, and of ZMM's lower sixteen
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(0xD, 1, &a, &b, &c, &d) || !(a & kTells)) return false;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
  return low & kUpperHalves;
#else
  return false;
#endif
}
