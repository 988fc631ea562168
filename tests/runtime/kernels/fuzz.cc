// Random layers of one element type, sound and corrupted, at changing shapes, on one thread, on eight, and eight calls at
// once, against plain loops. Buffers end at a page that cannot be touched, so that it also finds overruns where no
// sanitizer runs.
//   fuzz ELEMENT LAYERS SEED ISA
// Prints what became of the layers as JSON; exit 1 if an answer is wrong or a size was computed wrongly.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "convolve.h"
#include "failure.h"
#include "fuzz_elements.h"
#include "isa.h"
#include "upper_halves.h"

namespace {

constexpr int kSamples = 40;            // outputs of an answer that are computed again
constexpr int64_t kMostNumbers = 1 << 20;
constexpr int64_t kMostPlanned = 1 << 20;

int64_t bits_for(int64_t m) { return m <= 2 ? 1 : m <= 4 ? 2 : 4; }

template <class Type>
Tensors<Type> random_tensors(bool gemm) {
  Tensors<Type> t;
  crisp::Encoding& e = t.encoding;
  e.m = one_of({1, 2, 3, 4, 4, 4, 5, 8, 16}), e.n = between(1, e.m);
  if (e.m == 4 && !one_in(3)) e.n = 2;
  e.block = e.m * between(1, std::max<int64_t>(1, 48 / e.m));
  if (16 % e.m == 0 && !one_in(3)) e.block = one_of({16, 16, 32});
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= e.block; ++d) if (e.block % d == 0) divisors.push_back(d);
  e.vector_rows = divisors[between(0, divisors.size() - 1)];
  if (e.block % 8 == 0 && !one_in(3)) e.vector_rows = one_of({1, 2, 4, 8});
  e.index_bits = bits_for(e.m);
  const int64_t cin = one_in(2) ? e.block * between(1, 4) : between(1, 70);
  const int64_t side_h = gemm ? 1 : one_of({1, 1, 2, 3, 3, 5}), side_w = gemm ? 1 : one_of({1, 1, 2, 3, 3, 7});
  const int64_t shape[4] = {between(1, 60), cin, side_h, side_w};
  std::copy(shape, shape + 4, e.weight_shape);
  const int64_t depth = cin * side_h * side_w, rows = crisp::ceil_div(shape[0], e.block);
  const int64_t columns = crisp::ceil_div(depth, e.block), kept = between(1, columns);
  const int64_t groups = e.block / e.vector_rows, z = e.block * e.n / e.m, bytes = crisp::ceil_div(z * e.index_bits, 8);
  t.values_shape = Type::values_shape({rows, kept, groups, z, e.vector_rows});
  t.indices_shape = {rows, kept, groups, bytes};
  t.blocks_shape = {rows, kept};
  t.indices.assign(static_cast<size_t>(rows * kept * groups * bytes), 0);
  t.values.resize(static_cast<size_t>(rows * kept * e.block * z));
  const bool pairs_fit = one_in(2);
  for (auto& v : t.values) v = Type::random_value(pairs_fit);
  for (int64_t i = 0; i < shape[0]; ++i) t.bias.push_back(Type::random_bias());
  Type::make_grids(&t);
  std::vector<int32_t> order(static_cast<size_t>(columns));
  std::vector<int64_t> places(static_cast<size_t>(e.m));
  for (int64_t r = 0; r < rows; ++r) {
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), rng);
    std::sort(order.begin(), order.begin() + kept);
    t.blocks.insert(t.blocks.end(), order.begin(), order.begin() + kept);
    for (int64_t s = 0; s < kept; ++s) for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = (r * kept + s) * groups + g;
      for (int64_t i = 0; i < z; ++i) {
        if (i % e.n == 0) {
          std::iota(places.begin(), places.end(), 0);
          std::shuffle(places.begin(), places.end(), rng);
          std::sort(places.begin(), places.begin() + e.n);
        }
        const int64_t place = places[i % e.n], per_byte = 8 / e.index_bits;
        t.indices[at * bytes + i / per_byte] |= static_cast<uint8_t>(place << (i % per_byte * e.index_bits));
        if (order[s] * e.block + i / e.n * e.m + place < depth) continue;
        for (int64_t v = 0; v < e.vector_rows; ++v) t.values[t.value_at(at, i, v)] = 0;
      }
    }
  }
  return t;
}

