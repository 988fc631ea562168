// The inner loops of float32, written once over an instruction set `I` (its vector type and a dozen operations).
//
// Every translation unit that includes this is compiled for one instruction set, so everything here has internal
// linkage: a shared inline function compiled for AVX-512 must never be picked by the linker for an older machine.
#pragma once

#include "inline.h"
#include "kernel_table.h"

namespace crisp {
namespace {

// Chains of multiply-adds below this number wait for each other's results: neighbouring columns get accumulators of
// their own then, summed at the end.
constexpr int kChains = 8;

// Weights are asked for this many blocks ahead: time enough to come from the last cache.
constexpr int kBlocksAhead = 4;

// Which lanes of a strip's vectors may be read: all, all but some of the last vector's, or what `inside` says.
enum class Lanes { kAll, kLastPartial, kInside };

// The operands of a call as what they are to float32 kernels.
CRISP_INLINE const float* floats(const void* p) { return static_cast<const float*>(p); }
CRISP_INLINE float* floats(void* p) { return static_cast<float*>(p); }
CRISP_INLINE const FloatOperands& operands(const StripCall& call) {
  return *static_cast<const FloatOperands*>(call.operands);
}

constexpr int column_sets(int rows, int vectors, int tail) {
  int chains = rows * vectors + tail;
  return chains * 2 > kChains ? 1 : chains * 4 > kChains ? 2 : 4;
}

template <class I, int J, int T>
struct Readable {
  typename I::Mask lanes[J > 0 ? J : 1];
  typename I::Mask tail[T > 0 ? T : 1];  // of the first lane, for each tail position

  CRISP_INLINE void last_partial(int count) { lanes[J > 0 ? J - 1 : 0] = I::mask(count); }

  CRISP_INLINE void inside(const uint16_t* bits) {
    CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[j] = I::mask_of(bits[j]);
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t] = I::mask_of(bits[J] >> t & 1u);
  }
};

template <class I, int V, int J, int T>
struct Accumulators {
  typename I::Vec lanes[V][J > 0 ? J : 1];
  typename I::template Rows<V> tail[T > 0 ? T : 1];

  CRISP_INLINE void clear() {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[v][j] = I::zero();
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t] = I::template Rows<V>::zero();
  }

  CRISP_INLINE void start(const float* bias) {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[v][j] = I::set1(bias + v);
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t] = I::template Rows<V>::load(bias);
  }

  CRISP_INLINE void resume(const float* from) {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) {
      lanes[v][j] = I::load(from + (v * J + j) * I::kLanes);
    }
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t] = I::template Rows<V>::load(from + V * J * I::kLanes + t * V);
  }

  CRISP_INLINE void suspend(float* to) const {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) {
      I::store(to + (v * J + j) * I::kLanes, lanes[v][j]);
    }
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t].store(to + V * J * I::kLanes + t * V);
  }

  CRISP_INLINE void add(const Accumulators& other) {
    CRISP_UNROLL for (int v = 0; v < V; ++v) CRISP_UNROLL for (int j = 0; j < J; ++j) {
      lanes[v][j] = I::add(lanes[v][j], other.lanes[v][j]);
    }
    CRISP_UNROLL for (int t = 0; t < T; ++t) tail[t].add(other.tail[t]);
  }

  // One kept column: its activations stay in registers while V weights are broadcast one at a time.
  template <Lanes L>
  CRISP_INLINE void column(const float* x, const float* w, const Readable<I, J, T>& readable) {
    typename I::Vec strip[J > 0 ? J : 1];
    CRISP_UNROLL for (int j = 0; j < J; ++j) {
      const bool masked = L == Lanes::kInside || (L == Lanes::kLastPartial && j == J - 1);
      strip[j] = masked ? I::load_masked(x + j * I::kLanes, readable.lanes[j]) : I::load(x + j * I::kLanes);
    }
    CRISP_UNROLL for (int v = 0; v < (J > 0 ? V : 0); ++v) {
      typename I::Vec weight = I::set1(w + v);
      I::keep_in_register(weight);
      CRISP_UNROLL for (int j = 0; j < J; ++j) lanes[v][j] = I::fma(weight, strip[j], lanes[v][j]);
    }
    if (T > 0) {
      auto weights = I::template Rows<V>::load(w);
      CRISP_UNROLL for (int t = 0; t < T; ++t) {
        const float* position = x + J * I::kLanes + t;
        if constexpr (L == Lanes::kInside) {
          tail[t].fma_masked(weights, position, readable.tail[t]);
        } else {
          tail[t].fma(weights, position);
        }
      }
    }
  }
};

