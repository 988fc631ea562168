// Runs a depthwise convolution of bytes on the session's threads.
#include "depthwise_node.h"

#include <algorithm>

#include "isa.h"
#include "ort_call.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr int64_t kItemMacs = 100000;  // some microseconds
constexpr int64_t kMostItems = 32;

// Where the operator has its inputs.
constexpr size_t kScaleOfX = 1, kZeroOfX = 2, kWeight = 3, kScaleOfWeights = 4, kBias = 5, kScaleOfY = 6, kZeroOfY = 7;

Depthwise read_layer(const ort::Api* api, const ort::KernelInfo* info) {
  return prepare_depthwise(ort::constant_input(api, info, kWeight, "W", ort::kInt8, false),
                           ort::constant_input(api, info, kBias, "bias", ort::kInt32, false),
                           {ort::constant_float(api, info, kScaleOfX, "x_scale"),
                            ort::constant_float(api, info, kScaleOfY, "y_scale"),
                            ort::constant_uint8(api, info, kZeroOfX, "x_zero"),
                            ort::constant_input(api, info, kScaleOfWeights, "w_scale", ort::kFloat, false)},
                           ort::constant_uint8(api, info, kZeroOfY, "y_zero"));
}

int64_t items_of(const Depthwise& layer, const ConvShape& shape, int64_t planes) {
  const double macs = static_cast<double>(planes) * static_cast<double>(shape.out_height) *
                      static_cast<double>(shape.out_width) * static_cast<double>(layer.row_steps * kStepTaps);
  const int64_t wanted = static_cast<int64_t>(std::min(macs / kItemMacs, static_cast<double>(kMostItems)));
  return std::min(planes, std::max<int64_t>(wanted, 1));
}

}  // namespace

DepthwiseNode::DepthwiseNode(const ort::Api* api, const ort::KernelInfo* info)
    : ByteNode(api, info), layer_(read_layer(api, info)), window_(active_kernels(Element::kInt8).window) {
  ort::attribute(api, info, "strides", attributes_.strides, 2);
  ort::attribute(api, info, "pads", attributes_.pads, 4);
  ort::attribute(api, info, "dilations", attributes_.dilations, 2);
  check_attributes(attributes_);
  int64_t kernel[2];
  ort::attribute(api, info, "kernel_shape", kernel, 2);
  require(kernel[0] == layer_.kernel_h && kernel[1] == layer_.kernel_w, "attribute kernel_shape must be that of W");
  require(ort::attribute(api, info, "group") == layer_.channels, "attribute group must be the channels of W");
}

void DepthwiseNode::run(ort::KernelContext* context) const {
  const TensorView x = ort::input(api_, context, 0, ort::kUint8);
  require(x.shape.size() == 4 && x.shape[1] == layer_.channels,
          "X must be (batch, channels, height, width)");
  const ConvShape shape =
      conv_shape(attributes_, 1, 1, layer_.kernel_h, layer_.kernel_w, 1, x.shape[2], x.shape[3]);
  const int64_t planes = product({x.shape[0], layer_.channels}).value();
  // The kernels' addresses: those of the whole tensors, and of a padded plane, which they may step over by a kernel's row.
  product({x.shape[0], x.shape[1], shape.height, shape.width}).for_memory();
  product({planes, shape.out_height, shape.out_width}).for_memory();
  void* y = ort::output(api_, context, {x.shape[0], layer_.channels, shape.out_height, shape.out_width});
  if (planes == 0) return;
  in_parts(context, planes, items_of(layer_, shape, planes), [&](Range part) {
    convolve_planes(layer_, shape, window_, static_cast<const uint8_t*>(x.data), static_cast<uint8_t*>(y), part.first,
                    part.end);
  });
}

}  // namespace crisp
