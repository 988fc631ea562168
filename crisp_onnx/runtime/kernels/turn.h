// Turning a matrix of float32 by squares of a vector's width, written once over an instruction set: rows of a Gemm's
// input become the planes that the inner loops read, and their sums become rows again. Internal linkage, as in
// microkernel.h.
#pragma once

#include "microkernel.h"

namespace crisp {
namespace {

// One square, or what is left of it at an edge.
template <class I>
CRISP_INLINE void turn_square(const TurnCall& call, const float* from, float* to, int rows, int columns) {
  typename I::Vec square[I::kLanes];
  CRISP_UNROLL for (int r = 0; r < I::kLanes; ++r) {
    if (rows == I::kLanes && columns == I::kLanes) {
      square[r] = I::load(from + r * call.from_stride);
    } else {
      square[r] = r < rows ? I::load_first(from + r * call.from_stride, columns) : I::zero();
    }
  }
  I::turn(square);
  CRISP_UNROLL for (int c = 0; c < I::kLanes; ++c) {
    if (c >= columns) break;
    if (rows == I::kLanes || call.fill_vectors) {
      I::store(to + c * call.to_stride, square[c]);
    } else {
      I::store_first(to + c * call.to_stride, square[c], rows);
    }
  }
}

template <class I>
void turn_matrix(const TurnCall& call) {
  const auto least = [](int64_t left) { return static_cast<int>(left < I::kLanes ? left : I::kLanes); };
  for (int64_t r = 0; r < call.rows; r += I::kLanes) {
    const float* from = floats(call.from) + r * call.from_stride;
    float* to = floats(call.to) + r;
    const int rows = least(call.rows - r);
    int64_t c = 0;
    if (rows == I::kLanes) {
      for (; c + I::kLanes <= call.columns; c += I::kLanes) {
        turn_square<I>(call, from + c, to + c * call.to_stride, I::kLanes, I::kLanes);
      }
    }
    for (; c < call.columns; c += I::kLanes) {
      turn_square<I>(call, from + c, to + c * call.to_stride, rows, least(call.columns - c));
    }
  }
}

}  // namespace
}  // namespace crisp
