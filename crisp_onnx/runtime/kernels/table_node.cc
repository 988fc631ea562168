// Looks bytes up on the session's threads.
#include "table_node.h"

#include <algorithm>

#include "geometry.h"
#include "isa.h"
#include "ort_call.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr int64_t kItemBytes = 64 << 10;  // some microseconds
constexpr int64_t kMostItems = 16;
constexpr int64_t kEntries = 256;

}  // namespace

TableNode::TableNode(const ort::Api* api, const ort::KernelInfo* info)
    : ByteNode(api, info), look_up_(active_kernels(Element::kInt8).look_up) {
  const TensorView table = ort::constant_input(api, info, 1, "table", ort::kUint8, false);
  require(table.shape == std::vector<int64_t>{kEntries}, "table must have 256 bytes");
  const uint8_t* bytes = static_cast<const uint8_t*>(table.data);
  table_.assign(bytes, bytes + kEntries);
}

void TableNode::run(ort::KernelContext* context) const {
  const TensorView tensor = ort::input(api_, context, 0, ort::kUint8);
  const std::vector<int64_t>& shape = tensor.shape;
  const int64_t count = product(shape).value();
  const uint8_t* x = static_cast<const uint8_t*>(tensor.data);
  uint8_t* y = static_cast<uint8_t*>(ort::output(api_, context, shape));
  if (count == 0) return;
  const int64_t items = std::min(ceil_div(count, kItemBytes), kMostItems);
  const auto look_up = [&](int64_t first, int64_t end) { look_up_({table_.data(), x + first, y + first, end - first}); };
  if (shape.size() == 4) {
    const int64_t width = shape[3];
    over_planes(context, {shape[0], shape[1], shape[2], shape[2] * width}, items, [&](Range planes, Range rows) {
      if (rows.end - rows.first == shape[2]) return look_up(planes.first * shape[2] * width, planes.end * shape[2] * width);
      for (int64_t plane = planes.first; plane < planes.end; ++plane) {
        look_up((plane * shape[2] + rows.first) * width, (plane * shape[2] + rows.end) * width);
      }
    });
  } else {
    in_items(context, items, [&](int64_t item) {
      const Range part = share(count, items, item);
      look_up(part.first, part.end);
    });
  }
}

}  // namespace crisp
