"""Stage 6, train: recovery under masks, with labels or without."""

from crisp_onnx.recover.dense import finetune
from crisp_onnx.recover.gates import search_gates
from crisp_onnx.recover.keeper import Keeper, NoKeeper
from crisp_onnx.recover.masking import plan_from, plan_state, put_masks, saliency_of
from crisp_onnx.recover.mirror import mirror_safe
from crisp_onnx.recover.modes import MODES, Mode
from crisp_onnx.recover.moments import output_moments
from crisp_onnx.recover.narrow import train_narrow
from crisp_onnx.recover.recovered import Level, Recovered, Refit
from crisp_onnx.recover.search import searched
from crisp_onnx.recover.sensitivity import utilisation
from crisp_onnx.recover.start import fits_from, fits_state, trained_tensors
from crisp_onnx.recover.state import State, copied, restore
from crisp_onnx.recover.statistics import reestimate
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training, training_for
from crisp_onnx.recover.trial import Trial

__all__ = [
    "MODES",
    "Keeper",
    "Level",
    "Mode",
    "NoKeeper",
    "Recovered",
    "Refit",
    "State",
    "Task",
    "Training",
    "Trial",
    "copied",
    "finetune",
    "fits_from",
    "fits_state",
    "mirror_safe",
    "output_moments",
    "plan_from",
    "plan_state",
    "put_masks",
    "reestimate",
    "restore",
    "saliency_of",
    "search_gates",
    "searched",
    "train_narrow",
    "trained_tensors",
    "training_for",
    "utilisation",
]
