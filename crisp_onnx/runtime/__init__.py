"""Stage 8, run: open models with the native kernels, and measure them."""

from crisp_onnx.runtime.latency import Spread, Timing, measure_files
from crisp_onnx.runtime.library import available_isas, layers_prepared, library_path, which_kernel
from crisp_onnx.runtime.opening import runtime_text, session
from crisp_onnx.runtime.parts import run_in_parts

__all__ = [
    "Spread",
    "Timing",
    "available_isas",
    "layers_prepared",
    "library_path",
    "measure_files",
    "run_in_parts",
    "runtime_text",
    "session",
    "which_kernel",
]
