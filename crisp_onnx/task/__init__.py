"""What a model's answers mean: which output holds them, which class each column is, how they are judged and learnt."""

from crisp_onnx.task.classification import Classification
from crisp_onnx.task.head import Head, Outputs
from crisp_onnx.task.kinds import CLASSIFICATION, READERS, SEGMENTATION, task_of
from crisp_onnx.task.outputs import read_outputs
from crisp_onnx.task.segmentation import Segmentation
from crisp_onnx.task.stamp import Stamp, read_stamp, stamped
from crisp_onnx.task.trace import layers_behind

__all__ = [
    "CLASSIFICATION",
    "READERS",
    "SEGMENTATION",
    "Classification",
    "Head",
    "Outputs",
    "Segmentation",
    "Stamp",
    "layers_behind",
    "read_outputs",
    "read_stamp",
    "stamped",
    "task_of",
]
