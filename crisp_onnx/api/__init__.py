"""What `import crisp_onnx` offers: each command of the command line as a function of the same name."""

from crisp_onnx.api.bank import make_bank, merge_banks
from crisp_onnx.api.compression import assist, compress, compress_nested
from crisp_onnx.api.exploration import Limits, explore
from crisp_onnx.api.feasibility import check
from crisp_onnx.api.hardware import calibrate, estimate, lower, show_target, targets
from crisp_onnx.api.inspection import inspect
from crisp_onnx.api.shortening import blocks
from crisp_onnx.api.study import Space
from crisp_onnx.api.target_comparison import compare_targets
from crisp_onnx.api.verification import verify
from crisp_onnx.cost.calibrate.write import Calibrated
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import Lowered
from crisp_onnx.recipe import Recipe
from crisp_onnx.report.doctor import DoctorReport, doctor
from crisp_onnx.report.exploration import Exploration
from crisp_onnx.report.findings import (
    BankFound,
    BlocksFound,
    Check,
    Estimation,
    Inspection,
    TargetComparison,
    TargetList,
    TargetText,
    Verification,
)
from crisp_onnx.report.schema import Report
from crisp_onnx.runtime.bench import Bench, bench

__all__ = [
    "BankFound",
    "Bench",
    "BlocksFound",
    "Calibrated",
    "Check",
    "CrispError",
    "DoctorReport",
    "Estimation",
    "Exploration",
    "Inspection",
    "Limits",
    "Lowered",
    "Recipe",
    "Report",
    "Space",
    "TargetComparison",
    "TargetList",
    "TargetText",
    "Verification",
    "assist",
    "bench",
    "blocks",
    "calibrate",
    "check",
    "compare_targets",
    "compress",
    "compress_nested",
    "doctor",
    "estimate",
    "explore",
    "inspect",
    "lower",
    "make_bank",
    "merge_banks",
    "show_target",
    "targets",
    "verify",
]
