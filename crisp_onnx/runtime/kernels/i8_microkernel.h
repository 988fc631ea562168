// The inner loops of int8, written once over an instruction set `I`. A step multiplies four kept columns at once: lanes
// are positions, and a lane holds the four activations that a row's four weights meet. Internal linkage, as in
// microkernel.h.
//
// Activations are bytes of 0..255 and weights bytes of -128..127; sums are 32 bits and wrap on their way, so that only
// the last must fit. The input's zero is in what sums start from.
#pragma once

#include "inline.h"
#include "kernel_table.h"

namespace crisp {
namespace {

constexpr int kStepColumns = 4;
constexpr uint8_t kSecondUnitBit = 64;  // of a column's byte: of the step's second unit
constexpr int kStepChains = 8;          // of multiply-adds, to keep their units busy
constexpr int kWeightsAheadBytes = 512;  // asked for: time enough to come from the last cache

CRISP_INLINE const uint8_t* bytes(const void* p) { return static_cast<const uint8_t*>(p); }
CRISP_INLINE uint8_t* bytes(void* p) { return static_cast<uint8_t*>(p); }
CRISP_INLINE const int8_t* weights_of(const StripCall& call) { return static_cast<const int8_t*>(call.values); }
CRISP_INLINE const QuantizedOperands& quantized(const StripCall& call) {
  return *static_cast<const QuantizedOperands*>(call.operands);
}

constexpr int step_sets(int rows, int vectors, int tail) {
  int chains = rows * vectors + tail;
  return chains * 2 > kStepChains ? 1 : chains * 4 > kStepChains ? 2 : 4;
}

// Which lanes lie inside the plane; the others count as the input's zero and are not read.
template <class I, int J, int T>
struct Inside {
  typename I::Mask lanes[J > 0 ? J : 1];
  uint32_t tail;

  CRISP_INLINE void set(const uint16_t* bits) {
    CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[j] = I::mask_of(bits[j]);
    tail = bits[J];
  }
};

// Of sets whose products are those of the numbers.
struct NoCorrection {
  static constexpr bool kNone = true;
};

template <class I, int V, int J, int T>
struct StepSums {
  typename I::Sums lanes[V][J > 0 ? J : 1];
  typename I::template Correction<V> correction;
  typename I::template Rows<V> tail[T > 0 ? T : 1];

  CRISP_INLINE void clear() {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[v][j] = I::no_sums();
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t] = I::template Rows<V>::none();
  }

  CRISP_INLINE void start(const int32_t* bias) {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[v][j] = I::all(bias[v]);
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t] = I::template Rows<V>::load(bias);
  }

  CRISP_INLINE void resume(const int32_t* from) {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) {
      lanes[v][j] = I::load_sums(from + (v * J + j) * I::kLanes);
    }
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t] = I::template Rows<V>::load(from + V * J * I::kLanes + t * V);
  }

  CRISP_INLINE void suspend(int32_t* to) const {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) {
      I::store_sums(to + (v * J + j) * I::kLanes, lanes[v][j]);
    }
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t].store(to + V * J * I::kLanes + t * V);
  }

  CRISP_INLINE void add(const StepSums& other) {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) {
      lanes[v][j] = I::add(lanes[v][j], other.lanes[v][j]);
    }
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t].add(other.tail[t]);
  }

  CRISP_INLINE void correct() {
    if constexpr (!I::template Correction<V>::kNone) {
      CRISP_UNROLL for (int v = 0; v < V; ++v) {
        const typename I::Sums more = correction.of(v);
        CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[v][j] = I::add(lanes[v][j], more);
      }
    }
  }

  CRISP_INLINE void multiply(const typename I::Picked (&x)[J > 0 ? J : 1], const int8_t* w) {
    if (J == 0) return;
    if constexpr (!I::template Correction<V>::kNone) correction.add(w);
    const typename I::template StepWeights<V> weights(w);
    CRISP_UNROLL for (int v = 0; v < V; ++v) {
      auto weight = weights.row(v);
      if (J > 1) I::keep_in_register(weight);
      CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[v][j] = I::dot(lanes[v][j], x[j], weight);
    }
  }

  // Four columns of two units: each vector of positions is picked once and serves all rows.
  template <bool Masked>
  CRISP_INLINE void pairs(const uint8_t* a, const uint8_t* b, const uint8_t* columns, const int8_t* w,
                          const Inside<I, J, T>& inside, const typename I::Quads& padding) {
    const typename I::Selector selector(columns);
    typename I::Picked x[J > 0 ? J : 1];
    CRISP_UNROLL for (int j = 0; j < J; ++j) {
      const int at = j * I::kLanes * kStepColumns;
      x[j] = Masked ? I::pick(I::load_masked(a + at, inside.lanes[j], padding),
                              I::load_masked(b + at, inside.lanes[j], padding), selector)
                    : I::pick(I::load(a + at), I::load(b + at), selector);
    }
    multiply(x, w);
    if constexpr (T > 0) {
      const int at = J * I::kLanes * kStepColumns;
      const auto picked = I::template pick_tail<T, Masked>(a + at, b + at, selector, inside.tail, padding);
      const typename I::template RowWeights<V> weights(w);
      CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t].dot(weights, picked, t);
    }
  }

  // Four columns that lie anywhere.
  CRISP_INLINE void places(const uint8_t* x, const int32_t* offsets, const uint8_t* columns, const int8_t* w) {
    const uint8_t* at[kStepColumns];
    CRISP_UNROLL for (int i = 0; i < kStepColumns; ++i) at[i] = x + offsets[columns[i]];
    typename I::Picked picked[J > 0 ? J : 1];
    CRISP_UNROLL for (int j = 0; j < J; ++j) picked[j] = I::pick_places(at, j * I::kLanes * kStepColumns);
    multiply(picked, w);
    if constexpr (T > 0) {
      const auto positions = I::template pick_tail_places<T>(at, J * I::kLanes * kStepColumns);
      const typename I::template RowWeights<V> weights(w);
      CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t].dot(weights, positions, t);
    }
  }
};

