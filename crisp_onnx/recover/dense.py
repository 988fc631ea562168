"""Fine-tune the dense network on the user's images before anything is pruned: it starts better, and teaches better."""

from __future__ import annotations

from dataclasses import replace

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.recover.hooks import Hooks
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.start import trained_tensors
from crisp_onnx.recover.state import copied, restore
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training

PART = "first"


def finetune(module: GraphModule, images: Images, task: Task, training: Training, keeper: Keeper) -> tuple[str, ...]:
    """Train `module` without masks, in place, taught by itself as it comes. What the user should know of it."""
    done = f"{PART}-done"
    found = keeper.get(done)
    if found is not None:
        restore(trained_tensors(module), found)
        return tuple(found.values["notes"])
    loop = Loop(module, images, task, training, Hooks(), keeper=keeper, part=PART)
    loop.run()
    loop.finish()
    keeper.put(done, replace(copied(trained_tensors(module)), values={"notes": loop.notes}))
    return loop.notes
