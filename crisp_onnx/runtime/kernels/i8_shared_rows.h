// Depthwise convolutions of bytes row by row, for AVX-512 with VBMI, without a padded copy: 16 outputs' part of a row of
// input is loaded and permuted once for all rows of outputs of a block. Internal linkage, as in microkernel.h.
#pragma once

#include <immintrin.h>

#include "i8_avx512.h"

namespace crisp {
namespace {

constexpr int64_t kColumnLanes = 16;  // outputs of a row that are done together
constexpr int kMostColumnBlocks = 16;

// Sources of bytes: what the taps of 16 outputs are picked out of. Vectors lie within a row.

// A whole row, and behind it what padding counts as.
struct WholeRow {
  static bool can(const WindowCall& call) { return call.width < kVectorBytes; }
  static int32_t padding_place(const WindowCall& call) { return static_cast<int32_t>(call.width); }
  static CRISP_INLINE __m512i load(const uint8_t* p, __mmask64 row, __m512i x_zero) {
    return _mm512_mask_loadu_epi8(x_zero, row, p);
  }
  static CRISP_INLINE __m512i pick(__m512i row, __m512i places, __m512i) { return _mm512_permutexvar_epi8(places, row); }
};

struct PartOfRow {
  static bool can(const WindowCall& call) { return call.width >= kVectorBytes; }
  static int32_t padding_place(const WindowCall&) { return kVectorBytes; }  // the first byte of the other operand
  static CRISP_INLINE __m512i load(const uint8_t* p, __mmask64, __m512i) { return _mm512_loadu_si512(p); }
  static CRISP_INLINE __m512i pick(__m512i row, __m512i places, __m512i x_zero) {
    return _mm512_permutex2var_epi8(row, places, x_zero);
  }
};

// Where the lanes of every block of 16 columns find their taps.
template <class Source, int kRowSteps>
struct ColumnPlan {
  __m512i places[kMostColumnBlocks][kRowSteps];
  int64_t first[kMostColumnBlocks];  // byte of a row that is loaded

  // Whether the taps of every block fit the source.
  bool make(const WindowCall& call) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i steps = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(call.stride_w)));
    const __m512i width = _mm512_set1_epi32(static_cast<int32_t>(call.width));
    const __m512i padding = _mm512_set1_epi32(Source::padding_place(call));
    const int64_t reach = (kColumnLanes - 1) * call.stride_w + (call.kernel_w - 1) * call.dilation_w;
    if (!Source::can(call) || (call.width >= kVectorBytes && reach >= kVectorBytes)) return false;
    for (int64_t c = 0; c * kColumnLanes < call.out_width; ++c) {
      const int64_t corner = c * kColumnLanes * call.stride_w - call.left;
      first[c] = std::max<int64_t>(std::min(corner, call.width - kVectorBytes), 0);
      for (int q = 0; q < kRowSteps; ++q) {
        places[c][q] = _mm512_setzero_si512();
        CRISP_UNROLL for (int t = 0; t < kStepTaps; ++t) {
          const int64_t tap = q * kStepTaps + t;
          const __m512i column = _mm512_add_epi32(
              steps, _mm512_set1_epi32(static_cast<int32_t>(corner + std::min(tap, call.kernel_w - 1) * call.dilation_w)));
          const __mmask16 inside = _mm512_cmplt_epu32_mask(column, width);  // below 0 is far above
          const __m512i place = _mm512_mask_sub_epi32(padding, inside, column, _mm512_set1_epi32(static_cast<int32_t>(first[c])));
          places[c][q] = _mm512_or_si512(places[c][q], _mm512_slli_epi32(place, 8 * t));
        }
      }
    }
    return true;
  }
};

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

