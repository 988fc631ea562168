// Runs a depthwise convolution of bytes on the session's threads.
#include "depthwise_node.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "claims.h"
#include "counters.h"
#include "isa.h"
#include "ort_call.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr int64_t kItemMacs = 400000;  // some microseconds
constexpr int64_t kMostItems = 32;

// Where the operator has its inputs.
constexpr size_t kScaleOfX = 1, kZeroOfX = 2, kWeight = 3, kScaleOfWeights = 4, kBias = 5, kScaleOfY = 6, kZeroOfY = 7;

struct Work {
  const Depthwise& layer;
  const ConvShape& shape;
  WindowFunction window;
  const uint8_t* x;
  uint8_t* y;
  int64_t planes, items;
  std::atomic<bool> out_of_memory{false};
};

void convolve_item(void* user, size_t item) {
  Work& work = *static_cast<Work*>(user);
  const Range planes = share(work.planes, work.items, static_cast<int64_t>(item));
  try {
    convolve_planes(work.layer, work.shape, work.window, work.x, work.y, planes.first, planes.end);
  } catch (const std::bad_alloc&) {  // must not pass through the runtime's threads
    work.out_of_memory = true;
  }
}

Depthwise read_layer(const ort::Api* api, const ort::KernelInfo* info) {
  return prepare_depthwise(ort::constant_input(api, info, kWeight, "W", ort::kInt8, false),
                           ort::constant_input(api, info, kBias, "bias", ort::kInt32, false),
                           {ort::constant_float(api, info, kScaleOfX, "x_scale"),
                            ort::constant_float(api, info, kScaleOfY, "y_scale"),
                            ort::constant_uint8(api, info, kZeroOfX, "x_zero"),
                            ort::constant_input(api, info, kScaleOfWeights, "w_scale", ort::kFloat, false)},
                           ort::constant_uint8(api, info, kZeroOfY, "y_zero"));
}

}  // namespace

DepthwiseNode::DepthwiseNode(const ort::Api* api, const ort::KernelInfo* info)
    : api_(api),
      name_(ort::node_name(api, info)),
      layer_(read_layer(api, info)),
      window_(active_kernels(Element::kInt8).window) {
  ort::attribute(api, info, "strides", attributes_.strides, 2);
  ort::attribute(api, info, "pads", attributes_.pads, 4);
  ort::attribute(api, info, "dilations", attributes_.dilations, 2);
  check_attributes(attributes_);
  int64_t kernel[2];
  ort::attribute(api, info, "kernel_shape", kernel, 2);
  require(kernel[0] == layer_.kernel_h && kernel[1] == layer_.kernel_w, "attribute kernel_shape must be that of W");
  require(ort::attribute(api, info, "group") == layer_.channels, "attribute group must be the channels of W");
  count_prepared_layer();
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
  const double macs = static_cast<double>(planes) * static_cast<double>(shape.out_height) *
                      static_cast<double>(shape.out_width) * static_cast<double>(layer_.steps * kStepTaps);
  const int64_t wanted = static_cast<int64_t>(std::min(macs / kItemMacs, static_cast<double>(kMostItems)));
  const int64_t items = std::min(planes, std::max<int64_t>(wanted, 1));
  Work work{layer_, shape, window_, static_cast<const uint8_t*>(x.data), static_cast<uint8_t*>(y), planes,
            items};
  if (items == 1) {
    convolve_item(&work, 0);
  } else {
    ort::check(api_, api_->KernelContext_ParallelFor(context, convolve_item, static_cast<size_t>(items), 0, &work));
  }
  require(!work.out_of_memory, "there is not enough memory for a padded plane");
}

}  // namespace crisp
