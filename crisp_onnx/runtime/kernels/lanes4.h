// What the two instruction sets with vectors of four share: partial vectors handled lane by lane.
#pragma once

#include "microkernel.h"
#include "pack_planes.h"
#include "turn.h"

namespace crisp {
namespace {

// `Base` gives Vec, zero, load, store and the arithmetic; this adds the rest of what a microkernel needs.
template <class Base>
struct Lanes4 : Base {
  using Vec = typename Base::Vec;
  using Mask = int;
  static constexpr int kLanes = 4;
  static constexpr uint32_t kFull = 0xF;
  static constexpr bool kRoomBesideLoads = false;

  static CRISP_INLINE Mask mask(int count) { return count; }
  static CRISP_INLINE Vec load_masked(const float* p, Mask count) { return load_first(p, count); }
  static CRISP_INLINE Vec load_first(const float* p, int count) {
    float lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return Base::load(lanes);
  }
  static CRISP_INLINE void store_first(float* p, Vec v, int count) {
    float lanes[kLanes];
    Base::store(lanes, v);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }
  static CRISP_INLINE Vec compress(Vec v, uint32_t keep, int* count) {
    float lanes[kLanes], kept[kLanes] = {};
    Base::store(lanes, v);
    int n = 0;
    for (int i = 0; i < kLanes; ++i) {
      kept[n] = lanes[i];
      n += (keep >> i) & 1;
    }
    *count = n;
    return Base::load(kept);
  }
  static CRISP_INLINE void turn(Vec (&rows)[kLanes]) {
    float square[kLanes][kLanes], turned[kLanes][kLanes];
    CRISP_UNROLL for (int r = 0; r < kLanes; ++r) Base::store(square[r], rows[r]);
    CRISP_UNROLL for (int r = 0; r < kLanes; ++r) {
      CRISP_UNROLL for (int c = 0; c < kLanes; ++c) turned[c][r] = square[r][c];
    }
    CRISP_UNROLL for (int c = 0; c < kLanes; ++c) rows[c] = Base::load(turned[c]);
  }

  struct Span {
    int from, to;
  };

  static CRISP_INLINE Span span(int from, int to) { return {from, to}; }

  static CRISP_INLINE Vec load_span(const float* p, const Span& s) {
    if (s.from == 0 && s.to == kLanes) return Base::load(p);
    float lanes[kLanes] = {};
    for (int i = s.from; i < s.to; ++i) lanes[i] = p[i];
    return Base::load(lanes);
  }

  static CRISP_INLINE Vec load_even(const float* p, const Span& s) {
    float lanes[kLanes] = {};
    for (int i = s.from; i < s.to; ++i) lanes[i] = p[2 * i];
    return Base::load(lanes);
  }

  // V rows at a single position: four are one vector.
  template <int V, class = void>
  struct Rows {
    Vec v;
    static CRISP_INLINE Rows zero() { return {Base::zero()}; }
    static CRISP_INLINE Rows load(const float* p) { return {Base::load(p)}; }
    CRISP_INLINE void store(float* p) const { Base::store(p, v); }
    CRISP_INLINE void add(Rows other) { v = Base::add(v, other.v); }
    CRISP_INLINE void fma(Rows w, const float* x) { v = Base::fma(w.v, Base::set1(x), v); }
  };

  template <class Unused>
  struct Rows<1, Unused> {
    float v;
    static CRISP_INLINE Rows zero() { return {0.0f}; }
    static CRISP_INLINE Rows load(const float* p) { return {*p}; }
    CRISP_INLINE void store(float* p) const { *p = v; }
    CRISP_INLINE void add(Rows other) { v += other.v; }
    CRISP_INLINE void fma(Rows w, const float* x) { v += w.v * *x; }
  };

  template <class Unused>
  struct Rows<2, Unused> {
    float v[2];
    static CRISP_INLINE Rows zero() { return {{0.0f, 0.0f}}; }
    static CRISP_INLINE Rows load(const float* p) { return {{p[0], p[1]}}; }
    CRISP_INLINE void store(float* p) const { p[0] = v[0], p[1] = v[1]; }
    CRISP_INLINE void add(Rows other) { v[0] += other.v[0], v[1] += other.v[1]; }
    CRISP_INLINE void fma(Rows w, const float* x) { v[0] += w.v[0] * *x, v[1] += w.v[1] * *x; }
  };
};

}  // namespace
}  // namespace crisp
