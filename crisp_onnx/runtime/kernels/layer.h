// One node of a session: its checked weight and the plan of the last input shape.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "convolve.h"
#include "ort_abi.h"
#include "plan.h"
#include "sharing.h"
#include "weight.h"

namespace crisp {

// What an operator computes, and where it has its inputs.
struct OperatorForm {
  const char* name;
  Element element;
  bool convolution;  // or a Gemm
  bool add;          // a residual of the output's shape
  size_t inputs;
};

class Layer {
 public:
  // Reads and checks attributes and initializers. Throws Failure. `form` outlives the layer.
  Layer(const ort::Api* api, const ort::KernelInfo* info, const OperatorForm& form);
  ~Layer();
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  void run(ort::KernelContext* context);

  const ort::Api* api() const { return api_; }
  const std::string& name() const { return name_; }

 private:
  // X (N, Cin, H, W) and perhaps a residual.
  void run_convolution(ort::KernelContext* context);
  // X (..., K); the output is (..., Cout).
  void run_gemm(ort::KernelContext* context);
  // The rows of a Gemm are a height.
  std::shared_ptr<const Plan> plan_for(int64_t batch, int64_t height, int64_t width);
  void run_plan(ort::KernelContext* context, const Plan& plan, const TensorView& x, const TensorView& residual, void* y);

  const ort::Api* api_;
  std::string name_;
  const OperatorForm& form_;
  Weight weight_;
  ConvAttributes attributes_;
  FloatOperands bounds_;
  QuantizedOperands quantized_;
  const KernelSet* kernels_;
  ort::MemoryInfo* memory_ = nullptr;
  std::mutex mutex_;  // guards plan_: one session may run on several threads
  std::shared_ptr<const Plan> plan_;
  Sharing sharing_;
};

}  // namespace crisp
