// Compile-time proof that ort_abi.h lays its structures out as ONNX Runtime does (entry numbers of interface version
// 17, an operator's fields of version 18).
#include "ort_abi.h"

namespace crisp::ort {

#define ENTRY(name, number) \
  static_assert(offsetof(Api, name) == (number) * sizeof(void*), #name " must be entry " #number)

ENTRY(CreateStatus, 0);
ENTRY(GetErrorMessage, 2);
ENTRY(CreateCustomOpDomain, 26);
ENTRY(CustomOpDomain_Add, 27);
ENTRY(AddCustomOpDomain, 28);
ENTRY(GetTensorMutableData, 51);
ENTRY(CreateTensorTypeAndShapeInfo, 57);
ENTRY(SetTensorElementType, 58);
ENTRY(SetDimensions, 59);
ENTRY(GetTensorElementType, 60);
ENTRY(GetDimensionsCount, 61);
ENTRY(GetDimensions, 62);
ENTRY(GetSymbolicDimensions, 63);
ENTRY(GetTensorTypeAndShape, 65);
ENTRY(CreateCpuMemoryInfo, 69);
ENTRY(KernelInfoGetAttribute_float, 85);
ENTRY(KernelInfoGetAttribute_int64, 86);
ENTRY(KernelContext_GetInputCount, 88);
ENTRY(KernelContext_GetInput, 90);
ENTRY(KernelContext_GetOutput, 91);
ENTRY(ReleaseStatus, 93);
ENTRY(ReleaseMemoryInfo, 94);
ENTRY(ReleaseTensorTypeAndShapeInfo, 99);
ENTRY(AddSessionConfigEntry, 130);
ENTRY(ReleaseAllocator, 132);
ENTRY(KernelInfoGetAttributeArray_int64, 163);
ENTRY(KernelInfo_GetInputCount, 230);
ENTRY(KernelInfo_GetInputName, 232);
ENTRY(GetSessionConfigEntry, 238);
ENTRY(KernelInfo_GetNodeName, 244);
ENTRY(KernelInfo_GetLogger, 245);
ENTRY(Logger_LogMessage, 247);
ENTRY(KernelInfoGetConstantInput_tensor, 249);
ENTRY(KernelContext_GetAllocator, 253);
ENTRY(ShapeInferContext_GetInputTypeShape, 268);
ENTRY(ShapeInferContext_GetAttribute, 269);
ENTRY(ShapeInferContext_SetOutputTypeShape, 270);
ENTRY(SetSymbolicDimensions, 271);
ENTRY(ReadOpAttr, 272);
ENTRY(KernelContext_ParallelFor, 274);

#define FIELD(name, bytes) static_assert(offsetof(CustomOp, name) == (bytes), #name " must stand at byte " #bytes)

#if UINTPTR_MAX == UINT64_MAX
FIELD(version, 0);
FIELD(create_kernel_v1, 8);
FIELD(GetName, 16);
FIELD(GetExecutionProviderType, 24);
FIELD(GetInputType, 32);
FIELD(GetInputTypeCount, 40);
FIELD(GetOutputType, 48);
FIELD(GetOutputTypeCount, 56);
FIELD(kernel_compute_v1, 64);
FIELD(KernelDestroy, 72);
FIELD(GetInputCharacteristic, 80);
FIELD(GetOutputCharacteristic, 88);
FIELD(GetInputMemoryType, 96);
FIELD(GetVariadicInputMinArity, 104);
FIELD(GetVariadicInputHomogeneity, 112);
FIELD(GetVariadicOutputMinArity, 120);
FIELD(GetVariadicOutputHomogeneity, 128);
FIELD(CreateKernelV2, 136);
FIELD(KernelComputeV2, 144);
FIELD(InferOutputShapeFn, 152);
FIELD(GetStartVersion, 160);
FIELD(GetEndVersion, 168);
FIELD(GetMayInplace, 176);
FIELD(ReleaseMayInplace, 184);
FIELD(alias_maps, 192);
static_assert(sizeof(CustomOp) == 208, "an operator's table is 26 words since interface version 18");
#endif

}  // namespace crisp::ort
