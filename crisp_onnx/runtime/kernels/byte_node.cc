// Divides the work of a node of bytes among the session's threads.
#include "byte_node.h"

#include <atomic>
#include <new>

#include "failure.h"
#include "isa.h"
#include "ort_call.h"

namespace crisp {
namespace {

struct Work {
  const std::function<void(Range)>& compute;
  int64_t total, parts;
  Isa isa;
  std::atomic<bool> out_of_memory{false};
};

void do_part(void* user, size_t part) {
  Work& work = *static_cast<Work*>(user);
  try {
    work.compute(share(work.total, work.parts, static_cast<int64_t>(part)));
  } catch (const std::bad_alloc&) {  // must not pass through the runtime's threads
    work.out_of_memory = true;
  }
  clear_upper_halves(work.isa);
}

}  // namespace

ByteNode::ByteNode(const ort::Api* api, const ort::KernelInfo* info)
    : api_(api), name_(ort::node_name(api, info)), isa_(active_kernels(Element::kInt8).isa) {}

void ByteNode::in_parts(ort::KernelContext* context, int64_t total, int64_t parts,
                        const std::function<void(Range)>& compute) const {
  const bool divides = parts > 1;
  const Sharing::Run run = divides ? sharing_.begin(total) : Sharing::Run{};
  Work work{compute, total, run.shared ? parts : 1, isa_};
  ort::parallel_for(api_, context, static_cast<size_t>(work.parts), do_part, &work);
  if (divides) sharing_.end(run);
  require(!work.out_of_memory, "there is not enough memory for a thread's share of the work");
}

}  // namespace crisp
