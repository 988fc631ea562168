// One function of single bytes of a session: y = table[x].
#pragma once

#include <vector>

#include "byte_node.h"
#include "kernel_table.h"

namespace crisp {

class TableNode : public ByteNode {
 public:
  // Reads and checks the table. Throws Failure.
  TableNode(const ort::Api* api, const ort::KernelInfo* info);

  // X of uint8, of any shape.
  void run(ort::KernelContext* context) const;

 private:
  std::vector<uint8_t> table_;
  LookUpFunction look_up_;
};

}  // namespace crisp
