"""Stage 8, rewrite: graph passes, one a file, in the order in which they run."""

from crisp_onnx.passes.apply_masks import ApplyMasks
from crisp_onnx.passes.drop_identity import DropIdentity
from crisp_onnx.passes.emit_hybrid import EmitHybrid
from crisp_onnx.passes.explicit_pads import ExplicitPads
from crisp_onnx.passes.fold_batch_norm import FoldBatchNorm
from crisp_onnx.passes.fold_constants import FoldConstants
from crisp_onnx.passes.fold_scale import FoldScale
from crisp_onnx.passes.fuse_activation import FuseActivation
from crisp_onnx.passes.fuse_bias import FuseBias
from crisp_onnx.passes.fuse_residual import FuseResidual
from crisp_onnx.passes.insert_batch_norm import InsertBatchNorm
from crisp_onnx.passes.result import Declined, Pass, PassResult, run_passes
from crisp_onnx.passes.slice_head import SliceHead

SIMPLIFY: tuple[Pass, ...] = (FoldConstants(), DropIdentity(), ExplicitPads())
"""Before the bridge: every weight a plain initializer, nothing idle, padding in numbers."""

EMIT_DENSE: tuple[Pass, ...] = (ApplyMasks(), FoldBatchNorm(), FoldScale())
"""After recovery: the same network with zeros in place."""

EMIT_HYBRID: tuple[Pass, ...] = (*EMIT_DENSE, EmitHybrid(), FuseBias(), FuseResidual(), FuseActivation())
"""After recovery: hybrid operators with bias, residual and activation inside. Emission is the last rewriting."""

__all__ = [
    "EMIT_DENSE",
    "EMIT_HYBRID",
    "SIMPLIFY",
    "ApplyMasks",
    "Declined",
    "EmitHybrid",
    "InsertBatchNorm",
    "Pass",
    "PassResult",
    "SliceHead",
    "run_passes",
]
