// Looks bytes up on the session's threads.
#include "table_node.h"

#include <algorithm>

#include "claims.h"
#include "counters.h"
#include "geometry.h"
#include "isa.h"
#include "ort_call.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr int64_t kItemBytes = 64 << 10;  // some microseconds
constexpr int64_t kMostItems = 16;
constexpr int64_t kEntries = 256;

struct Work {
  LookUpFunction look_up;
  LookUpCall whole;
  int64_t items;
};

void look_up_item(void* user, size_t item) {
  const Work& work = *static_cast<const Work*>(user);
  const Range part = share(work.whole.count, work.items, static_cast<int64_t>(item));
  work.look_up({work.whole.table, work.whole.x + part.first, work.whole.y + part.first, part.end - part.first});
}

}  // namespace

TableNode::TableNode(const ort::Api* api, const ort::KernelInfo* info)
    : api_(api), name_(ort::node_name(api, info)), look_up_(active_kernels(Element::kInt8).look_up) {
  const TensorView table = ort::constant_input(api, info, 1, "table", ort::kUint8, false);
  require(table.shape == std::vector<int64_t>{kEntries}, "table must have 256 bytes");
  const uint8_t* bytes = static_cast<const uint8_t*>(table.data);
  table_.assign(bytes, bytes + kEntries);
  count_prepared_layer();
}

void TableNode::run(ort::KernelContext* context) const {
  const TensorView x = ort::input(api_, context, 0, ort::kUint8);
  const int64_t count = product(x.shape).value();
  uint8_t* y = static_cast<uint8_t*>(ort::output(api_, context, x.shape));
  if (count == 0) return;
  Work work{look_up_, {table_.data(), static_cast<const uint8_t*>(x.data), y, count},
            std::min(ceil_div(count, kItemBytes), kMostItems)};
  if (work.items == 1) {
    look_up_item(&work, 0);
  } else {
    ort::check(api_, api_->KernelContext_ParallelFor(context, look_up_item, static_cast<size_t>(work.items), 0, &work));
  }
}

}  // namespace crisp
