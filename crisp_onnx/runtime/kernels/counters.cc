// The counters, shared by all sessions and threads.
#include "counters.h"

#include <atomic>

namespace crisp {
namespace {

std::atomic<int64_t> prepared_layers{0};

}  // namespace

int64_t layers_prepared() { return prepared_layers.load(); }

void count_prepared_layer() { prepared_layers.fetch_add(1); }

}  // namespace crisp
