// What a set of int8 kernels holds beside its strips, against plain loops over random calls: windows of depthwise
// convolutions over planes of any size, over small ones and with the kernels that networks have, on one thread and on two, tables, and tiles of sums turned into rows. For every set that runs here a line each: its name, then how
// far the worst answer is from its real value. Exit 1 if that is more than rounding explains, or if something else is
// written.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "depthwise.h"
#include "isa.h"

namespace {

using crisp::KernelSet;

constexpr uint8_t kUntouched = 77;
constexpr size_t kBehind = 64;
constexpr double kTolerance = 0.5 + 2e-3;  // rounding, and what single precision loses of 255 steps
constexpr double kWrong = std::numeric_limits<double>::infinity();

std::mt19937 rng(7);

int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1)); }

std::vector<uint8_t> random_bytes(int64_t count) {
  std::vector<uint8_t> found(static_cast<size_t>(count));
  for (uint8_t& byte : found) byte = static_cast<uint8_t>(rng() % 5 ? rng() : (rng() % 2 ? 255 : 0));
  return found;
}

bool is_untouched_from(const std::vector<uint8_t>& y, size_t first) {
  return std::all_of(y.begin() + static_cast<int64_t>(first), y.end(), [](uint8_t byte) { return byte == kUntouched; });
}

// An end of the range as often as anything within it.
int64_t extreme_or_between(int64_t low, int64_t high) {
  const int64_t ends[2] = {low, high};
  return rng() % 2 ? between(low, high) : ends[rng() % 2];
}

struct Window {
  int64_t channels, batch;
  crisp::ConvShape shape;
};

// Random attributes and as many outputs, over planes that may be smaller than the kernel without their padding.
Window window_of(int64_t kernel_h, int64_t kernel_w, int64_t out_height, int64_t out_width, int64_t channels) {
  crisp::ConvAttributes a;
  const int64_t kernel[2] = {kernel_h, kernel_w}, out[2] = {out_height, out_width};
  int64_t extent[2];
  for (int axis = 0; axis < 2; ++axis) {
    a.strides[axis] = between(1, 4);
    a.dilations[axis] = rng() % 2 ? 1 : between(1, 3);
    const int64_t reach = a.dilations[axis] * (kernel[axis] - 1);
    const int64_t padded = (out[axis] - 1) * a.strides[axis] + reach + between(1, a.strides[axis]);
    for (int64_t* pad : {&a.pads[axis], &a.pads[axis + 2]}) *pad = between(0, std::min<int64_t>(reach + 1, (padded - 1) / 2));
    extent[axis] = padded - a.pads[axis] - a.pads[axis + 2];
  }
  return {channels, between(1, 2), crisp::conv_shape(a, 1, 1, kernel_h, kernel_w, 1, extent[0], extent[1])};
}

Window any_window() { return window_of(between(1, 5), between(1, 9), between(1, 30), between(1, 50), between(1, 4)); }

// Of the kernels that networks have.
Window square_window() {
  const int64_t kernel = 3 + 2 * between(0, 2);
  return window_of(kernel, kernel, between(1, 20), between(1, 70), between(1, 4));
}

// Up to 64 outputs, and a few more.
Window small_window() {
  const int64_t out_height = between(1, 9), out_width = between(1, rng() % 4 ? 8 : 66 / out_height);
  return window_of(between(1, 7), between(1, 7), out_height, out_width, between(1, 12));
}

double real_answer(const crisp::Depthwise& d, const crisp::ConvShape& s, const std::vector<int8_t>& weight,
                   const std::vector<int32_t>& bias, const uint8_t* plane, int64_t channel, int64_t row, int64_t column) {
  const crisp::ConvAttributes& a = s.attributes;
  int64_t sum = bias[static_cast<size_t>(channel)];
  for (int64_t i = 0; i < d.kernel_h; ++i) {
    for (int64_t j = 0; j < d.kernel_w; ++j) {
      const int64_t y = row * a.strides[0] + i * a.dilations[0] - a.pads[0];
      const int64_t x = column * a.strides[1] + j * a.dilations[1] - a.pads[1];
      const bool inside = y >= 0 && y < s.height && x >= 0 && x < s.width;
      const int64_t byte = inside ? plane[y * s.width + x] : d.x_zero;
      sum += (byte - d.x_zero) * weight[static_cast<size_t>((channel * d.kernel_h + i) * d.kernel_w + j)];
    }
  }
  const double steps = static_cast<double>(sum) * d.scales[static_cast<size_t>(channel)] + d.y_zero;
  return std::min(255.0, std::max(0.0, steps));
}

