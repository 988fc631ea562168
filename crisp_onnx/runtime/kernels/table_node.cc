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
  const int64_t count = product(tensor.shape).value();
  const uint8_t* x = static_cast<const uint8_t*>(tensor.data);
  uint8_t* y = static_cast<uint8_t*>(ort::output(api_, context, tensor.shape));
  if (count == 0) return;
  in_parts(context, count, std::min(ceil_div(count, kItemBytes), kMostItems), [&](Range part) {
    look_up_({table_.data(), x + part.first, y + part.first, part.end - part.first});
  });
}

}  // namespace crisp
