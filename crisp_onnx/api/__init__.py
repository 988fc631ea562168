"""What `import crisp_onnx` offers: each command of the command line as a function of the same name."""

from crisp_onnx.api.check import Check, check
from crisp_onnx.api.compress import compress
from crisp_onnx.api.inspect import Inspection, inspect
from crisp_onnx.api.verify import Verification, verify
from crisp_onnx.errors import CrispError
from crisp_onnx.recipe import Recipe
from crisp_onnx.report.doctor import DoctorReport, doctor

__all__ = [
    "Check",
    "CrispError",
    "DoctorReport",
    "Inspection",
    "Recipe",
    "Verification",
    "check",
    "compress",
    "doctor",
    "inspect",
    "verify",
]
