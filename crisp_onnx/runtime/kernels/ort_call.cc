// Thin calls into ONNX Runtime's C interface.
#include "ort_call.h"

#include <cstring>
#include <new>

#include "sizes.h"

namespace crisp::ort {
namespace {

std::vector<int64_t> dimensions(const Api* api, const Value* value, int* element_type) {
  TensorInfo* info = nullptr;
  check(api, api->GetTensorTypeAndShape(value, &info));
  size_t rank = 0;
  std::vector<int64_t> dims;
  Status* status = api->GetTensorElementType(info, element_type);
  if (!status) status = api->GetDimensionsCount(info, &rank);
  if (!status) {
    dims.resize(rank);
    status = api->GetDimensions(info, dims.data(), rank);
  }
  api->ReleaseTensorTypeAndShapeInfo(info);
  check(api, status);
  return dims;
}

const void* tensor_data(const Api* api, const Value* value) {
  void* data = nullptr;
  check(api, api->GetTensorMutableData(const_cast<Value*>(value), &data));
  return data;
}

const void* only_number(const TensorView& tensor, const char* name) {
  if (product(tensor.shape).value() != 1) throw Failure(std::string("input ") + name + " must be a single number");
  return tensor.data;
}

bool succeeded(const Api* api, Status* status) {
  if (!status) return true;
  api->ReleaseStatus(status);
  return false;
}

// An optional input left out in the middle keeps its place, under an empty name.
bool is_absent(const Api* api, const KernelInfo* info, size_t index) {
  size_t inputs = 0, size = 0;
  check(api, api->KernelInfo_GetInputCount(info, &inputs));
  if (index >= inputs) return true;
  succeeded(api, api->KernelInfo_GetInputName(info, index, nullptr, &size));
  return size <= 1;
}

}  // namespace

void check(const Api* api, Status* status) {
  if (!status) return;
  const std::string text = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw Failure(text);
}

std::string node_name(const Api* api, const KernelInfo* info) {
  size_t size = 0;
  succeeded(api, api->KernelInfo_GetNodeName(info, nullptr, &size));
  std::string name(size, '\0');
  if (size == 0 || !succeeded(api, api->KernelInfo_GetNodeName(info, name.data(), &size))) return "?";
  name.resize(size - 1);  // the runtime counts the terminating zero
  return name;
}

void log_line(const Api* api, const KernelInfo* info, Severity severity, const std::string& text) {
  const Logger* logger = nullptr;
  if (!succeeded(api, api->KernelInfo_GetLogger(info, &logger))) return;
#if defined(_WIN32)
  const PathChar* file = L"crisp_onnx";
#else
  const PathChar* file = "crisp_onnx";
#endif
  succeeded(api, api->Logger_LogMessage(logger, severity, text.c_str(), file, 0, "prepare"));
}

int64_t attribute(const Api* api, const KernelInfo* info, const char* name) {
  int64_t value = 0;
  if (!succeeded(api, api->KernelInfoGetAttribute_int64(info, name, &value))) {
    throw Failure(std::string("attribute ") + name + " is missing or not an integer");
  }
  return value;
}

float attribute_or(const Api* api, const KernelInfo* info, const char* name, float otherwise) {
  float value = 0;
  return succeeded(api, api->KernelInfoGetAttribute_float(info, name, &value)) ? value : otherwise;
}

void attribute(const Api* api, const KernelInfo* info, const char* name, int64_t* values, size_t count) {
  size_t size = 0;
  succeeded(api, api->KernelInfoGetAttributeArray_int64(info, name, nullptr, &size));
  if (size != count || !succeeded(api, api->KernelInfoGetAttributeArray_int64(info, name, values, &size))) {
    throw Failure(std::string("attribute ") + name + " must hold " + std::to_string(count) + " integers");
  }
}

void attribute_or_keep(const Api* api, const KernelInfo* info, const char* name, int64_t* values, size_t count) {
  size_t size = 0;
  if (succeeded(api, api->KernelInfoGetAttributeArray_int64(info, name, nullptr, &size)) || size) {
    attribute(api, info, name, values, count);
  }
}

TensorView constant_input(const Api* api, const KernelInfo* info, size_t index, const char* name, ElementType type,
                          bool optional) {
  int is_constant = 0, element_type = 0;
  const Value* value = nullptr;
  if (is_absent(api, info, index)) {
    if (optional) return {};
    throw Failure(std::string("input ") + name + " is missing");
  }
  check(api, api->KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value));
  if (!is_constant || !value) {
    throw Failure(std::string("input ") + name + " must be an initializer that is not an input of the graph");
  }
  TensorView view{tensor_data(api, value), dimensions(api, value, &element_type)};
  if (element_type != type) {
    throw Failure(std::string("input ") + name + " has element type " + std::to_string(element_type) +
                  " of ONNX, this library's kernels take " + std::to_string(static_cast<int>(type)));
  }
  if (product(view.shape).value() == 0) throw Failure(std::string("input ") + name + " is empty");
  return view;
}

float constant_float(const Api* api, const KernelInfo* info, size_t index, const char* name) {
  float number;
  std::memcpy(&number, only_number(constant_input(api, info, index, name, kFloat, false), name), sizeof number);
  return number;
}

uint8_t constant_uint8(const Api* api, const KernelInfo* info, size_t index, const char* name) {
  return *static_cast<const uint8_t*>(only_number(constant_input(api, info, index, name, kUint8, false), name));
}

TensorView input(const Api* api, const KernelContext* context, size_t index, ElementType type) {
  size_t inputs = 0;
  check(api, api->KernelContext_GetInputCount(context, &inputs));
  const Value* value = nullptr;
  if (index < inputs) check(api, api->KernelContext_GetInput(context, index, &value));
  if (!value) return {};
  int element_type = 0;
  TensorView view{nullptr, dimensions(api, value, &element_type)};
  if (element_type != type) {
    throw Failure("input " + std::to_string(index) + " has element type " + std::to_string(element_type) +
                  " of ONNX, this library's kernels take " + std::to_string(static_cast<int>(type)));
  }
  view.data = tensor_data(api, value);
  return view;
}

void* output(const Api* api, KernelContext* context, const std::vector<int64_t>& shape) {
  Value* value = nullptr;
  check(api, api->KernelContext_GetOutput(context, 0, shape.data(), shape.size(), &value));
  return const_cast<void*>(tensor_data(api, value));
}

void parallel_for(const Api* api, const KernelContext* context, size_t total, void (*fn)(void* user, size_t i),
                  void* user) {
  if (total == 1) return fn(user, 0);
  check(api, api->KernelContext_ParallelFor(context, fn, total, 0, user));
}

Scratch::Scratch(const Api* api, const KernelContext* context, const MemoryInfo* memory, int64_t bytes)
    : allocator_(nullptr, Release{api}) {
  if (bytes == 0) return;
  Allocator* allocator = nullptr;
  check(api, api->KernelContext_GetAllocator(context, memory, &allocator));
  allocator_.reset(allocator);
  data_ = allocator->Alloc(allocator, static_cast<size_t>(bytes));
  if (!data_) throw std::bad_alloc();
}

Scratch::~Scratch() {
  if (data_) allocator_->Free(allocator_.get(), data_);
}

}  // namespace crisp::ort
