// Depthwise convolutions of bytes over padded planes, and functions of single bytes: written once over an instruction set,
// and in plain loops. `W` brings the four taps of a step into the lanes of neighbouring outputs. Internal linkage, as in
// microkernel.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "i8_microkernel.h"

namespace crisp {
namespace {

constexpr int kRowsAtOnce = 4;          // of outputs: chains of dot products that do not wait for each other
constexpr int64_t kOutputsAtOnce = 64;  // of the plain loops
constexpr int64_t kMostExtent = 1 << 15;  // of a padded plane whose places kernels count in 32 bits
constexpr float kFarSteps = 1e9f;       // beyond them a sum is rounded to 32 bits no more

// Whether four neighbouring outputs' taps lie within 16 bytes.
CRISP_INLINE bool four_outputs_fit(const WindowCall& call) {
  return 3 * (call.stride_w + call.dilation_w) < 16;
}

// A channel's part of a call, its plane with the padding in place.
struct PaddedPlane {
  const uint8_t* x;
  const int8_t* weights;
  int32_t start;
  float scale;
  uint8_t* y;
};

// Rows of `width` bytes, from half of `kMost` on up to it: in two moves that may overlap, without a call for each.
template <size_t kMost>
void copy_short_rows(const uint8_t* from, int64_t rows, size_t width, uint8_t* to, int64_t pitch) {
  constexpr size_t kHalf = kMost / 2;
  for (int64_t i = 0; i < rows; ++i, to += pitch, from += width) {
    std::memcpy(to, from, kHalf);
    std::memcpy(to + width - kHalf, from + width - kHalf, kHalf);
  }
}

inline void copy_rows(const uint8_t* from, int64_t rows, size_t width, uint8_t* to, int64_t pitch) {
  if (width >= 4 && width <= 8) return copy_short_rows<8>(from, rows, width, to, pitch);
  if (width > 8 && width <= 16) return copy_short_rows<16>(from, rows, width, to, pitch);
  if (width > 16 && width <= 32) return copy_short_rows<32>(from, rows, width, to, pitch);
  for (int64_t i = 0; i < rows; ++i, to += pitch, from += width) std::memcpy(to, from, width);
}

// A plane is copied while the one before it is computed: loads that span fresh stores would wait for them.
template <class Walk>
CRISP_INLINE void for_padded_planes(const WindowCall& call, Walk walk) {
  const auto copy = [&](int64_t plane) {
    uint8_t* to = call.padded[plane % 2] + call.top * call.pitch + call.left;
    copy_rows(call.x + plane * call.height * call.width, call.height, static_cast<size_t>(call.width), to, call.pitch);
  };
  for (uint8_t* room : call.padded) std::memset(room, call.x_zero, static_cast<size_t>(call.padded_bytes));
  if (call.first < call.end) copy(call.first);
  for (int64_t plane = call.first; plane < call.end; ++plane) {
    if (plane + 1 < call.end) copy(plane + 1);
    const int64_t channel = plane % call.channels;
    walk(PaddedPlane{call.padded[plane % 2], call.row_weights + channel * call.row_steps * kStepTaps,
                     call.starts[channel], call.scales[channel],
                     call.y + plane * call.out_height * call.out_width});
  }
}

inline void store_window_plainly(const WindowCall& call, float scale, const int32_t* sums, int64_t count, uint8_t* y) {
  const float low = static_cast<float>(-call.y_zero), high = static_cast<float>(255 - call.y_zero);
  for (int64_t j = 0; j < count; ++j) {
    const float steps = std::min(std::max(static_cast<float>(sums[j]) * scale, low), high);
    y[j] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(steps)) + call.y_zero);
  }
}

inline void window_plainly(const WindowCall& call) {
  for_padded_planes(call, [&call](const PaddedPlane& plane) {
    for (int64_t i = 0; i < call.out_height; ++i) {
      for (int64_t j = 0; j < call.out_width; j += kOutputsAtOnce) {
        const int64_t count = std::min(kOutputsAtOnce, call.out_width - j);
        const uint8_t* from = plane.x + i * call.stride_h * call.pitch + j * call.stride_w;
        int32_t sums[kOutputsAtOnce];
        for (int64_t k = 0; k < count; ++k) sums[k] = plane.start;
        for (int64_t tap = 0; tap < call.row_steps * kStepTaps; ++tap) {
          const int32_t weight = plane.weights[tap];
          if (weight == 0) continue;  // also what fills up a step, which may lie behind the row
          const uint8_t* x = from + call.offsets[tap / kStepTaps] + tap % kStepTaps * call.dilation_w;
          for (int64_t k = 0; k < count; ++k) sums[k] += weight * x[k * call.stride_w];
        }
        store_window_plainly(call, plane.scale, sums, count, plane.y + i * call.out_width + j);
      }
    }
  });
}

inline void look_up_plainly(const LookUpCall& call) {
  for (int64_t i = 0; i < call.count; ++i) call.y[i] = call.table[call.x[i]];
}

// Sums wrap on their way, like those of the other kernels; a layer whose last sum may not fit is refused.
template <class I, class W>
void walk_window(const WindowCall& call, const W windows, const PaddedPlane& plane) {
  const typename I::Floats scale = I::all_floats(plane.scale), far = I::all_floats(kFarSteps);
  const typename I::Sums start = I::all(plane.start), y_zero = I::all(call.y_zero), low = I::all(0), high = I::all(255);
  for (int64_t i = 0; i < call.out_height; i += kRowsAtOnce) {
    int64_t row[kRowsAtOnce];  // at the bottom the last one several times
    CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) row[k] = std::min(i + k, call.out_height - 1);
    for (int64_t j = 0; j < call.out_width; j += I::kLanes) {
      const uint8_t* from[kRowsAtOnce];
      typename I::Sums sums[kRowsAtOnce];
      CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) {
        from[k] = plane.x + row[k] * call.stride_h * call.pitch + j * call.stride_w;
        sums[k] = start;
      }
      for (int64_t s = 0; s < call.row_steps; ++s) {
        const typename I::template StepWeights<1> weights(plane.weights + s * kStepTaps);
        const auto four = weights.row(0);
        CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) {
          sums[k] = I::dot(sums[k], windows.at(from[k] + call.offsets[s]), four);
        }
      }
      const int64_t count = std::min<int64_t>(I::kLanes, call.out_width - j);
      CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) {
        const typename I::Floats steps = I::least_floats(I::times(I::floats_of(sums[k]), scale), far);
        const typename I::Sums bytes = I::least(I::greatest(I::add(I::rounded(steps), y_zero), low), high);
        W::store(plane.y + row[k] * call.out_width + j, bytes, count);
      }
    }
  }
}

template <class I, class W>
void run_window(const WindowCall& call) {
  if (!W::can(call)) return window_plainly(call);
  const W windows(call);
  for_padded_planes(call, [&](const PaddedPlane& plane) { walk_window<I>(call, windows, plane); });
}

}  // namespace
}  // namespace crisp