int64_t odd_number() {
  return one_of({-1, 0, 1, 2, 255, 256, 257, int64_t{1} << 30, (int64_t{1} << 31) - 1, int64_t{1} << 31,
                 (int64_t{1} << 32) + 4, int64_t{1} << 62, std::numeric_limits<int64_t>::max(),
                 std::numeric_limits<int64_t>::min()});
}

template <class Type>
void corrupt(Tensors<Type>* t) {
  int64_t* attributes[] = {&t->encoding.n, &t->encoding.m, &t->encoding.block, &t->encoding.vector_rows,
                           &t->encoding.index_bits};
  std::vector<int64_t>* shapes[] = {&t->values_shape, &t->indices_shape, &t->blocks_shape};
  switch (between(0, 5)) {
    case 0: *attributes[between(0, 4)] = odd_number(); break;
    case 1: t->encoding.weight_shape[between(0, 3)] = odd_number(); break;
    case 2: t->blocks[between(0, t->blocks.size() - 1)] = static_cast<int32_t>(odd_number()); break;
    case 3: t->indices[between(0, t->indices.size() - 1)] ^= static_cast<uint8_t>(1 << between(0, 7)); break;
    case 4: Type::spoil_numbers(t); break;
    case 5: {
      std::vector<int64_t>& shape = *shapes[between(0, 2)];
      shape[between(0, shape.size() - 1)] = odd_number();
    }
  }
}

// From memory at odd addresses, as a file may be mapped; freed before the layer runs.
template <class Type>
crisp::Weight prepare(const Tensors<Type>& t) {
  const auto placed = [](const void* from, size_t bytes, const Guarded& to) { std::memcpy(to.data(), from, bytes); };
  const int64_t odd = between(0, 3);
  const Guarded indices(t.indices.size(), odd), blocks(t.blocks.size() * 4, odd), bias(t.bias.size() * 4, odd);
  placed(t.indices.data(), t.indices.size(), indices);
  placed(t.blocks.data(), t.blocks.size() * 4, blocks);
  placed(t.bias.data(), t.bias.size() * 4, bias);
  return Type::prepare(t, {t.values.data(), t.values_shape}, {indices.data(), t.indices_shape},
                       {blocks.data(), t.blocks_shape}, {bias.data(), {static_cast<int64_t>(t.bias.size())}});
}

// (Cout, taps, Cin), zeros in place.
template <class Type>
std::vector<double> dense(const Tensors<Type>& t) {
  const crisp::Encoding& e = t.encoding;
  const int64_t cout = e.weight_shape[0], depth = e.weight_shape[1] * e.weight_shape[2] * e.weight_shape[3];
  const int64_t rows = t.values_shape[0], kept = t.values_shape[1], groups = t.values_shape[2], z = t.columns();
  const int64_t bytes = t.indices_shape[3], per_byte = 8 / e.index_bits;
  std::vector<double> found(static_cast<size_t>(cout * depth));
  for (int64_t at = 0; at < rows * kept * groups; ++at) for (int64_t i = 0; i < z; ++i) {
    const int64_t g = at % groups, block = t.blocks[at / groups];
    const int64_t place = t.indices[at * bytes + i / per_byte] >> (i % per_byte * e.index_bits) & ((1 << e.index_bits) - 1);
    const int64_t k = block * e.block + i / e.n * e.m + place;
    for (int64_t v = 0; v < e.vector_rows; ++v) {
      const int64_t row = at / groups / kept * e.block + g * e.vector_rows + v;
      if (row < cout && k < depth) found[row * depth + k] = t.values[t.value_at(at, i, v)];
    }
  }
  return found;
}

