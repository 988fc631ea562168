// Every row of the table of int8 kernels that runs here, by name, against plain loops over random calls, for both ways in
// which a step finds its activations. Prints a line a row: its name, how far the worst answer is from its real value in
// steps of the output, and the strip that the planner takes it for. Exit 1 if an answer is further than rounding explains,
// if a row writes where it should not, if its name says something else than the row, or if the planner never takes it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "isa.h"
#include "plan.h"

namespace {

using crisp::Kernel;
using crisp::KernelSet;
using crisp::Steps;

constexpr int kCalls = 80;
constexpr int64_t kFront = 64;
constexpr uint8_t kUntouched = 77;
constexpr double kTolerance = 0.5 + 2e-3;  // rounding, and what single precision loses of 255 steps and a residual
constexpr int64_t kMostPositions = 700;

std::mt19937 rng(11);

int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1)); }
bool coin() { return rng() % 2; }
double unit() { return static_cast<double>(rng() % 1000001) / 1000000; }

// Bytes with many at the ends of their range.
template <class Byte>
std::vector<Byte> random_bytes(int64_t count) {
  std::vector<Byte> found(static_cast<size_t>(count));
  for (Byte& byte : found) {
    byte = static_cast<Byte>(rng() % 5 == 0 ? (coin() ? std::numeric_limits<Byte>::max() : std::numeric_limits<Byte>::min())
                                           : between(std::numeric_limits<Byte>::min(), std::numeric_limits<Byte>::max()));
  }
  return found;
}

// One call, its memory, and where its positions are stored.
struct Case {
  crisp::StripCall call{};
  crisp::StripShape shape{};
  crisp::QuantizedOperands operands{};
  std::vector<uint8_t> x, residual, y, columns, units;
  std::vector<int8_t> values;
  std::vector<int32_t> bias, partial, offsets, blocks;
  std::vector<float> scales;
  std::vector<uint16_t> inside;
  std::vector<int64_t> out;  // (positions): in the output, negative where it is none
};

// Places outputs as a panel of padded rows does: strips whose rows are `width` outputs of `pitch` positions each.
void place_outputs(const KernelSet& set, const Kernel& k, int64_t pitch, int64_t width, int64_t last, Case* c) {
  const int64_t positions = k.vectors * set.lanes + k.tail;
  c->shape.whole = pitch >= positions;
  for (int64_t q = 0; q < positions; ++q) {
    const bool is_output = q % pitch < width && (q < last || q >= k.vectors * set.lanes);
    c->out.push_back(is_output ? q / pitch * width + q % pitch : -1);
  }
  for (int64_t j = 0; j < k.vectors; ++j) {
    for (int64_t lane = set.lanes - 1; lane >= 0; --lane) {
      const int64_t out = c->out[j * set.lanes + lane];
      if (out < 0) continue;
      c->shape.keep[j] |= 1u << lane;
      c->shape.out[j] = static_cast<int32_t>(out);
    }
    c->shape.whole = c->shape.whole && c->shape.keep[j] == (uint32_t{1} << set.lanes) - 1;
  }
  if (k.tail) c->shape.tail_out = static_cast<int32_t>(c->out[k.vectors * set.lanes]);
}

// Planes of units of four channels; a step's columns lie in two of them, or anywhere.
void random_activations(const KernelSet& set, int64_t positions, int64_t block_columns, Case* c) {
  crisp::StripCall& s = c->call;
  const int64_t block = s.block, unit_count = block_columns * block / 4, places = positions + set.lanes + between(0, 20);
  c->x = random_bytes<uint8_t>(kFront + unit_count * places * 4);
  std::vector<int32_t> units(static_cast<size_t>(unit_count));
  for (int64_t u = 0; u < unit_count; ++u) units[u] = static_cast<int32_t>(u * places * 4);
  std::shuffle(units.begin(), units.end(), rng);
  if (s.steps == Steps::kPairs) {
    c->offsets = units;
    return;
  }
  for (int64_t k = 0; k < block_columns * block; ++k) c->offsets.push_back(units[k / 4] + static_cast<int32_t>(k % 4));
  std::shuffle(c->offsets.begin(), c->offsets.end(), rng);
}

// Two neighbours of one sign at most 128 together, and many just that.
void fit_pairs(std::vector<int8_t>* values) {
  for (size_t i = 0; i < values->size(); i += 2) {
    const int a = (*values)[i], b = (*values)[i + 1];
    if (a > 0 && b > 128 - a) (*values)[i + 1] = static_cast<int8_t>(128 - a);
    if (a < 0 && b < -128 - a) (*values)[i + 1] = static_cast<int8_t>(-128 - a);
  }
}

