// Depthwise convolutions of bytes over planes narrower than a vector, for AVX-512 with VBMI, without a padded copy: a row
// of input is loaded once, behind it what padding counts as, and serves all rows of outputs of a block. Internal linkage,
// as in microkernel.h.
#pragma once

#include <immintrin.h>

#include "i8_avx512.h"

namespace crisp {
namespace {

constexpr int64_t kNarrow = 64;         // bytes of a row, with at least one of padding behind it
constexpr int64_t kColumnLanes = 16;    // outputs of a row that are done together
constexpr int kMostColumnBlocks = 4;

// The taps of 16 neighbouring outputs of a row, from output `first` and tap `tap` on, as places in the row.
inline __m512i row_taps(const WindowCall& call, int64_t first, int64_t tap) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i width = _mm512_set1_epi32(static_cast<int32_t>(call.width));
  const __m512i steps = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(call.stride_w)));
  __m512i places = _mm512_setzero_si512();
  CRISP_UNROLL for (int t = 0; t < kStepTaps; ++t) {
    const int64_t column = first * call.stride_w + (tap + t) * call.dilation_w - call.left;
    const __m512i place = _mm512_add_epi32(steps, _mm512_set1_epi32(static_cast<int32_t>(column)));
    places = _mm512_or_si512(places, _mm512_slli_epi32(_mm512_min_epu32(place, width), 8 * t));  // below 0: far above
  }
  return places;
}

// Four rows of up to 16 outputs.
CRISP_INLINE void store_rows(uint8_t* y, int64_t stride, const __m512i (&rounded)[4], __m512i y_zero, __mmask16 columns) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32(rounded[0], rounded[1]), y_zero);
  const __m512i second = _mm512_adds_epi16(_mm512_packs_epi32(rounded[2], rounded[3]), y_zero);
  const __m512i rows = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second));
  _mm_mask_storeu_epi8(y, columns, _mm512_castsi512_si128(rows));
  _mm_mask_storeu_epi8(y + stride, columns, _mm512_extracti32x4_epi32(rows, 1));
  _mm_mask_storeu_epi8(y + 2 * stride, columns, _mm512_extracti32x4_epi32(rows, 2));
  _mm_mask_storeu_epi8(y + 3 * stride, columns, _mm512_extracti32x4_epi32(rows, 3));
}

template <int kKernelRows, int kRowSteps, int kStride>
void walk_narrow_planes(const WindowCall& call) {
  constexpr int kInputRows = (kRowsAtOnce - 1) * kStride + kKernelRows;
  const int64_t column_blocks = (call.out_width + kColumnLanes - 1) / kColumnLanes;
  __m512i taps[kMostColumnBlocks][kRowSteps];
  for (int64_t c = 0; c < column_blocks; ++c) {
    CRISP_UNROLL for (int q = 0; q < kRowSteps; ++q) taps[c][q] = row_taps(call, c * kColumnLanes, q * kStepTaps);
  }
  const __m512i x_zero = _mm512_set1_epi8(static_cast<char>(call.x_zero));
  const __m512i y_zero = _mm512_set1_epi16(static_cast<int16_t>(call.y_zero));
  const __m512 far = _mm512_set1_ps(kFarSteps);
  const __mmask64 row_bytes = first_bytes(call.width);
  alignas(64) uint8_t padding_row[kNarrow];
  _mm512_store_si512(padding_row, x_zero);
  const int64_t width = call.width, out_width = call.out_width, out_height = call.out_height, top = call.top;
  const uint64_t height = static_cast<uint64_t>(call.height);
  for (int64_t plane = call.first; plane < call.end; ++plane) {
    const int64_t channel = plane % call.channels;
    const uint8_t* x = call.x + plane * call.height * width;
    const int8_t* weights = call.row_weights + channel * call.row_steps * kStepTaps;
    __m512i four[kKernelRows * kRowSteps];
    CRISP_UNROLL for (int s = 0; s < kKernelRows * kRowSteps; ++s) {
      four[s] = _mm512_set1_epi32(four_bytes(weights + s * kStepTaps));
    }
    const __m512i start = _mm512_set1_epi32(call.starts[channel]);
    const __m512 scale = _mm512_set1_ps(call.scales[channel]);
    for (int64_t c = 0; c < column_blocks; ++c) {
      uint8_t* y = call.y + plane * out_height * out_width + c * kColumnLanes;
      const __mmask16 columns = static_cast<__mmask16>(first_bytes(std::min(kColumnLanes, out_width - c * kColumnLanes)));
      __m512i places[kRowSteps];
      CRISP_UNROLL for (int q = 0; q < kRowSteps; ++q) places[q] = taps[c][q];
      for (int64_t i = 0; i < out_height; i += kRowsAtOnce) {
        const int64_t first = std::min(i, out_height - kRowsAtOnce);  // at the bottom some rows once more
        __m512i sums[kRowsAtOnce];
        CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) sums[k] = start;
        CRISP_UNROLL for (int r = 0; r < kInputRows; ++r) {
          const int64_t at = first * kStride - top + r;
          const uint8_t* from = static_cast<uint64_t>(at) < height ? x + at * width : padding_row;
          const __m512i row = _mm512_mask_loadu_epi8(x_zero, row_bytes, from);
          CRISP_UNROLL for (int q = 0; q < kRowSteps; ++q) {
            const __m512i picked = _mm512_permutexvar_epi8(places[q], row);
            CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) {
              const int tap_row = r - k * kStride;
              if (tap_row < 0 || tap_row >= kKernelRows) continue;
              sums[k] = _mm512_dpbusd_epi32(sums[k], picked, four[tap_row * kRowSteps + q]);
            }
          }
        }
        CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) {
          sums[k] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[k]), scale), far));
        }
        store_rows(y + first * out_width, out_width, sums, y_zero, columns);
      }
    }
  }
}

struct NarrowKernel {
  int64_t kernel_rows, row_steps, stride;
  WindowFunction walk;
};

constexpr NarrowKernel kNarrowKernels[] = {
    {3, 1, 1, walk_narrow_planes<3, 1, 1>}, {3, 1, 2, walk_narrow_planes<3, 1, 2>},
    {5, 2, 1, walk_narrow_planes<5, 2, 1>}, {5, 2, 2, walk_narrow_planes<5, 2, 2>},
    {7, 2, 1, walk_narrow_planes<7, 2, 1>},
};

// Whether there is a kernel for planes so narrow; if so, all are done.
inline bool run_narrow_planes(const WindowCall& call) {
  if (call.width >= kNarrow || call.out_width > kColumnLanes * kMostColumnBlocks || call.out_height < kRowsAtOnce ||
      call.dilation_h != 1 || call.pitch > kMostExtent) {
    return false;
  }
  for (const NarrowKernel& kernel : kNarrowKernels) {
    if (kernel.kernel_rows == call.kernel_h && kernel.row_steps * call.kernel_h == call.row_steps &&
        kernel.stride == call.stride_h) {
      kernel.walk(call);
      return true;
    }
  }
  return false;
}

}  // namespace
}  // namespace crisp
