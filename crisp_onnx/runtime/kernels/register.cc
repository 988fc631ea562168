// What the library exports: registration for ONNX Runtime, and what tools ask about the kernels.
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>

#include "core_distance.h"
#include "counters.h"
#include "isa.h"
#include "operators.h"
#include "ort_call.h"
#include "plan.h"

namespace {

// Newest version of an operator's table that both the runtime and this library know. From the runtime's name
// ("1.22.0"): asking for an interface that it does not have makes it complain on stderr.
uint32_t table_version(const crisp::ort::ApiBase* base) {
  int minor = 0;
  const bool read = std::sscanf(base->GetVersionString(), "1.%d", &minor) == 1;
  return read && minor >= static_cast<int>(crisp::ort::kInplaceVersion) ? crisp::ort::kInplaceVersion
                                                                        : crisp::ort::kApiVersion;
}

// One domain for all sessions of the process; it must outlive them, so it is never released.
crisp::ort::CustomOpDomain* shared_domain(const crisp::ort::Api* api, uint32_t version) {
  static std::mutex mutex;
  static crisp::ort::CustomOpDomain* domain = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (domain) return domain;
  crisp::ort::CustomOpDomain* made = nullptr;
  crisp::ort::check(api, api->CreateCustomOpDomain("pkg.crisp_onnx", &made));
  int count = 0;
  const crisp::ort::CustomOp* const* ops = crisp::operators(version, &count);
  for (int i = 0; i < count; ++i) crisp::ort::check(api, api->CustomOpDomain_Add(made, ops[i]));
  domain = made;
  return domain;
}

std::optional<crisp::Element> element_of(const char* name) {
  if (std::strcmp(name, "float32") == 0) return crisp::Element::kFloat32;
  if (std::strcmp(name, "int8") == 0) return crisp::Element::kInt8;
  return std::nullopt;
}

// The entry of a session's options that says where they have the operators from; `opening.py` reads it.
constexpr const char* kRegistered = "pkg.crisp_onnx.registered";

// Options are used again and again, and sessions refuse a domain that is registered twice. The entry holds the address
// of its options: a copy takes over the entries, but not the operators.
bool first_time(const crisp::ort::Api* api, crisp::ort::SessionOptions* options) {
  char own[32], found[32] = "";
  size_t bytes = sizeof(found);
  std::snprintf(own, sizeof(own), "%p", static_cast<void*>(options));
  if (crisp::ort::Status* absent = api->GetSessionConfigEntry(options, kRegistered, found, &bytes)) {
    api->ReleaseStatus(absent);
  } else if (std::strcmp(own, found) == 0) {
    return false;
  }
  crisp::ort::check(api, api->AddSessionConfigEntry(options, kRegistered, own));
  return true;
}

}  // namespace

CRISP_EXPORT crisp::ort::Status* RegisterCustomOps(crisp::ort::SessionOptions* options,
                                                   const crisp::ort::ApiBase* base) {
  const crisp::ort::Api* api = base->GetApi(crisp::ort::kApiVersion);
  if (!api) {
    const crisp::ort::Api* oldest = base->GetApi(1);
    return oldest->CreateStatus(crisp::ort::kFail, "pkg.crisp_onnx needs ONNX Runtime 1.17 or newer");
  }
  return crisp::ort::guarded(api, [] { return std::string("(registration)"); }, [&] {
    for (const crisp::Element element : {crisp::Element::kFloat32, crisp::Element::kInt8}) crisp::active_kernels(element);
    crisp::set_shape_api(api);
    crisp::ort::CustomOpDomain* domain = shared_domain(api, table_version(base));
    if (first_time(api, options)) crisp::ort::check(api, api->AddCustomOpDomain(options, domain));
  });
}

// Layers prepared natively by this process so far: tells a caller whether a session took the kernels or the body.
CRISP_EXPORT int64_t crisp_onnx_layers_prepared() { return crisp::layers_prepared(); }

// See core_distance.h; 0 too where threads cannot be started.
CRISP_EXPORT double crisp_onnx_core_distance_ns(int cores) {
  try {
    return crisp::core_distance_ns(cores);
  } catch (...) {
    return 0;
  }
}

// Names of the operators that are registered; null past the last.
CRISP_EXPORT const char* crisp_onnx_operator(int index) { return crisp::operator_name(index); }

// From here on `element` is "float32" or "int8". Instruction sets with kernels that run here, best first; null past the
// last.
CRISP_EXPORT const char* crisp_onnx_isa(const char* element, int index) {
  if (!element_of(element)) return nullptr;
  const crisp::KernelSet* set = crisp::available_kernels(*element_of(element), index);
  return set ? crisp::isa_name(set->isa) : nullptr;
}

// The instruction set in use, or null when CRISP_ONNX_ISA names one that does not run here.
CRISP_EXPORT const char* crisp_onnx_active_isa(const char* element) {
  if (!element_of(element)) return nullptr;
  try {
    return crisp::isa_name(crisp::active_kernels(*element_of(element)).isa);
  } catch (...) {
    return nullptr;
  }
}

// Names in the table of the instruction set in use; null past the last.
CRISP_EXPORT const char* crisp_onnx_kernel_name(const char* element, int index) {
  if (!element_of(element)) return nullptr;
  try {
    const crisp::KernelSet* set = &crisp::active_kernels(*element_of(element));
    if (index >= set->count && set->of_pairs) {
      index -= set->count;
      set = set->of_pairs;
    }
    return index >= 0 && index < set->count ? set->kernels[index].name : nullptr;
  } catch (...) {
    return nullptr;
  }
}

// The kernel that does most of a layer whose groups have `vector_rows` rows and whose output has `positions`
// positions: those of a convolution, or the rows of a Gemm. Of weights whose pairs fit, as those of compressed files do.
CRISP_EXPORT const char* crisp_onnx_kernel_for(const char* element, int64_t vector_rows, int64_t positions,
                                               int is_gemm) {
  if (!element_of(element) || vector_rows < 1 || positions < 1) return nullptr;
  try {
    const crisp::KernelSet& active = crisp::active_kernels(*element_of(element));
    const crisp::KernelSet& set = active.of_pairs ? *active.of_pairs : active;
    return crisp::main_kernel(set, vector_rows, positions, is_gemm != 0)->name;
  } catch (...) {
    return nullptr;
  }
}
