// Random layers, sound and corrupted, at changing shapes, on one thread, on eight, and eight calls at once, against plain
// loops. Buffers end at a page that cannot be touched, so that it also finds overruns where no sanitizer runs.
//   fuzz LAYERS SEED ISA
// Prints what became of the layers as JSON; exit 1 if an answer is wrong or a size was computed wrongly.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "convolve.h"
#include "failure.h"
#include "isa.h"

namespace {

constexpr int kThreads = 8;
constexpr int kSamples = 40;            // outputs of an answer that are computed again
constexpr double kTolerance = 2e-6;     // of the magnitude of what was summed
constexpr int64_t kMostNumbers = 1 << 20;
constexpr int64_t kMostPlanned = 1 << 20;

std::mt19937_64 rng;

int64_t between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1));
}
bool one_in(int64_t n) { return between(1, n) == 1; }
int64_t one_of(std::initializer_list<int64_t> values) { return values.begin()[between(0, values.size() - 1)]; }

// Memory whose last byte is right before a page that faults, and that begins `odd` bytes behind an aligned address.
class Guarded {
 public:
  explicit Guarded(int64_t bytes, int64_t odd = 0) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), used = static_cast<size_t>((bytes + odd + 63) / 64 * 64);
    mapped_ = (used + page - 1) / page * page + page;
    base_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + mapped_ - page, page, PROT_NONE)) std::abort();
    const size_t end_gap = odd ? 0 : static_cast<size_t>(-bytes % 4 + 4) % 4;
    data_ = base_ + mapped_ - page - end_gap - static_cast<size_t>(bytes);
    if (odd) data_ -= (4 - odd + reinterpret_cast<uintptr_t>(data_)) % 4;
  }
  ~Guarded() { munmap(base_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  char* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  char *base_, *data_;
  size_t mapped_;
};

// Threads of a host that take part in a call.
class Pool {
 public:
  Pool() {
    for (int i = 1; i < kThreads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    begin_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  static void run(void* pool, size_t total, void (*fn)(void*, size_t), void* user) {
    Pool& self = *static_cast<Pool*>(pool);
    {
      const std::lock_guard<std::mutex> lock(self.mutex_);
      self.fn_ = fn, self.user_ = user, self.total_ = total, self.next_ = 0, self.busy_ = kThreads - 1, ++self.call_;
    }
    self.begin_.notify_all();
    self.take_parts();
    std::unique_lock<std::mutex> lock(self.mutex_);
    self.end_.wait(lock, [&] { return self.busy_ == 0; });
  }

 private:
  void take_parts() {
    for (size_t i = next_++; i < total_; i = next_++) fn_(user_, i);
  }
  void work() {
    for (uint64_t seen = 0;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        begin_.wait(lock, [&] { return stop_ || call_ != seen; });
        if (stop_) return;
        seen = call_;
      }
      take_parts();
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) end_.notify_all();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable begin_, end_;
  void (*fn_)(void*, size_t) = nullptr;
  void* user_ = nullptr;
  size_t total_ = 0;
  std::atomic<size_t> next_{0};
  int busy_ = 0;
  uint64_t call_ = 0;
  bool stop_ = false;
};

void run_here(void*, size_t total, void (*fn)(void*, size_t), void* user) {
  for (size_t i = 0; i < total; ++i) fn(user, i);
}

struct Tensors {
  crisp::Encoding encoding{};
  std::vector<float> values, bias;
  std::vector<uint8_t> indices;
  std::vector<int32_t> blocks;
  std::vector<int64_t> values_shape, indices_shape, blocks_shape;
};

int64_t bits_for(int64_t m) { return m <= 2 ? 1 : m <= 4 ? 2 : 4; }

Tensors random_tensors(bool gemm) {
  Tensors t;
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
  t.values_shape = {rows, kept, groups, z, e.vector_rows};
  t.indices_shape = {rows, kept, groups, bytes};
  t.blocks_shape = {rows, kept};
  t.indices.assign(static_cast<size_t>(rows * kept * groups * bytes), 0);
  t.values.resize(static_cast<size_t>(rows * kept * e.block * z));
  for (float& v : t.values) v = static_cast<float>(between(-1000, 1000)) / 1000.0f;
  for (int64_t i = 0; i < shape[0]; ++i) t.bias.push_back(static_cast<float>(between(-100, 100)) / 100.0f);
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
        std::fill_n(t.values.begin() + (at * z + i) * e.vector_rows, e.vector_rows, 0.0f);
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

void corrupt(Tensors* t) {
  int64_t* attributes[] = {&t->encoding.n, &t->encoding.m, &t->encoding.block, &t->encoding.vector_rows,
                           &t->encoding.index_bits};
  std::vector<int64_t>* shapes[] = {&t->values_shape, &t->indices_shape, &t->blocks_shape};
  switch (between(0, 5)) {
    case 0: *attributes[between(0, 4)] = odd_number(); break;
    case 1: t->encoding.weight_shape[between(0, 3)] = odd_number(); break;
    case 2: t->blocks[between(0, t->blocks.size() - 1)] = static_cast<int32_t>(odd_number()); break;
    case 3: t->indices[between(0, t->indices.size() - 1)] ^= static_cast<uint8_t>(1 << between(0, 7)); break;
    case 4: t->values[between(0, t->values.size() - 1)] = one_in(2) ? NAN : INFINITY; break;
    case 5: {
      std::vector<int64_t>& shape = *shapes[between(0, 2)];
      shape[between(0, shape.size() - 1)] = odd_number();
    }
  }
}

// From memory at odd addresses, as a file may be mapped; freed before the layer runs.
crisp::Weight prepare(const Tensors& t) {
  const auto placed = [](const void* from, size_t bytes, const Guarded& to) { std::memcpy(to.data(), from, bytes); };
  const int64_t odd = between(0, 3);
  const Guarded indices(t.indices.size(), odd), blocks(t.blocks.size() * 4, odd), bias(t.bias.size() * 4, odd);
  placed(t.indices.data(), t.indices.size(), indices);
  placed(t.blocks.data(), t.blocks.size() * 4, blocks);
  placed(t.bias.data(), t.bias.size() * 4, bias);
  return crisp::prepare_weight(t.encoding, {t.values.data(), t.values_shape}, {indices.data(), t.indices_shape},
                               {blocks.data(), t.blocks_shape}, {bias.data(), {static_cast<int64_t>(t.bias.size())}});
}

// (Cout, taps, Cin), zeros in place.
std::vector<float> dense(const Tensors& t) {
  const crisp::Encoding& e = t.encoding;
  const int64_t cout = e.weight_shape[0], depth = e.weight_shape[1] * e.weight_shape[2] * e.weight_shape[3];
  const int64_t rows = t.values_shape[0], kept = t.values_shape[1], groups = t.values_shape[2], z = t.values_shape[3];
  const int64_t bytes = t.indices_shape[3], per_byte = 8 / e.index_bits;
  std::vector<float> found(static_cast<size_t>(cout * depth));
  for (int64_t at = 0; at < rows * kept * groups; ++at) for (int64_t i = 0; i < z; ++i) {
    const int64_t g = at % groups, block = t.blocks[at / groups];
    const int64_t place = t.indices[at * bytes + i / per_byte] >> (i % per_byte * e.index_bits) & ((1 << e.index_bits) - 1);
    const int64_t k = block * e.block + i / e.n * e.m + place;
    for (int64_t v = 0; v < e.vector_rows; ++v) {
      const int64_t row = at / groups / kept * e.block + g * e.vector_rows + v;
      if (row < cout && k < depth) found[row * depth + k] = t.values[(at * z + i) * e.vector_rows + v];
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
struct Call {
  const crisp::Plan& plan;
  const crisp::Weight& weight;
  Guarded x, z, y, scratch;
  crisp::FloatOperands bounds;
  bool residual;

  Call(const crisp::Plan& p, const crisp::Weight& w)
      : plan(p), weight(w), x(numbers_in(p.shape) * 4), z(numbers_out(p.shape) * 4), y(numbers_out(p.shape) * 4),
        scratch(p.scratch_bytes),
        bounds{one_in(2) ? -std::numeric_limits<float>::infinity() : 0.0f, one_in(2) ? 6.0f : INFINITY},
        residual(!p.shape.rows_first && one_in(2)) {
    for (int64_t i = 0; i < numbers_in(p.shape); ++i) x.floats()[i] = static_cast<float>(between(-100, 100)) / 64.0f;
    for (int64_t i = 0; i < numbers_out(p.shape); ++i) z.floats()[i] = static_cast<float>(between(-100, 100)) / 64.0f;
    std::memset(y.data(), 0xFF, static_cast<size_t>(numbers_out(p.shape) * 4));  // not a number
    std::memset(scratch.data(), 0xFF, static_cast<size_t>(p.scratch_bytes));
  }

  void run(const crisp::Parallel& parallel) const {
    crisp::convolve({&plan, &weight, x.data(), residual ? z.data() : nullptr, y.data(), scratch.data(), &bounds},
                    parallel);
  }

  bool is_right(const std::vector<float>& w, const std::vector<float>& bias) const {
    const crisp::ConvShape& s = plan.shape;
    const int64_t positions = s.out_height * s.out_width, outputs = numbers_out(s);
    for (int64_t i = 0; i < outputs; ++i) if (std::isnan(y.floats()[i])) return false;
    for (int sample = 0; sample < kSamples && outputs; ++sample) {
      const int64_t at = between(0, outputs - 1);
      const int64_t m = s.rows_first ? at % s.cout : at / positions % s.cout;
      const int64_t p = s.rows_first ? at / s.cout : at % positions, image = s.rows_first ? 0 : at / positions / s.cout;
      double sum = bias[m], magnitude = std::abs(sum);
      for (int64_t t = 0; t < s.kernel_h * s.kernel_w; ++t) {
        const int64_t h = p / s.out_width * s.attributes.strides[0] + t / s.kernel_w * s.attributes.dilations[0] -
                          s.attributes.pads[0];
        const int64_t v = p % s.out_width * s.attributes.strides[1] + t % s.kernel_w * s.attributes.dilations[1] -
                          s.attributes.pads[1];
        if (h < 0 || v < 0 || h >= s.height || v >= s.width) continue;
        for (int64_t k = 0; k < s.cin; ++k) {
          const int64_t from = s.rows_first ? h * s.cin + k : ((image * s.cin + k) * s.height + h) * s.width + v;
          const double term = double{w[(m * s.kernel_h * s.kernel_w + t) * s.cin + k]} * x.floats()[from];
          sum += term, magnitude += std::abs(term);
        }
      }
      if (residual) sum += z.floats()[at], magnitude += std::abs(z.floats()[at]);
      const double right = std::min<double>(bounds.upper, std::max<double>(bounds.lower, sum));
      if (std::abs(right - y.floats()[at]) > kTolerance * magnitude + 1e-30) return false;
    }
    return true;
  }
};

bool is_right_on_threads(const crisp::Plan& plan, const crisp::Weight& weight, const Tensors& t, Pool* pool) {
  const std::vector<float> w = dense(t);
  Call call(plan, weight);
  call.run({nullptr, run_here});
  if (!call.is_right(w, t.bias)) return false;
  const std::vector<float> alone(call.y.floats(), call.y.floats() + numbers_out(plan.shape));
  std::memset(call.y.data(), 0xFF, alone.size() * 4);
  call.run({pool, Pool::run});
  if (!std::equal(alone.begin(), alone.end(), call.y.floats())) return false;
  if (!one_in(16)) return true;
  std::vector<std::unique_ptr<Call>> calls;  // of one session, from as many threads of the host
  for (int i = 0; i < kThreads; ++i) calls.push_back(std::make_unique<Call>(plan, weight));
  std::vector<std::thread> hosts;
  for (const auto& each : calls) hosts.emplace_back([&each] { each->run({nullptr, run_here}); });
  for (std::thread& host : hosts) host.join();
  return std::all_of(calls.begin(), calls.end(), [&](const auto& each) { return each->is_right(w, t.bias); });
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
  crisp::Weight w{};
  w.n = w.m = w.block = 1, w.vector_rows = 1, w.groups = w.columns = w.kept = 1;
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
    const Wide plane = Wide{p.layout.planes()} * rows * p.layout.pitch * 4;
    const bool packed = !p.layout.in_place();
    return Wide{s.batch} * s.cin * s.height * s.width * 4 <= most &&
           Wide{s.batch} * s.cout * s.out_height * s.out_width * 4 <= most &&
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

const crisp::KernelSet* set_named(const char* name) {
  for (int i = 0; const crisp::KernelSet* set = crisp::available_kernels(crisp::Element::kFloat32, i); ++i) {
    if (std::strcmp(crisp::isa_name(set->isa), name) == 0) return set;
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  const crisp::KernelSet* set = argc == 4 ? set_named(argv[3]) : nullptr;
  if (!set) {
    std::fprintf(stderr, "usage: fuzz LAYERS SEED ISA\n");
    return 2;
  }
  rng.seed(std::strtoull(argv[2], nullptr, 10));
  Pool pool;
  int sound = 0, refused = 0, ran = 0, giants = 0, giants_refused = 0;
  const int layers = std::atoi(argv[1]);
  for (int layer = 0; layer < layers; ++layer) {
    if (one_in(5)) {
      ++giants;
      if (is_planned_rightly(*set, &giants_refused)) continue;
      std::printf("layer %d: a size is wrong\n", layer);
      return 1;
    }
    const bool gemm = one_in(3);
    Tensors t = random_tensors(gemm);
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
              argv[3], layers, sound, refused, ran, giants, giants_refused);
  return 0;
}
