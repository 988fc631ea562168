// ONNX Runtime's C interface in C++ terms: errors become Failure, tensors become views, exceptions become statuses.
#pragma once

#include <memory>
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

// The only number of an initializer.
float constant_float(const Api* api, const KernelInfo* info, size_t index, const char* name);
uint8_t constant_uint8(const Api* api, const KernelInfo* info, size_t index, const char* name);

// Tensors of one call; `data` is null when an optional input is absent. Failure when an input is of another type.
TensorView input(const Api* api, const KernelContext* context, size_t index, ElementType type);
void* output(const Api* api, KernelContext* context, const std::vector<int64_t>& shape);

// Calls fn(user, i) for every i below total on the session's threads; a single one at once, as the runtime would after a
// few more steps. `fn` throws nothing.
void parallel_for(const Api* api, const KernelContext* context, size_t total, void (*fn)(void* user, size_t i),
                  void* user);

// Memory of one call from the runtime's arena; null when nothing is asked for.
class Scratch {
 public:
  Scratch(const Api* api, const KernelContext* context, const MemoryInfo* memory, int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data() const { return data_; }

 private:
  struct Release {
    const Api* api;
    void operator()(Allocator* allocator) const { api->ReleaseAllocator(allocator); }
  };
  std::unique_ptr<Allocator, Release> allocator_;  // before anything that throws: the arena does when it is exhausted
  void* data_ = nullptr;
};

inline Status* failed(const Api* api, ErrorCode code, const std::string& node, const char* what) {
  return api->CreateStatus(code, ("pkg.crisp_onnx, node '" + node + "': " + what).c_str());
}

// Runs `body` and returns its failure as a status that names the node, which `name()` tells. Nothing is thrown.
template <class Name, class Body>
Status* guarded(const Api* api, Name name, Body body) noexcept {
  try {
    try {
      body();
      return nullptr;
    } catch (const Failure& failure) {
      return failed(api, kInvalidArgument, name(), failure.what());
    } catch (const std::exception& error) {
      return failed(api, kFail, name(), error.what());
    }
  } catch (...) {
    return api->CreateStatus(kFail, "pkg.crisp_onnx: a failure that left no memory to name its node");
  }
}

}  // namespace crisp::ort
