// Every row of the table of kernels that runs here, by name, against plain loops over random calls. Prints a line a row:
// its name, the greatest difference relative to the magnitude of what was summed, and the strip that the planner takes it
// for. Exit 1 if a difference is above 1e-6, if a row writes where it should not, if its name says something else than the row, or
// if the planner never takes it.
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

constexpr int kCalls = 60;
constexpr float kUntouched = 12345.0f;
constexpr double kTolerance = 1e-6;
constexpr int64_t kMostPositions = 700;

std::mt19937 rng(11);

int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1)); }
bool coin() { return rng() % 2; }

std::vector<float> numbers(int64_t count) {
  std::vector<float> found(static_cast<size_t>(count));
  for (float& value : found) value = static_cast<float>(rng() % 2001) / 1000.0f - 1.0f;
  return found;
}

// One call, its memory, and where its positions are stored.
struct Case {
  crisp::StripCall call{};
  crisp::StripShape shape{};
  std::vector<float> x, values, bias, residual, y;
  std::vector<float> partial;
  std::vector<int32_t> offsets, blocks;
  std::vector<uint8_t> columns;
  std::vector<uint16_t> inside;
  std::vector<int64_t> out;  // (positions): in the output, negative where it is none
  std::vector<int64_t> weights;  // (rows): of a row's first weight, before its block's
  int64_t places_of(int64_t row) const { return call.group_places * (row / call.vector_rows); }
  crisp::FloatOperands bounds{-1.5f, 1.5f};
};

// Places outputs as a panel of padded rows does: strips whose rows are `width` outputs of `pitch` positions each.
void place_outputs(const KernelSet& set, const Kernel& k, int64_t pitch, int64_t width, int64_t last, Case* c) {
  c->shape.whole = true;
  const int64_t positions = k.vectors * set.lanes + k.tail;
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
  c->shape.whole = c->shape.whole && pitch >= positions;
  if (k.tail) c->shape.tail_out = static_cast<int32_t>(c->out[k.vectors * set.lanes]);
}

Case random_case(const KernelSet& set, const Kernel& k) {
  Case c;
  const int64_t m = 4, n = between(1, 4), block = m * between(1, 6), z = block * n / m;
  const int64_t vector_rows = k.rows * between(1, 2), groups = between(1, 3);
  const int64_t block_columns = between(1, 9), kept = between(1, block_columns), taps = between(1, 3);
  const int64_t positions = k.vectors * set.lanes + k.tail, places = positions + between(0, 40);

  // A tail lies in one row of outputs; without one, some strips cross gaps between rows, some end inside a vector.
  const bool gaps = k.tail == 0 && coin();
  const int64_t pitch = gaps ? between(2, positions) : positions, width = gaps ? between(1, pitch) : positions;
  const bool ends_early = k.tail == 0 && coin();
  c.shape.loaded_last = static_cast<int32_t>(ends_early ? between(1, set.lanes) : set.lanes);
  place_outputs(set, k, pitch, width, ends_early ? positions - set.lanes + c.shape.loaded_last : positions, &c);

  c.x = numbers(block_columns * block * places + (ends_early ? 0 : set.lanes));
  for (int64_t column = 0; column < block_columns * block; ++column) {
    c.offsets.push_back(static_cast<int32_t>(column * places));
  }
  std::shuffle(c.offsets.begin(), c.offsets.end(), rng);
  std::vector<int32_t> all(static_cast<size_t>(block_columns));
  for (int64_t i = 0; i < block_columns; ++i) all[i] = static_cast<int32_t>(i);
  std::shuffle(all.begin(), all.end(), rng);
  c.blocks.assign(all.begin(), all.begin() + kept);
  std::sort(c.blocks.begin(), c.blocks.end());
  for (int64_t i = 0; i < kept * z; ++i) {
    const int64_t in_block = i % z;
    c.columns.push_back(static_cast<uint8_t>(in_block / n * m + in_block % n + between(0, m - n)));
  }
  const int64_t block_stride = groups * z * vector_rows;
  c.values = numbers(kept * block_stride);
  c.bias = numbers(k.rows);

  const bool masked = set.room_beside_loads && k.rows >= crisp::kSharedLoadRows && (ends_early || coin());
  const int64_t blocks_per_tap = crisp::ceil_div(block_columns, taps);
  if (masked) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t j = 0; j <= k.vectors; ++j) {
        const int64_t lanes = j < k.vectors ? set.lanes : k.tail;
        uint32_t bits = rng() & ((1u << lanes) - 1);
        if (ends_early && j == k.vectors - 1) bits &= (1u << c.shape.loaded_last) - 1;
        c.inside.push_back(static_cast<uint16_t>(bits));
      }
    }
  }
  const int64_t row_stride = positions + between(0, 9), outputs = k.rows * row_stride;
  c.y.assign(static_cast<size_t>(outputs), kUntouched);
  c.residual = numbers(outputs);
  c.partial.assign(static_cast<size_t>(k.rows * (positions + set.lanes)), 0.0f);

  for (int64_t row = 0; row < k.rows; ++row) c.weights.push_back(row);
  crisp::StripCall& s = c.call;
  s.block_stride = block_stride;
  s.blocks_per_tap = static_cast<int32_t>(blocks_per_tap);
  s.block_count = static_cast<int32_t>(kept);
  s.block = static_cast<int32_t>(block);
  s.columns_per_block = static_cast<int32_t>(z);
  s.vector_rows = static_cast<int32_t>(vector_rows);
  s.rows = static_cast<int32_t>(between(1, k.rows));
  s.row_stride = row_stride;
  s.ask_ahead = coin();
  return c;
}

