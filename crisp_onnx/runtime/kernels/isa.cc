// Detects the processor's instruction sets and picks the kernels of an element type.
#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "failure.h"

#if defined(CRISP_X86)
#include <immintrin.h>
#endif
#if defined(CRISP_X86) && defined(_MSC_VER)
#include <intrin.h>
#elif defined(CRISP_X86)
#include <cpuid.h>
#elif defined(CRISP_ARM64) && defined(__linux__)
#include <sys/auxv.h>
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
bool runs_avx512_vnni() {
  int leaf[4];
  __cpuidex(leaf, 7, 0);
  return runs_avx512() && (leaf[2] & (1 << 11));
}
bool runs_avx512_vbmi() {
  int leaf[4];
  __cpuidex(leaf, 7, 0);
  return runs_avx512_vnni() && (leaf[2] & (1 << 1));
}
bool runs_avx2() {
  int leaf[4];
  __cpuidex(leaf, 1, 0);
  const bool fma = leaf[2] & (1 << 12);
  if (!(leaf[2] & (1 << 27)) || (_xgetbv(0) & 0x6) != 0x6) return false;
  __cpuidex(leaf, 7, 0);
  return fma && (leaf[1] & (1 << 5));
}
bool runs_avx_vnni() {
  int leaf[4];
  __cpuidex(leaf, 7, 1);
  return runs_avx2() && (leaf[0] & (1 << 4));
}
#elif defined(CRISP_X86)
bool runs_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}
bool runs_avx512_vnni() { return runs_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool runs_avx512_vbmi() { return runs_avx512_vnni() && __builtin_cpu_supports("avx512vbmi"); }
bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool runs_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return runs_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}
#elif defined(CRISP_ARM64) && defined(__linux__)
bool runs_neon_dot() { return getauxval(AT_HWCAP) & (1ul << 20); }  // HWCAP_ASIMDDP
#elif defined(CRISP_ARM64)
bool runs_neon_dot() { return true; }  // every processor of Apple and every one that Windows runs on has it
#endif

#if defined(CRISP_X86)
#if !defined(_MSC_VER)
__attribute__((target("avx")))
#endif
void zero_upper_halves() { _mm256_zeroupper(); }
#endif

struct InstructionSet {
  Isa isa;
  const char* name;
  bool (*runs)();
};

// Best first.
constexpr InstructionSet kInstructionSets[] = {
#if defined(CRISP_X86)
    {Isa::kAvx512Vbmi, "avx512_vbmi", runs_avx512_vbmi},
    {Isa::kAvx512Vnni, "avx512_vnni", runs_avx512_vnni},
    {Isa::kAvx512, "avx512", runs_avx512},
    {Isa::kAvxVnni, "avx_vnni", runs_avx_vnni},
    {Isa::kAvx2, "avx2", runs_avx2},
#elif defined(CRISP_ARM64)
    {Isa::kNeonDot, "neon_dot", runs_neon_dot},
    {Isa::kNeon, "neon", [] { return true; }},
#endif
    {Isa::kPortable, "portable", [] { return true; }},
};

// Every set of kernels of the library: of one element type, the best instruction set first.
const KernelSet* const* kernel_sets(int* count) {
  static const KernelSet* const sets[] = {
#if defined(CRISP_X86)
      &kAvx512Kernels, &kAvx2Kernels,
      &kAvx512VbmiInt8Kernels, &kAvx512VnniInt8Kernels, &kAvxVnniInt8Kernels, &kAvx2Int8Kernels,
#elif defined(CRISP_ARM64)
      &kNeonKernels, &kNeonDotInt8Kernels,
#endif
      &kPortableKernels, &kPortableInt8Kernels,
  };
  *count = static_cast<int>(sizeof(sets) / sizeof(sets[0]));
  return sets;
}

const InstructionSet& instruction_set(Isa isa) {
  const InstructionSet* found = kInstructionSets;
  while (found->isa != isa) ++found;
  return *found;
}

// Throws Failure unless the name is that of an instruction set that runs here.
const InstructionSet& forced_set(const char* name) {
  std::string known;
  for (const InstructionSet& set : kInstructionSets) {
    if (!set.runs()) continue;
    if (std::strcmp(set.name, name) == 0) return set;
    known += std::string(known.empty() ? "" : ", ") + set.name;
  }
  throw Failure("CRISP_ONNX_ISA is '" + std::string(name) + "'; this machine runs " + known);
}

}  // namespace

const char* isa_name(Isa isa) { return instruction_set(isa).name; }

void clear_upper_halves(Isa isa) {
#if defined(CRISP_X86)
  if (isa != Isa::kPortable) zero_upper_halves();
#else
  static_cast<void>(isa);
#endif
}

const KernelSet* available_kernels(Element element, int index) {
  int count = 0;
  const KernelSet* const* sets = kernel_sets(&count);
  for (int i = 0; i < count; ++i) {
    if (sets[i]->element != element || !instruction_set(sets[i]->isa).runs()) continue;
    if (index-- == 0) return sets[i];
  }
  return nullptr;
}

const KernelSet& active_kernels(Element element) {
  const char* forced = std::getenv("CRISP_ONNX_ISA");
  const InstructionSet* limit = forced && *forced ? &forced_set(forced) : kInstructionSets;
  for (int i = 0; const KernelSet* set = available_kernels(element, i); ++i) {
    if (&instruction_set(set->isa) >= limit) return *set;
  }
  throw Failure(std::string("there are no kernels for ") + element_type(element).name);
}

}  // namespace crisp
