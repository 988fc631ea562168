// Which kernels this process uses: by element type, the best that the processor can run.
#pragma once

#include "kernel_table.h"

namespace crisp {

// The element's kernels for the best instruction set that this processor can run. The environment variable
// CRISP_ONNX_ISA (portable, neon, avx2, avx512) sets a limit: no kernel uses a better set than the one it names. Throws
// Failure when that one does not exist or cannot run here. Read anew on every call.
const KernelSet& active_kernels(Element element);

// The element's kernels that are compiled in and able to run here, best first, by number; null past the last.
const KernelSet* available_kernels(Element element, int index);

const char* isa_name(Isa isa);

// Called where a thread has done its share with kernels of `isa`: clears the upper halves of the vector registers. Code for
// SSE that follows, as ONNX Runtime's own functions of single numbers are, otherwise waits for them in every instruction;
// an LRN takes up to twice as long. Compilers clear them at the end of a function, but not on every way out of it.
void clear_upper_halves(Isa isa);

}  // namespace crisp
