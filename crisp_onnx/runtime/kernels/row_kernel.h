// The inner loops of float32 for positions whose channels are neighbours in memory, such as a few rows of a Gemm: lanes
// hold kept columns, not positions. Written once over an instruction set `I` with vectors of eight and a window of
// neighbouring activations that it permutes. Internal linkage, as in microkernel.h.
#pragma once

#include <immintrin.h>

#include "microkernel.h"

namespace crisp {
namespace {

constexpr int kRowLanes = 8;
constexpr int kRowChains = 8;  // of multiply-adds, to keep their units busy
constexpr int kNarrowWindow = 16;

CRISP_INLINE __m128 halves_added(__m256 v) {
  return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}

// The lanes of each group's accumulator that belong to one row, summed: lane l belongs to row l % V.
template <int V, int Groups>
CRISP_INLINE void store_sums(float* to, const __m256 (&sum)[Groups]) {
  if constexpr (V == 8) {
    CRISP_UNROLL for (int g = 0; g < Groups; ++g) _mm256_storeu_ps(to + g * V, sum[g]);
  } else if constexpr (V == 4) {
    CRISP_UNROLL for (int g = 0; g < Groups; ++g) _mm_storeu_ps(to + g * V, halves_added(sum[g]));
  } else if constexpr (V == 2 && Groups % 2 == 0) {
    CRISP_UNROLL for (int g = 0; g < Groups; g += 2) {
      const __m256 rows = _mm256_add_ps(_mm256_shuffle_ps(sum[g], sum[g + 1], _MM_SHUFFLE(1, 0, 1, 0)),
                                        _mm256_shuffle_ps(sum[g], sum[g + 1], _MM_SHUFFLE(3, 2, 3, 2)));
      _mm_storeu_ps(to + g * V, halves_added(rows));
    }
  } else if constexpr (V == 1 && Groups % 4 == 0) {
    CRISP_UNROLL for (int g = 0; g < Groups; g += 4) {
      const __m256 pairs = _mm256_hadd_ps(sum[g], sum[g + 1]), others = _mm256_hadd_ps(sum[g + 2], sum[g + 3]);
      _mm_storeu_ps(to + g, halves_added(_mm256_hadd_ps(pairs, others)));
    }
  } else {
    alignas(32) float lanes[kRowLanes];
    for (int g = 0; g < Groups; ++g) {
      _mm256_store_ps(lanes, sum[g]);
      for (int v = 0; v < V; ++v) {
        to[g * V + v] = 0;
        for (int l = v; l < kRowLanes; l += V) to[g * V + v] += lanes[l];
      }
    }
  }
}

// The activations of a step's columns, each as often as its column has weights in the i-th vector of them.
template <int V>
CRISP_INLINE __m256 spread(__m256 columns, int i) {
  if constexpr (V == 1) return columns;
  const int first = i * kRowLanes / V;
  const __m256i lanes = _mm256_setr_epi32(first, first + 1 / V, first + 2 / V, first + 3 / V, first + 4 / V,
                                          first + 5 / V, first + 6 / V, first + 7 / V);
  return _mm256_permutevar8x32_ps(columns, lanes);
}

// `Groups` row groups at `T` positions. A window of activations serves all groups, weights and places all positions; the
// weights of a block follow each other.
template <class I, int V, int T, int Columns, bool Wide, bool Once, int Groups>
CRISP_INLINE void accumulate_groups(const StripCall& call, const float* w, const uint8_t* places, float* sums) {
  constexpr int kVectors = Columns * V / kRowLanes;
  constexpr int kChainsEach = Groups * T >= kRowChains ? 1 : kRowChains / (Groups * T);
  constexpr int kSums = kChainsEach < kVectors ? kChainsEach : kVectors;
  using Window = typename I::template Window<Wide>;
  __m256 sum[T][Groups][kSums];
  CRISP_UNROLL for (int t = 0; t < T; ++t) CRISP_UNROLL for (int g = 0; g < Groups; ++g) {
    CRISP_UNROLL for (int i = 0; i < kSums; ++i) sum[t][g][i] = _mm256_setzero_ps();
  }
  const float* const x = floats(call.x);
  const int64_t position_stride = call.depth, group_places = call.group_places;
  const int32_t columns_per_block = Once ? Columns : call.columns_per_block;
  const int64_t group_weights = int64_t{columns_per_block} * V;
  for (int32_t b = 0; b < call.block_count; ++b, w += call.block_stride, places += columns_per_block) {
    int64_t first = int64_t{call.blocks[b]} * call.block;
    for (int32_t z = 0, base = 0; z < columns_per_block; z += Columns, base += call.span, first += call.span) {
      Window windows[T];
      CRISP_UNROLL for (int t = 0; t < T; ++t) windows[t].load(x + t * position_stride + first, call.depth - first);
      CRISP_UNROLL for (int g = 0; g < Groups; ++g) {
        const float* weights = w + g * group_weights + z * V;
        const __m256i kept = _mm256_sub_epi32(
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(places + g * group_places + z))),
            _mm256_set1_epi32(base));
        __m256 columns[T];
        CRISP_UNROLL for (int t = 0; t < T; ++t) columns[t] = windows[t].look_up(kept);
        CRISP_UNROLL for (int i = 0; i < kVectors; ++i) {
          const __m256 weight = _mm256_loadu_ps(weights + i * kRowLanes);
          CRISP_UNROLL for (int t = 0; t < T; ++t) {
            sum[t][g][i % kSums] = _mm256_fmadd_ps(weight, spread<V>(columns[t], i), sum[t][g][i % kSums]);
          }
        }
      }
    }
  }
  CRISP_UNROLL for (int t = 0; t < T; ++t) {
    __m256 whole[Groups];
    CRISP_UNROLL for (int g = 0; g < Groups; ++g) {
      whole[g] = sum[t][g][0];
      CRISP_UNROLL for (int i = 1; i < kSums; ++i) whole[g] = _mm256_add_ps(whole[g], sum[t][g][i]);
    }
    store_sums<V, Groups>(sums + t * Groups * V, whole);
  }
}

