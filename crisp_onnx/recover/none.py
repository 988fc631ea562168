"""Mode `none`: masks once, and a re-fit of the weights that are left; no training."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.recovered import Recovered, Refit
from crisp_onnx.recover.start import masked_start
from crisp_onnx.recover.statistics import reestimate
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training


def recover(
    module: GraphModule,
    images: Images,
    statistics: Mapping[str, Tensor],
    task: Task,
    training: Training,
    refit: Refit,
    keeper: Keeper,
) -> Recovered:
    """See `Recover`. Where nothing is re-fitted, BatchNorm statistics are; one image at a time would give none."""
    plan, fits = masked_start(module, statistics, task, refit, keeper)
    if not fits and training.batch_size > 1:
        reestimate(module, images, batch_size=training.batch_size)
    module.eval()
    return Recovered(plan, fits)
