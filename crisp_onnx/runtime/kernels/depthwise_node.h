// One depthwise convolution of bytes of a session.
#pragma once

#include "byte_node.h"
#include "depthwise.h"

namespace crisp {

class DepthwiseNode : public ByteNode {
 public:
  // Reads and checks attributes and initializers. Throws Failure.
  DepthwiseNode(const ort::Api* api, const ort::KernelInfo* info);

  // X (N, channels, H, W) of uint8.
  void run(ort::KernelContext* context) const;

 private:
  ConvAttributes attributes_;
  Depthwise layer_;
  WindowFunction window_;
};

}  // namespace crisp
