// One node of a session: its checked weight and the plan of the last input shape.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "convolve.h"
#include "ort_abi.h"
#include "plan.h"
#include "weight.h"

namespace crisp {

class Layer {
 public:
  // Reads and checks attributes and initializers, of a convolution or of a Gemm. Throws Failure.
  Layer(const ort::Api* api, const ort::KernelInfo* info, bool convolution);
  ~Layer();
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  // X (N, Cin, H, W) and, if `add`, a residual of the output's shape as input 5.
  void run_convolution(ort::KernelContext* context, bool add);
  // X (..., K); the output is (..., Cout).
  void run_gemm(ort::KernelContext* context);

  const ort::Api* api() const { return api_; }
  const std::string& name() const { return name_; }

 private:
  // The rows of a Gemm are a height.
  std::shared_ptr<const Plan> plan_for(int64_t batch, int64_t height, int64_t width);
  void run(ort::KernelContext* context, const Plan& plan, const TensorView& x, const TensorView& residual, float* y);

  const ort::Api* api_;
  std::string name_;
  bool convolution_;
  Weight weight_;
  ConvAttributes attributes_;
  FloatOperands bounds_;
  const KernelSet* kernels_;
  ort::MemoryInfo* memory_ = nullptr;
  std::mutex mutex_;  // guards plan_: one session may run on several threads
  std::shared_ptr<const Plan> plan_;
};

}  // namespace crisp