void random_weights(int64_t groups, bool pairs, Case* c) {
  crisp::StripCall& s = c->call;
  const int64_t z = s.columns_per_block, block_units = s.block / 4;
  for (int64_t step = 0; step < z / 4; ++step) {
    const int64_t first = between(0, block_units - 1);
    c->units.push_back(static_cast<uint8_t>(first));
    c->units.push_back(static_cast<uint8_t>(between(0, block_units - 1)));
  }
  for (int64_t i = 0; i < s.block_count * z; ++i) {
    c->columns.push_back(static_cast<uint8_t>(s.steps == Steps::kPairs ? between(0, 3) + (coin() ? 64 : 0)
                                                                       : between(0, s.block - 1)));
  }
  s.block_stride = groups * z * s.vector_rows;
  c->values = random_bytes<int8_t>(s.block_count * s.block_stride);
  if (pairs) fit_pairs(&c->values);
}

Case random_case(const KernelSet& set, const Kernel& k, bool pairs) {
  Case c;
  crisp::StripCall& s = c.call;
  s.steps = coin() ? Steps::kPairs : Steps::kPlaces;
  s.block = static_cast<int32_t>(4 * between(1, 6));
  s.columns_per_block = static_cast<int32_t>(4 * between(1, 5));
  s.vector_rows = static_cast<int32_t>(k.rows * between(1, 2));
  const int64_t block_columns = between(1, 9), kept = between(1, block_columns), taps = between(1, 3);
  const int64_t positions = k.vectors * set.lanes + k.tail;
  // A tail lies in one row of outputs; without one, some strips cross gaps between rows, some end inside a vector.
  const bool gaps = k.tail == 0 && coin(), ends_early = k.tail == 0 && coin();
  const int64_t pitch = gaps ? between(2, positions) : positions, width = gaps ? between(1, pitch) : positions;
  place_outputs(set, k, pitch, width, ends_early ? positions - between(0, set.lanes - 1) : positions, &c);
  random_activations(set, positions, block_columns, &c);
  std::vector<int32_t> all(static_cast<size_t>(block_columns));
  for (int64_t i = 0; i < block_columns; ++i) all[i] = static_cast<int32_t>(i);
  std::shuffle(all.begin(), all.end(), rng);
  c.blocks.assign(all.begin(), all.begin() + kept);
  std::sort(c.blocks.begin(), c.blocks.end());
  s.block_count = static_cast<int32_t>(kept);
  random_weights(between(1, 3), pairs, &c);
  s.blocks_per_tap = static_cast<int32_t>(crisp::ceil_div(block_columns, taps));
  if (s.steps == Steps::kPairs && set.room_beside_loads && k.rows >= crisp::kSharedLoadRows && coin()) {
    for (int64_t i = 0; i < taps * (k.vectors + 1); ++i) {
      const int64_t lanes = i % (k.vectors + 1) < k.vectors ? set.lanes : k.tail;
      c.inside.push_back(static_cast<uint16_t>(rng() & ((1u << lanes) - 1)));
    }
  }
  const double columns = static_cast<double>(kept) * s.columns_per_block;
  for (int64_t v = 0; v < k.rows; ++v) {
    c.bias.push_back(static_cast<int32_t>(between(-20000, 20000)));
    c.scales.push_back(static_cast<float>((0.2 + unit()) / std::sqrt(columns) / 100));
  }
  s.rows = static_cast<int32_t>(between(1, k.rows));
  s.row_stride = positions + between(0, 9);
  const int64_t outputs = k.rows * s.row_stride;
  c.y.assign(static_cast<size_t>(outputs), kUntouched);
  c.residual = random_bytes<uint8_t>(outputs);
  c.partial.assign(static_cast<size_t>(k.rows * (positions + set.lanes)), 0);
  c.operands = {static_cast<float>(unit() * 2), static_cast<int32_t>(between(0, 255)), static_cast<int32_t>(between(0, 255)),
                static_cast<int32_t>(between(0, 100)), static_cast<int32_t>(between(150, 255)),
                static_cast<uint8_t>(between(0, 255)), coin()};
  s.ask_ahead = coin();
  return c;
}

void point_to_memory(Case* c, bool with_residual) {
  crisp::StripCall& s = c->call;
  s.x = c->x.data() + kFront;
  s.offsets = c->offsets.data();
  s.blocks = c->blocks.data();
  s.inside = c->inside.empty() ? nullptr : c->inside.data();
  s.columns = c->columns.data();
  s.step_units = c->units.data();
  s.values = c->values.data();
  s.shape = &c->shape;
  s.bias = c->bias.data();
  s.scales = c->scales.data();
  s.residual = with_residual ? c->residual.data() : nullptr;
  s.y = c->y.data();
  s.partial = c->partial.data();
  s.operands = &c->operands;
}

// Of a step's column: from the strip's first position to its activation.
int64_t offset_of(const Case& c, int64_t b, int64_t z) {
  const crisp::StripCall& s = c.call;
  const uint8_t column = c.columns[b * s.columns_per_block + z];
  if (s.steps == Steps::kPlaces) return c.offsets[c.blocks[b] * s.block + column];
  return c.offsets[c.blocks[b] * (s.block / 4) + c.units[z / 4 * 2 + column / 64]] + column % 64;
}

