// Prepares a node when its session loads and runs it.
#include "layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "isa.h"
#include "ort_call.h"
#include "sizes.h"

namespace crisp {
namespace {

constexpr double kMostSteps = 1e9;        // that the kernels round to 32 bits without care,
constexpr float kMostResidualScale = 16;  // and of a step of the residual that they add without losing any

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Where an operator has its inputs, by the element type.
struct Places {
  size_t values, indices, blocks, bias, residual;
};

constexpr Places kPlaces[] = {{1, 2, 3, 4, 5}, {3, 4, 5, 7, 10}};
constexpr size_t kScaleOfX = 1, kZeroOfX = 2, kScaleOfWeights = 6, kScaleOfY = 8, kZeroOfY = 9;
constexpr size_t kScaleOfResidual = 11, kZeroOfResidual = 12;

const Places& places(const OperatorForm& form) { return kPlaces[static_cast<int>(form.element)]; }

ort::ElementType activation_type(const OperatorForm& form) {
  return form.element == Element::kFloat32 ? ort::kFloat : ort::kUint8;
}

// The body of a Gemm, and of any int8 operator, adds its bias, which therefore cannot be left out.
Weight read_weight(const ort::Api* api, const ort::KernelInfo* info, const OperatorForm& form) {
  Encoding e{};
  e.n = ort::attribute(api, info, "n");
  e.m = ort::attribute(api, info, "m");
  e.block = ort::attribute(api, info, "block");
  e.vector_rows = ort::attribute(api, info, "vector_rows");
  e.index_bits = ort::attribute(api, info, "index_bits");
  ort::attribute(api, info, "weight_shape", e.weight_shape, 4);
  const Places& at = places(form);
  const bool is_float = form.element == Element::kFloat32;
  const TensorView values =
      ort::constant_input(api, info, at.values, "values", is_float ? ort::kFloat : ort::kInt8, false);
  const TensorView indices = ort::constant_input(api, info, at.indices, "indices", ort::kUint8, false);
  const TensorView blocks = ort::constant_input(api, info, at.blocks, "blocks", ort::kInt32, false);
  const TensorView bias = ort::constant_input(api, info, at.bias, "bias", is_float ? ort::kFloat : ort::kInt32,
                                              is_float && form.convolution);
  if (is_float) return prepare_weight(e, values, indices, blocks, bias);
  return prepare_int8_weight(e, values, indices, blocks, bias,
                             {ort::constant_float(api, info, kScaleOfX, "x_scale"),
                              ort::constant_float(api, info, kScaleOfY, "y_scale"),
                              ort::constant_uint8(api, info, kZeroOfX, "x_zero"),
                              ort::constant_input(api, info, kScaleOfWeights, "w_scale", ort::kFloat, false)});
}

// A bound as a step of the output. Rounding leaves the order of numbers as it is, so that bounding comes after it.
int32_t step_of(float bound, float y_scale, int32_t y_zero) {
  const float steps = std::min(std::max(bound / y_scale, -512.0f), 512.0f);
  return std::min(std::max(static_cast<int32_t>(std::nearbyint(steps)) + y_zero, 0), 255);
}

QuantizedOperands read_quantized(const ort::Api* api, const ort::KernelInfo* info, const OperatorForm& form,
                                 const FloatOperands& bounds, double most_steps) {
  QuantizedOperands q{};
  const float y_scale = ort::constant_float(api, info, kScaleOfY, "y_scale");
  q.y_zero = ort::constant_uint8(api, info, kZeroOfY, "y_zero");
  q.x_zero = ort::constant_uint8(api, info, kZeroOfX, "x_zero");
  if (form.add) {
    q.residual_scale = relative_scale(ort::constant_float(api, info, kScaleOfResidual, "z_scale"), y_scale);
    q.residual_zero = ort::constant_uint8(api, info, kZeroOfResidual, "z_zero");
  }
  q.goes_far = most_steps > kMostSteps || q.residual_scale > kMostResidualScale;
  q.low = step_of(bounds.lower, y_scale, q.y_zero);
  q.high = step_of(bounds.upper, y_scale, q.y_zero);
  return q;
}

struct SessionPool {
  const ort::Api* api;
  const ort::KernelContext* context;
  bool shared;
};

void run_on_session_pool(void* pool, size_t total, void (*fn)(void*, size_t), void* user) {
  const SessionPool* session = static_cast<const SessionPool*>(pool);
  ort::parallel_for(session->api, session->context, session->shared ? total : 1, fn, user);
}

// The numbers of an input where kernels may read them: copied when they lie at an address that is no multiple of their
// size, as those of a file mapped from an odd offset do.
class Readable {
 public:
  Readable(const ort::Api* api, const ort::KernelContext* context, const ort::MemoryInfo* memory,
           const TensorView& tensor, int64_t each)
      : copy_(api, context, memory, is_aligned(tensor.data, each) ? 0 : bytes(tensor, each)), data_(tensor.data) {
    if (!copy_.data()) return;
    std::memcpy(copy_.data(), tensor.data, static_cast<size_t>(bytes(tensor, each)));
    data_ = copy_.data();
  }
  const void* data() const { return data_; }

