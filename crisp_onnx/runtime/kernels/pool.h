// The greatest byte of every window of a plane: MaxPool, which ONNX Runtime does byte by byte in this layout.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry.h"

namespace crisp {

// Planes [first, end) of x (planes, height, width) into y (planes, out_height, out_width). Padding is less than any byte
// and a window of padding alone gives zero. `shape`: of one channel, without dilations.
void max_pool(const ConvShape& shape, const uint8_t* x, uint8_t* y, int64_t first, int64_t end);

}  // namespace crisp
