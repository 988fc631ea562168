// What int8 kernels do position by position or byte by byte, in plain C++: the portable set, and the edges of the others.
#pragma once

#include <cmath>

#include "i8_microkernel.h"

namespace crisp {
namespace {

CRISP_INLINE int32_t wrapping_sum(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

// The four activations of a step at single positions.
template <int T>
struct PlainTail {
  uint8_t four[T][kStepColumns];
};

template <int T>
CRISP_INLINE PlainTail<T> plain_tail(const uint8_t* a, const uint8_t* b, const uint8_t* columns, uint32_t inside,
                                     uint8_t padding) {
  PlainTail<T> tail;
  for (int t = 0; t < T; ++t) {
    for (int i = 0; i < kStepColumns; ++i) {
      const uint8_t* unit = columns[i] & kSecondUnitBit ? b : a;
      tail.four[t][i] = inside >> t & 1 ? unit[t * kStepColumns + columns[i] % kStepColumns] : padding;
    }
  }
  return tail;
}

template <int T>
CRISP_INLINE PlainTail<T> plain_tail(const uint8_t* const (&at)[kStepColumns], int from) {
  PlainTail<T> tail;
  for (int t = 0; t < T; ++t) {
    for (int i = 0; i < kStepColumns; ++i) tail.four[t][i] = at[i][from + t * kStepColumns];
  }
  return tail;
}

// A step's weights, where rows are done one after the other.
template <int V>
struct PlainRowWeights {
  const int8_t* four;
  CRISP_INLINE explicit PlainRowWeights(const int8_t* w) : four(w) {}
};

// Sums of V rows at a single position.
template <int V>
struct PlainRows {
  int32_t sum[V];
  static CRISP_INLINE PlainRows none() { return {}; }
  static CRISP_INLINE PlainRows load(const int32_t* p) {
    PlainRows rows;
    for (int v = 0; v < V; ++v) rows.sum[v] = p[v];
    return rows;
  }
  CRISP_INLINE void store(int32_t* p) const {
    for (int v = 0; v < V; ++v) p[v] = sum[v];
  }
  CRISP_INLINE void add(const PlainRows& other) {
    for (int v = 0; v < V; ++v) sum[v] = wrapping_sum(sum[v], other.sum[v]);
  }
  template <int T>
  CRISP_INLINE void dot(const PlainRowWeights<V>& w, const PlainTail<T>& x, int t) {
    for (int v = 0; v < V; ++v) {
      int32_t step = 0;
      for (int i = 0; i < kStepColumns; ++i) step += w.four[v * kStepColumns + i] * x.four[t][i];
      sum[v] = wrapping_sum(sum[v], step);
    }
  }
};

// Rows of a Gemm into planes of units of four channels.
inline void turn_units(const TurnCall& call) {
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int64_t c = 0; c < call.columns; ++c) {
      const int64_t unit = c / kStepColumns * call.to_stride + r;
      bytes(call.to)[unit * kStepColumns + c % kStepColumns] = bytes(call.from)[r * call.from_stride + c];
    }
  }
}

inline void turn_bytes(const TurnCall& call) {
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int64_t c = 0; c < call.columns; ++c) {
      bytes(call.to)[c * call.to_stride + r] = bytes(call.from)[r * call.from_stride + c];
    }
  }
}

}  // namespace
}  // namespace crisp
