// The microkernels in plain C++: any processor, vectors of four that the compiler maps to what it has.
#include "lanes4.h"

namespace crisp {
namespace {

struct PlainVec {
  float lane[4];
};

struct Plain {
  using Vec = PlainVec;

  template <class F>
  static CRISP_INLINE Vec each(F f) {
    Vec v;
    CRISP_UNROLL for (int i = 0; i < 4; ++i) v.lane[i] = f(i);
    return v;
  }
  static CRISP_INLINE Vec zero() { return each([](int) { return 0.0f; }); }
  static CRISP_INLINE Vec set1(const float* p) { return each([p](int) { return *p; }); }
  static CRISP_INLINE Vec load(const float* p) { return each([p](int i) { return p[i]; }); }
  static CRISP_INLINE void store(float* p, const Vec& v) {
    CRISP_UNROLL for (int i = 0; i < 4; ++i) p[i] = v.lane[i];
  }
  static CRISP_INLINE Vec fma(const Vec& a, const Vec& b, const Vec& c) {
    return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static CRISP_INLINE Vec add(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static CRISP_INLINE Vec max(const Vec& bound, const Vec& v) {
    return each([&](int i) { return v.lane[i] < bound.lane[i] ? bound.lane[i] : v.lane[i]; });
  }
  static CRISP_INLINE Vec min(const Vec& bound, const Vec& v) {
    return each([&](int i) { return v.lane[i] > bound.lane[i] ? bound.lane[i] : v.lane[i]; });
  }
  static CRISP_INLINE void prefetch(const float*) {}
  static CRISP_INLINE void keep_in_register(Vec&) {}
};

using Portable = Lanes4<Plain>;

#define KERNEL(rows, vectors, tail, strip) \
  kernel_row<Portable, rows, vectors, tail, strip>("f32_hybrid_" #rows "x" #strip "__portable")

constexpr Kernel kKernels[] = {
    KERNEL(4, 2, 0, 8), KERNEL(4, 1, 0, 4), KERNEL(4, 1, 1, 5), KERNEL(4, 0, 1, 1),
    KERNEL(2, 4, 0, 16), KERNEL(2, 2, 0, 8), KERNEL(2, 1, 0, 4), KERNEL(2, 0, 1, 1),
    KERNEL(1, 6, 0, 24), KERNEL(1, 4, 0, 16), KERNEL(1, 2, 0, 8), KERNEL(1, 1, 0, 4), KERNEL(1, 0, 1, 1),
};

constexpr KernelSet kSet = {Element::kFloat32, Isa::kPortable, Portable::kLanes, kKernels, sizeof(kKernels) / sizeof(kKernels[0]),
                            false, pack_channels<Portable>, turn_matrix<Portable>, turn_matrix<Portable>};

}  // namespace

const KernelSet kPortableKernels = kSet;

}  // namespace crisp
