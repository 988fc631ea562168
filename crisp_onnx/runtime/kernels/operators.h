// The operators of the domain pkg.crisp_onnx as ONNX Runtime sees them.
#pragma once

#include <cstdint>

#include "ort_abi.h"

namespace crisp {

// Tables of all of them, in the `version` of the interface that the runtime reads; they live as long as the library.
const ort::CustomOp* const* operators(uint32_t version, int* count);

// Null past the last.
const char* operator_name(int index);

// Shape inference gets no interface argument from the runtime: registration leaves it here.
void set_shape_api(const ort::Api* api);

}  // namespace crisp
