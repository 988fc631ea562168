// The greatest byte of every window of a plane: MaxPool, which ONNX Runtime does byte by byte in this layout.
#pragma once

#include <cstdint>

#include "claims.h"
#include "geometry.h"

namespace crisp {

// Some rows of some planes of y (planes, out_height, out_width), of x (planes, height, width). Padding is less than any
// byte and a window of padding alone gives zero. `shape`: of one channel, without dilations.
void max_pool(const ConvShape& shape, const uint8_t* x, uint8_t* y, Range planes, Range rows);

}  // namespace crisp
