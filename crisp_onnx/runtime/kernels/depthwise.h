// A depthwise convolution of bytes: a window over each channel for itself.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry.h"
#include "kernel_table.h"
#include "weight.h"

namespace crisp {

// A layer's weight, checked once when a session loads.
struct Depthwise {
  int64_t channels;
  int64_t kernel_h, kernel_w;
  int64_t row_steps, flat_steps;    // of four taps
  std::vector<int8_t> row_weights;  // (channels, row_steps, 4): a kernel's row begins a step,
  std::vector<int8_t> flat_weights;  // (channels, flat_steps, 4): or all its taps follow each other
  std::vector<int32_t> starts;      // (channels): the bias, less what the input's zero adds to the sums
  std::vector<float> scales;        // (channels): steps of the output in a step of the sums
  int32_t y_zero;
  uint8_t x_zero;                   // what padding counts as
};

// `weight` int8 (channels, 1, kh, kw), `bias` int32 (channels). Throws Failure where a shape is wrong, a sum might not fit 32 bits,
// or scales are not positive or too far apart.
Depthwise prepare_depthwise(const TensorView& weight, const TensorView& bias, const Quantization& quantization,
                            uint8_t y_zero);

// Planes [first, end) of x (batch * channels, height, width) into y (batch * channels, out_height, out_width). `shape`: of
// one channel.
void convolve_planes(const Depthwise& layer, const ConvShape& shape, WindowFunction window, const uint8_t* x, uint8_t* y,
                     int64_t first, int64_t end);

}  // namespace crisp
