// Times the kernels alone, one core: per layer of a network the inner loops and the packing, against the multiply-add
// peak.
//   kernel_bench resnet50|vgg16 float32|int8 VECTOR_ROWS BLOCK BLOCK_SHARE        prints one JSON object a line
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <vector>

#include "convolve.h"
#include "isa.h"
#include "layers.h"
#include "peak.h"

namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Time that this thread had a core: long layers find no undisturbed moment on a shared machine.
double busy_s() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
#else
  return now_s();
#endif
}

template <class F>
double best_s(double budget_s, F f) {
  f();
  double best = 1e9;
  int runs = 0;
  for (const double end = now_s() + budget_s; runs < 5 || now_s() < end; ++runs) {
    const double start = busy_s();
    f();
    best = std::min(best, busy_s() - start);
  }
  return best;
}

void run_here(void*, size_t total, void (*fn)(void*, size_t), void* user) {
  for (size_t i = 0; i < total; ++i) fn(user, i);
}

// Memory full of activations.
std::unique_ptr<float, decltype(&std::free)> aligned(int64_t least_bytes) {
  const size_t bytes = (static_cast<size_t>(least_bytes) / 64 + 2) * 64;
  float* p = static_cast<float*>(std::aligned_alloc(64, bytes));
  for (size_t i = 0; i < bytes / sizeof(float); ++i) p[i] = static_cast<float>(i % 13) / 7.0f - 1.0f;
  return {p, &std::free};
}

const char* layout_name(crisp::Columns columns) {
  switch (columns) {
    case crisp::Columns::kInPlace: return "in place";
    case crisp::Columns::kCut: return "cut phases";
    case crisp::Columns::kPhases: return "phases";
    case crisp::Columns::kCopies: return "copies";
    case crisp::Columns::kTurned: return "turned";
  }
  return "";
}

void measure(const BenchLayer& layer, crisp::Element element, int64_t block, int64_t vector_rows, double block_share) {
  const RandomWeight random = random_weight(layer, block, vector_rows, block_share);
  const crisp::Weight weight = random.prepare(element);
  crisp::ConvAttributes attributes;
  for (int64_t& s : attributes.strides) s = layer.stride;
  for (int64_t& p : attributes.pads) p = layer.kernel / 2;
  const crisp::ConvShape shape = crisp::conv_shape(attributes, layer.cout, layer.cin, layer.kernel, layer.kernel, 1,
                                                   layer.side, layer.side);
  const crisp::Plan plan = crisp::make_plan(weight, shape, crisp::active_kernels(element));
  const int64_t each = plan.element().activation_bytes;
  const auto x = aligned(each * layer.cin * layer.side * layer.side);
  const auto y = aligned(each * layer.cout * shape.out_height * shape.out_width);
  const auto scratch = aligned(std::max(plan.scratch_bytes, plan.panels() * plan.panel_bytes));
  const crisp::FloatOperands bounds{0.0f, 1e30f};
  const crisp::QuantizedOperands quantized{1.0f, 0, 0, 0, 255, 3, false};
  const bool is_float = element == crisp::Element::kFloat32;
  const crisp::ConvCall call{&plan, &weight, x.get(), nullptr, y.get(), scratch.get(),
                             is_float ? static_cast<const void*>(&bounds) : &quantized};
  const auto packed = [&](int64_t panel) { return scratch.get() + panel * (plan.panel_bytes / 4); };
  const auto compute = [&] {
    for (int64_t p = 0; p < plan.panels(); ++p) {
      crisp::compute_panel(call, p, packed(p), 0, static_cast<int64_t>(plan.strips_of(p).size()), 0, weight.block_rows);
    }
  };
  const double budget_s = 0.06, peak_before = measured_peak_macs_per_s(0.01, element);
  const double pack_s = plan.layout.in_place() ? 0 : best_s(0.02, [&] {
    for (int64_t p = 0; p < plan.panels(); ++p) crisp::pack_panel(call, p, packed(p));
  });
  const double compute_s = best_s(budget_s, compute);
  const double call_s = best_s(budget_s, [&] { crisp::convolve(call, {nullptr, run_here}); });
  const double peak = std::max(peak_before, measured_peak_macs_per_s(0.01, element));
  const double macs = static_cast<double>(weight.macs_per_position() * shape.out_height * shape.out_width);
  const double dense = static_cast<double>(weight.cout * weight.depth * shape.out_height * shape.out_width);
  std::printf("{\"layer\": \"%s\", \"kernel\": \"%s\", \"strips\": %zu, \"panels\": %lld, \"layout\": \"%s\", "
              "\"macs\": %.0f, \"dense_macs\": %.0f, \"peak_macs_per_s\": %.4g, \"compute_ms\": %.5f, "
              "\"pack_ms\": %.5f, \"call_ms\": %.5f}\n",
              layer.name.c_str(), plan.strips.front().kernel->name, plan.strips.size(),
              static_cast<long long>(plan.panels()),
              layout_name(plan.layout.columns), macs,
              dense, peak, compute_s * 1e3, pack_s * 1e3, call_s * 1e3);
}

}  // namespace

int main(int argc, char** argv) {
  const bool vgg = argc == 6 && std::strcmp(argv[1], "vgg16") == 0;
  const bool int8 = argc == 6 && std::strcmp(argv[2], "int8") == 0;
  if (argc != 6 || !(vgg || std::strcmp(argv[1], "resnet50") == 0) || !(int8 || std::strcmp(argv[2], "float32") == 0)) {
    std::fprintf(stderr, "usage: kernel_bench resnet50|vgg16 float32|int8 VECTOR_ROWS BLOCK BLOCK_SHARE\n");
    return 2;
  }
  for (const BenchLayer& layer : vgg ? vgg16_layers() : resnet50_layers()) {
    measure(layer, int8 ? crisp::Element::kInt8 : crisp::Element::kFloat32, std::atoll(argv[4]), std::atoll(argv[3]),
            std::atof(argv[5]));
  }
  return 0;
}
