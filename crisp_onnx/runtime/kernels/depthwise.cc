// Pads a plane once, then lets a kernel walk over it.
#include "depthwise.h"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "failure.h"

namespace crisp {
namespace {

int64_t row_steps(int64_t kernel_w) { return ceil_div(kernel_w, kStepTaps); }

// Rows of `width` bytes, from half of `kMost` on up to it: in two moves that may overlap, without a call for each.
template <size_t kMost>
void copy_short_rows(const uint8_t* from, int64_t rows, size_t width, uint8_t* to, int64_t pitch) {
  constexpr size_t kHalf = kMost / 2;
  for (int64_t i = 0; i < rows; ++i, to += pitch, from += width) {
    std::memcpy(to, from, kHalf);
    std::memcpy(to + width - kHalf, from + width - kHalf, kHalf);
  }
}

void copy_rows(const uint8_t* from, int64_t rows, size_t width, uint8_t* to, int64_t pitch) {
  if (width >= 4 && width <= 8) return copy_short_rows<8>(from, rows, width, to, pitch);
  if (width > 8 && width <= 16) return copy_short_rows<16>(from, rows, width, to, pitch);
  if (width > 16 && width <= 32) return copy_short_rows<32>(from, rows, width, to, pitch);
  for (int64_t i = 0; i < rows; ++i, to += pitch, from += width) std::memcpy(to, from, width);
}

// A plane with its padding, and what kernels may read behind it.
class PaddedPlane {
 public:
  PaddedPlane(const ConvShape& s, uint8_t padding)
      : shape_(s),
        pitch_(s.width + s.attributes.pads[1] + s.attributes.pads[3]),
        bytes_((Size(s.height + s.attributes.pads[0] + s.attributes.pads[2]) * pitch_ + kWindowSlack).for_memory(),
               padding) {}

  void fill(const uint8_t* plane) {
    uint8_t* first = bytes_.data() + shape_.attributes.pads[0] * pitch_ + shape_.attributes.pads[1];
    copy_rows(plane, shape_.height, static_cast<size_t>(shape_.width), first, pitch_);
  }
  const uint8_t* data() const { return bytes_.data(); }
  int64_t pitch() const { return pitch_; }

 private:
  const ConvShape& shape_;
  int64_t pitch_;
  std::vector<uint8_t> bytes_;
};

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
  d.steps = d.kernel_h * row_steps(d.kernel_w);
  d.weights.resize(product({d.channels, d.steps, kStepTaps}).for_memory());
  const int8_t* from = static_cast<const int8_t*>(weight.data);
  int8_t* to = d.weights.data();
  for (int64_t m = 0; m < d.channels; ++m) {
    int64_t sum = 0, magnitudes = 0;
    for (int64_t i = 0; i < d.kernel_h; ++i, to += row_steps(d.kernel_w) * kStepTaps) {
      for (int64_t j = 0; j < d.kernel_w; ++j, ++from) {
        to[j] = *from;
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
  // A plane is copied while the one before it is computed: loads that span fresh stores would wait for them.
  PaddedPlane padded[2] = {{s, layer.x_zero}, {s, layer.x_zero}};
  const std::vector<int64_t> offsets = step_offsets(layer, s.attributes, padded[0].pitch());
  WindowCall call{};
  call.pitch = padded[0].pitch();
  call.offsets = offsets.data();
  call.steps = layer.steps;
  call.stride_h = s.attributes.strides[0];
  call.stride_w = s.attributes.strides[1];
  call.tap_stride = s.attributes.dilations[1];
  call.out_height = s.out_height;
  call.out_width = s.out_width;
  call.y_zero = layer.y_zero;
  if (first < end) padded[first % 2].fill(x + first * s.height * s.width);
  for (int64_t plane = first; plane < end; ++plane) {
    const int64_t channel = plane % layer.channels;
    if (plane + 1 < end) padded[(plane + 1) % 2].fill(x + (plane + 1) * s.height * s.width);
    call.x = padded[plane % 2].data();
    call.weights = layer.weights.data() + channel * layer.steps * kStepTaps;
    call.start = layer.starts[static_cast<size_t>(channel)];
    call.scale = layer.scales[static_cast<size_t>(channel)];
    call.y = y + plane * s.out_height * s.out_width;
    window(call);
  }
}

}  // namespace crisp
