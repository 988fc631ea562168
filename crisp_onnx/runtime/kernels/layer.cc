// Prepares a node when its session loads and runs it.
#include "layer.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "counters.h"
#include "isa.h"
#include "ort_call.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The body of a Gemm adds its bias, which therefore cannot be left out.
Weight read_weight(const ort::Api* api, const ort::KernelInfo* info, bool convolution) {
  Encoding e{};
  e.n = ort::attribute(api, info, "n");
  e.m = ort::attribute(api, info, "m");
  e.block = ort::attribute(api, info, "block");
  e.vector_rows = ort::attribute(api, info, "vector_rows");
  e.index_bits = ort::attribute(api, info, "index_bits");
  ort::attribute(api, info, "weight_shape", e.weight_shape, 4);
  return prepare_weight(e, ort::constant_input(api, info, 1, "values", ort::kFloat, false),
                        ort::constant_input(api, info, 2, "indices", ort::kUint8, false),
                        ort::constant_input(api, info, 3, "blocks", ort::kInt32, false),
                        ort::constant_input(api, info, 4, "bias", ort::kFloat, convolution));
}

struct PoolCall {
  const ort::Api* api;
  const ort::KernelContext* context;
  ort::Status* status = nullptr;

  ~PoolCall() {
    if (status) api->ReleaseStatus(status);
  }
  void check() { ort::check(api, std::exchange(status, nullptr)); }
};

// One item runs at once: the runtime would call it directly too, after a few more steps.
void run_on_session_pool(void* pool, size_t total, void (*fn)(void*, size_t), void* user) {
  PoolCall* call = static_cast<PoolCall*>(pool);
  if (total == 1) {
    fn(user, 0);
    return;
  }
  ort::Status* status = call->api->KernelContext_ParallelFor(call->context, fn, total, 0, user);
  call->status = status;
}

// The numbers of an input where kernels may read them: copied when they lie at an address that is no multiple of their
// size, as those of a file mapped from an odd offset do.
class Readable {
 public:
  Readable(const ort::Api* api, const ort::KernelContext* context, const ort::MemoryInfo* memory,
           const TensorView& tensor)
      : copy_(api, context, memory, is_aligned(tensor.data) ? 0 : bytes(tensor)), data_(tensor.data) {
    if (!copy_.data()) return;
    std::memcpy(copy_.data(), tensor.data, static_cast<size_t>(bytes(tensor)));
    data_ = copy_.data();
  }
  const void* data() const { return data_; }

 private:
  static bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % sizeof(float) == 0; }
  static int64_t bytes(const TensorView& tensor) {
    return (product(tensor.shape) * static_cast<int64_t>(sizeof(float))).value();
  }

  ort::Scratch copy_;
  const void* data_;
};

}  // namespace

Layer::Layer(const ort::Api* api, const ort::KernelInfo* info, bool convolution)
    : api_(api), name_(ort::node_name(api, info)), convolution_(convolution), kernels_(&active_kernels(Element::kFloat32)) {
  weight_ = read_weight(api, info, convolution);
  if (convolution) {
    ort::attribute_or_keep(api, info, "strides", attributes_.strides, 2);
    ort::attribute_or_keep(api, info, "pads", attributes_.pads, 4);
    ort::attribute_or_keep(api, info, "dilations", attributes_.dilations, 2);
    check_attributes(attributes_);
  } else {
    require(weight_.kernel_h == 1 && weight_.kernel_w == 1, "attribute weight_shape of a HybridGemm must end in 1, 1");
  }
  bounds_ = {ort::attribute_or(api, info, "lower", -kInfinity), ort::attribute_or(api, info, "upper", kInfinity)};
  require(!std::isnan(bounds_.lower) && !std::isnan(bounds_.upper), "attributes lower and upper must be numbers");
  ort::check(api, api->CreateCpuMemoryInfo(1, 0, &memory_));
  ort::log_line(api, info, ort::kInfo,
                "crisp_onnx: node '" + name_ + "' runs " + element_type(kernels_->element).name +
                    "_hybrid kernels of " + std::to_string(weight_.vector_rows) + " rows, " + isa_name(kernels_->isa));
  count_prepared_layer();
}

Layer::~Layer() {
  if (memory_) api_->ReleaseMemoryInfo(memory_);
}

std::shared_ptr<const Plan> Layer::plan_for(int64_t batch, int64_t height, int64_t width) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!plan_ || plan_->shape.batch != batch || plan_->shape.height != height || plan_->shape.width != width) {
    const ConvShape shape =
        convolution_ ? conv_shape(attributes_, weight_.cout, weight_.cin, weight_.kernel_h, weight_.kernel_w, batch,
                                  height, width)
                     : gemm_shape(weight_.cout, weight_.cin, height);
    plan_ = std::make_shared<const Plan>(make_plan(weight_, shape, *kernels_));
  }
  return plan_;
}

void Layer::run_convolution(ort::KernelContext* context, bool add) {
  const TensorView x = ort::input(api_, context, 0);
  require(x.shape.size() == 4 && x.shape[1] == weight_.cin, "X must be (batch, Cin, height, width) of weight_shape");
  const std::shared_ptr<const Plan> plan = plan_for(x.shape[0], x.shape[2], x.shape[3]);
  const std::vector<int64_t> shape = {x.shape[0], weight_.cout, plan->shape.out_height, plan->shape.out_width};
  TensorView residual;
  if (add) {
    residual = ort::input(api_, context, 5);
    require(residual.shape == shape, "Z must have the output's shape");
  }
  run(context, *plan, x, residual, ort::output(api_, context, shape));
}

void Layer::run_gemm(ort::KernelContext* context) {
  const TensorView x = ort::input(api_, context, 0);
  require(!x.shape.empty() && x.shape.back() == weight_.cin, "the last dimension of X must be Cin of weight_shape");
  std::vector<int64_t> shape = x.shape;
  shape.pop_back();
  const int64_t rows = product(shape).value();
  shape.push_back(weight_.cout);
  if (rows == 0) {
    ort::output(api_, context, shape);
    return;
  }
  const std::shared_ptr<const Plan> plan = plan_for(1, rows, 1);
  run(context, *plan, x, {}, ort::output(api_, context, shape));
}

void Layer::run(ort::KernelContext* context, const Plan& plan, const TensorView& x, const TensorView& residual,
                float* y) {
  const Readable activations(api_, context, memory_, x), added(api_, context, memory_, residual);
  const ort::Scratch scratch(api_, context, memory_, plan.scratch_bytes);
  PoolCall pool{api_, context};
  convolve({&plan, &weight_, activations.data(), added.data(), y, scratch.data(), &bounds_},
           {&pool, run_on_session_pool});
  pool.check();
}

}  // namespace crisp