// The answer in steps of the output, before it is rounded, and after bounds.
double expected(const KernelSet& set, const Kernel& k, const Case& c, int64_t row, int64_t position) {
  const crisp::StripCall& s = c.call;
  const int64_t j = std::min<int64_t>(position / set.lanes, k.vectors), lane = position - j * set.lanes;
  int64_t sum = c.bias[row];
  for (int64_t b = 0; b < s.block_count; ++b) {
    const int64_t tap = c.blocks[b] / s.blocks_per_tap;
    const bool is_inside = !s.inside || (s.inside[tap * (k.vectors + 1) + j] >> lane & 1);
    for (int64_t z = 0; z < s.columns_per_block; ++z) {
      const int64_t x = is_inside ? c.x[kFront + offset_of(c, b, z) + 4 * position] : c.operands.x_zero;
      sum += x * c.values[b * s.block_stride + (z / 4 * s.vector_rows + row) * 4 + z % 4];
    }
  }
  double steps = static_cast<double>(sum) * c.scales[row];
  if (s.residual) {
    steps += (c.residual[row * s.row_stride + c.out[position]] - c.operands.residual_zero) * double{c.operands.residual_scale};
  }
  return std::min<double>(c.operands.high, std::max<double>(c.operands.low, steps + c.operands.y_zero));
}

// All of the strip at once, or some of its blocks and then the rest.
void run(const Kernel& k, Case* c) {
  crisp::StripCall& s = c->call;
  const int32_t all = s.block_count, some = coin() && k.tail == 0 ? static_cast<int32_t>(between(1, all)) : all;
  s.first = true;
  s.last = some == all;
  s.block_count = some;
  k.run(s);
  if (s.last) return;
  crisp::StripCall rest = s;
  rest.first = false;
  rest.last = true;
  rest.block_count = all - some;
  rest.blocks += some;
  rest.columns += some * s.columns_per_block;
  rest.values = c->values.data() + some * s.block_stride;
  k.run(rest);
  s.block_count = all;
}

// Greatest distance of an answer from its real value; infinite when something else was written.
double difference(const KernelSet& set, const Kernel& k, bool pairs) {
  Case c = random_case(set, k, pairs);
  point_to_memory(&c, coin());
  run(k, &c);
  double worst = 0;
  std::vector<bool> written(c.y.size(), false);
  for (int64_t row = 0; row < c.call.rows; ++row) {
    for (size_t position = 0; position < c.out.size(); ++position) {
      if (c.out[position] < 0) continue;
      const size_t at = static_cast<size_t>(row * c.call.row_stride + c.out[position]);
      written[at] = true;
      worst = std::max(worst, std::abs(expected(set, k, c, row, static_cast<int64_t>(position)) - c.y[at]));
    }
  }
  for (size_t i = 0; i < c.y.size(); ++i) {
    if (!written[i] && c.y[i] != kUntouched) return std::numeric_limits<double>::infinity();
  }
  return worst;
}

// The fewest positions whose cover holds the row; 0 when none does.
int64_t taken_for(const KernelSet& set, const Kernel& k) {
  for (int64_t positions = 1; positions <= kMostPositions; ++positions) {
    for (const crisp::Strip& strip : crisp::choose_strips(set, k.rows, positions, true)) {
      if (strip.kernel == &k) return positions;
    }
  }
  return 0;
}

std::string name_of(const KernelSet& set, const Kernel& k, bool pairs) {
  return std::string(crisp::element_type(set.element).name) + (pairs ? "_hybridpair_" : "_hybrid_") + std::to_string(k.rows) + "x" +
         std::to_string(k.vectors * set.lanes + k.tail) + "__" + crisp::isa_name(set.isa);
}

// The sets to try, best first; null past the last.
const KernelSet* tried(int index) {
#if defined(CRISP_ONLY_AVX_VNNI)
  return index == 0 ? &crisp::kAvxVnniInt8Kernels : nullptr;
#else
  return crisp::available_kernels(crisp::Element::kInt8, index);
#endif
}

// Whether all rows of a set are as they should be; `pairs`: of a set for weights whose pairs fit.
bool try_set(const KernelSet& set, bool pairs) {
  bool good = true;
  for (const Kernel* k = set.kernels; k != set.kernels + set.count; ++k) {
    double worst = 0;
    for (int call = 0; call < kCalls; ++call) worst = std::max(worst, difference(set, *k, pairs));
    const int64_t positions = taken_for(set, *k);
    good = good && worst <= kTolerance && positions > 0 && name_of(set, *k, pairs) == k->name;
    std::printf("%s %.4g %lld\n", k->name, worst, static_cast<long long>(positions));
  }
  return good;
}

}  // namespace

int main() {
  bool good = true;
  for (int i = 0; const KernelSet* set = tried(i); ++i) {
    good = try_set(*set, false) && good;
    if (set->of_pairs) good = try_set(*set->of_pairs, true) && good;
  }
  return good ? 0 : 1;
}
