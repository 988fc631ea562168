// Runs a MaxPool of bytes on the session's threads.
#include "pool_node.h"

#include <algorithm>

#include "ort_call.h"
#include "pool.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr int64_t kItemBytes = 64 << 10;  // read by an item: some microseconds
constexpr int64_t kMostItems = 16;

}  // namespace

PoolNode::PoolNode(const ort::Api* api, const ort::KernelInfo* info) : ByteNode(api, info) {
  ort::attribute(api, info, "kernel_shape", kernel_, 2);
  ort::attribute(api, info, "strides", attributes_.strides, 2);
  ort::attribute(api, info, "pads", attributes_.pads, 4);
  check_attributes(attributes_);
}

void PoolNode::run(ort::KernelContext* context) const {
  const TensorView x = ort::input(api_, context, 0, ort::kUint8);
  require(x.shape.size() == 4, "X must be (batch, channels, height, width)");
  const ConvShape shape = conv_shape(attributes_, 1, 1, kernel_[0], kernel_[1], 1, x.shape[2], x.shape[3]);
  const int64_t planes = product({x.shape[0], x.shape[1]}).value();
  product({planes, shape.height + attributes_.pads[0], shape.width + attributes_.pads[1] + attributes_.pads[3]});
  void* y = ort::output(api_, context, {x.shape[0], x.shape[1], shape.out_height, shape.out_width});
  if (planes == 0) return;
  const int64_t bytes = product({planes, shape.height, shape.width}).value();
  const int64_t items = std::min({planes, ceil_div(bytes, kItemBytes), kMostItems});
  in_parts(context, planes, items, [&](Range part) {
    max_pool(shape, static_cast<const uint8_t*>(x.data), static_cast<uint8_t*>(y), part.first, part.end);
  });
}

}  // namespace crisp
