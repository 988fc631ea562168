// Every set of kernels that runs here against plain loops over the same random weights. Prints the greatest difference
// of each set, relative to the greatest answer, one line a set; exit 1 if one is above 1e-5.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "convolve.h"
#include "isa.h"
#include "layers.h"

namespace {

void run_here(void*, size_t total, void (*fn)(void*, size_t), void* user) {
  for (size_t i = 0; i < total; ++i) fn(user, i);
}

std::vector<float> pattern(int64_t count, int step) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * step) % 101) / 50.0f - 1.0f;
  return values;
}

// The weights as (Cout, tap x Cin), zeros in place.
std::vector<float> dense(const RandomWeight& w, int64_t depth) {
  const crisp::Encoding& e = w.encoding;
  const int64_t cout = e.weight_shape[0], groups = e.block / e.vector_rows, places = e.block / 2;
  const int64_t rows = (cout + e.block - 1) / e.block;
  std::vector<float> found(static_cast<size_t>(cout * depth));
  for (int64_t r = 0; r < rows; ++r) for (int64_t s = 0; s < w.kept; ++s) for (int64_t g = 0; g < groups; ++g) {
    for (int64_t z = 0; z < places; ++z) {
      const int64_t at = (r * w.kept + s) * groups + g;
      const int place = w.indices[at * ((places + 3) / 4) + z / 4] >> (2 * (z % 4)) & 3;
      const int64_t k = w.blocks[r * w.kept + s] * e.block + z / 2 * 4 + place;
      for (int64_t v = 0; v < e.vector_rows; ++v) {
        const int64_t row = r * e.block + g * e.vector_rows + v;
        if (row < cout && k < depth) found[row * depth + k] = w.values[(at * places + z) * e.vector_rows + v];
      }
    }
  }
  return found;
}

// Runs a planned layer on the host's one thread. x, z (or none) and the answer as the plan's shape says.
std::vector<float> answer(const crisp::Weight& weight, const crisp::Plan& plan, const std::vector<float>& x,
                          const float* z, int64_t outputs) {
  std::vector<float> y(static_cast<size_t>(outputs), -7.0f);
  void* scratch = std::aligned_alloc(64, (plan.scratch_bytes / 64 + 1) * 64);
  const crisp::FloatOperands bounds{0.0f, 6.0f};
  crisp::convolve({&plan, &weight, x.data(), z, y.data(), scratch, &bounds}, {nullptr, run_here});
  std::free(scratch);
  return y;
}

// Greatest difference and greatest answer so far.
struct Comparison {
  double worst = 0, greatest = 1e-30;

  void add(double sum, float found) {
    const double expected = std::min(6.0, std::max(0.0, sum));
    worst = std::max(worst, std::abs(expected - found));
    greatest = std::max(greatest, std::abs(expected));
  }
};

struct Case {
  BenchLayer layer;
  int64_t block, vector_rows;
  double block_share;
  bool residual;
};

double convolution_difference(const Case& c, const crisp::KernelSet& kernels) {
  const BenchLayer& l = c.layer;
  const RandomWeight random = random_weight(l, c.block, c.vector_rows, c.block_share);
  const crisp::Weight weight = random.prepare();
  crisp::ConvAttributes attributes;
  for (int64_t& s : attributes.strides) s = l.stride;
  for (int64_t& p : attributes.pads) p = l.kernel / 2;
  const int64_t batch = 2;
  const crisp::ConvShape shape =
      crisp::conv_shape(attributes, l.cout, l.cin, l.kernel, l.kernel, batch, l.side, l.side);
  const int64_t outputs = batch * l.cout * shape.out_height * shape.out_width;
  const std::vector<float> x = pattern(batch * l.cin * l.side * l.side, 37), z = pattern(outputs, 53);
  const std::vector<float> y =
      answer(weight, crisp::make_plan(weight, shape, kernels), x, c.residual ? z.data() : nullptr, outputs);
  const std::vector<float> w = dense(random, l.cin * l.kernel * l.kernel);
  Comparison comparison;
  size_t at = 0;
  for (int64_t n = 0; n < batch; ++n) for (int64_t m = 0; m < l.cout; ++m) {
    for (int64_t i = 0; i < shape.out_height; ++i) for (int64_t j = 0; j < shape.out_width; ++j, ++at) {
      double sum = 0;
      for (int64_t p = 0; p < l.kernel; ++p) for (int64_t q = 0; q < l.kernel; ++q) {
        const int64_t h = i * l.stride + p - l.kernel / 2, v = j * l.stride + q - l.kernel / 2;
        if (h < 0 || v < 0 || h >= l.side || v >= l.side) continue;
        for (int64_t k = 0; k < l.cin; ++k) {
          sum += static_cast<double>(w[(m * l.kernel * l.kernel + p * l.kernel + q) * l.cin + k]) *
                 x[((n * l.cin + k) * l.side + h) * l.side + v];
        }
      }
      comparison.add(c.residual ? sum + z[at] : sum, y[at]);
    }
  }
  return comparison.worst / comparison.greatest;
}

// The layer's side counts rows.
double gemm_difference(const Case& c, const crisp::KernelSet& kernels) {
  const BenchLayer& l = c.layer;
  const RandomWeight random = random_weight(l, c.block, c.vector_rows, c.block_share);
  const crisp::Weight weight = random.prepare();
  const crisp::Plan plan = crisp::make_plan(weight, crisp::gemm_shape(l.cout, l.cin, l.side), kernels);
  const std::vector<float> x = pattern(l.side * l.cin, 37), w = dense(random, l.cin);
  const std::vector<float> y = answer(weight, plan, x, nullptr, l.side * l.cout);
  Comparison comparison;
  for (int64_t row = 0; row < l.side; ++row) for (int64_t m = 0; m < l.cout; ++m) {
    double sum = 0;
    for (int64_t k = 0; k < l.cin; ++k) sum += static_cast<double>(w[m * l.cin + k]) * x[row * l.cin + k];
    comparison.add(sum, y[row * l.cout + m]);
  }
  return comparison.worst / comparison.greatest;
}

}  // namespace

int main() {
  std::vector<Case> convolutions, gemms;
  for (int64_t vector_rows : {1, 2, 4, 8}) {
    const int64_t block = vector_rows == 2 ? 8 : 16;
    for (int64_t side : {1, 5, 7, 14, 23}) {
      for (int64_t kernel : {1, 3}) {
        for (int64_t stride : {1, 2}) {
          const BenchLayer layer{"", 32, 48, side, kernel, stride};
          convolutions.push_back({layer, block, vector_rows, 0.5, (side + kernel) % 3 == 0});
        }
      }
    }
    for (int64_t rows : {1, 2, 3, 9, 16, 37, 200, 1000}) {
      gemms.push_back({{"", 336, 50, rows, 1, 1}, block, vector_rows, 0.5, false});
    }
  }
  bool agree = true;
  for (int i = 0; const crisp::KernelSet* set = crisp::available_kernels(crisp::Element::kFloat32, i); ++i) {
    double worst = 0;
    for (const Case& c : convolutions) worst = std::max(worst, convolution_difference(c, *set));
    for (const Case& c : gemms) worst = std::max(worst, gemm_difference(c, *set));
    std::printf("%s %.2g\n", crisp::isa_name(set->isa), worst);
    agree = agree && worst <= 1e-5;
  }
  return agree ? 0 : 1;
}
