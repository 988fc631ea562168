// One MaxPool node of a session.
#pragma once

#include <string>

#include "geometry.h"
#include "ort_abi.h"

namespace crisp {

class PoolNode {
 public:
  // Reads and checks the attributes. Throws Failure.
  PoolNode(const ort::Api* api, const ort::KernelInfo* info);

  // X (N, C, H, W) of uint8.
  void run(ort::KernelContext* context) const;

  const ort::Api* api() const { return api_; }
  const std::string& name() const { return name_; }

 private:
  const ort::Api* api_;
  std::string name_;
  ConvAttributes attributes_;
  int64_t kernel_[2];
};

}  // namespace crisp
