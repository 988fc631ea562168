// Lays a depthwise convolution out for its kernels.
#include "depthwise.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

#include "failure.h"

namespace crisp {
namespace {

std::vector<int64_t> step_offsets(const Depthwise& layer, const ConvAttributes& a, int64_t pitch) {
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i < layer.kernel_h; ++i) {
    for (int64_t j = 0; j < layer.kernel_w; j += kStepTaps) {
      offsets.push_back(i * a.dilations[0] * pitch + j * a.dilations[1]);
    }
  }
  return offsets;
}

}  // namespace

Depthwise prepare_depthwise(const TensorView& weight, const TensorView& bias, const Quantization& quantization,
                            uint8_t y_zero) {
  require(weight.shape.size() == 4 && weight.shape[1] == 1 && weight.shape[0] > 0 && weight.shape[2] > 0 &&
              weight.shape[3] > 0 && weight.shape[2] <= kLargestExtent && weight.shape[3] <= kLargestExtent,
          "W must be (channels, 1, kh, kw)");
  Depthwise d{};
  d.channels = weight.shape[0];
  d.kernel_h = weight.shape[2];
  d.kernel_w = weight.shape[3];
  const std::vector<int64_t> rows = {d.channels};
  require(bias.shape == rows, "bias must have a number for every channel");
  require(quantization.w_scale.shape == rows, "w_scale must have a number for every channel");
  d.y_zero = y_zero;
  d.x_zero = static_cast<uint8_t>(quantization.x_zero);
  const int64_t row_taps = ceil_div(d.kernel_w, kStepTaps) * kStepTaps;
  d.row_steps = d.kernel_h * row_taps / kStepTaps;
  d.flat_steps = ceil_div(d.kernel_h * d.kernel_w, kStepTaps);
  d.row_weights.resize(product({d.channels, d.row_steps, kStepTaps}).for_memory());
  d.flat_weights.resize(product({d.channels, d.flat_steps, kStepTaps}).for_memory());
  const int8_t* from = static_cast<const int8_t*>(weight.data);
  int8_t* to_row = d.row_weights.data();
  for (int64_t m = 0; m < d.channels; ++m) {
    int64_t sum = 0, magnitudes = 0;
    std::memcpy(d.flat_weights.data() + m * d.flat_steps * kStepTaps, from, static_cast<size_t>(d.kernel_h * d.kernel_w));
    for (int64_t i = 0; i < d.kernel_h; ++i, to_row += row_taps) {
      for (int64_t j = 0; j < d.kernel_w; ++j, ++from) {
        to_row[j] = *from;
        sum += *from;
        magnitudes += std::abs(int32_t{*from});
      }
    }
    int32_t given;
    float w_scale;
    std::memcpy(&given, static_cast<const int32_t*>(bias.data) + m, sizeof given);
    std::memcpy(&w_scale, static_cast<const float*>(quantization.w_scale.data) + m, sizeof w_scale);
    require(255 * magnitudes + std::abs(int64_t{given}) <= std::numeric_limits<int32_t>::max(),
            "a channel's sum may not fit 32 bits");
    d.starts.push_back(static_cast<int32_t>(given - quantization.x_zero * sum));
    relative_scale(w_scale, 1.0);
    d.scales.push_back(relative_scale(double{quantization.x_scale} * w_scale, quantization.y_scale));
  }
  return d;
}

void convolve_planes(const Depthwise& layer, const ConvShape& s, WindowFunction window, const uint8_t* x, uint8_t* y,
                     int64_t first, int64_t end) {
  const ConvAttributes& a = s.attributes;
  WindowCall call{};
  call.x = x;
  call.y = y;
  call.first = first;
  call.end = end;
  call.channels = layer.channels;
  call.height = s.height;
  call.width = s.width;
  call.out_height = s.out_height;
  call.out_width = s.out_width;
  call.top = a.pads[0];
  call.left = a.pads[1];
  call.kernel_h = layer.kernel_h;
  call.kernel_w = layer.kernel_w;
  call.stride_h = a.strides[0];
  call.stride_w = a.strides[1];
  call.dilation_h = a.dilations[0];
  call.dilation_w = a.dilations[1];
  call.row_weights = layer.row_weights.data();
  call.row_steps = layer.row_steps;
  call.flat_weights = layer.flat_weights.data();
  call.flat_steps = layer.flat_steps;
  call.starts = layer.starts.data();
  call.scales = layer.scales.data();
  call.x_zero = layer.x_zero;
  call.y_zero = layer.y_zero;
  call.pitch = s.width + a.pads[1] + a.pads[3];
  const Size padded = Size(s.height + a.pads[0] + a.pads[2]) * call.pitch + kWindowSlack;
  call.padded_bytes = padded.value();
  const std::unique_ptr<uint8_t[]> room(new uint8_t[(padded * 2).for_memory()]);
  call.padded[0] = room.get();
  call.padded[1] = room.get() + call.padded_bytes;
  const std::vector<int64_t> offsets = step_offsets(layer, a, call.pitch);
  call.offsets = offsets.data();
  window(call);
}

}  // namespace crisp