// A block row at neighbouring positions, some of the last block's columns beyond the matrix.
Case random_rows(const Kernel& k) {
  Case c;
  crisp::StripCall& s = c.call;
  // n of m neighbours, so that a step's columns are whole groups of them and lie in the window.
  const int64_t step = coin() ? 8 : 8 / k.rows;
  int64_t n = 1, m = 1;
  do {
    n = int64_t{1} << between(0, 3), m = n << between(0, 3);
  } while (step % n || step / n * m > k.window);
  s.columns_per_block = static_cast<int32_t>(step * between(1, 3));
  s.step_columns = static_cast<int32_t>(step);
  s.span = static_cast<int32_t>(step / n * m);
  const int64_t z = s.columns_per_block, block = z / n * m, groups = between(1, 20), block_columns = between(1, 9);
  const int64_t kept = between(1, block_columns);
  s.depth = (block_columns - 1) * block + between(1, block);
  s.block = static_cast<int32_t>(block);
  s.block_count = static_cast<int32_t>(kept);
  s.vector_rows = k.rows;
  s.rows = static_cast<int32_t>(groups * k.rows - between(0, k.rows - 1));
  s.blocks_per_tap = static_cast<int32_t>(block_columns);
  s.block_stride = groups * z * k.rows;
  s.group_places = kept * z;
  s.row_stride = coin() ? 1 : between(2, 5);
  s.position_stride = s.row_stride * groups * k.rows + between(0, 9);
  c.x = numbers(k.tail * s.depth);
  for (int64_t column = 0; column < block_columns * block; ++column) {
    c.offsets.push_back(static_cast<int32_t>(std::min(column, s.depth - 1)));
  }
  for (int64_t i = 0; i < block_columns; ++i) {
    if (block_columns - i <= kept - static_cast<int64_t>(c.blocks.size()) || coin()) {
      c.blocks.push_back(static_cast<int32_t>(i));
    }
    if (static_cast<int64_t>(c.blocks.size()) == kept) break;
  }
  for (int64_t i = 0; i < groups * kept * z; ++i) {
    c.columns.push_back(static_cast<uint8_t>(i % z / n * m + i % n + between(0, m - n)));
  }
  c.values = numbers(kept * s.block_stride);
  for (int64_t i = 0; i < kept * s.block_stride; ++i) {  // zero in the columns that pad the last block
    const int64_t b = i / s.block_stride, g = i % s.block_stride / (z * k.rows), column = i / k.rows % z;
    if (c.blocks[b] * block + c.columns[(g * kept + b) * z + column] >= s.depth) c.values[i] = 0;
  }
  c.columns.resize(c.columns.size() + 8);
  c.bias = numbers(groups * k.rows);
  for (int64_t row = 0; row < s.rows; ++row) c.weights.push_back(row / k.rows * z * k.rows + row % k.rows);
  c.shape.tail_out = static_cast<int32_t>(between(0, 5));
  for (int64_t t = 0; t < k.tail; ++t) c.out.push_back(c.shape.tail_out + t * s.position_stride);
  c.y.assign(static_cast<size_t>(c.shape.tail_out + k.tail * s.position_stride), kUntouched);
  c.residual = numbers(static_cast<int64_t>(c.y.size()));
  return c;
}