crisp::ConvAttributes random_attributes() {
  crisp::ConvAttributes a;
  for (int64_t& s : a.strides) s = one_of({1, 1, 1, 2, 2, 3, 5});
  for (int64_t& p : a.pads) p = one_of({0, 0, 1, 1, 2, 3, 9});
  for (int64_t& d : a.dilations) d = one_of({1, 1, 1, 2, 3});
  return a;
}

int64_t numbers_in(const crisp::ConvShape& s) { return s.batch * s.cin * s.height * s.width; }
int64_t numbers_out(const crisp::ConvShape& s) { return s.batch * s.cout * s.out_height * s.out_width; }

// One call's memory and whether its answer is right.
template <class Type>
struct Call {
  using Activation = typename Type::Activation;
  static constexpr int64_t kEach = sizeof(Activation);

  const crisp::Plan& plan;
  const crisp::Weight& weight;
  Guarded x, z, y, scratch;
  typename Type::Operands operands;
  bool residual;

  Call(const crisp::Plan& p, const crisp::Weight& w, const Tensors<Type>& t)
      : plan(p), weight(w), x(numbers_in(p.shape) * kEach, 0, kEach), z(numbers_out(p.shape) * kEach, 0, kEach),
        y(numbers_out(p.shape) * kEach, 0, kEach), scratch(p.scratch_bytes), operands(Type::random_operands(t, w)),
        residual(!p.shape.rows_first && one_in(2)) {
    for (int64_t i = 0; i < numbers_in(p.shape); ++i) x.template as<Activation>()[i] = Type::random_activation();
    for (int64_t i = 0; i < numbers_out(p.shape); ++i) z.template as<Activation>()[i] = Type::random_activation();
    forget();
    std::memset(scratch.data(), 0xFF, static_cast<size_t>(p.scratch_bytes));
  }

  const Activation* answer() const { return y.template as<Activation>(); }
  void forget() { std::memset(y.data(), 0xFF, static_cast<size_t>(numbers_out(plan.shape) * kEach)); }

  // Whether it leaves the vector registers as code for SSE likes them.
  bool run(const crisp::Parallel& parallel) const {
    crisp::convolve({&plan, &weight, x.data(), residual ? z.data() : nullptr, y.data(), scratch.data(), &operands},
                    parallel);
    return !upper_halves_in_use();
  }

  bool is_right(const std::vector<double>& w, const Tensors<Type>& t) const {
    const crisp::ConvShape& s = plan.shape;
    const int64_t positions = s.out_height * s.out_width, outputs = numbers_out(s);
    if (std::any_of(answer(), answer() + outputs, Type::is_untouched)) return false;
    for (int sample = 0; sample < kSamples && outputs; ++sample) {
      const int64_t at = between(0, outputs - 1);
      const int64_t m = s.rows_first ? at % s.cout : at / positions % s.cout;
      const int64_t p = s.rows_first ? at / s.cout : at % positions, image = s.rows_first ? 0 : at / positions / s.cout;
      Parts parts{static_cast<double>(t.bias[m]), std::abs(static_cast<double>(t.bias[m])), 0, residual, m};
      for (int64_t tap = 0; tap < s.kernel_h * s.kernel_w; ++tap) {
        const int64_t h = p / s.out_width * s.attributes.strides[0] + tap / s.kernel_w * s.attributes.dilations[0] -
                          s.attributes.pads[0];
        const int64_t v = p % s.out_width * s.attributes.strides[1] + tap % s.kernel_w * s.attributes.dilations[1] -
                          s.attributes.pads[1];
        if (h < 0 || v < 0 || h >= s.height || v >= s.width) continue;
        for (int64_t k = 0; k < s.cin; ++k) {
          const int64_t from = s.rows_first ? h * s.cin + k : ((image * s.cin + k) * s.height + h) * s.width + v;
          const double activation = x.template as<Activation>()[from] - Type::zero(t.grids);
          const double term = w[(m * s.kernel_h * s.kernel_w + tap) * s.cin + k] * activation;
          parts.sum += term, parts.magnitude += std::abs(term);
        }
      }
      if (residual) parts.residual = z.template as<Activation>()[at];
      if (!Type::is_near(t, operands, parts, answer()[at])) return false;
    }
    return true;
  }
};