// Sums become answers: times the row's scale, plus the residual, rounded, plus the output's zero, within its bounds.
template <class I>
struct Answer {
  typename I::Floats most, residual_scale, residual_start;
  typename I::Sums residual_zero, y_zero, low, high;

  CRISP_INLINE explicit Answer(const QuantizedOperands& q)
      : most(I::all_floats(1e9f)),  // what rounds to 32 bits
        residual_scale(I::all_floats(q.residual_scale)),
        residual_start(I::all_floats(-q.residual_scale * static_cast<float>(q.residual_zero))),
        residual_zero(I::all(q.residual_zero)),
        y_zero(I::all(q.y_zero)),
        low(I::all(q.low)),
        high(I::all(q.high)) {}

  // Steps from the output's zero, without bounds, where no sum and no residual goes far.
  CRISP_INLINE typename I::Sums steps_of(typename I::Sums sums, typename I::Floats scale) const {
    return I::rounded(I::times(I::floats_of(sums), scale));
  }
  CRISP_INLINE typename I::Sums steps_with(typename I::Sums sums, typename I::Floats scale,
                                           typename I::Sums residual) const {
    const typename I::Floats own = I::times_plus(I::floats_of(sums), scale, residual_start);
    return I::rounded(I::times_plus(I::floats_of(residual), residual_scale, own));
  }
  CRISP_INLINE typename I::Sums bounded(typename I::Sums steps) const {
    return I::least(high, I::greatest(low, I::add(steps, y_zero)));
  }

  // Wherever they go.
  CRISP_INLINE typename I::Sums far_of(typename I::Sums sums, typename I::Floats scale) const {
    return bounded(I::rounded(I::least_floats(most, I::times(I::floats_of(sums), scale))));
  }
  CRISP_INLINE typename I::Sums far_with(typename I::Sums sums, typename I::Floats scale,
                                         typename I::Sums residual) const {
    const typename I::Floats own = I::times(I::floats_of(sums), scale);
    const typename I::Floats steps = I::times_plus(I::floats_of(I::subtract(residual, residual_zero)), residual_scale, own);
    return bounded(I::rounded(I::least_floats(most, steps)));
  }
};

template <class I, int V, int J, bool WithResidual>
CRISP_INLINE void store_rows_by_four(const StripCall& call, const typename I::Sums (&lanes)[V][J]) {
  const QuantizedOperands& q = quantized(call);
  const Answer<I> answer(q);
  uint8_t* y = bytes(call.y) + call.shape->out[0];
  const uint8_t* residual = WithResidual ? bytes(call.residual) + call.shape->out[0] : nullptr;
  const auto y_zero = I::all_words(q.y_zero);
  const auto low = I::all_bytes(static_cast<uint8_t>(q.low)), high = I::all_bytes(static_cast<uint8_t>(q.high));
  const int64_t row_stride = call.row_stride;
  const float* scales = call.scales;
  CRISP_UNROLL for (int v = 0; v < V; v += 4) {
    CRISP_UNROLL for (int j = 0; j < J; ++j) {
      typename I::Sums steps[4];
      CRISP_UNROLL for (int i = 0; i < 4; ++i) {
        const typename I::Floats scale = I::all_floats(scales[v + i]);
        steps[i] = WithResidual ? answer.steps_with(lanes[v + i][j], scale,
                                                    I::load_bytes(residual + i * row_stride + j * I::kLanes))
                                : answer.steps_of(lanes[v + i][j], scale);
      }
      I::store_four_rows(y + j * I::kLanes, row_stride, steps, y_zero, low, high);
    }
    y += 4 * row_stride;
    if (WithResidual) residual += 4 * row_stride;
  }
}