// A layer of random channels, through the code that a session runs.
double difference_of(const KernelSet& set, const Window& window) {
  const crisp::ConvShape& s = window.shape;
  const int64_t channels = window.channels, planes = channels * window.batch, kernel = s.kernel_h * s.kernel_w;
  std::vector<int8_t> weight(static_cast<size_t>(channels * kernel));
  for (int8_t& w : weight) w = static_cast<int8_t>(extreme_or_between(-128, 127));
  std::vector<int32_t> bias(static_cast<size_t>(channels));
  for (int32_t& b : bias) b = static_cast<int32_t>(between(-20000, 20000));
  const float y_scales[] = {0.06f, 0.06f, 0.06f, 0.06f, 1e-7f, 30.0f};
  const std::vector<float> w_scale(static_cast<size_t>(channels), 0.004f);
  const crisp::Quantization grids{0.05f, y_scales[rng() % 6], static_cast<int32_t>(extreme_or_between(0, 255)),
                                  {w_scale.data(), {channels}}};
  const crisp::Depthwise d = crisp::prepare_depthwise({weight.data(), {channels, 1, s.kernel_h, s.kernel_w}},
                                                      {bias.data(), {channels}}, grids,
                                                      static_cast<uint8_t>(extreme_or_between(0, 255)));
  const int64_t plane_bytes = s.height * s.width, positions = s.out_height * s.out_width;
  const std::vector<uint8_t> x = random_bytes(planes * plane_bytes);
  const int64_t first = between(0, planes - 1), end = between(first + 1, planes), middle = between(first, end);
  std::vector<uint8_t> y(static_cast<size_t>(planes * positions) + kBehind, kUntouched);
  crisp::convolve_planes(d, s, set.window, x.data(), y.data(), first, end);
  if (!is_untouched_from(y, static_cast<size_t>(end * positions))) return kWrong;
  std::vector<uint8_t> together(y.size(), kUntouched);
  std::thread other([&] { crisp::convolve_planes(d, s, set.window, x.data(), together.data(), middle, end); });
  crisp::convolve_planes(d, s, set.window, x.data(), together.data(), first, middle);
  other.join();
  if (together != y) return kWrong;
  double worst = 0;
  for (int64_t p = 0; p < end; ++p) {
    for (int64_t i = 0; i < positions; ++i) {
      const uint8_t answer = y[static_cast<size_t>(p * positions + i)];
      if (p < first) {
        if (answer != kUntouched) return kWrong;
        continue;
      }
      const double expected = real_answer(d, s, weight, bias, x.data() + p * plane_bytes, p % channels, i / s.out_width,
                                          i % s.out_width);
      worst = std::max(worst, std::abs(expected - answer));
    }
  }
  return worst;
}

double window_difference(const KernelSet& set) { return difference_of(set, any_window()); }
double square_window_difference(const KernelSet& set) { return difference_of(set, square_window()); }
double small_window_difference(const KernelSet& set) { return difference_of(set, small_window()); }

double table_difference(const KernelSet& set) {
  const std::vector<uint8_t> table = random_bytes(256), x = random_bytes(between(0, 300));
  std::vector<uint8_t> y(x.size() + kBehind, kUntouched);
  set.look_up({table.data(), x.data(), y.data(), static_cast<int64_t>(x.size())});
  for (size_t i = 0; i < x.size(); ++i) {
    if (y[i] != table[x[i]]) return kWrong;
  }
  return is_untouched_from(y, x.size()) ? 0 : kWrong;
}

double turn_difference(const KernelSet& set) {
  const int64_t rows = between(1, 64), columns = between(1, 70), stride = (columns + 63) / 64 * 64, to_stride = rows + between(0, 9);
  const std::vector<uint8_t> from = random_bytes(rows * stride);
  std::vector<uint8_t> to(static_cast<size_t>(columns * to_stride) + kBehind, kUntouched);
  crisp::TurnCall call{from.data(), to.data(), rows, columns, stride, to_stride, false};
  set.turn_back(call);
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < to_stride; ++r) {
      const uint8_t expected = r < rows ? from[static_cast<size_t>(r * stride + c)] : kUntouched;
      if (to[static_cast<size_t>(c * to_stride + r)] != expected) return kWrong;
    }
  }
  return is_untouched_from(to, static_cast<size_t>(columns * to_stride)) ? 0 : kWrong;
}

// The sets to try, best first; null past the last.
const KernelSet* tried(int index) {
#if defined(CRISP_ONLY_AVX_VNNI)
  return index == 0 ? &crisp::kAvxVnniInt8Kernels : nullptr;
#else
  return crisp::available_kernels(crisp::Element::kInt8, index);
#endif
}

}  // namespace

int main() {
  const struct {
    const char* name;
    double (*difference)(const KernelSet&);
    int calls;
  } kFunctions[] = {{"window", window_difference, 300}, {"square_window", square_window_difference, 300},
                    {"small_window", small_window_difference, 1500}, {"table", table_difference, 300},
                    {"turn", turn_difference, 300}};
  bool good = true;
  for (int i = 0; const KernelSet* set = tried(i); ++i) {
    for (const auto& function : kFunctions) {
      double worst = 0;
      for (int call = 0; call < function.calls; ++call) worst = std::max(worst, function.difference(*set));
      good = good && worst <= kTolerance;
      std::printf("i8_%s__%s %.4g\n", function.name, crisp::isa_name(set->isa), worst);
    }
  }
  return good ? 0 : 1;
}
