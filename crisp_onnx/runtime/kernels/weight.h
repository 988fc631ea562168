// A layer's hybrid weight, checked once when a session loads: what the inner loops read.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace crisp {

struct Encoding {               // the operator's attributes
  int64_t n, m, block, vector_rows, index_bits;
  int64_t weight_shape[4];      // (Cout, Cin, kh, kw)
};

struct TensorView {
  const void* data = nullptr;   // null when the input is absent
  std::vector<int64_t> shape;
};

struct Weight {
  int64_t cout, cin, kernel_h, kernel_w;
  int64_t depth;                // K = kernel_h * kernel_w * Cin: columns of the matrix
  int64_t n, m;                 // columns kept of m neighbours
  int64_t block, vector_rows;   // B, V
  int64_t block_rows, kept, groups, columns;  // R, S, G, Z
  int64_t block_columns;        // C
  const void* values;           // (R, S, G, Z, V) of the element type, where the runtime keeps it
  std::vector<int32_t> blocks;  // (R, S). A copy, as all that addresses memory: the file may change under its mapping
  std::unique_ptr<char[]> own_values;  // where the file keeps them at an address that is no multiple of their size
  std::vector<uint8_t> places;  // (R, G, S, Z): place of a kept column inside its block
  std::vector<float> bias;      // (R * B), zero where the layer has none

  // Of block columns; where a kernel of several taps has channels that fill no whole blocks, some blocks span taps.
  int64_t blocks_per_tap() const { return (cin + block - 1) / block; }
  double macs_per_position() const {
    return static_cast<double>(cout) * static_cast<double>(kept) * static_cast<double>(columns);
  }
};

// Throws Failure, naming the tensor and what is wrong with it, unless every number that addresses memory is in range.
Weight prepare_weight(const Encoding& encoding, const TensorView& values, const TensorView& indices,
                      const TensorView& blocks, const TensorView& bias);

}  // namespace crisp