template <class I, int V, int J, bool WithResidual>
CRISP_INLINE void store_whole_vectors(const StripCall& call, const typename I::Sums (&lanes)[V][J]) {
  if constexpr (I::kStoresFourRows && V % 4 == 0) return store_rows_by_four<I, V, J, WithResidual>(call, lanes);
  const Answer<I> answer(quantized(call));
  const int rows = call.rows;
  const int64_t row_stride = call.row_stride;
  const float* scales = call.scales;
  uint8_t* y = bytes(call.y) + call.shape->out[0];
  const uint8_t* residual = WithResidual ? bytes(call.residual) + call.shape->out[0] : nullptr;
  CRISP_UNROLL for (int v = 0; v < V; ++v) {
    if (v >= rows) break;
    const typename I::Floats scale = I::all_floats(scales[v]);
    CRISP_UNROLL for (int j = 0; j < J; ++j) {
      const typename I::Sums found =
          WithResidual ? answer.steps_with(lanes[v][j], scale, I::load_bytes(residual + j * I::kLanes))
                       : answer.steps_of(lanes[v][j], scale);
      I::store_bytes(y + j * I::kLanes, answer.bounded(found));
    }
    y += row_stride;
    if (WithResidual) residual += row_stride;
  }
}

// Answers of up to a vector of sums, each with a scale of its own.
template <class I>
CRISP_INLINE void answer_lanes(const QuantizedOperands& q, const int32_t* sums, const float* scales,
                               const uint8_t* residual, uint8_t* y) {
  const Answer<I> answer(q);
  const typename I::Sums all = I::load_sums(sums);
  const typename I::Floats scale = I::load_floats(scales);
  I::store_bytes(y, residual ? answer.far_with(all, scale, I::load_bytes(residual)) : answer.far_of(all, scale));
}

// Strips that end inside a vector, cross the gap between two padded rows, lack rows or go far. Out of line, once per
// instruction set.
template <class I>
CRISP_NOINLINE void store_partial_vectors(const StripCall& call, const int32_t* sums, int vectors) {
  const StripShape& shape = *call.shape;
  alignas(64) float scales[I::kLanes];
  alignas(64) uint8_t added[I::kLanes] = {}, found[I::kLanes];
  for (int v = 0; v < call.rows; ++v) {
    for (float& scale : scales) scale = call.scales[v];
    for (int j = 0; j < vectors; ++j) {
      const int64_t at = shape.out[j] + v * call.row_stride;
      int kept = 0;
      for (int lane = 0; call.residual && lane < I::kLanes; ++lane) {
        if (shape.keep[j] >> lane & 1) added[lane] = bytes(call.residual)[at + kept++];
      }
      answer_lanes<I>(quantized(call), sums + (v * vectors + j) * I::kLanes, scales, call.residual ? added : nullptr,
                      found);
      kept = 0;
      for (int lane = 0; lane < I::kLanes; ++lane) {
        if (shape.keep[j] >> lane & 1) bytes(call.y)[at + kept++] = found[lane];
      }
    }
  }
}

// `sums`: (positions, kernel rows), with a vector's room behind them.
template <class I>
CRISP_NOINLINE void store_tail(const StripCall& call, const int32_t* sums, int kernel_rows, int positions) {
  alignas(64) float scales[I::kLanes] = {};
  alignas(64) uint8_t added[I::kLanes] = {}, found[I::kLanes];
  for (int first = 0; first < call.rows; first += I::kLanes) {
    const int rows = call.rows - first < I::kLanes ? call.rows - first : I::kLanes;
    for (int v = 0; v < rows; ++v) scales[v] = call.scales[first + v];
    for (int t = 0; t < positions; ++t) {
      const int64_t at = call.shape->tail_out + t + first * call.row_stride;
      for (int v = 0; call.residual && v < rows; ++v) added[v] = bytes(call.residual)[at + v * call.row_stride];
      answer_lanes<I>(quantized(call), sums + t * kernel_rows + first, scales, call.residual ? added : nullptr, found);
      for (int v = 0; v < rows; ++v) bytes(call.y)[at + v * call.row_stride] = found[v];
    }
  }
}

