// A layer's hybrid weight, checked once when a session loads: what the inner loops read.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "element.h"
#include "kernel_table.h"

namespace crisp {

struct Encoding {               // the operator's attributes
  int64_t n, m, block, vector_rows, index_bits;
  int64_t weight_shape[4];      // (Cout, Cin, kh, kw)
};

struct TensorView {
  const void* data = nullptr;   // null when the input is absent
  std::vector<int64_t> shape;
};

// What an int8 layer's numbers stand for. A real number is scale * (integer - zero).
struct Quantization {
  float x_scale, y_scale;
  int32_t x_zero;
  TensorView w_scale;           // (Cout)
};

struct Weight {
  Element element;
  int64_t cout, cin, kernel_h, kernel_w;
  int64_t depth;                // K = kernel_h * kernel_w * Cin: columns of the matrix
  int64_t n, m;                 // columns kept of m neighbours
  int64_t block, vector_rows;   // B, V
  int64_t block_rows, kept, groups;  // R, S, G
  int64_t columns;              // Z, filled up with weights of zero to whole steps where kernels do several at once
  int64_t block_columns;        // C
  const void* values;           // (R, S, G, Z, V) of the element type, or (R, S, G, Z / together, V, together), where the
                                // runtime keeps it
  std::vector<int32_t> blocks;  // (R, S). A copy, as all that addresses memory: the file may change under its mapping
  std::unique_ptr<char[]> own_values;  // where the kernels cannot read them as the file keeps them
  std::vector<uint8_t> places;  // (R, G, S, Z): place of a kept column inside its block, or of kPairs in its step
  Steps steps;
  std::vector<uint8_t> step_units;  // (Z / together, 2) of kPairs
  std::vector<float> bias;      // (R * B) of float32, zero where the layer has none
  std::vector<int32_t> first_sums;  // (R * B) of int8: the bias, less what the input's zero adds to the sums
  std::vector<float> scales;    // (R * B) of int8: steps of the output in a step of the sums
  double most_steps;            // of int8: steps of the output that a sum may reach
  bool pairs_fit;               // of int8: two neighbours of a step, times any activations, add up to 16 bits

  // Of block columns; where a kernel of several taps has channels that fill no whole blocks, some blocks span taps.
  int64_t blocks_per_tap() const { return (cin + block - 1) / block; }
  // What sums start from, (R * B).
  const void* sums() const {
    return element == Element::kFloat32 ? static_cast<const void*>(bias.data()) : first_sums.data();
  }
  // Offsets of a block in a plan: one a column, or one for every unit of channels that are read together.
  int64_t block_offsets() const { return steps == Steps::kPairs ? block / element_type(element).together : block; }
  double macs_per_position() const {
    return static_cast<double>(cout) * static_cast<double>(kept) * static_cast<double>(columns);
  }
};

// Throws Failure, naming the tensor and what is wrong with it, unless every number that addresses memory is in range.
Weight prepare_weight(const Encoding& encoding, const TensorView& values, const TensorView& indices,
                      const TensorView& blocks, const TensorView& bias);

// The same of a layer of int8: values (R, S, G, Z / q, V, q), q the largest of 4, 2, 1 that divides Z. Fails besides where
// a sum might not fit 32 bits, and where scales are not positive or too far apart.
Weight prepare_int8_weight(const Encoding& encoding, const TensorView& values, const TensorView& indices,
                           const TensorView& blocks, const TensorView& bias, const Quantization& quantization);

// Steps of the output in a step of the other. Fails unless both are positive and not too far apart.
float relative_scale(double other, double output);

}  // namespace crisp
