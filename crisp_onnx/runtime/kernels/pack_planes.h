// Packing of float32 activations into padded planes, written once over an instruction set. Internal linkage, as in
// microkernel.h.
#pragma once

#include "microkernel.h"

namespace crisp {
namespace {

constexpr int kKnownSpans = 8;   // vectors of a row, and
constexpr int kKnownPlanes = 5;  // column planes, whose covered lanes are worked out once; others share the last

// The part of a packed row that the input covers: columns low..high; the rest is padding.
struct Covered {
  int64_t low, high, start;
};

CRISP_INLINE Covered covered_columns(const PackCall& call, int column_plane) {
  const int64_t start = call.column_starts[column_plane], stride = call.stride_w;
  return {start >= 0 ? 0 : (-start + stride - 1) / stride,
          call.width > start ? (call.width - start + stride - 1) / stride : 0, start};
}

CRISP_INLINE int lane_of(int64_t column, int64_t first, int lanes) {
  return static_cast<int>(column <= first ? 0 : column - first < lanes ? column - first : lanes);
}

template <class I>
CRISP_INLINE typename I::Span span_at(const Covered& covered, int64_t first) {
  const int from = lane_of(covered.low, first, I::kLanes), to = lane_of(covered.high, first, I::kLanes);
  return I::span(from < to ? from : 0, from < to ? to : 0);
}

// One vector of a packed row: the lanes of `span` come from the input, `Stride` columns apart (0: any other stride).
template <class I, int Stride>
CRISP_INLINE typename I::Vec pack_vector(const float* from, const typename I::Span& span, int64_t stride) {
  if (Stride == 1) return I::load_span(from, span);
  if (Stride == 2) return I::load_even(from, span);
  float lanes[I::kLanes] = {};
  for (int lane = span.from; lane < span.to; ++lane) lanes[lane] = from[lane * stride];
  return I::load(lanes);
}

// Writes whole vectors: up to a vector past the row, which the next row overwrites (or the slack after the last plane
// takes).
template <class I, int Stride>
CRISP_INLINE void pack_plane(float* packed, const float* plane, int64_t y, const Covered& covered,
                             const typename I::Span* spans, const PackCall& call) {
  for (int64_t i = 0; i < call.plane_rows; ++i, y += call.stride_h, packed += call.pitch) {
    if (y < 0 || y >= call.height) {
      for (int64_t j = 0; j < call.pitch; j += I::kLanes) I::store(packed + j, I::zero());
      continue;
    }
    const float* row = plane + y * call.width + covered.start;
    if (call.pitch <= I::kLanes) {
      I::store(packed, pack_vector<I, Stride>(row, spans[0], call.stride_w));
    } else if (call.pitch <= kKnownSpans * I::kLanes) {
      for (int64_t j = 0, n = 0; j < call.pitch; j += I::kLanes, ++n) {
        I::store(packed + j, pack_vector<I, Stride>(row + j * call.stride_w, spans[n], call.stride_w));
      }
    } else {
      for (int64_t j = 0; j < call.pitch; j += I::kLanes) {
        I::store(packed + j,
                 pack_vector<I, Stride>(row + j * call.stride_w, span_at<I>(covered, j), call.stride_w));
      }
    }
  }
}

// How one column plane is filled, the same for every channel.
template <class I>
struct ColumnPlane {
  Covered covered;
  typename I::Span spans[kKnownSpans];

  CRISP_INLINE ColumnPlane() = default;
  CRISP_INLINE ColumnPlane(const PackCall& call, int plane) : covered(covered_columns(call, plane)) {
    for (int n = 0; n < kKnownSpans; ++n) spans[n] = span_at<I>(covered, n * I::kLanes);
  }
};

// All planes of a channel before the next: its rows are read once for every plane, and then lie in the first-level
// cache.
template <class I, int Stride>
CRISP_INLINE void pack_channels_by(const PackCall& call) {
  const int64_t plane_floats = call.plane_rows * call.pitch;
  ColumnPlane<I> known[kKnownPlanes];
  for (int cp = 0; cp < call.column_planes && cp < kKnownPlanes - 1; ++cp) known[cp] = ColumnPlane<I>(call, cp);
  for (int64_t channel = 0; channel < call.channels; ++channel) {
    const float* plane = floats(call.x) + channel * call.height * call.width;
    float* packed = floats(call.packed) + channel * call.channel_stride;
    for (int cp = 0; cp < call.column_planes; ++cp) {
      if (cp >= kKnownPlanes - 1) known[kKnownPlanes - 1] = ColumnPlane<I>(call, cp);
      const ColumnPlane<I>& columns = known[cp < kKnownPlanes ? cp : kKnownPlanes - 1];
      for (int rp = 0; rp < call.row_planes; ++rp, packed += plane_floats) {
        const int64_t first_row = call.first_row + call.row_starts[rp];
        pack_plane<I, Stride>(packed, plane, first_row, columns.covered, columns.spans, call);
      }
    }
  }
}

template <class I>
void pack_channels(const PackCall& call) {
  if (call.stride_w == 1) {
    pack_channels_by<I, 1>(call);
  } else if (call.stride_w == 2) {
    pack_channels_by<I, 2>(call);
  } else {
    pack_channels_by<I, 0>(call);
  }
}

}  // namespace
}  // namespace crisp