void point_to_memory(Case* c, bool with_residual) {
  crisp::StripCall& s = c->call;
  s.x = c->x.data();
  s.offsets = c->offsets.data();
  s.blocks = c->blocks.data();
  s.inside = c->inside.empty() ? nullptr : c->inside.data();
  s.columns = c->columns.data();
  s.values = c->values.data();
  s.shape = &c->shape;
  s.bias = c->bias.data();
  s.residual = with_residual ? c->residual.data() : nullptr;
  s.y = c->y.data();
  s.partial = c->partial.data();
  s.operands = &c->bounds;
}

// The answer in double precision, and the sum of its terms' magnitudes, to which rounding is in proportion.
struct Expected {
  double answer, magnitude;
};

Expected expected(const KernelSet& set, const Kernel& k, const Case& c, int64_t row, int64_t position) {
  const crisp::StripCall& s = c.call;
  const int64_t j = std::min<int64_t>(position / set.lanes, k.vectors), lane = position - j * set.lanes;
  double sum = c.bias[row], magnitude = std::abs(sum);
  const auto add = [&](double term) {
    sum += term;
    magnitude += std::abs(term);
  };
  for (int64_t b = 0; b < s.block_count; ++b) {
    const int64_t tap = s.blocks[b] / s.blocks_per_tap;
    if (s.inside && !(s.inside[tap * (k.vectors + 1) + j] >> lane & 1)) continue;
    for (int64_t z = 0; z < s.columns_per_block; ++z) {
      const int64_t column = c.columns[c.places_of(row) + b * s.columns_per_block + z];
      const int64_t at = s.offsets[s.blocks[b] * s.block + column] + position * (k.window ? s.depth : 1);
      add(static_cast<double>(c.values[b * s.block_stride + z * s.vector_rows + c.weights[row]]) * c.x[at]);
    }
  }
  if (s.residual) add(c.residual[row * s.row_stride + c.out[position]]);
  return {std::min<double>(c.bounds.upper, std::max<double>(c.bounds.lower, sum)), magnitude};
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

// Greatest difference over the magnitude of its sum; infinite when something else was written.
double difference(const KernelSet& set, const Kernel& k) {
  Case c = k.window ? random_rows(k) : random_case(set, k);
  point_to_memory(&c, coin());
  run(k, &c);
  double worst = 0;
  std::vector<bool> written(c.y.size(), false);
  for (int64_t row = 0; row < c.call.rows; ++row) {
    for (size_t position = 0; position < c.out.size(); ++position) {
      if (c.out[position] < 0) continue;
      const size_t at = static_cast<size_t>(row * c.call.row_stride + c.out[position]);
      const Expected right = expected(set, k, c, row, static_cast<int64_t>(position));
      written[at] = true;
      worst = std::max(worst, std::abs(right.answer - c.y[at]) / right.magnitude);
    }
  }
  for (size_t i = 0; i < c.y.size(); ++i) {
    if (!written[i] && c.y[i] != kUntouched) return std::numeric_limits<double>::infinity();
  }
  return worst;
}

// A weight of 2:4 in blocks of 16 columns.
crisp::Weight usual_weight(int64_t vector_rows) {
  crisp::Weight w{};
  w.n = 2, w.m = 4, w.columns = 8, w.vector_rows = vector_rows, w.cin = w.cout = 16;
  return w;
}

// The fewest positions whose cover holds the row; 0 when none does.
int64_t taken_for(const KernelSet& set, const Kernel& k) {
  const crisp::Weight weight = usual_weight(k.rows);
  for (int64_t positions = 1; positions <= kMostPositions; ++positions) {
    for (const crisp::Strip& strip : k.window ? crisp::choose_row_strips(set, weight, positions)
                                              : crisp::choose_strips(set, k.rows, positions, true)) {
      if (strip.kernel == &k) return positions;
    }
  }
  return 0;
}

std::string name_of(const KernelSet& set, const Kernel& k) {
  return std::string(crisp::element_type(set.element).name) + (k.window ? "_hybridrow_" : "_hybrid_") + std::to_string(k.rows) + "x" +
         std::to_string(k.vectors * set.lanes + k.tail) + "__" + crisp::isa_name(set.isa);
}

}  // namespace

int main() {
  bool good = true;
  for (int i = 0; const KernelSet* set = crisp::available_kernels(crisp::Element::kFloat32, i); ++i) {
    for (const Kernel* k = set->kernels; k != set->kernels + set->count; ++k) {
      double worst = 0;
      for (int call = 0; call < kCalls; ++call) worst = std::max(worst, difference(*set, *k));
      const int64_t positions = taken_for(*set, *k);
      good = good && worst <= kTolerance && positions > 0 && name_of(*set, *k) == k->name;
      std::printf("%s %.2g %lld\n", k->name, worst, static_cast<long long>(positions));
    }
  }
  return good ? 0 : 1;
}
