// The element types that kernels exist for, and how large their numbers are: all that the driver knows of a type.
#pragma once

#include <cstdint>

namespace crisp {

// What activations and weights are made of.
enum class Element : int { kFloat32 = 0 };

struct ElementType {
  const char* name;          // as kernels' names begin
  int64_t activation_bytes;  // of an input or output number,
  int64_t weight_bytes;      // of a stored weight,
  int64_t sum_bytes;         // and of an accumulator or a bias
};

inline constexpr ElementType kElementTypes[] = {{"f32", 4, 4, 4}};

constexpr const ElementType& element_type(Element element) { return kElementTypes[static_cast<int>(element)]; }

// What float32 kernels do to a sum, after bias and residual, before they store it.
struct FloatOperands {
  float lower, upper;  // bounds of the fused Clip
};

}  // namespace crisp
