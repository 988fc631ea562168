// What a node of bytes without a packed weight is to its session: a name for errors, and work that divides into items.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "claims.h"
#include "ort_abi.h"

namespace crisp {

class ByteNode {
 public:
  const ort::Api* api() const { return api_; }
  const std::string& name() const { return name_; }

 protected:
  ByteNode(const ort::Api* api, const ort::KernelInfo* info);

  // Calls `compute` for so many ranges that together are 0..total, on the session's threads. Throws Failure where one lacks
  // memory. Planes are divided by channels: by rows, so that a thread reads what it wrote, was slower on one thread and on two.
  // A guess at the cause: at every cut one cache line holds bytes of both threads.
  void in_parts(ort::KernelContext* context, int64_t total, int64_t parts,
                const std::function<void(Range)>& compute) const;

  const ort::Api* api_;

 private:
  std::string name_;
};

}  // namespace crisp