template <class Type>
bool is_right_on_threads(const crisp::Plan& plan, const crisp::Weight& weight, const Tensors<Type>& t, Pool* pool) {
  const std::vector<double> w = dense(t);
  Call<Type> call(plan, weight, t);
  if (!call.run({nullptr, run_here})) {
    std::printf("upper halves of vector registers are left in use\n");
    return false;
  }
  if (!call.is_right(w, t)) return false;
  const std::vector<typename Type::Activation> alone(call.answer(), call.answer() + numbers_out(plan.shape));
  call.forget();
  call.run({pool, Pool::run});
  if (!std::equal(alone.begin(), alone.end(), call.answer())) return false;
  if (!one_in(16)) return true;
  std::vector<std::unique_ptr<Call<Type>>> calls;  // of one session, from as many threads of the host
  for (int i = 0; i < kThreads; ++i) calls.push_back(std::make_unique<Call<Type>>(plan, weight, t));
  std::vector<std::thread> hosts;
  for (const auto& each : calls) hosts.emplace_back([&each] { each->run({nullptr, run_here}); });
  for (std::thread& host : hosts) host.join();
  return std::all_of(calls.begin(), calls.end(), [&](const auto& each) { return each->is_right(w, t); });
}

#if defined(__SIZEOF_INT128__)
using Wide = __int128;
#endif

// Shapes whose sizes are near 2^31 and 2^63: planned, never run. What is not refused must be as large as it says.
bool is_planned_rightly(const crisp::KernelSet& set, int* refused) {
  const auto extent = [] { return std::max<int64_t>(1, (int64_t{1} << between(0, 30)) + between(-2, 2)); };
  crisp::ConvAttributes a;
  for (int64_t& s : a.strides) s = std::min<int64_t>(extent(), 1 << 20);
  for (int64_t& p : a.pads) p = one_in(2) ? 0 : std::min<int64_t>(extent(), 1 << 20);
  for (int64_t& d : a.dilations) d = one_in(2) ? 1 : std::min<int64_t>(extent(), 1 << 20);
  const crisp::ElementType& element = crisp::element_type(set.element);
  crisp::Weight w{};
  w.element = set.element;
  w.n = w.m = w.block = 1, w.vector_rows = 1, w.groups = w.kept = 1, w.columns = element.together;
  w.cout = extent(), w.cin = int64_t{1} << between(0, 8), w.kernel_h = 1 << between(0, 5), w.kernel_w = 1 << between(0, 5);
  w.depth = w.block_columns = w.cin * w.kernel_h * w.kernel_w, w.block_rows = w.cout;
  const int64_t batch = one_of({1, 2, int64_t{1} << 31, int64_t{1} << 40, (int64_t{1} << 62) + 1});
  try {
    crisp::check_attributes(a);
    const crisp::ConvShape s = crisp::conv_shape(a, w.cout, w.cin, w.kernel_h, w.kernel_w, batch, extent(), extent());
    const double positions = static_cast<double>(s.out_height) * static_cast<double>(s.out_width);
    if (positions > kMostPlanned && positions < 4e9) return true;  // right, but gigabytes of strips
    const crisp::Plan p = crisp::make_plan(w, s, set);
#if defined(__SIZEOF_INT128__)
    const Wide most = std::numeric_limits<int64_t>::max();
    const Wide rows = p.panel_rows + p.layout.extra_rows;
    const Wide each = element.activation_bytes, plane = Wide{p.layout.planes()} * rows * p.layout.pitch * each;
    const bool packed = !p.layout.in_place();
    return Wide{s.batch} * s.cin * s.height * s.width * each <= most &&
           Wide{s.batch} * s.cout * s.out_height * s.out_width * each <= most &&
           (!packed || (Wide{p.panel_bytes} >= plane * s.cin && Wide{p.scratch_bytes} == Wide{p.places} * p.panel_bytes)) &&
           std::all_of(p.offsets.begin(), p.offsets.end(), [&](int32_t o) { return !packed || o >= 0; });
#else
    return p.scratch_bytes >= 0;
#endif
  } catch (const crisp::Failure&) {
    ++*refused;
    return true;
  }
}

