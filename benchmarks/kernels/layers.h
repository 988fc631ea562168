// The layers that are measured, and random weights in the hybrid format for them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "geometry.h"
#include "weight.h"

struct BenchLayer {
  std::string name;
  int64_t cin, cout, side, kernel, stride;
};

// The distinct convolutions of ResNet-50 and VGG-16 at 224x224 (all but the first).
const std::vector<BenchLayer>& resnet50_layers();
const std::vector<BenchLayer>& vgg16_layers();

struct RandomWeight {
  std::vector<float> values;
  std::vector<int8_t> bytes;  // of int8, as many
  std::vector<uint8_t> indices;
  std::vector<int32_t> blocks;
  crisp::Encoding encoding;
  int64_t kept;

  // A view with the tensors of this object.
  crisp::Weight prepare(crisp::Element element = crisp::Element::kFloat32) const;
};

// 2:4 inside blocks of side `block`, of which every block row keeps `block_share`.
RandomWeight random_weight(const BenchLayer& layer, int64_t block, int64_t vector_rows, double block_share);