template <class I, int V, int J, bool WithResidual>
CRISP_INLINE void store_whole_vectors(const StripCall& call, const typename I::Vec (&lanes)[V][J]) {
  const typename I::Vec lower = I::set1(&operands(call).lower), upper = I::set1(&operands(call).upper);
  // Copies: for all that a compiler knows, a store through a vector type changes what `call` holds.
  const int rows = call.rows;
  const int64_t row_stride = call.row_stride;
  float* y = floats(call.y) + call.shape->out[0];
  const float* residual = WithResidual ? floats(call.residual) + call.shape->out[0] : nullptr;
  CRISP_UNROLL for (int v = 0; v < V; ++v) {
    if (v >= rows) break;
    CRISP_UNROLL for (int j = 0; j < J; ++j) {
      typename I::Vec value = lanes[v][j];
      if (WithResidual) value = I::add(value, I::load(residual + j * I::kLanes));
      I::store(y + j * I::kLanes, I::min(upper, I::max(lower, value)));
    }
    y += row_stride;
    if (WithResidual) residual += row_stride;
  }
}

// Strips that end inside a vector or cross the gap between two padded rows. Out of line, once per instruction set: it
// runs once a strip and would otherwise be most of every kernel's code.
template <class I>
CRISP_NOINLINE void store_partial_vectors(const StripCall& call, const float* sums, int vectors) {
  const StripShape& shape = *call.shape;
  const typename I::Vec lower = I::set1(&operands(call).lower), upper = I::set1(&operands(call).upper);
  float* const y = floats(call.y);
  const float* const residual = floats(call.residual);
  for (int j = 0; j < vectors; ++j) {
    const uint32_t keep = shape.keep[j];
    int64_t at = shape.out[j];
    for (int v = 0; v < call.rows; ++v, at += call.row_stride) {
      typename I::Vec value = I::load(sums + (v * vectors + j) * I::kLanes);
      if (keep == I::kFull) {
        if (residual) value = I::add(value, I::load(residual + at));
        I::store(y + at, I::min(upper, I::max(lower, value)));
      } else {
        int count = 0;
        value = I::compress(value, keep, &count);
        if (residual) value = I::add(value, I::load_first(residual + at, count));
        I::store_first(y + at, I::min(upper, I::max(lower, value)), count);
      }
    }
  }
}

template <class I>
CRISP_NOINLINE void store_tail(const StripCall& call, const float* sums, int kernel_rows, int positions) {
  const FloatOperands bounds = operands(call);
  for (int v = 0; v < call.rows; ++v) {
    const int64_t at = v * call.row_stride + call.shape->tail_out;
    for (int t = 0; t < positions; ++t) {
      float value = sums[t * kernel_rows + v];
      if (call.residual) value += floats(call.residual)[at + t];
      value = value < bounds.lower ? bounds.lower : value;
      floats(call.y)[at + t] = value > bounds.upper ? bounds.upper : value;
    }
  }
}

