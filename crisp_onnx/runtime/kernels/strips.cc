// Chooses the widths of the strips that cover a panel: mixed widths leave no lane idle.
#include <algorithm>
#include <limits>

#include "plan.h"

namespace crisp {
namespace {

constexpr int64_t kMostParts = 4;
constexpr int64_t kRowStep = 8;  // columns of a step of a kernel with a window, or as few as have this many weights

// Relative time of one kept column: multiply-adds, or loads where few rows share them, and a little for the loop. A
// single position computed across the rows is half a vector's work.
double column_cost(const Kernel& k) {
  const double multiply_adds = k.rows * k.vectors + 0.5 * k.tail;
  const double loads = k.vectors + 0.5 * k.rows + 0.5 * k.tail + 1;
  const double latency = k.vectors == 0 ? 2.0 : 0.0;
  return std::max({multiply_adds, loads, latency}) + 2.0;
}

struct Choice {
  double cost = std::numeric_limits<double>::infinity();
  const Kernel* kernel = nullptr;
};

// best[v]: the cheapest way to cover v vectors with kernels that have no tail; its last kernel.
std::vector<Choice> best_covers(const KernelSet& set, int64_t rows, int64_t vectors) {
  std::vector<Choice> best(vectors + 1);
  best[0].cost = 0;
  for (int64_t v = 1; v <= vectors; ++v) {
    for (int i = 0; i < set.count; ++i) {
      const Kernel& k = set.kernels[i];
      if (k.window || k.rows != rows || k.tail != 0 || k.vectors > v) continue;
      const double cost = best[v - k.vectors].cost + column_cost(k);
      if (cost < best[v].cost) best[v] = {cost, &k};
    }
  }
  return best;
}

Choice best_with_tail(const KernelSet& set, int64_t rows, int64_t vectors, int64_t tail,
                      const std::vector<Choice>& covers) {
  Choice best;
  for (int i = 0; i < set.count; ++i) {
    const Kernel& k = set.kernels[i];
    if (k.window || k.rows != rows || k.tail != tail || k.vectors > vectors) continue;
    const double cost = covers[vectors - k.vectors].cost + column_cost(k);
    if (cost < best.cost) best = {cost, &k};
  }
  return best;
}

}  // namespace

int64_t kernel_rows(const KernelSet& set, int64_t vector_rows) {
  int64_t rows = 1;
  for (int i = 0; i < set.count; ++i) {
    if (!set.kernels[i].window && vector_rows % set.kernels[i].rows == 0) rows = std::max<int64_t>(rows, set.kernels[i].rows);
  }
  return rows;
}

int32_t step_columns(const Kernel& kernel, const Weight& w) {
  if (kernel.window == 0 || kernel.rows != w.vector_rows) return 0;
  for (const int64_t columns : {kRowStep, kRowStep / w.vector_rows}) {
    const bool whole_groups = columns % w.n == 0 && w.columns % columns == 0;
    if (whole_groups && columns / w.n * w.m <= kernel.window) return static_cast<int32_t>(columns);
  }
  return 0;
}

std::vector<Strip> choose_row_strips(const KernelSet& set, const Weight& w, int64_t positions) {
  std::vector<Strip> strips;
  for (int64_t first = 0; first < positions; first += strips.back().positions) {
    const Kernel* widest = nullptr;
    for (int i = 0; i < set.count; ++i) {
      const Kernel& k = set.kernels[i];
      if (step_columns(k, w) == 0 || positions > k.most_positions || k.tail > positions - first) continue;
      if (!widest || k.tail > widest->tail) widest = &k;
    }
    if (!widest) return {};
    Strip strip{widest, {}, -1, widest->tail};
    strip.shape.start = static_cast<int32_t>(first * w.cin);
    strip.shape.tail_out = static_cast<int32_t>(first * w.cout);
    strips.push_back(strip);
  }
  return strips;
}

const Kernel* main_kernel(const KernelSet& set, int64_t vector_rows, int64_t positions, bool rows_first) {
  const Kernel* by_rows = nullptr;
  for (int i = 0; (rows_first || positions == 1) && i < set.count; ++i) {
    const Kernel& k = set.kernels[i];
    if (k.rows != vector_rows || k.tail > positions || positions > k.most_positions) continue;
    if (!by_rows || k.tail > by_rows->tail) by_rows = &k;
  }
  if (by_rows) return by_rows;
  return choose_strips(set, kernel_rows(set, vector_rows), positions, true).front().kernel;
}

namespace {

// Kernels that cover some positions, wide ones first, and their cost.
struct Cover {
  double cost = 0;
  std::vector<const Kernel*> kernels;
};

Cover cheapest_cover(const KernelSet& set, int64_t rows, int64_t positions, bool dense) {
  const int64_t whole = positions / set.lanes, rest = positions % set.lanes;
  const std::vector<Choice> covers = best_covers(set, rows, whole + (rest ? 1 : 0));
  Choice tail;
  if (rest && dense) tail = best_with_tail(set, rows, whole, rest, covers);
  const bool use_tail = tail.kernel && tail.cost < covers.back().cost;
  Cover cover{use_tail ? tail.cost : covers.back().cost, {}};
  std::vector<const Kernel*>& kernels = cover.kernels;
  int64_t left = use_tail ? whole - tail.kernel->vectors : static_cast<int64_t>(covers.size()) - 1;
  for (; left > 0; left -= covers[left].kernel->vectors) kernels.push_back(covers[left].kernel);
  std::sort(kernels.begin(), kernels.end(), [](const Kernel* a, const Kernel* b) { return a->vectors > b->vectors; });
  if (use_tail) kernels.push_back(tail.kernel);
  return cover;
}

int64_t width(const KernelSet& set, const Kernel* k) { return k->vectors * set.lanes + k->tail; }

// Whether nothing of the cover's vectors is left over, and no kernel does a few positions alone.
bool is_even(const KernelSet& set, const Cover& cover, int64_t positions) {
  for (const Kernel* k : cover.kernels) {
    positions -= width(set, k);
    if (k->vectors == 0) return false;
  }
  return positions == 0;
}

}  // namespace

// A few strips divide among threads only where equal parts of the panel end with one.
std::vector<Strip> choose_strips(const KernelSet& set, int64_t rows, int64_t positions, bool dense) {
  Cover best = cheapest_cover(set, rows, positions, dense);
  int64_t best_parts = 1;
  for (int64_t parts = 2; parts <= kMostParts && dense && positions % parts == 0; parts *= 2) {
    Cover part = cheapest_cover(set, rows, positions / parts, dense);
    const double cost = part.cost * static_cast<double>(parts);
    if (cost >= best.cost || !is_even(set, part, positions / parts)) break;
    best = {cost, std::move(part.kernels)};
    best_parts = parts;
  }
  std::vector<Strip> strips;
  int64_t start = 0;
  for (size_t i = 0; i < best.kernels.size() * static_cast<size_t>(best_parts); ++i) {
    const Kernel* k = best.kernels[i % best.kernels.size()];
    Strip strip{k, {}, -1, width(set, k)};
    strip.shape.start = static_cast<int32_t>(start);
    const int64_t end = start + k->vectors * set.lanes;
    strip.shape.loaded_last = static_cast<int32_t>(end > positions ? set.lanes - (end - positions) : set.lanes);
    strips.push_back(strip);
    start += width(set, k);
  }
  return strips;
}

}  // namespace crisp
