// What a node of bytes without a packed weight is to its session: a name for errors, and work that divides into items.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "claims.h"
#include "ort_abi.h"

namespace crisp {

// Work on planes: `images` times `channels` of them, each with so many rows of outputs and positions of inputs.
struct Planes {
  int64_t images, channels, rows, positions;

  int64_t count() const { return images * channels; }
};

class ByteNode {
 public:
  const ort::Api* api() const { return api_; }
  const std::string& name() const { return name_; }

 protected:
  ByteNode(const ort::Api* api, const ort::KernelInfo* info);

  // Calls `compute` for every item below `items`, on the session's threads. Throws Failure where one lacks memory.
  void in_items(ort::KernelContext* context, int64_t items, const std::function<void(int64_t)>& compute) const;

  // Calls `compute` for rows of planes that together are all, in about as many `items`. Of one image each thread gets rows
  // that it has itself computed the input of, as convolutions are divided into panels of rows.
  void over_planes(ort::KernelContext* context, const Planes& planes, int64_t items,
                   const std::function<void(Range planes, Range rows)>& compute) const;

  const ort::Api* api_;

 private:
  std::string name_;
};

}  // namespace crisp
