// The microkernels for 64-bit ARM (NEON): 4 positions a vector, 32 registers.
#include <arm_neon.h>

#include "lanes4.h"

namespace crisp {
namespace {

struct NeonBase {
  using Vec = float32x4_t;

  static CRISP_INLINE Vec zero() { return vdupq_n_f32(0.0f); }
  static CRISP_INLINE Vec set1(const float* p) { return vld1q_dup_f32(p); }
  static CRISP_INLINE Vec load(const float* p) { return vld1q_f32(p); }
  static CRISP_INLINE void store(float* p, Vec v) { vst1q_f32(p, v); }
  static CRISP_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
  static CRISP_INLINE Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
  static CRISP_INLINE Vec max(Vec bound, Vec v) { return vmaxq_f32(bound, v); }
  static CRISP_INLINE Vec min(Vec bound, Vec v) { return vminq_f32(bound, v); }
  static CRISP_INLINE void prefetch(const float* p) { __builtin_prefetch(p); }
  static CRISP_INLINE void keep_in_register(Vec& v) { asm("" : "+w"(v)); }
};

using Neon = Lanes4<NeonBase>;

#define KERNEL(rows, vectors, tail, strip) \
  kernel_row<Neon, rows, vectors, tail, strip>("f32_hybrid_" #rows "x" #strip "__neon")

constexpr Kernel kKernels[] = {
    KERNEL(8, 2, 0, 8),  KERNEL(8, 1, 0, 4),
    KERNEL(4, 5, 0, 20), KERNEL(4, 4, 0, 16), KERNEL(4, 3, 0, 12), KERNEL(4, 3, 1, 13), KERNEL(4, 2, 0, 8),
    KERNEL(4, 2, 1, 9),  KERNEL(4, 1, 0, 4),  KERNEL(4, 1, 1, 5),  KERNEL(4, 0, 1, 1),
    KERNEL(2, 8, 0, 32), KERNEL(2, 6, 0, 24), KERNEL(2, 4, 0, 16), KERNEL(2, 2, 0, 8), KERNEL(2, 1, 0, 4),
    KERNEL(2, 0, 1, 1),
    KERNEL(1, 12, 0, 48), KERNEL(1, 8, 0, 32), KERNEL(1, 4, 0, 16), KERNEL(1, 2, 0, 8), KERNEL(1, 1, 0, 4),
    KERNEL(1, 0, 1, 1),
};

constexpr KernelSet kSet = {Element::kFloat32, Isa::kNeon, Neon::kLanes, kKernels, sizeof(kKernels) / sizeof(kKernels[0]),
                            false, pack_channels<Neon>, turn_matrix<Neon>, turn_matrix<Neon>};

}  // namespace

const KernelSet kNeonKernels = kSet;

}  // namespace crisp
