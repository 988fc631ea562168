// Checks the tensors of the hybrid format and expands its packed indices.
#include "weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "failure.h"
#include "geometry.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr int64_t kLargestBlock = 256;  // a place inside a block is one byte
constexpr int64_t kPlacesSlack = 8;     // bytes that a kernel may read behind the last place
constexpr int64_t kStep = 4;            // kept columns that int8 kernels do at once, and channels of a unit
constexpr uint8_t kSecondUnit = 64;
constexpr double kGreatestScale = 1e18;

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

Weight read_attributes(const Encoding& e, Element element) {
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
  w.element = element;
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
// zero. `places` are those inside the block.
template <class Value>
void check_padding(const Weight& w) {
  const int64_t used = w.depth - (w.block_columns - 1) * w.block, together = element_type(w.element).together;
  for (int64_t r = 0; r < w.block_rows; ++r) {
    const int64_t s = w.kept - 1;
    if (used == w.block || w.blocks[r * w.kept + s] != w.block_columns - 1) continue;
    for (int64_t g = 0; g < w.groups; ++g) {
      for (int64_t z = 0; z < w.columns; ++z) {
        if (w.places[((r * w.groups + g) * w.kept + s) * w.columns + z] < used) continue;
        const Value* values = static_cast<const Value*>(w.values) + ((r * w.kept + s) * w.groups + g) * w.columns * w.vector_rows;
        for (int64_t v = 0; v < w.vector_rows; ++v) {
          require(values[(z / together * w.vector_rows + v) * together + z % together] == Value{0},
                  "values must be zero in the columns that pad the last block");
        }
      }
    }
  }
}

// What is checked is what was written down, not what the file's mapping holds by then. Columns that fill up the last step
// name the block's first place.
void expand_indices(const Encoding& e, const uint8_t* indices, int64_t given, Weight* w) {
  const int64_t bytes = ceil_div(given * e.index_bits, 8);
  const int64_t per_byte = 8 / e.index_bits;
  const unsigned mask = (1u << e.index_bits) - 1;
  w->places.resize((product({w->block_rows, w->groups, w->kept, w->columns}) + kPlacesSlack).for_memory());
  for (int64_t r = 0; r < w->block_rows; ++r) {
    for (int64_t s = 0; s < w->kept; ++s) {
      for (int64_t g = 0; g < w->groups; ++g) {
        const uint8_t* packed = indices + ((r * w->kept + s) * w->groups + g) * bytes;
        uint8_t* places = w->places.data() + ((r * w->groups + g) * w->kept + s) * w->columns;
        for (int64_t z = 0; z < given; ++z) {
          places[z] = static_cast<uint8_t>((packed[z / per_byte] >> (z % per_byte * e.index_bits)) & mask);
        }
        int64_t previous = -1;
        for (int64_t z = 0; z < given; ++z) {
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

// All of a layer but its values and what its sums become. Returns the kept columns that the file has, Z.
int64_t prepare_places(const Encoding& encoding, const TensorView& indices, const TensorView& blocks, Weight* w) {
  const int64_t given = w->columns;
  require(blocks.shape.size() == 2, "blocks must have two dimensions");
  w->kept = blocks.shape[1];
  require(w->kept >= 1 && w->kept <= w->block_columns, "blocks must keep at least one block column and at most all");
  require_shape("blocks", blocks, {w->block_rows, w->kept});
  require_shape("indices", indices, {w->block_rows, w->kept, w->groups, ceil_div(given * encoding.index_bits, 8)});
  w->blocks = copied<int32_t>(blocks);
  check_blocks(*w);
  const int64_t together = element_type(w->element).together;
  w->columns = ceil_div(given, together) * together;
  expand_indices(encoding, static_cast<const uint8_t*>(indices.data), given, w);
  return given;
}

// (R, S, G, steps, V, 4) where they lie, if that is how they lie; else in memory of our own.
const void* values_in_steps(const TensorView& values, int64_t given, const Weight& w, std::unique_ptr<char[]>* own) {
  const int64_t q = values.shape[5];
  if (q == kStep) return values.data;
  const int64_t groups = w.block_rows * w.kept * w.groups, rows = w.vector_rows;
  own->reset(new char[product({groups, w.columns, rows}).for_memory()]());
  const char* from = static_cast<const char*>(values.data);
  for (int64_t group = 0; group < groups; ++group) {
    char* to = own->get() + group * w.columns * rows;
    for (int64_t z = 0; z < given; ++z) {
      for (int64_t v = 0; v < rows; ++v) {
        to[(z / kStep * rows + v) * kStep + z % kStep] = from[(group * given + z / q * q) * rows + v * q + z % q];
      }
    }
  }
  return own->get();
}

// Whether the four columns of every step lie in two units of four channels, whatever the indices say: then the places
// become bytes of those two.
void pair_units(Weight* w) {
  if (w->block % kStep || w->cin % kStep) return;
  std::vector<uint8_t> units;
  for (int64_t z = 0; z < w->columns; z += kStep) {
    const int64_t last = std::min(z + kStep, w->block * w->n / w->m) - 1;
    const int64_t lowest = (z / w->n * w->m + z % w->n) / kStep;
    const int64_t highest = (last / w->n * w->m + w->m - w->n + last % w->n) / kStep;
    if (highest - lowest > 1) return;
    units.push_back(static_cast<uint8_t>(lowest));
    units.push_back(static_cast<uint8_t>(highest));
  }
  w->steps = Steps::kPairs;
  w->step_units = units;
  const int64_t all = w->block_rows * w->groups * w->kept * w->columns, given = w->block * w->n / w->m;
  for (int64_t i = 0; i < all; ++i) {
    uint8_t& place = w->places[i];
    const int64_t z = i % w->columns, unit = place / kStep;
    place = static_cast<uint8_t>(place % kStep);
    if (z < given && unit != units[z / kStep * 2]) place = static_cast<uint8_t>(place + kSecondUnit);
  }
}

// Sums of a row's weights, and of their magnitudes.
struct RowSums {
  int64_t all = 0, magnitudes = 0;
};

std::vector<RowSums> row_sums(const Weight& w) {
  std::vector<RowSums> sums((Size(w.block_rows) * w.block).for_memory());
  const int8_t* value = static_cast<const int8_t*>(w.values);
  for (int64_t r = 0; r < w.block_rows; ++r) {
    for (int64_t i = 0; i < w.kept * w.groups * w.columns * w.vector_rows; ++i, ++value) {
      const int64_t group = i / (w.columns * w.vector_rows) % w.groups, v = i / kStep % w.vector_rows;
      RowSums& row = sums[r * w.block + group * w.vector_rows + v];
      row.all += *value;
      row.magnitudes += *value < 0 ? -*value : *value;
    }
  }
  return sums;
}

// 255 * 128 fits 16 bits, and so does its negative.
bool pairs_fit(const Weight& w) {
  constexpr int kMost = 128;
  const int8_t* value = static_cast<const int8_t*>(w.values);
  const int64_t all = w.block_rows * w.kept * w.groups * w.columns * w.vector_rows;
  bool fit = true;
  for (int64_t i = 0; i < all; i += 2) {
    const int a = value[i], b = value[i + 1];
    fit &= std::max(a, 0) + std::max(b, 0) <= kMost && std::min(a, 0) + std::min(b, 0) >= -kMost;
  }
  return fit;
}

// Sums wrap modulo 2^32 on their way, so only the last must fit.
void quantize_sums(const Quantization& quantization, const TensorView& bias, Weight* w) {
  require_shape("bias", bias, {w->cout});
  require_shape("w_scale", quantization.w_scale, {w->cout});
  const std::vector<int32_t> given = copied<int32_t>(bias);
  const std::vector<float> w_scale = copied<float>(quantization.w_scale);
  const std::vector<RowSums> rows = row_sums(*w);
  w->first_sums.assign(rows.size(), 0);
  w->scales.assign(rows.size(), 0.0f);
  for (int64_t m = 0; m < w->cout; ++m) {
    const int64_t greatest = 255 * rows[m].magnitudes + std::abs(int64_t{given[m]});
    require(greatest <= std::numeric_limits<int32_t>::max(), "a row's sum may not fit 32 bits");
    w->first_sums[m] = static_cast<int32_t>(static_cast<uint32_t>(given[m] - quantization.x_zero * rows[m].all));
    relative_scale(w_scale[m], 1.0);
    w->scales[m] = relative_scale(static_cast<double>(quantization.x_scale) * w_scale[m], quantization.y_scale);
    w->most_steps = std::max(w->most_steps, static_cast<double>(greatest) * w->scales[m]);
  }
}

}  // namespace

float relative_scale(double other, double output) {
  require(std::isfinite(other) && std::isfinite(output) && other > 0 && output > 0, "scales must be positive numbers");
  const double ratio = other / output;
  require(ratio <= kGreatestScale, "scales are too far apart");
  return static_cast<float>(ratio);
}

Weight prepare_weight(const Encoding& encoding, const TensorView& values, const TensorView& indices,
                      const TensorView& blocks, const TensorView& bias) {
  Weight w = read_attributes(encoding, Element::kFloat32);
  prepare_places(encoding, indices, blocks, &w);
  require_shape("values", values, {w.block_rows, w.kept, w.groups, w.columns, w.vector_rows});
  w.values = aligned_values(values, &w.own_values);
  require(finite(static_cast<const float*>(w.values), product(values.shape).value()),
          "values holds a number that is not finite");
  check_padding<float>(w);
  w.bias.assign((Size(w.block_rows) * w.block).for_memory(), 0.0f);
  if (bias.data) {
    require_shape("bias", bias, {w.cout});
    const std::vector<float> given = copied<float>(bias);
    require(finite(given.data(), w.cout), "bias holds a number that is not finite");
    std::copy(given.begin(), given.end(), w.bias.begin());
  }
  return w;
}

Weight prepare_int8_weight(const Encoding& encoding, const TensorView& values, const TensorView& indices,
                           const TensorView& blocks, const TensorView& bias, const Quantization& quantization) {
  Weight w = read_attributes(encoding, Element::kInt8);
  const int64_t given = prepare_places(encoding, indices, blocks, &w);
  const int64_t q = given % 4 == 0 ? 4 : given % 2 == 0 ? 2 : 1;
  require_shape("values", values, {w.block_rows, w.kept, w.groups, given / q, w.vector_rows, q});
  w.values = values_in_steps(values, given, w, &w.own_values);
  check_padding<int8_t>(w);
  pair_units(&w);
  w.pairs_fit = pairs_fit(w);
  quantize_sums(quantization, bias, &w);
  return w;
}

}  // namespace crisp
