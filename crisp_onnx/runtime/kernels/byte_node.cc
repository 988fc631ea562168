// Divides the work of a node of bytes among the session's threads.
#include "byte_node.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "failure.h"
#include "geometry.h"
#include "ort_call.h"

namespace crisp {
namespace {

struct Work {
  const std::function<void(int64_t)>& compute;
  Claims claims;
  std::atomic<bool> out_of_memory{false};
};

void take_part(void* user, size_t) {
  Work& work = *static_cast<Work*>(user);
  const int64_t place = work.claims.take_place(kMostPlaces);
  if (place < 0) return;
  try {
    for (Range items = work.claims.next(place, -1); items.first < items.end; items = work.claims.next(place, -1)) {
      for (int64_t item = items.first; item < items.end; ++item) work.compute(item);
    }
  } catch (const std::bad_alloc&) {  // must not pass through the runtime's threads
    work.out_of_memory = true;
  }
}

}  // namespace

ByteNode::ByteNode(const ort::Api* api, const ort::KernelInfo* info) : api_(api), name_(ort::node_name(api, info)) {}

void ByteNode::in_items(ort::KernelContext* context, int64_t items, const std::function<void(int64_t)>& compute) const {
  Work work{compute, {items, 1, 1}};
  ort::parallel_for(api_, context, static_cast<size_t>(work.claims.count()), take_part, &work);
  require(!work.out_of_memory, "there is not enough memory for a thread's share of the work");
}

void ByteNode::over_planes(ort::KernelContext* context, const Planes& planes, int64_t items,
                           const std::function<void(Range planes, Range rows)>& compute) const {
  const bool by_halves =
      items > 1 && planes.images == 1 && planes.rows > 1 && planes.positions / kHalfPositions > 1;
  const int64_t halves = by_halves ? 2 : 1, parts = std::min(planes.count(), ceil_div(items, halves));
  in_items(context, halves * parts, [&](int64_t item) {
    compute(share(planes.count(), parts, item % parts), share(planes.rows, halves, item / parts));
  });
}

}  // namespace crisp