template <class I, int V, int J, int T>
CRISP_INLINE void store_strip(const StripCall& call, const Accumulators<I, V, J, T>& sum) {
  constexpr int kTailAt = V * J * I::kLanes;
  constexpr int kWidth = J > 0 ? J : 1;
  alignas(64) float sums[kTailAt + T * V + I::kLanes];
  if (J > 0 && call.shape->whole) {
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

// `Ahead`: also ask for the activations of the block after, among each column's multiply-adds: a burst of requests
// between two blocks takes longer than it saves.
template <class I, int V, int J, int T, Lanes L, bool Ahead, int Sets>
CRISP_INLINE void accumulate_blocks(const StripCall& call, Accumulators<I, V, J, T> (&sum)[Sets]) {
  Readable<I, J, T> readable;
  if constexpr (L == Lanes::kLastPartial) readable.last_partial(call.shape->loaded_last);
  const uint16_t* inside = call.inside;
  int32_t end_of_tap = 0;
  const float* w = floats(call.values);
  const uint8_t* column = call.columns;
  const int64_t to_next_block = call.block_stride - int64_t{call.columns_per_block} * call.vector_rows;
  const int32_t* const end = call.blocks + call.block_count;
  for (const int32_t* block = call.blocks; block != end; ++block, w += to_next_block) {
    const int32_t* offsets = call.offsets + int64_t{*block} * call.block;
    const int32_t* offsets_after = call.offsets + int64_t{block[block + 1 != end]} * call.block;
    const int64_t to_column_after = block + 1 != end ? call.columns_per_block : 0;
    if constexpr (L == Lanes::kInside) {
      if (*block >= end_of_tap) {
        const int32_t tap = *block / call.blocks_per_tap;
        end_of_tap = (tap + 1) * call.blocks_per_tap;
        readable.inside(inside + tap * (J + 1));
      }
    }
    const uint8_t* const last = column + call.columns_per_block;
    for (; last - column >= Sets; column += Sets) {
      CRISP_UNROLL for (int u = 0; u < Sets; ++u) {
        I::prefetch(w + kBlocksAhead * call.block_stride);
        if constexpr (Ahead) {
          const float* strip = floats(call.x) + offsets_after[column[to_column_after + u]];
          CRISP_UNROLL for (int j = 0; j < J; ++j) I::prefetch(strip + j * I::kLanes);
          I::prefetch(strip + J * I::kLanes - 1);
        }
        sum[u].template column<L>(floats(call.x) + offsets[column[u]], w, readable);
        w += call.vector_rows;
      }
    }
    if (Sets > 1) {
      for (; column != last; ++column, w += call.vector_rows) {
        sum[0].template column<L>(floats(call.x) + offsets[*column], w, readable);
      }
    }
  }
}

template <class I, int V, int J, int T, Lanes L, bool Ahead>
CRISP_NOINLINE void accumulate(const StripCall& call) {
  constexpr int kSets = column_sets(V, J, T);
  Accumulators<I, V, J, T> sum[kSets];
  CRISP_UNROLL for (int u = 1; u < kSets; ++u) sum[u].clear();
  if (call.first) {
    sum[0].start(floats(call.bias));
  } else {
    sum[0].resume(floats(call.partial));
  }
  accumulate_blocks<I, V, J, T, L, Ahead>(call, sum);
  CRISP_UNROLL for (int u = 1; u < kSets; ++u) sum[0].add(sum[u]);
  if (call.last) {
    store_strip<I, V, J, T>(call, sum[0]);
  } else {
    sum[0].suspend(floats(call.partial));
  }
}

template <class I, int V, int J, int T>
void run_strip(const StripCall& call) {
  constexpr bool kMayAsk = J > 0 && V >= kSharedLoadRows && I::kRoomBesideLoads;
  if constexpr (I::kRoomBesideLoads && V >= kSharedLoadRows) {  // a partial vector is marked as any other position is
    if (call.inside) {
      return call.ask_ahead ? accumulate<I, V, J, T, Lanes::kInside, kMayAsk>(call)
                            : accumulate<I, V, J, T, Lanes::kInside, false>(call);
    }
  } else if (J > 0 && call.shape->loaded_last < I::kLanes) {
    return accumulate<I, V, J, T, Lanes::kLastPartial, false>(call);
  }
  return call.ask_ahead ? accumulate<I, V, J, T, Lanes::kAll, kMayAsk>(call)
                        : accumulate<I, V, J, T, Lanes::kAll, false>(call);
}

// A row of the table. `Strip` is the number in its name.
template <class I, int V, int J, int T, int Strip>
constexpr Kernel kernel_row(const char* name) {
  static_assert(Strip == J * I::kLanes + T, "a kernel's name counts its positions");
  return {name, V, J, T, 0, 0, run_strip<I, V, J, T>};
}

}  // namespace
}  // namespace crisp