template <class Source, int kKernelRows, int kRowSteps, int kStride>
bool walk_rows_from(const WindowCall& call) {
  constexpr int kInputRows = (kRowsAtOnce - 1) * kStride + kKernelRows;
  ColumnPlan<Source, kRowSteps> plan;
  if (!plan.make(call)) return false;
  const __m512i x_zero = _mm512_set1_epi8(static_cast<char>(call.x_zero));
  const __m512i y_zero = _mm512_set1_epi16(static_cast<int16_t>(call.y_zero));
  const __m512 far = _mm512_set1_ps(kFarSteps);
  const __mmask64 whole_row = first_bytes(call.width);
  alignas(64) uint8_t padding_row[kVectorBytes];
  _mm512_store_si512(padding_row, x_zero);
  const int64_t width = call.width, out_width = call.out_width, out_height = call.out_height, top = call.top;
  const uint64_t height = static_cast<uint64_t>(call.height);
  for (int64_t plane = call.first; plane < call.end; ++plane) {
    const int64_t channel = plane % call.channels;
    const int8_t* weights = call.row_weights + channel * call.row_steps * kStepTaps;
    __m512i four[kKernelRows * kRowSteps];
    CRISP_UNROLL for (int s = 0; s < kKernelRows * kRowSteps; ++s) {
      four[s] = _mm512_set1_epi32(four_bytes(weights + s * kStepTaps));
    }
    const __m512i start = _mm512_set1_epi32(call.starts[channel]);
    const __m512 scale = _mm512_set1_ps(call.scales[channel]);
    for (int64_t c = 0; c * kColumnLanes < out_width; ++c) {
      const uint8_t* x = call.x + plane * call.height * width + plan.first[c];
      uint8_t* y = call.y + plane * out_height * out_width + c * kColumnLanes;
      const __mmask16 columns = static_cast<__mmask16>(first_bytes(std::min(kColumnLanes, out_width - c * kColumnLanes)));
      __m512i places[kRowSteps];
      CRISP_UNROLL for (int q = 0; q < kRowSteps; ++q) places[q] = plan.places[c][q];
      for (int64_t i = 0; i < out_height; i += kRowsAtOnce) {
        const int64_t first = std::min(i, out_height - kRowsAtOnce);  // at the bottom some rows once more
        __m512i sums[kRowsAtOnce];
        CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) sums[k] = start;
        CRISP_UNROLL for (int r = 0; r < kInputRows; ++r) {
          const int64_t at = first * kStride - top + r;
          const uint8_t* from = static_cast<uint64_t>(at) < height ? x + at * width : padding_row;
          const __m512i row = Source::load(from, whole_row, x_zero);
          CRISP_UNROLL for (int q = 0; q < kRowSteps; ++q) {
            const __m512i picked = Source::pick(row, places[q], x_zero);
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
  }  return true;
}

template <int kKernelRows, int kRowSteps, int kStride>
bool walk_rows(const WindowCall& call) {
  return walk_rows_from<WholeRow, kKernelRows, kRowSteps, kStride>(call) ||
         walk_rows_from<PartOfRow, kKernelRows, kRowSteps, kStride>(call);
}

struct RowsKernel {
  int64_t kernel_rows, row_steps, stride;
  bool (*walk)(const WindowCall&);
};

constexpr RowsKernel kRowsKernels[] = {
    {3, 1, 1, walk_rows<3, 1, 1>}, {3, 1, 2, walk_rows<3, 1, 2>}, {5, 2, 1, walk_rows<5, 2, 1>},
    {5, 2, 2, walk_rows<5, 2, 2>}, {7, 2, 1, walk_rows<7, 2, 1>},
};

// Whether there is a kernel for such planes; if so, all are done.
inline bool run_rows(const WindowCall& call) {
  if (call.out_width > kColumnLanes * kMostColumnBlocks || call.out_height < kRowsAtOnce || call.dilation_h != 1 ||
      call.pitch > kMostExtent) {
    return false;
  }
  for (const RowsKernel& kernel : kRowsKernels) {
    if (kernel.kernel_rows == call.kernel_h && kernel.row_steps * call.kernel_h == call.row_steps &&
        kernel.stride == call.stride_h) {
      return kernel.walk(call);
    }
  }
  return false;
}

}  // namespace
}  // namespace crisp
