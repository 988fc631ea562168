// What a node of bytes without a packed weight is to its session: a name for errors, and work that divides into items.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "claims.h"
#include "kernel_table.h"
#include "ort_abi.h"
#include "sharing.h"

namespace crisp {

class ByteNode {
 public:
  const ort::Api* api() const { return api_; }
  const std::string& name() const { return name_; }

 protected:
  ByteNode(const ort::Api* api, const ort::KernelInfo* info);

  // Calls `compute` for so many ranges that together are 0..total, on the session's threads where that pays. Throws
  // Failure where one lacks memory. Planes are divided by channels: divided by rows, every channel has a cache line that
  // goes from core to core.
  void in_parts(ort::KernelContext* context, int64_t total, int64_t parts,
                const std::function<void(Range)>& compute) const;

  const ort::Api* api_;

 private:
  std::string name_;
  Isa isa_;
  mutable Sharing sharing_;
};

}  // namespace crisp
