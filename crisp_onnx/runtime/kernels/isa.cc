// Detects the processor's instruction sets and picks the kernels.
#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "failure.h"

#if defined(CRISP_X86) && defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#endif

namespace crisp {
namespace {

#if defined(CRISP_X86) && defined(_MSC_VER)
// Bits of the extended features (leaf 7) and of the state the operating system saves (XCR0).
bool runs_avx512() {
  int leaf[4];
  __cpuidex(leaf, 1, 0);
  if (!(leaf[2] & (1 << 27)) || (_xgetbv(0) & 0xE6) != 0xE6) return false;
  __cpuidex(leaf, 7, 0);
  const int needed = (1 << 16) | (1 << 17) | (1 << 30) | static_cast<int>(1u << 31);
  return (leaf[1] & needed) == needed;
}
bool runs_avx2() {
  int leaf[4];
  __cpuidex(leaf, 1, 0);
  const bool fma = leaf[2] & (1 << 12);
  if (!(leaf[2] & (1 << 27)) || (_xgetbv(0) & 0x6) != 0x6) return false;
  __cpuidex(leaf, 7, 0);
  return fma && (leaf[1] & (1 << 5));
}
#elif defined(CRISP_X86)
bool runs_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}
bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

}  // namespace

const KernelSet* available_kernels(int index) {
  const KernelSet* sets[4] = {};
  int count = 0;
#if defined(CRISP_X86)
  if (runs_avx512()) sets[count++] = avx512_kernels();
  if (runs_avx2()) sets[count++] = avx2_kernels();
#elif defined(CRISP_ARM64)
  sets[count++] = neon_kernels();
#endif
  sets[count++] = portable_kernels();
  return index >= 0 && index < count ? sets[index] : nullptr;
}

const KernelSet& active_kernels() {
  const char* forced = std::getenv("CRISP_ONNX_ISA");
  if (!forced || !*forced) return *available_kernels(0);
  std::string known;
  for (int i = 0; const KernelSet* set = available_kernels(i); ++i) {
    if (std::strcmp(set->isa_name, forced) == 0) return *set;
    known += std::string(i ? ", " : "") + set->isa_name;
  }
  throw Failure("CRISP_ONNX_ISA is '" + std::string(forced) + "'; this machine runs " + known);
}

}  // namespace crisp
