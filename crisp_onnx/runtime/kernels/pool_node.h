// One MaxPool node of a session.
#pragma once

#include "byte_node.h"
#include "geometry.h"

namespace crisp {

class PoolNode : public ByteNode {
 public:
  // Reads and checks the attributes. Throws Failure.
  PoolNode(const ort::Api* api, const ort::KernelInfo* info);

  // X (N, C, H, W) of uint8.
  void run(ort::KernelContext* context) const;

 private:
  ConvAttributes attributes_;
  int64_t kernel_[2];
};

}  // namespace crisp
