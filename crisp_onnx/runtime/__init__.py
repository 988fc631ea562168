"""Stage 9, run: measure models in ONNX Runtime."""

from crisp_onnx.runtime.latency import Spread, Timing, measure_files, side_by_side

__all__ = ["Spread", "Timing", "measure_files", "side_by_side"]
