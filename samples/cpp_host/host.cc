// Runs a compressed model from C++ with the native kernels.
//
//   host MODEL LIBRARY INPUT OUTPUT DIM...     fills INPUT (of shape DIM...) with ones and prints OUTPUT's first values
//
// Needs onnxruntime_c_api.h and libonnxruntime of ONNX Runtime 1.17 or newer.
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

static const OrtApi* api = nullptr;

static void check(OrtStatus* status) {
  if (!status) return;
  std::fprintf(stderr, "%s\n", api->GetErrorMessage(status));
  std::exit(1);
}

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: host MODEL LIBRARY INPUT OUTPUT DIM...\n");
    return 2;
  }
  api = OrtGetApiBase()->GetApi(17);
  OrtEnv* env = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  check(api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "host", &env));
  check(api->CreateSessionOptions(&options));
  check(api->RegisterCustomOpsLibrary_V2(options, argv[2]));  // once per options object; all else is as for any model
  check(api->CreateSession(env, argv[1], options, &session));

  std::vector<int64_t> shape;
  size_t count = 1;
  for (int i = 5; i < argc; ++i) {
    shape.push_back(std::atoll(argv[i]));
    count *= static_cast<size_t>(shape.back());
  }
  std::vector<float> ones(count, 1.0f);
  OrtMemoryInfo* memory = nullptr;
  OrtValue *x = nullptr, *y = nullptr;
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  check(api->CreateTensorWithDataAsOrtValue(memory, ones.data(), count * sizeof(float), shape.data(), shape.size(),
                                            ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &x));
  check(api->Run(session, nullptr, &argv[3], &x, 1, &argv[4], 1, &y));
  OrtTensorTypeAndShapeInfo* info = nullptr;
  size_t elements = 0;
  check(api->GetTensorTypeAndShape(y, &info));
  check(api->GetTensorShapeElementCount(info, &elements));
  float* values = nullptr;
  check(api->GetTensorMutableData(y, reinterpret_cast<void**>(&values)));
  for (size_t i = 0; i < std::min<size_t>(elements, 4); ++i) std::printf("%.6g\n", static_cast<double>(values[i]));
  return 0;
}
