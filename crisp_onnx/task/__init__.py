"""What a model's answers mean: which output holds them, which class each column is, how they are judged and learnt."""

from crisp_onnx.task.classification import Classification, task_of
from crisp_onnx.task.head import Head, Outputs, layers_behind, read_outputs
from crisp_onnx.task.stamp import Stamp, read_stamp, stamped

__all__ = [
    "Classification",
    "Head",
    "Outputs",
    "Stamp",
    "layers_behind",
    "read_outputs",
    "read_stamp",
    "stamped",
    "task_of",
]