const crisp::KernelSet* set_named(crisp::Element element, const char* name) {
  for (int i = 0; const crisp::KernelSet* set = crisp::available_kernels(element, i); ++i) {
    if (std::strcmp(crisp::isa_name(set->isa), name) == 0) return set;
  }
  return nullptr;
}

template <class Type>
int fuzz(int layers, const char* isa) {
  const crisp::KernelSet* set = set_named(Type::kElement, isa);
  if (!set) {
    std::fprintf(stderr, "no kernels of this type run here for %s\n", isa);
    return 2;
  }
  Pool pool;
  int sound = 0, refused = 0, ran = 0, giants = 0, giants_refused = 0;
  for (int layer = 0; layer < layers; ++layer) {
    if (one_in(5)) {
      ++giants;
      if (is_planned_rightly(*set, &giants_refused)) continue;
      std::printf("layer %d: a size is wrong\n", layer);
      return 1;
    }
    const bool gemm = one_in(3);
    Tensors<Type> t = random_tensors<Type>(gemm);
    if (one_in(3)) corrupt(&t);
    try {
      const crisp::Weight weight = prepare(t);
      crisp::require(!gemm || weight.kernel_h * weight.kernel_w == 1, "as the operator does");
      ++sound;
      const crisp::ConvAttributes a = gemm ? crisp::ConvAttributes{} : random_attributes();
      for (int shape_number = 0; shape_number < 3; ++shape_number) {
        const int64_t side = one_of({1, 1, 2, 5, 7, 8, 14, 23, 31}), other = one_of({1, 2, 7, 9, 16, 33});
        crisp::ConvShape shape;
        try {
          shape = gemm ? crisp::gemm_shape(weight.cout, weight.cin, one_in(3) ? between(1, 300) : between(1, 24))
                       : crisp::conv_shape(a, weight.cout, weight.cin, weight.kernel_h, weight.kernel_w, between(0, 2),
                                           side, other);
        } catch (const crisp::Failure&) {
          continue;  // smaller than the kernel
        }
        if (std::max(numbers_in(shape), numbers_out(shape)) > kMostNumbers) continue;
        ++ran;
        if (is_right_on_threads(crisp::make_plan(weight, shape, *set), weight, t, &pool)) continue;
        std::printf("layer %d: a wrong answer\n", layer);
        return 1;
      }
    } catch (const crisp::Failure&) {
      ++refused;
    }
  }
  std::printf("{\"isa\": \"%s\", \"layers\": %d, \"sound\": %d, \"refused\": %d, \"shapes_run\": %d, \"giants\": %d, "
              "\"giants_refused\": %d}\n",
              isa, layers, sound, refused, ran, giants, giants_refused);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: fuzz ELEMENT LAYERS SEED ISA\n");
    return 2;
  }
  rng.seed(std::strtoull(argv[3], nullptr, 10));
  const int layers = std::atoi(argv[2]);
  const bool is_int8 = std::strcmp(argv[1], "int8") == 0;
  return is_int8 ? fuzz<Int8>(layers, argv[4]) : fuzz<Float32>(layers, argv[4]);
}