template <class I, int V, int J, int T>
CRISP_INLINE void store_strip(const StripCall& call, const StepSums<I, V, J, T>& sum) {
  constexpr int kTailAt = V * J * I::kLanes;
  constexpr int kWidth = J > 0 ? J : 1;
  alignas(64) int32_t sums[kTailAt + T * V + I::kLanes];
  constexpr bool kByFour = I::kStoresFourRows && V % 4 == 0;
  if (J > 0 && call.shape->whole && !quantized(call).goes_far && (!kByFour || call.rows == V)) {
    if (call.residual) {
      store_whole_vectors<I, V, kWidth, true>(call, sum.lanes);
    } else {
      store_whole_vectors<I, V, kWidth, false>(call, sum.lanes);
    }
  } else if (J > 0) {
    sum.suspend(sums);
    store_partial_vectors<I>(call, sums, J);
  }
  if (T > 0) {
    CRISP_UNROLL for (int t = 0; t < T; ++t) sum.tail[t].store(sums + kTailAt + t * V);
    store_tail<I>(call, sums + kTailAt, V, T);
  }
}

template <class I, int V, int J, int T, Steps S, bool Masked, int Sets>
CRISP_INLINE void accumulate_steps(const StripCall& call, StepSums<I, V, J, T> (&sum)[Sets]) {
  const uint8_t* const x = bytes(call.x);
  const int8_t* w = weights_of(call);
  const uint8_t* columns = call.columns;
  const int32_t steps = call.columns_per_block / kStepColumns;
  const int32_t block_offsets = S == Steps::kPairs ? call.block / kStepColumns : call.block;
  const int64_t step_weights = int64_t{call.vector_rows} * kStepColumns;
  const int64_t to_next_block = call.block_stride - steps * step_weights;
  const typename I::Quads padding = Masked ? I::all_bytes(quantized(call).x_zero) : typename I::Quads{};
  Inside<I, J, T> inside;
  int32_t end_of_tap = 0;
  const int32_t* const end = call.blocks + call.block_count;
  for (const int32_t* block = call.blocks; block != end; ++block, w += to_next_block) {
    const int32_t* offsets = call.offsets + int64_t{*block} * block_offsets;
    const uint8_t* units = call.step_units;
    if constexpr (Masked) {
      if (*block >= end_of_tap) {
        const int32_t tap = *block / call.blocks_per_tap;
        end_of_tap = (tap + 1) * call.blocks_per_tap;
        inside.set(call.inside + tap * (J + 1));
      }
    }
    const auto step = [&](StepSums<I, V, J, T>& sums) {
      I::prefetch(w + kWeightsAheadBytes);
      if constexpr (S == Steps::kPairs) {
        sums.template pairs<Masked>(x + offsets[units[0]], x + offsets[units[1]], columns, w, inside, padding);
        units += 2;
      } else {
        sums.places(x, offsets, columns, w);
      }
      columns += kStepColumns;
      w += step_weights;
    };
    int32_t left = steps;
    for (; left >= Sets; left -= Sets) CRISP_UNROLL for (int u = 0; u < Sets; ++u) step(sum[u]);
    for (; Sets > 1 && left > 0; --left) step(sum[0]);
  }
}

template <class I, int V, int J, int T, Steps S, bool Masked>
CRISP_NOINLINE void accumulate_int8(const StripCall& call) {
  constexpr int kSets = step_sets(V, J, T);
  StepSums<I, V, J, T> sum[kSets];
  CRISP_UNROLL for (int u = 1; u < kSets; ++u) sum[u].clear();
  if (call.first) {
    sum[0].start(static_cast<const int32_t*>(call.bias));
  } else {
    sum[0].resume(static_cast<const int32_t*>(call.partial));
  }
  accumulate_steps<I, V, J, T, S, Masked>(call, sum);
  CRISP_UNROLL for (int u = 0; u < kSets; ++u) sum[u].correct();
  CRISP_UNROLL for (int u = 1; u < kSets; ++u) sum[0].add(sum[u]);
  if (call.last) {
    store_strip<I, V, J, T>(call, sum[0]);
  } else {
    sum[0].suspend(static_cast<int32_t*>(call.partial));
  }
}

template <class I, int V, int J, int T>
void run_int8_strip(const StripCall& call) {
  if (call.steps == Steps::kPlaces) return accumulate_int8<I, V, J, T, Steps::kPlaces, false>(call);
  if constexpr (I::kRoomBesideLoads && V >= kSharedLoadRows) {
    if (call.inside) return accumulate_int8<I, V, J, T, Steps::kPairs, true>(call);
  }
  accumulate_int8<I, V, J, T, Steps::kPairs, false>(call);
}

// A row of the table. `Strip` is the number in its name.
template <class I, int V, int J, int T, int Strip>
constexpr Kernel int8_kernel_row(const char* name) {
  static_assert(Strip == J * I::kLanes + T, "a kernel's name counts its positions");
  return {name, V, J, T, 0, 0, run_int8_strip<I, V, J, T>};
}

}  // namespace
}  // namespace crisp
