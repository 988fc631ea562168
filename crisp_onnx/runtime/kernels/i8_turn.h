// Turning a matrix of bytes by squares of 16: what a Gemm's int8 kernels sum become rows of y again. Written once over an
// instruction set that zips vectors of 16 bytes. Internal linkage, as in microkernel.h.
#pragma once

#include <cstring>

#include "i8_microkernel.h"

namespace crisp {
namespace {

constexpr int kSquare = 16;

// Zipping row i with row i + 8 moves every bit of a byte's place (row, column) one on; four times, and they have changed
// places.
template <class Z>
CRISP_INLINE void turn_square_of_bytes(typename Z::Vec (&rows)[kSquare]) {
  CRISP_UNROLL for (int round = 0; round < 4; ++round) {
    typename Z::Vec zipped[kSquare];
    CRISP_UNROLL for (int i = 0; i < kSquare / 2; ++i) {
      zipped[2 * i] = Z::zip_low(rows[i], rows[i + kSquare / 2]);
      zipped[2 * i + 1] = Z::zip_high(rows[i], rows[i + kSquare / 2]);
    }
    CRISP_UNROLL for (int i = 0; i < kSquare; ++i) rows[i] = zipped[i];
  }
}

// Rows of `from` have room for whole vectors of 16; those of `to` have not.
template <class Z>
void turn_tile_of_bytes(const TurnCall& call) {
  const auto least = [](int64_t left) { return left < kSquare ? left : kSquare; };
  for (int64_t r = 0; r < call.rows; r += kSquare) {
    const int64_t rows = least(call.rows - r);
    for (int64_t c = 0; c < call.columns; c += kSquare) {
      const int64_t columns = least(call.columns - c);
      const uint8_t* from = bytes(call.from) + r * call.from_stride + c;
      uint8_t* to = bytes(call.to) + c * call.to_stride + r;
      typename Z::Vec square[kSquare];
      CRISP_UNROLL for (int i = 0; i < kSquare; ++i) square[i] = Z::load(from + (i < rows ? i : 0) * call.from_stride);
      turn_square_of_bytes<Z>(square);
      if (rows == kSquare) {
        CRISP_UNROLL for (int i = 0; i < kSquare; ++i) {
          if (i < columns) Z::store(to + i * call.to_stride, square[i]);
        }
        continue;
      }
      uint8_t turned[kSquare][kSquare];
      CRISP_UNROLL for (int i = 0; i < kSquare; ++i) Z::store(turned[i], square[i]);
      for (int64_t i = 0; i < columns; ++i) {
        std::memcpy(to + i * call.to_stride, turned[i], static_cast<size_t>(rows));
      }
    }
  }
}

#if defined(CRISP_X86)
struct SseZips {  // of every x86-64
  using Vec = __m128i;
  static CRISP_INLINE Vec load(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static CRISP_INLINE void store(uint8_t* p, Vec v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
  static CRISP_INLINE Vec zip_low(Vec a, Vec b) { return _mm_unpacklo_epi8(a, b); }
  static CRISP_INLINE Vec zip_high(Vec a, Vec b) { return _mm_unpackhi_epi8(a, b); }
};
#endif

}  // namespace
}  // namespace crisp
