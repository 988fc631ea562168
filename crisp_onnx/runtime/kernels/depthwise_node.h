// One depthwise convolution of bytes of a session.
#pragma once

#include <string>

#include "depthwise.h"
#include "ort_abi.h"

namespace crisp {

class DepthwiseNode {
 public:
  // Reads and checks attributes and initializers. Throws Failure.
  DepthwiseNode(const ort::Api* api, const ort::KernelInfo* info);

  // X (N, channels, H, W) of uint8.
  void run(ort::KernelContext* context) const;

  const ort::Api* api() const { return api_; }
  const std::string& name() const { return name_; }

 private:
  const ort::Api* api_;
  std::string name_;
  ConvAttributes attributes_;
  Depthwise layer_;
  WindowFunction window_;
};

}  // namespace crisp
