// The networks' convolutions and random hybrid weights.
#include "layers.h"

#include <algorithm>
#include <numeric>
#include <random>

const std::vector<BenchLayer>& resnet50_layers() {
  static const std::vector<BenchLayer> layers = {
      {"conv2 1x1 64-64", 64, 64, 56, 1, 1},        {"conv2 3x3 64", 64, 64, 56, 3, 1},
      {"conv2 1x1 64-256", 64, 256, 56, 1, 1},      {"conv2 1x1 256-64", 256, 64, 56, 1, 1},
      {"conv3 1x1 256-128", 256, 128, 56, 1, 1},    {"conv3 3x3 128 /2", 128, 128, 56, 3, 2},
      {"conv3 1x1 256-512 /2", 256, 512, 56, 1, 2}, {"conv3 1x1 128-512", 128, 512, 28, 1, 1},
      {"conv3 1x1 512-128", 512, 128, 28, 1, 1},    {"conv3 3x3 128", 128, 128, 28, 3, 1},
      {"conv4 1x1 512-256", 512, 256, 28, 1, 1},    {"conv4 3x3 256 /2", 256, 256, 28, 3, 2},
      {"conv4 1x1 512-1024 /2", 512, 1024, 28, 1, 2}, {"conv4 1x1 256-1024", 256, 1024, 14, 1, 1},
      {"conv4 1x1 1024-256", 1024, 256, 14, 1, 1},  {"conv4 3x3 256", 256, 256, 14, 3, 1},
      {"conv5 1x1 1024-512", 1024, 512, 14, 1, 1},  {"conv5 3x3 512 /2", 512, 512, 14, 3, 2},
      {"conv5 1x1 1024-2048 /2", 1024, 2048, 14, 1, 2}, {"conv5 1x1 512-2048", 512, 2048, 7, 1, 1},
      {"conv5 1x1 2048-512", 2048, 512, 7, 1, 1},   {"conv5 3x3 512", 512, 512, 7, 3, 1},
  };
  return layers;
}

const std::vector<BenchLayer>& vgg16_layers() {
  static const std::vector<BenchLayer> layers = {
      {"224x224 64", 64, 64, 224, 3, 1},      {"112x112 64-128", 64, 128, 112, 3, 1},
      {"112x112 128", 128, 128, 112, 3, 1},   {"56x56 128-256", 128, 256, 56, 3, 1},
      {"56x56 256", 256, 256, 56, 3, 1},      {"28x28 256-512", 256, 512, 28, 3, 1},
      {"28x28 512", 512, 512, 28, 3, 1},      {"14x14 512", 512, 512, 14, 3, 1},
  };
  return layers;
}

RandomWeight random_weight(const BenchLayer& layer, int64_t block, int64_t vector_rows, double block_share) {
  std::mt19937 rng(7);
  const int64_t depth = layer.cin * layer.kernel * layer.kernel;
  const int64_t rows = (layer.cout + block - 1) / block, columns = (depth + block - 1) / block;
  RandomWeight w;
  w.kept = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(columns) * block_share + 0.5));
  w.encoding = {2, 4, block, vector_rows, 2, {layer.cout, layer.cin, layer.kernel, layer.kernel}};
  std::vector<int32_t> order(columns);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t r = 0; r < rows; ++r) {
    std::shuffle(order.begin(), order.end(), rng);
    std::vector<int32_t> kept(order.begin(), order.begin() + w.kept);
    std::sort(kept.begin(), kept.end());
    w.blocks.insert(w.blocks.end(), kept.begin(), kept.end());
  }
  const int64_t groups = rows * w.kept * (block / vector_rows), places = block / 2;
  const int pairs[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t z = 0; z < places; z += 4) {
      const int* a = pairs[rng() % 6];
      const int* b = pairs[rng() % 6];
      w.indices.push_back(static_cast<uint8_t>(a[0] | a[1] << 2 | b[0] << 4 | b[1] << 6));
    }
  }
  w.values.resize(groups * places * vector_rows);
  for (float& value : w.values) value = static_cast<float>(rng() % 1000) / 500.0f - 1.0f;
  w.bytes.resize(w.values.size());
  // As compressed files have them, two neighbours add up to 128 at most.
  for (int8_t& value : w.bytes) value = static_cast<int8_t>(static_cast<int>(rng() % 129) - 64);
  return w;
}

crisp::Weight RandomWeight::prepare(crisp::Element element) const {
  const int64_t rows = (encoding.weight_shape[0] + encoding.block - 1) / encoding.block;
  const int64_t groups = encoding.block / encoding.vector_rows, places = encoding.block / 2;
  const crisp::TensorView packed{indices.data(), {rows, kept, groups, (places + 3) / 4}};
  const crisp::TensorView columns{blocks.data(), {rows, kept}};
  if (element == crisp::Element::kFloat32) {
    return crisp::prepare_weight(encoding, {values.data(), {rows, kept, groups, places, encoding.vector_rows}}, packed,
                                 columns, {});
  }
  const int64_t cout = encoding.weight_shape[0];
  const std::vector<int32_t> bias(static_cast<size_t>(cout), 100);
  const std::vector<float> w_scale(static_cast<size_t>(cout), 0.01f);
  return crisp::prepare_int8_weight(encoding, {bytes.data(), {rows, kept, groups, places / 4, encoding.vector_rows, 4}},
                                    packed, columns, {bias.data(), {cout}}, {0.02f, 1.0f, 3, {w_scale.data(), {cout}}});
}
