// What element types differ in for the fuzzing program: their numbers, what becomes of a sum, and how near an answer must be.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "fuzzing.h"
#include "plan.h"
#include "weight.h"

namespace {

// What a layer's file holds, beside the numbers of `Type`.
template <class Type>
struct Tensors {
  crisp::Encoding encoding{};
  std::vector<typename Type::Value> values;
  std::vector<typename Type::Bias> bias;
  std::vector<uint8_t> indices;
  std::vector<int32_t> blocks;
  std::vector<int64_t> values_shape, indices_shape, blocks_shape;
  typename Type::Grids grids;

  int64_t columns() const { return encoding.block * encoding.n / encoding.m; }
  // Of kept column z of row v of group `at`, all groups counted on.
  int64_t value_at(int64_t at, int64_t z, int64_t v) const {
    const int64_t q = Type::together(columns());
    return ((at * columns() + z / q * q) * encoding.vector_rows + v * q) + z % q;
  }
};

// An answer's parts before it is bounded: a sum of products with its bias, the magnitude of what was summed, and the residual.
struct Parts {
  double sum, magnitude;
  double residual;  // 0 where there is none
  bool has_residual;
  int64_t row;
};

struct Float32 {
  using Value = float;
  using Bias = float;
  using Activation = float;
  using Operands = crisp::FloatOperands;
  struct Grids {};
  static constexpr crisp::Element kElement = crisp::Element::kFloat32;
  static constexpr double kTolerance = 2e-6;  // of the magnitude of what was summed

  static int64_t together(int64_t) { return 1; }
  static Value random_value(bool) { return static_cast<float>(between(-1000, 1000)) / 1000.0f; }
  static Bias random_bias() { return static_cast<float>(between(-100, 100)) / 100.0f; }
  static Activation random_activation() { return static_cast<float>(between(-100, 100)) / 64.0f; }
  static double zero(const Grids&) { return 0; }
  static std::vector<int64_t> values_shape(std::vector<int64_t> shape) { return shape; }
  static void make_grids(Tensors<Float32>*) {}
  static void spoil_numbers(Tensors<Float32>* t) {
    t->values[between(0, t->values.size() - 1)] = one_in(2) ? NAN : INFINITY;
  }
  static crisp::Weight prepare(const Tensors<Float32>& t, const crisp::TensorView& values,
                               const crisp::TensorView& indices, const crisp::TensorView& blocks,
                               const crisp::TensorView& bias) {
    return crisp::prepare_weight(t.encoding, values, indices, blocks, bias);
  }
  static Operands random_operands(const Tensors<Float32>&, const crisp::Weight&) {
    return {one_in(2) ? -std::numeric_limits<float>::infinity() : 0.0f, one_in(2) ? 6.0f : INFINITY};
  }
  static bool is_untouched(Activation answer) { return std::isnan(answer); }
  static bool is_near(const Tensors<Float32>&, const Operands& bounds, const Parts& p, Activation answer) {
    const double right = std::min<double>(bounds.upper, std::max<double>(bounds.lower, p.sum + p.residual));
    return std::abs(right - answer) <= kTolerance * (p.magnitude + std::abs(p.residual)) + 1e-30;
  }
};

struct Int8 {
  using Value = int8_t;
  using Bias = int32_t;
  using Activation = uint8_t;
  using Operands = crisp::QuantizedOperands;
  struct Grids {
    float x_scale, y_scale;
    int32_t x_zero;
    std::vector<float> w_scale;
  };
  static constexpr crisp::Element kElement = crisp::Element::kInt8;
  static constexpr double kRounding = 0.5 + 2e-3;  // and what single precision loses of 255 steps,
  static constexpr double kTolerance = 1e-6;       // of the magnitude, where more steps are summed

  static int64_t together(int64_t columns) { return columns % 4 == 0 ? 4 : columns % 2 == 0 ? 2 : 1; }
  // Any, or such that any two add up to 128 at most.
  static Value random_value(bool pairs_fit) {
    return static_cast<int8_t>(pairs_fit ? between(-64, 64) : between(-128, 127));
  }
  static Bias random_bias() { return static_cast<int32_t>(between(-20000, 20000)); }
  static Activation random_activation() {
    return static_cast<uint8_t>(one_in(4) ? (one_in(2) ? 0 : 255) : between(0, 255));
  }
  static double zero(const Grids& grids) { return grids.x_zero; }
  static std::vector<int64_t> values_shape(std::vector<int64_t> shape) {
    const int64_t q = together(shape[3]);
    return {shape[0], shape[1], shape[2], shape[3] / q, shape[4], q};
  }
  static void make_grids(Tensors<Int8>* t) {
    const double depth = static_cast<double>(t->blocks_shape[1] * t->columns());
    t->grids.x_scale = 0.05f;
    t->grids.y_scale = one_in(12) ? 1e-9f : static_cast<float>(0.05 * 0.004 * 75 * 75 * std::sqrt(depth) / 60);
    t->grids.x_zero = static_cast<int32_t>(one_of({0, 255, between(0, 255)}));
    for (size_t i = 0; i < t->bias.size(); ++i) t->grids.w_scale.push_back(static_cast<float>(between(1, 8)) * 1e-3f);
  }
  static void spoil_numbers(Tensors<Int8>* t) {
    const float wrong = one_in(4) ? NAN : one_in(3) ? INFINITY : one_in(2) ? 0.0f : -1.0f;
    switch (between(0, 3)) {
      case 0: t->grids.x_scale = wrong; break;
      case 1: t->grids.y_scale = one_in(2) ? wrong : 1e-30f; break;
      case 2: t->grids.w_scale[between(0, t->grids.w_scale.size() - 1)] = wrong; break;
      case 3: t->bias[between(0, t->bias.size() - 1)] = std::numeric_limits<int32_t>::min() + static_cast<int32_t>(between(0, 1));
    }
  }
  static crisp::Weight prepare(const Tensors<Int8>& t, const crisp::TensorView& values, const crisp::TensorView& indices,
                               const crisp::TensorView& blocks, const crisp::TensorView& bias) {
    return crisp::prepare_int8_weight(
        t.encoding, values, indices, blocks, bias,
        {t.grids.x_scale, t.grids.y_scale, t.grids.x_zero,
         {t.grids.w_scale.data(), {static_cast<int64_t>(t.grids.w_scale.size())}}});
  }
  static Operands random_operands(const Tensors<Int8>& t, const crisp::Weight& w) {
    const float residual_scale = static_cast<float>(one_in(8) ? 40.0 : static_cast<double>(between(1, 200)) / 100);
    return {residual_scale, static_cast<int32_t>(between(0, 255)), static_cast<int32_t>(between(0, 255)),
            static_cast<int32_t>(between(0, 100)), static_cast<int32_t>(between(150, 255)),
            static_cast<uint8_t>(t.grids.x_zero), w.most_steps > 1e9 || residual_scale > 16};
  }
  static bool is_untouched(Activation) { return false; }  // every byte may be an answer
  static bool is_near(const Tensors<Int8>& t, const Operands& o, const Parts& p, Activation answer) {
    const double scale = double{t.grids.x_scale} * t.grids.w_scale[static_cast<size_t>(p.row)] / t.grids.y_scale;
    const double residual = p.has_residual ? (p.residual - o.residual_zero) * double{o.residual_scale} : 0;
    const double steps = p.sum * scale + residual + o.y_zero;
    const double right = std::min<double>(o.high, std::max<double>(o.low, steps));
    return std::abs(right - answer) <= kRounding + kTolerance * (std::abs(p.sum * scale) + std::abs(residual));
  }
};

}  // namespace
