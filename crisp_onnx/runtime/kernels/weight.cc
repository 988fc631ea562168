// Checks the tensors of the hybrid format and expands its packed indices.
#include "weight.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "failure.h"
#include "geometry.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr int64_t kLargestBlock = 256;  // a place inside a block is one byte
constexpr int64_t kPlacesSlack = 8;     // bytes that a kernel may read behind the last place

int64_t bits_for(int64_t m) { return m <= 2 ? 1 : m <= 4 ? 2 : 4; }

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

void require_shape(const char* name, const TensorView& tensor, const std::vector<int64_t>& expected) {
  if (tensor.shape != expected) {
    throw Failure(std::string(name) + " has shape " + shape_text(tensor.shape) + ", the attributes ask for " +
                  shape_text(expected));
  }
}

bool finite(const float* values, int64_t count) {
  uint32_t worst = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    bits &= 0x7F800000u;
    worst = bits > worst ? bits : worst;
  }
  return worst != 0x7F800000u;
}

// The numbers of a tensor in memory of our own: nobody changes them between a check and their use, and they are aligned.
template <class T>
std::vector<T> copied(const TensorView& tensor) {
  std::vector<T> copy(product(tensor.shape).for_memory());
  if (!copy.empty()) std::memcpy(copy.data(), tensor.data, copy.size() * sizeof(T));
  return copy;
}

// Where they lie, if loads may assume that they are aligned there; else copied.
const void* aligned_values(const TensorView& values, std::unique_ptr<char[]>* own) {
  if (reinterpret_cast<uintptr_t>(values.data) % sizeof(float) == 0) return values.data;
  const size_t bytes = (product(values.shape) * static_cast<int64_t>(sizeof(float))).for_memory();
  own->reset(new char[bytes]);
  std::memcpy(own->get(), values.data, bytes);
  return own->get();
}

Weight read_attributes(const Encoding& e) {
  require(e.m >= 1 && e.m <= 16, "attribute m must be between 1 and 16");
  require(e.n >= 1 && e.n <= e.m, "attribute n must be between 1 and m");
  require(e.block >= 1 && e.block <= kLargestBlock && e.block % e.m == 0,
          "attribute block must be a multiple of m, at most 256");
  require(e.vector_rows >= 1 && e.vector_rows <= e.block && e.block % e.vector_rows == 0,
          "attribute vector_rows must divide block");
  require(e.index_bits == bits_for(e.m), "attribute index_bits must be 1, 2 or 4, the least that m needs");
  for (int64_t extent : e.weight_shape) {
    require(extent >= 1 && extent <= kLargestExtent, "attribute weight_shape must hold four positive numbers");
  }
  Weight w{};
  w.cout = e.weight_shape[0];
  w.cin = e.weight_shape[1];
  w.kernel_h = e.weight_shape[2];
  w.kernel_w = e.weight_shape[3];
  w.depth = product({w.cin, w.kernel_h, w.kernel_w}).value();
  require(w.depth <= kLargestExtent, "attribute weight_shape is too large");
  w.n = e.n;
  w.m = e.m;
  w.block = e.block;
  w.vector_rows = e.vector_rows;
  w.block_rows = ceil_div(w.cout, w.block);
  w.block_columns = ceil_div(w.depth, w.block);
  w.groups = w.block / w.vector_rows;
  w.columns = w.block * e.n / e.m;
  return w;
}

void check_blocks(const Weight& w) {
  for (int64_t r = 0; r < w.block_rows; ++r) {
    int64_t previous = -1;
    for (int64_t s = 0; s < w.kept; ++s) {
      const int64_t block = w.blocks[r * w.kept + s];
      require(block > previous, "blocks must be ascending in every block row and not negative");
      require(block < w.block_columns, "blocks names a block column beyond the weight");
      previous = block;
    }
  }
}

