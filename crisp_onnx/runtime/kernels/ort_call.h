// ONNX Runtime's C interface in C++ terms: errors become Failure, tensors become views, exceptions become statuses.
#pragma once

#include <string>
#include <vector>

#include "failure.h"
#include "ort_abi.h"
#include "weight.h"

namespace crisp::ort {

// Throws Failure with the runtime's own text.
void check(const Api* api, Status* status);

std::string node_name(const Api* api, const KernelInfo* info);
void log_line(const Api* api, const KernelInfo* info, Severity severity, const std::string& text);

// A missing attribute is a Failure, unless there is a default.
int64_t attribute(const Api* api, const KernelInfo* info, const char* name);
float attribute_or(const Api* api, const KernelInfo* info, const char* name, float otherwise);
void attribute(const Api* api, const KernelInfo* info, const char* name, int64_t* values, size_t count);
void attribute_or_keep(const Api* api, const KernelInfo* info, const char* name, int64_t* values, size_t count);

// An initializer of the file; Failure when it is computed at run time or has another element type.
TensorView constant_input(const Api* api, const KernelInfo* info, size_t index, const char* name, ElementType type,
                          bool optional);

// Float tensors of one call; `data` is null when an optional input is absent.
TensorView input(const Api* api, const KernelContext* context, size_t index);
float* output(const Api* api, KernelContext* context, const std::vector<int64_t>& shape);

// Memory of one call from the runtime's arena.
class Scratch {
 public:
  Scratch(const Api* api, const KernelContext* context, const MemoryInfo* memory, int64_t floats);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  const Api* api_;
  Allocator* allocator_ = nullptr;
  float* data_ = nullptr;
};

// Runs `body` and returns its failure as a status that names the node.
template <class Body>
Status* guarded(const Api* api, const std::string& node, Body body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    return api->CreateStatus(kInvalidArgument, ("pkg.crisp_onnx, node '" + node + "': " + error.what()).c_str());
  } catch (...) {
    return api->CreateStatus(kFail, ("pkg.crisp_onnx, node '" + node + "': unknown failure").c_str());
  }
}

}  // namespace crisp::ort
