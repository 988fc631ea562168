// What this process has done, over all sessions.
#pragma once

#include <cstdint>

namespace crisp {

// Layers prepared natively: a rising number tells a host that its session took the kernels, not the function bodies.
int64_t layers_prepared();
void count_prepared_layer();

}  // namespace crisp
