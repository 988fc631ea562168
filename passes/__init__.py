"""Stage 7, rewrite: graph passes, one a file, in the order in which they run."""

from crisp_onnx.masks import Plan
from crisp_onnx.passes.apply_masks import ApplyMasks
from crisp_onnx.passes.byte_depthwise import ByteDepthwise
from crisp_onnx.passes.byte_pools import BytePools
from crisp_onnx.passes.byte_tables import ByteTables
from crisp_onnx.passes.collapse_blocks import CollapseBlocks, collapsible
from crisp_onnx.passes.drop_blocks import DropBlocks
from crisp_onnx.passes.drop_identity import DropIdentity
from crisp_onnx.passes.emit_hybrid import EmitHybrid
from crisp_onnx.passes.explicit_axes import ExplicitAxes
from crisp_onnx.passes.explicit_pads import ExplicitPads
from crisp_onnx.passes.fold_batch_norm import FoldBatchNorm
from crisp_onnx.passes.fold_constants import FoldConstants
from crisp_onnx.passes.fold_gates import FoldGates
from crisp_onnx.passes.fold_if import FoldIf
from crisp_onnx.passes.fold_lengths import FoldLengths
from crisp_onnx.passes.fold_scale import FoldScale
from crisp_onnx.passes.fold_sequences import FoldSequences
from crisp_onnx.passes.fold_shapes import FoldShapes
from crisp_onnx.passes.free_batch import FreeBatch
from crisp_onnx.passes.fuse_activation import FuseActivation
from crisp_onnx.passes.fuse_bias import FuseBias
from crisp_onnx.passes.fuse_residual import FuseResidual
from crisp_onnx.passes.insert_batch_norm import InsertBatchNorm
from crisp_onnx.passes.insert_gates import InsertGates
from crisp_onnx.passes.join_bytes import JoinBytes
from crisp_onnx.passes.keep_reals import KeepReals
from crisp_onnx.passes.mask_channels import MaskChannels
from crisp_onnx.passes.plain_floats import PlainFloats
from crisp_onnx.passes.plain_pools import PlainPools
from crisp_onnx.passes.quantise_hybrid import QuantiseHybrid
from crisp_onnx.passes.real_answers import RealAnswers
from crisp_onnx.passes.remove_dead import RemoveDead
from crisp_onnx.passes.result import Declined, Pass, PassResult, run_pass, run_passes
from crisp_onnx.passes.slice_channels import SliceChannels
from crisp_onnx.passes.slice_head import SliceHead
from crisp_onnx.passes.split_sums import SplitSums
from crisp_onnx.passes.untie_statistics import UntieStatistics

SIMPLIFY: tuple[Pass, ...] = (
    *(FoldConstants(), FoldShapes(), FoldConstants(), FoldIf(), FoldSequences(), FoldConstants()),
    *(PlainFloats(), DropIdentity(), ExplicitAxes(), ExplicitPads(), PlainPools(), UntieStatistics()),
)
"""Before the bridge: every weight a plain float32 initializer, decisions taken, nothing idle, axes and padding in
numbers, pools without what is the default, statistics that no two nodes share."""


def dense_passes(plan: Plan) -> tuple[Pass, ...]:
    """After recovery: the same network with the plan's zeros in place."""
    return ApplyMasks(plan), FoldBatchNorm(), FoldScale()


def hybrid_passes(plan: Plan) -> tuple[Pass, ...]:
    """After recovery: hybrid operators with bias, residual and activation inside. Emission is the last rewriting."""
    return *dense_passes(plan), EmitHybrid(plan), FuseBias(), FuseResidual(), FuseActivation()


__all__ = [
    "SIMPLIFY",
    "ApplyMasks",
    "ByteDepthwise",
    "BytePools",
    "ByteTables",
    "CollapseBlocks",
    "Declined",
    "DropBlocks",
    "EmitHybrid",
    "FoldConstants",
    "FoldGates",
    "FoldLengths",
    "FreeBatch",
    "InsertBatchNorm",
    "InsertGates",
    "JoinBytes",
    "KeepReals",
    "MaskChannels",
    "Pass",
    "PassResult",
    "PlainFloats",
    "QuantiseHybrid",
    "RealAnswers",
    "RemoveDead",
    "SliceChannels",
    "SliceHead",
    "SplitSums",
    "UntieStatistics",
    "collapsible",
    "dense_passes",
    "hybrid_passes",
    "run_pass",
    "run_passes",
]
