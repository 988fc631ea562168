// Measures the multiply-add peak: twelve independent chains in registers, nothing else.
#include "peak.h"

#include <algorithm>
#include <chrono>

namespace {

constexpr long kSteps = 20000;
constexpr int kChains = 12;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

#if defined(CRISP_X86)
// Written out in assembly: what a compiler makes of an array of accumulators is not the peak.
#define STEP(name, reg, n) name " %%" reg "12, %%" reg "13, %%" reg #n "\n"
// Bytes without VNNI: pairs of products in 16 bits, then their sums in 32.
#define PAIR_STEP(name, reg, n) \
  "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\nvpmaddwd %%ymm14, %%ymm12, %%ymm14\nvpaddd %%ymm14, %%ymm" #n ", %%ymm" #n "\n"
#define CHAINS(STEP, name, reg)                                                                                        \
  long steps = kSteps;                                                                                          \
  asm volatile("vpxor %%xmm12, %%xmm12, %%xmm12\nvpxor %%xmm13, %%xmm13, %%xmm13\n1:\n" STEP(name, reg, 0) STEP( \
                   name, reg, 1) STEP(name, reg, 2) STEP(name, reg, 3) STEP(name, reg, 4) STEP(name, reg, 5)    \
                   STEP(name, reg, 6) STEP(name, reg, 7) STEP(name, reg, 8) STEP(name, reg, 9) STEP(name, reg, 10) \
                   STEP(name, reg, 11) "dec %0\njnz 1b\nvzeroupper\n"                                          \
               : "+r"(steps)                                                                                    \
               :                                                                                                \
               : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
                 "xmm11", "xmm12", "xmm13", "xmm14")

__attribute__((noinline)) void chains_avx512() { CHAINS(STEP, "vfmadd231ps", "zmm"); }
__attribute__((noinline)) void chains_avx2() { CHAINS(STEP, "vfmadd231ps", "ymm"); }
__attribute__((noinline)) void chains_avx512_vnni() { CHAINS(STEP, "vpdpbusd", "zmm"); }
__attribute__((noinline)) void chains_avx2_bytes() { CHAINS(PAIR_STEP, "", ""); }
#endif

__attribute__((noinline)) void chains_scalar() {
  float c[kChains] = {};
  for (long i = 0; i < kSteps; ++i) {
    for (float& x : c) {
      x = x * 0.5f + 1.0f;
      asm volatile("" : "+m"(x));
    }
  }
}

}  // namespace

double measured_peak_macs_per_s(double seconds, crisp::Element element) {
  void (*chains)() = chains_scalar;
  int lanes = 1;
#if defined(CRISP_X86)
  if (element == crisp::Element::kInt8 && __builtin_cpu_supports("avx512vnni")) {
    chains = chains_avx512_vnni, lanes = 64;
  } else if (element == crisp::Element::kInt8 && __builtin_cpu_supports("avx2")) {
    chains = chains_avx2_bytes, lanes = 32;
  } else if (__builtin_cpu_supports("avx512f")) {
    chains = chains_avx512, lanes = 16;
  } else if (__builtin_cpu_supports("fma")) {
    chains = chains_avx2, lanes = 8;
  }
#endif
  double best_s = 1e9;
  for (const double end = now_s() + seconds; now_s() < end;) {
    const double start = now_s();
    chains();
    best_s = std::min(best_s, now_s() - start);
  }
  return static_cast<double>(kSteps) * kChains * lanes / best_s;
}
