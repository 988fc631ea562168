// The element types that kernels exist for, and how large their numbers are: all that the driver knows of a type.
#pragma once

#include <cstdint>

namespace crisp {

// What activations and weights are made of.
enum class Element : int { kFloat32 = 0, kInt8 = 1 };

struct ElementType {
  const char* name;          // as kernels' names begin
  int64_t activation_bytes;  // of an input or output number,
  int64_t weight_bytes;      // of a stored weight,
  int64_t sum_bytes;         // and of an accumulator or a bias
  int64_t together;          // channels of a position, and kept columns of a row, that the kernels find side by side
  bool reads_in_place;       // whether the kernels can read a plain (Cin, height, width) where it lies

  int64_t unit_bytes() const { return activation_bytes * together; }  // of a position in a packed plane
  int64_t units(int64_t channels) const { return (channels + together - 1) / together; }
};

inline constexpr ElementType kElementTypes[] = {{"f32", 4, 4, 4, 1, true}, {"i8", 1, 1, 4, 4, false}};

constexpr const ElementType& element_type(Element element) { return kElementTypes[static_cast<int>(element)]; }

// What float32 kernels do to a sum, after bias and residual, before they store it.
struct FloatOperands {
  float lower, upper;  // bounds of the fused Clip
};

// What int8 kernels do to a sum: times its row's scale, plus the residual, rounded, plus y_zero, within low and high.
struct QuantizedOperands {
  float residual_scale;          // steps of the output in a step of the residual
  int32_t residual_zero, y_zero;
  int32_t low, high;             // of 0..255: what the fused Clip leaves
  uint8_t x_zero;                // what padding counts as
  bool goes_far;                 // sums or residuals beyond what the kernels round without care
};

}  // namespace crisp