// Adds bias and residual to `rows` sums of a position and stores them from row `first` on.
CRISP_INLINE void store_position(const StripCall& call, int32_t first, int32_t rows, int64_t position,
                                 const float* sums) {
  const FloatOperands bounds = operands(call);
  const float* const bias = floats(call.bias) + first;
  const int64_t stride = call.row_stride, at = position + first * stride;
  const float* const residual = call.residual ? floats(call.residual) + at : nullptr;
  float* const y = floats(call.y) + at;
  int32_t row = 0;
  for (; stride == 1 && row + kRowLanes <= rows; row += kRowLanes) {
    __m256 value = _mm256_add_ps(_mm256_loadu_ps(sums + row), _mm256_loadu_ps(bias + row));
    if (residual) value = _mm256_add_ps(value, _mm256_loadu_ps(residual + row));
    value = _mm256_max_ps(_mm256_set1_ps(bounds.lower), value);  // the second operand where one is NaN
    _mm256_storeu_ps(y + row, _mm256_min_ps(_mm256_set1_ps(bounds.upper), value));
  }
  for (; row < rows; ++row) {
    float value = sums[row] + bias[row];
    if (residual) value += residual[row * stride];
    value = value < bounds.lower ? bounds.lower : value;
    y[row * stride] = value > bounds.upper ? bounds.upper : value;
  }
}

template <class I, int V, int T, int Columns, bool Wide, bool Once, int Groups>
CRISP_NOINLINE int32_t run_groups(const StripCall& call, int32_t row) {
  const int64_t group = row / V;
  alignas(32) float sums[T * Groups * V];
  accumulate_groups<I, V, T, Columns, Wide, Once, Groups>(
      call, floats(call.values) + group * call.columns_per_block * V, call.columns + group * call.group_places, sums);
  const int32_t rows = call.rows - row < Groups * V ? call.rows - row : Groups * V;
  for (int t = 0; t < T; ++t) {
    store_position(call, row, rows, call.shape->tail_out + t * call.position_stride, sums + t * Groups * V);
  }
  return row + rows;
}

template <class I, int V, int T, int Columns, bool Wide, bool Once>
void run_block_row(const StripCall& call) {
  constexpr int kGroups = I::row_groups(V, T);
  for (int32_t row = 0; row < call.rows;) {
    row = call.rows - row > (kGroups - 1) * V ? run_groups<I, V, T, Columns, Wide, Once, kGroups>(call, row)
                                              : run_groups<I, V, T, Columns, Wide, Once, 1>(call, row);
  }
}

template <class I, int V, int T, int Columns>
void run_steps(const StripCall& call) {
  if constexpr (I::kWindow > kNarrowWindow) {
    if (call.span > kNarrowWindow) return run_block_row<I, V, T, Columns, true, false>(call);
  }
  if (call.columns_per_block == Columns) return run_block_row<I, V, T, Columns, false, true>(call);
  run_block_row<I, V, T, Columns, false, false>(call);
}

template <class I, int V, int T>
void run_row(const StripCall& call) {
  if (V == 1 || call.step_columns == kRowLanes) return run_steps<I, V, T, kRowLanes>(call);
  if constexpr (V > 1) run_steps<I, V, T, kRowLanes / V>(call);
}

// A row of the table.
template <class I, int V, int T>
constexpr Kernel row_kernel_row(const char* name) {
  return {name, V, 0, T, I::kWindow, I::most_positions(V), run_row<I, V, T>};
}

}  // namespace
}  // namespace crisp
