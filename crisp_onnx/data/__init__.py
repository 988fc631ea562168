"""Stage 2, see: class lists, image sources and preprocessing; images are decoded on demand."""

from crisp_onnx.data.classes import Classes, read_classes, resolve
from crisp_onnx.data.exported_names import cut_names, labels_from_metadata
from crisp_onnx.data.images import Images, InputForm
from crisp_onnx.data.label_files import read_labels
from crisp_onnx.data.labels import Label, Labels, aligned, labels_from_names, misfit, remedy
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.preprocess_text import PRESETS, parse_preprocess
from crisp_onnx.data.sources import Source, input_form, is_class_folder, open_images, source_names
from crisp_onnx.data.split import hold_out, whole_batches

__all__ = [
    "PRESETS",
    "Classes",
    "Images",
    "InputForm",
    "Label",
    "Labels",
    "Preprocess",
    "Source",
    "aligned",
    "cut_names",
    "hold_out",
    "input_form",
    "is_class_folder",
    "labels_from_metadata",
    "labels_from_names",
    "misfit",
    "open_images",
    "parse_preprocess",
    "read_classes",
    "read_labels",
    "remedy",
    "resolve",
    "source_names",
    "whole_batches",
]
