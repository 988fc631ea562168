"""The tasks by their names: how each finds its scores in a graph, and the value that says what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from crisp_onnx.model import Model
from crisp_onnx.task.classification import Classification
from crisp_onnx.task.head import Head, Outputs
from crisp_onnx.task.maps import read_maps
from crisp_onnx.task.outputs import read_outputs
from crisp_onnx.task.segmentation import Segmentation

Shapes = Mapping[str, tuple[int, ...]]

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
READERS: Mapping[str, Callable[[Model, Shapes], Outputs]] = MappingProxyType(
    {CLASSIFICATION: read_outputs, SEGMENTATION: read_maps}
)
"""What each output of a graph is, for a task."""


def task_of(head: Head, wanted: tuple[int, ...]) -> Classification:
    """The task of a model that was not cut: column i is output i."""
    meaning = (tuple(range(head.classes)), wanted, head.output, head.logits, head.form, head.logits_form)
    beside = tuple(task_of(other, tuple(range(other.classes))) for other in head.beside)
    if head.maps is None:
        return Classification(*meaning, head.exclusive, beside)
    return Segmentation(*meaning, head.exclusive, beside, head.maps.grid, head.maps.class_axis)
