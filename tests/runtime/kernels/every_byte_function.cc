// What a set of int8 kernels holds beside its strips, against plain loops over random calls: windows of depthwise
// convolutions, on one thread and on a thread a channel, tables, and tiles of sums turned into rows. For every set that runs here a line each: its name, then how
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

constexpr int kCalls = 300;
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
double window_difference(const KernelSet& set) {
  const int64_t channels = between(1, 4), kernel_h = between(1, 5), kernel_w = between(1, 9);
  crisp::ConvAttributes a;
  for (int axis = 0; axis < 2; ++axis) a.strides[axis] = between(1, 3), a.dilations[axis] = between(1, 3);
  for (int64_t& pad : a.pads) pad = between(0, 4);
  const int64_t height = between(1, 30) + a.dilations[0] * (kernel_h - 1), width = between(1, 50) + a.dilations[1] * (kernel_w - 1);
  const crisp::ConvShape s = crisp::conv_shape(a, 1, 1, kernel_h, kernel_w, 1, height, width);
  std::vector<int8_t> weight(static_cast<size_t>(channels * kernel_h * kernel_w));
  for (int8_t& w : weight) w = static_cast<int8_t>(between(-128, 127));
  std::vector<int32_t> bias(static_cast<size_t>(channels));
  for (int32_t& b : bias) b = static_cast<int32_t>(between(-20000, 20000));
  const std::vector<float> w_scale(static_cast<size_t>(channels), 0.004f);
  const crisp::Quantization grids{0.05f, rng() % 8 ? 0.06f : 1e-7f, static_cast<int32_t>(between(0, 255)),
                                  {w_scale.data(), {channels}}};
  const crisp::Depthwise d = crisp::prepare_depthwise({weight.data(), {channels, 1, kernel_h, kernel_w}},
                                                      {bias.data(), {channels}}, grids, static_cast<uint8_t>(between(0, 255)));
  const std::vector<uint8_t> x = random_bytes(channels * height * width);
  const int64_t positions = s.out_height * s.out_width, first = between(0, channels - 1);
  std::vector<uint8_t> y(static_cast<size_t>(channels * positions) + kBehind, kUntouched);
  crisp::convolve_planes(d, s, set.window, x.data(), y.data(), first, channels);
  if (!is_untouched_from(y, static_cast<size_t>(channels * positions))) return kWrong;
  std::vector<uint8_t> together(y.size(), kUntouched);
  std::vector<std::thread> threads;
  for (int64_t c = first; c < channels; ++c) {
    threads.emplace_back([&, c] { crisp::convolve_planes(d, s, set.window, x.data(), together.data(), c, c + 1); });
  }
  for (std::thread& thread : threads) thread.join();
  if (together != y) return kWrong;
  double worst = 0;
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < positions; ++i) {
      const uint8_t answer = y[static_cast<size_t>(c * positions + i)];
      if (c < first) {
        if (answer != kUntouched) return kWrong;
        continue;
      }
      const uint8_t* plane = x.data() + c * height * width;
      const double expected = real_answer(d, s, weight, bias, plane, c, i / s.out_width, i % s.out_width);
      worst = std::max(worst, std::abs(expected - answer));
    }
  }
  return worst;
}

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
  } kFunctions[] = {{"window", window_difference}, {"table", table_difference}, {"turn", turn_difference}};
  bool good = true;
  for (int i = 0; const KernelSet* set = tried(i); ++i) {
    for (const auto& function : kFunctions) {
      double worst = 0;
      for (int call = 0; call < kCalls; ++call) worst = std::max(worst, function.difference(*set));
      good = good && worst <= kTolerance;
      std::printf("i8_%s__%s %.4g\n", function.name, crisp::isa_name(set->isa), worst);
    }
  }
  return good ? 0 : 1;
}