// Columns that pad K up to whole blocks stand for no activation: the kernels give them any, so their weights must be
// zero.
void check_padding(const Weight& w) {
  const int64_t used = w.depth - (w.block_columns - 1) * w.block;
  for (int64_t r = 0; r < w.block_rows; ++r) {
    const int64_t s = w.kept - 1;
    if (used == w.block || w.blocks[r * w.kept + s] != w.block_columns - 1) continue;
    for (int64_t g = 0; g < w.groups; ++g) {
      for (int64_t z = 0; z < w.columns; ++z) {
        if (w.places[((r * w.groups + g) * w.kept + s) * w.columns + z] < used) continue;
        const float* values = static_cast<const float*>(w.values) + (((r * w.kept + s) * w.groups + g) * w.columns + z) * w.vector_rows;
        for (int64_t v = 0; v < w.vector_rows; ++v) {
          require(values[v] == 0.0f, "values must be zero in the columns that pad the last block");
        }
      }
    }
  }
}

// What is checked is what was written down, not what the file's mapping holds by then.
void expand_indices(const Encoding& e, const uint8_t* indices, Weight* w) {
  const int64_t bytes = ceil_div(w->columns * e.index_bits, 8);
  const int64_t per_byte = 8 / e.index_bits;
  const unsigned mask = (1u << e.index_bits) - 1;
  w->places.resize((product({w->block_rows, w->groups, w->kept, w->columns}) + kPlacesSlack).for_memory());
  for (int64_t r = 0; r < w->block_rows; ++r) {
    for (int64_t s = 0; s < w->kept; ++s) {
      for (int64_t g = 0; g < w->groups; ++g) {
        const uint8_t* packed = indices + ((r * w->kept + s) * w->groups + g) * bytes;
        uint8_t* places = w->places.data() + ((r * w->groups + g) * w->kept + s) * w->columns;
        for (int64_t z = 0; z < w->columns; ++z) {
          places[z] = static_cast<uint8_t>((packed[z / per_byte] >> (z % per_byte * e.index_bits)) & mask);
        }
        int64_t previous = -1;
        for (int64_t z = 0; z < w->columns; ++z) {
          const int64_t place = places[z];
          require(place < e.m, "indices names a place beyond its group of m");
          if (z % e.n == 0) previous = -1;
          require(place > previous, "indices must be ascending inside a group of m");
          previous = place;
          places[z] = static_cast<uint8_t>(z / e.n * e.m + place);
        }
      }
    }
  }
}

}  // namespace

Weight prepare_weight(const Encoding& encoding, const TensorView& values, const TensorView& indices,
                      const TensorView& blocks, const TensorView& bias) {
  Weight w = read_attributes(encoding);
  require(blocks.shape.size() == 2, "blocks must have two dimensions");
  w.kept = blocks.shape[1];
  require(w.kept >= 1 && w.kept <= w.block_columns, "blocks must keep at least one block column and at most all");
  require_shape("blocks", blocks, {w.block_rows, w.kept});
  require_shape("values", values, {w.block_rows, w.kept, w.groups, w.columns, w.vector_rows});
  require_shape("indices", indices,
                {w.block_rows, w.kept, w.groups, ceil_div(w.columns * encoding.index_bits, 8)});
  w.blocks = copied<int32_t>(blocks);
  check_blocks(w);
  expand_indices(encoding, static_cast<const uint8_t*>(indices.data), &w);
  w.values = aligned_values(values, &w.own_values);
  require(finite(static_cast<const float*>(w.values), product(values.shape).value()),
          "values holds a number that is not finite");
  check_padding(w);
  w.bias.assign((Size(w.block_rows) * w.block).for_memory(), 0.0f);
  if (bias.data) {
    require_shape("bias", bias, {w.cout});
    const std::vector<float> given = copied<float>(bias);
    require(finite(given.data(), w.cout), "bias holds a number that is not finite");
    std::copy(given.begin(), given.end(), w.bias.begin());
  }
  return w;
}

}  // namespace crisp
