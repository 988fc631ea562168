// Which instruction set the kernels use in this process.
#pragma once

#include "kernel_table.h"

namespace crisp {

// The best set this processor can run, or the one that the environment variable CRISP_ONNX_ISA names (portable, neon,
// avx2, avx512). Throws Failure when that one does not exist or cannot run here. Read anew on every call.
const KernelSet& active_kernels();

// Compiled in and able to run here, by number; null past the last.
const KernelSet* available_kernels(int index);

}  // namespace crisp
