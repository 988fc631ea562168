// One function of single bytes of a session: y = table[x].
#pragma once

#include <string>
#include <vector>

#include "kernel_table.h"
#include "ort_abi.h"

namespace crisp {

class TableNode {
 public:
  // Reads and checks the table. Throws Failure.
  TableNode(const ort::Api* api, const ort::KernelInfo* info);

  // X of uint8, of any shape.
  void run(ort::KernelContext* context) const;

  const ort::Api* api() const { return api_; }
  const std::string& name() const { return name_; }

 private:
  const ort::Api* api_;
  std::string name_;
  std::vector<uint8_t> table_;
  LookUpFunction look_up_;
};

}  // namespace crisp
