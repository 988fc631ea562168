/* The entries of ONNX Runtime's C interface that samples/cpp_host uses, by their numbers: the wheels ship the library but no
   header, and the sample must be built somewhere. Programs use the header of ONNX Runtime's C/C++ package. */
#pragma once
#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtMemoryInfo;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtRunOptions;
enum { ORT_LOGGING_LEVEL_WARNING = 2, OrtArenaAllocator = 1, OrtMemTypeDefault = 0, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1 };

struct OrtApi {
  void* slots_0_1[2];
  const char* (*GetErrorMessage)(const OrtStatus*);
  OrtStatus* (*CreateEnv)(int, const char*, OrtEnv**);
  void* slots_4_6[3];
  OrtStatus* (*CreateSession)(const OrtEnv*, const char*, const OrtSessionOptions*, OrtSession**);
  void* slot_8;
  OrtStatus* (*Run)(OrtSession*, const OrtRunOptions*, const char* const*, const OrtValue* const*, size_t,
                    const char* const*, size_t, OrtValue**);
  OrtStatus* (*CreateSessionOptions)(OrtSessionOptions**);
  void* slots_11_48[38];
  OrtStatus* (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo*, void*, size_t, const int64_t*, size_t, int, OrtValue**);
  void* slot_50;
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void**);
  void* slots_52_63[12];
  OrtStatus* (*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo*, size_t*);
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);
  void* slots_66_68[3];
  OrtStatus* (*CreateCpuMemoryInfo)(int, int, OrtMemoryInfo**);
  void* slots_70_227[158];
  OrtStatus* (*RegisterCustomOpsLibrary_V2)(OrtSessionOptions*, const char*);
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t);
  const char* (*GetVersionString)();
};

extern "C" const OrtApiBase* OrtGetApiBase();
