// Packing of int8 activations: four channels of a position become neighbours, in padded planes. Written once over an
// instruction set, which weaves runs of positions. Internal linkage, as in microkernel.h.
#pragma once

#include <cstring>

#include "i8_microkernel.h"

namespace crisp {
namespace {

// The same place in four neighbouring channels.
struct FourRows {
  const uint8_t* at[kStepColumns];
  CRISP_INLINE FourRows plus(int64_t positions) const {
    return {{at[0] + positions, at[1] + positions, at[2] + positions, at[3] + positions}};
  }
};

CRISP_INLINE void weave_plainly(uint8_t* to, const FourRows& from, int64_t count, int64_t stride) {
  for (int64_t j = 0; j < count; ++j) {
    for (int i = 0; i < kStepColumns; ++i) to[j * kStepColumns + i] = from.at[i][j * stride];
  }
}

// One row of a plane: padding, what the input covers, padding.
template <class I>
CRISP_INLINE void pack_unit_row(uint8_t* to, const FourRows& row, int64_t start, const PackCall& call, uint8_t zero) {
  const int64_t stride = call.stride_w;
  const auto within = [&](int64_t column) { return column < 0 ? 0 : column < call.pitch ? column : call.pitch; };
  const int64_t low = within(start >= 0 ? 0 : (-start + stride - 1) / stride);
  const int64_t end = within(call.width > start ? (call.width - start + stride - 1) / stride : 0);
  const int64_t high = end < low ? low : end;
  for (int64_t j = 0; j < low * kStepColumns; ++j) to[j] = zero;
  if (high > low) I::weave(to + low * kStepColumns, row.plus(start + low * stride), high - low, stride);
  for (int64_t j = high * kStepColumns; j < call.pitch * kStepColumns; ++j) to[j] = zero;
}

template <class I>
CRISP_INLINE void pack_unit_plane(uint8_t* to, const FourRows& image, int64_t first_row, int64_t start,
                                  const PackCall& call, uint8_t zero) {
  const bool runs_on = call.stride_w == 1 && call.stride_h == 1 && start == 0 && call.pitch == call.width;
  int64_t y = first_row;
  for (int64_t i = 0; i < call.plane_rows;) {
    if (y < 0 || y >= call.height) {
      std::memset(to, zero, static_cast<size_t>(call.pitch * kStepColumns));
      ++i, y += call.stride_h, to += call.pitch * kStepColumns;
      continue;
    }
    const int64_t left = call.plane_rows - i, below = call.height - y;
    const int64_t rows = !runs_on ? 1 : left < below ? left : below;
    const FourRows row = image.plus(y * call.width);
    if (runs_on) {
      I::weave(to, row, rows * call.width, 1);
    } else {
      pack_unit_row<I>(to, row, start, call, zero);
    }
    i += rows, y += rows * call.stride_h, to += rows * call.pitch * kStepColumns;
  }
}

// Channels that fill up the last unit repeat its last one: no weight meets them.
template <class I>
void pack_units(const PackCall& call) {
  const uint8_t zero = static_cast<const QuantizedOperands*>(call.operands)->x_zero;
  const int64_t plane_bytes = call.plane_rows * call.pitch * kStepColumns, image_bytes = call.height * call.width;
  for (int64_t c = 0; c < call.channels; c += kStepColumns) {
    FourRows image;
    for (int i = 0; i < kStepColumns; ++i) {
      const int64_t channel = c + i < call.channels ? c + i : call.channels - 1;
      image.at[i] = bytes(call.x) + channel * image_bytes;
    }
    uint8_t* to = bytes(call.packed) + c * call.channel_stride;
    for (int cp = 0; cp < call.column_planes; ++cp) {
      for (int rp = 0; rp < call.row_planes; ++rp, to += plane_bytes) {
        pack_unit_plane<I>(to, image, call.first_row + call.row_starts[rp], call.column_starts[cp], call, zero);
      }
    }
  }
}

}  // namespace
}  // namespace crisp
