// A channel of a depthwise convolution of bytes, and functions of single bytes: written once over an instruction set, and
// in plain loops. `W` brings the four taps of a step into the lanes of neighbouring outputs. Internal linkage, as in
// microkernel.h.
#pragma once

#include <algorithm>
#include <cmath>

#include "i8_microkernel.h"

namespace crisp {
namespace {

constexpr int kRowsAtOnce = 4;          // of outputs: chains of dot products that do not wait for each other
constexpr int64_t kOutputsAtOnce = 64;  // of the plain loops
constexpr float kFarSteps = 1e9f;       // beyond them a sum is rounded to 32 bits no more

// Whether four neighbouring outputs' taps lie within 16 bytes.
CRISP_INLINE bool four_outputs_fit(const WindowCall& call) {
  return 3 * (call.stride_w + call.tap_stride) < 16;
}

inline void store_window_plainly(const WindowCall& call, const int32_t* sums, int64_t count, uint8_t* y) {
  const float low = static_cast<float>(-call.y_zero), high = static_cast<float>(255 - call.y_zero);
  for (int64_t j = 0; j < count; ++j) {
    const float steps = std::min(std::max(static_cast<float>(sums[j]) * call.scale, low), high);
    y[j] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(steps)) + call.y_zero);
  }
}

inline void window_plainly(const WindowCall& call) {
  for (int64_t i = 0; i < call.out_height; ++i) {
    for (int64_t j = 0; j < call.out_width; j += kOutputsAtOnce) {
      const int64_t count = std::min(kOutputsAtOnce, call.out_width - j);
      const uint8_t* from = call.x + i * call.stride_h * call.pitch + j * call.stride_w;
      int32_t sums[kOutputsAtOnce];
      for (int64_t k = 0; k < count; ++k) sums[k] = call.start;
      for (int64_t tap = 0; tap < call.steps * kStepTaps; ++tap) {
        const int32_t weight = call.weights[tap];
        if (weight == 0) continue;  // also what fills up a step, which may lie behind the row
        const uint8_t* x = from + call.offsets[tap / kStepTaps] + tap % kStepTaps * call.tap_stride;
        for (int64_t k = 0; k < count; ++k) sums[k] += weight * x[k * call.stride_w];
      }
      store_window_plainly(call, sums, count, call.y + i * call.out_width + j);
    }
  }
}

inline void look_up_plainly(const LookUpCall& call) {
  for (int64_t i = 0; i < call.count; ++i) call.y[i] = call.table[call.x[i]];
}

// Sums wrap on their way, like those of the other kernels; a layer whose last sum may not fit is refused.
template <class I, class W>
void run_window(const WindowCall& call) {
  if (!W::can(call)) return window_plainly(call);
  const W windows(call);
  const typename I::Floats scale = I::all_floats(call.scale), far = I::all_floats(kFarSteps);
  const typename I::Sums start = I::all(call.start), y_zero = I::all(call.y_zero), low = I::all(0), high = I::all(255);
  for (int64_t i = 0; i < call.out_height; i += kRowsAtOnce) {
    int64_t row[kRowsAtOnce];  // at the bottom the last one several times
    CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) row[k] = std::min(i + k, call.out_height - 1);
    for (int64_t j = 0; j < call.out_width; j += I::kLanes) {
      const uint8_t* from[kRowsAtOnce];
      typename I::Sums sums[kRowsAtOnce];
      CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) {
        from[k] = call.x + row[k] * call.stride_h * call.pitch + j * call.stride_w;
        sums[k] = start;
      }
      for (int64_t s = 0; s < call.steps; ++s) {
        const typename I::template StepWeights<1> weights(call.weights + s * kStepTaps);
        const auto four = weights.row(0);
        CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) {
          sums[k] = I::dot(sums[k], windows.at(from[k] + call.offsets[s]), four);
        }
      }
      const int64_t count = std::min<int64_t>(I::kLanes, call.out_width - j);
      CRISP_UNROLL for (int k = 0; k < kRowsAtOnce; ++k) {
        const typename I::Floats steps = I::least_floats(I::times(I::floats_of(sums[k]), scale), far);
        const typename I::Sums bytes = I::least(I::greatest(I::add(I::rounded(steps), y_zero), low), high);
        W::store(call.y + row[k] * call.out_width + j, bytes, count);
      }
    }
  }
}

}  // namespace
}  // namespace crisp