 private:
  static bool is_aligned(const void* data, int64_t each) {
    return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(each) == 0;
  }
  static int64_t bytes(const TensorView& tensor, int64_t each) { return (product(tensor.shape) * each).value(); }

  ort::Scratch copy_;
  const void* data_;
};

}  // namespace

Layer::Layer(const ort::Api* api, const ort::KernelInfo* info, const OperatorForm& form)
    : api_(api), name_(ort::node_name(api, info)), form_(form), kernels_(&active_kernels(form.element)) {
  weight_ = read_weight(api, info, form);
  if (form.convolution) {
    ort::attribute_or_keep(api, info, "strides", attributes_.strides, 2);
    ort::attribute_or_keep(api, info, "pads", attributes_.pads, 4);
    ort::attribute_or_keep(api, info, "dilations", attributes_.dilations, 2);
    check_attributes(attributes_);
  } else if (weight_.kernel_h != 1 || weight_.kernel_w != 1) {
    throw Failure(std::string("attribute weight_shape of a ") + form.name + " must end in 1, 1");
  }
  bounds_ = {ort::attribute_or(api, info, "lower", -kInfinity), ort::attribute_or(api, info, "upper", kInfinity)};
  require(!std::isnan(bounds_.lower) && !std::isnan(bounds_.upper), "attributes lower and upper must be numbers");
  if (form.element == Element::kInt8) quantized_ = read_quantized(api, info, form, bounds_, weight_.most_steps);
  ort::check(api, api->CreateCpuMemoryInfo(1, 0, &memory_));
  ort::log_line(api, info, ort::kInfo,
                "crisp_onnx: node '" + name_ + "' runs " + element_type(kernels_->element).name +
                    "_hybrid kernels of " + std::to_string(weight_.vector_rows) + " rows, " + isa_name(kernels_->isa));
}

Layer::~Layer() {
  if (memory_) api_->ReleaseMemoryInfo(memory_);
}

std::shared_ptr<const Plan> Layer::plan_for(int64_t batch, int64_t height, int64_t width) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!plan_ || plan_->shape.batch != batch || plan_->shape.height != height || plan_->shape.width != width) {
    const ConvShape shape =
        form_.convolution ? conv_shape(attributes_, weight_.cout, weight_.cin, weight_.kernel_h, weight_.kernel_w, batch,
                                  height, width)
                     : gemm_shape(weight_.cout, weight_.cin, height);
    plan_ = std::make_shared<const Plan>(make_plan(weight_, shape, *kernels_));
  }
  return plan_;
}

void Layer::run(ort::KernelContext* context) { form_.convolution ? run_convolution(context) : run_gemm(context); }

void Layer::run_convolution(ort::KernelContext* context) {
  const TensorView x = ort::input(api_, context, 0, activation_type(form_));
  require(x.shape.size() == 4 && x.shape[1] == weight_.cin, "X must be (batch, Cin, height, width) of weight_shape");
  const std::shared_ptr<const Plan> plan = plan_for(x.shape[0], x.shape[2], x.shape[3]);
  const std::vector<int64_t> shape = {x.shape[0], weight_.cout, plan->shape.out_height, plan->shape.out_width};
  TensorView residual;
  if (form_.add) {
    residual = ort::input(api_, context, places(form_).residual, activation_type(form_));
    require(residual.shape == shape, "Z must have the output's shape");
  }
  run_plan(context, *plan, x, residual, ort::output(api_, context, shape));
}

void Layer::run_gemm(ort::KernelContext* context) {
  const TensorView x = ort::input(api_, context, 0, activation_type(form_));
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
  run_plan(context, *plan, x, {}, ort::output(api_, context, shape));
}

void Layer::run_plan(ort::KernelContext* context, const Plan& plan, const TensorView& x, const TensorView& residual,
                     void* y) {
  const int64_t each = plan.element().activation_bytes;
  const Readable activations(api_, context, memory_, x, each), added(api_, context, memory_, residual, each);
  const ort::Scratch scratch(api_, context, memory_, plan.scratch_bytes);
  const void* operands = form_.element == Element::kFloat32 ? static_cast<const void*>(&bounds_) : &quantized_;
  const bool divides = plan.items > 1;
  const Sharing::Run run = divides ? sharing_.begin(product({plan.items, plan.positions()}).value()) : Sharing::Run{};
  SessionPool pool{api_, context, run.shared};
  convolve({&plan, &weight_, activations.data(), added.data(), y, scratch.data(), operands},
           {&pool, run_on_session_pool});
  if (divides) sharing_.end(run);
}

}  // namespace crisp
