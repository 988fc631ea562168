// The part of ONNX Runtime's C interface that the operators use, declared by its binary layout: interface version
// 17, and the two fields of an operator that version 18 added.
//
// The runtime's wheels ship no headers. Its table of functions is append-only, so the number of an entry never
// changes; gaps stand for entries that are not used here. `ort_abi_check.cc` proves every offset at compile time.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define CRISP_EXPORT extern "C" __declspec(dllexport)
#else
#define CRISP_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace crisp::ort {

constexpr uint32_t kApiVersion = 17;
constexpr uint32_t kInplaceVersion = 18;  // first whose operators say which output may lie over an input

struct Status;
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct TensorInfo;
struct Logger;
struct MemoryInfo;
struct ShapeContext;
struct Attribute;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int { kUndefined = 0, kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6 };
enum Characteristic : int { kRequired = 0, kOptional = 1 };
enum AttributeType : int { kAttributeInts = 2 };
enum Severity : int { kInfo = 1 };

#if defined(_WIN32)
using PathChar = wchar_t;
#else
using PathChar = char;
#endif

struct Allocator {
  uint32_t version;
  void* (*Alloc)(Allocator*, size_t bytes);
  void (*Free)(Allocator*, void*);
  const MemoryInfo* (*Info)(const Allocator*);
};

using Gap = void*;

struct Api {
  Status* (*CreateStatus)(int code, const char* message);
  Gap slot_1;
  const char* (*GetErrorMessage)(const Status*);
  Gap slots_3_25[23];
  Status* (*CreateCustomOpDomain)(const char* domain, CustomOpDomain**);
  Status* (*CustomOpDomain_Add)(CustomOpDomain*, const struct CustomOp*);
  Status* (*AddCustomOpDomain)(SessionOptions*, CustomOpDomain*);
  Gap slots_29_50[22];
  Status* (*GetTensorMutableData)(Value*, void**);
  Gap slots_52_56[5];
  Status* (*CreateTensorTypeAndShapeInfo)(TensorInfo**);
  Status* (*SetTensorElementType)(TensorInfo*, int);
  Status* (*SetDimensions)(TensorInfo*, const int64_t*, size_t);
  Status* (*GetTensorElementType)(const TensorInfo*, int*);
  Status* (*GetDimensionsCount)(const TensorInfo*, size_t*);
  Status* (*GetDimensions)(const TensorInfo*, int64_t*, size_t);
  Status* (*GetSymbolicDimensions)(const TensorInfo*, const char** names, size_t);  // owned by the info
  Gap slot_64;
  Status* (*GetTensorTypeAndShape)(const Value*, TensorInfo**);
  Gap slots_66_68[3];
  Status* (*CreateCpuMemoryInfo)(int allocator_type, int memory_type, MemoryInfo**);
  Gap slots_70_84[15];
  Status* (*KernelInfoGetAttribute_float)(const KernelInfo*, const char*, float*);
  Status* (*KernelInfoGetAttribute_int64)(const KernelInfo*, const char*, int64_t*);
  Gap slot_87;
  Status* (*KernelContext_GetInputCount)(const KernelContext*, size_t*);
  Gap slot_89;
  Status* (*KernelContext_GetInput)(const KernelContext*, size_t, const Value**);
  Status* (*KernelContext_GetOutput)(KernelContext*, size_t, const int64_t* dims, size_t rank, Value**);
  Gap slot_92;
  void (*ReleaseStatus)(Status*);
  void (*ReleaseMemoryInfo)(MemoryInfo*);
  Gap slots_95_98[4];
  void (*ReleaseTensorTypeAndShapeInfo)(TensorInfo*);
  Gap slots_100_129[30];
  Status* (*AddSessionConfigEntry)(SessionOptions*, const char* key, const char* value);
  Gap slot_131;
  void (*ReleaseAllocator)(Allocator*);
  Gap slots_133_162[30];
  Status* (*KernelInfoGetAttributeArray_int64)(const KernelInfo*, const char*, int64_t*, size_t*);
  Gap slots_164_229[66];
  Status* (*KernelInfo_GetInputCount)(const KernelInfo*, size_t*);
  Gap slot_231;
  Status* (*KernelInfo_GetInputName)(const KernelInfo*, size_t, char*, size_t*);
  Gap slots_233_237[5];
  Status* (*GetSessionConfigEntry)(const SessionOptions*, const char* key, char* value, size_t* bytes);
  Gap slots_239_243[5];
  Status* (*KernelInfo_GetNodeName)(const KernelInfo*, char*, size_t*);
  Status* (*KernelInfo_GetLogger)(const KernelInfo*, const Logger**);
  Gap slot_246;
  Status* (*Logger_LogMessage)(const Logger*, int severity, const char* message, const PathChar* file, int line,
                               const char* function);
  Gap slot_248;
  Status* (*KernelInfoGetConstantInput_tensor)(const KernelInfo*, size_t, int* is_constant, const Value**);
  Gap slots_250_252[3];
  Status* (*KernelContext_GetAllocator)(const KernelContext*, const MemoryInfo*, Allocator**);
  Gap slots_254_267[14];
  Status* (*ShapeInferContext_GetInputTypeShape)(const ShapeContext*, size_t, TensorInfo**);  // owned by the context
  Status* (*ShapeInferContext_GetAttribute)(const ShapeContext*, const char*, const Attribute**);
  Status* (*ShapeInferContext_SetOutputTypeShape)(const ShapeContext*, size_t, const TensorInfo*);
  Status* (*SetSymbolicDimensions)(TensorInfo*, const char** names, size_t);
  Status* (*ReadOpAttr)(const Attribute*, int type, void* data, size_t bytes, size_t* written_bytes);
  Gap slot_273;
  Status* (*KernelContext_ParallelFor)(const KernelContext*, void (*)(void*, size_t), size_t total, size_t batches,
                                       void* user);
};

struct ApiBase {
  const Api* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

struct CustomOp {
  uint32_t version;
  Gap create_kernel_v1;
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  int (*GetInputType)(const CustomOp*, size_t);
  size_t (*GetInputTypeCount)(const CustomOp*);
  int (*GetOutputType)(const CustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const CustomOp*);
  Gap kernel_compute_v1;
  void (*KernelDestroy)(void*);
  int (*GetInputCharacteristic)(const CustomOp*, size_t);
  int (*GetOutputCharacteristic)(const CustomOp*, size_t);
  int (*GetInputMemoryType)(const CustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  Status* (*CreateKernelV2)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status* (*KernelComputeV2)(void* kernel, KernelContext*);
  Status* (*InferOutputShapeFn)(const CustomOp*, ShapeContext*);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
  // From here on read by the runtime when `version` is kInplaceVersion or more. Arrays of pairs: output may be written
  // over input.
  size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  Gap alias_maps[2];
};

}  // namespace crisp::ort
