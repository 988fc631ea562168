"""The ONNX standard's own node cases through the bridge at opsets 13 to the newest: right or refused, never wrong."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import defs, version_converter
from onnx.backend.test.case.node import collect_testcases

from crisp_onnx.bridge import to_torch
from crisp_onnx.bridge.build import NEWEST_OPSET, OLDEST_OPSET
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model

NEWEST = min(defs.onnx_opset_version(), NEWEST_OPSET)
OPSETS = (OLDEST_OPSET, 17, 21, NEWEST)
# What classifiers, U-Nets and vision transformers are made of.
NAMES = """
    Conv ConvTranspose Gemm MatMul Einsum Attention
    BatchNormalization InstanceNormalization LayerNormalization GroupNormalization RMSNormalization LRN
    MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool
    Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Swish Mish Gelu Softplus Softsign Tanh Erf Clip
    Softmax LogSoftmax Dropout
    Add Sub Mul Div Pow Sqrt Reciprocal Exp Log Neg Abs Floor Ceil Round Sign Min Max Mean Sum Mod
    Equal Less LessOrEqual Greater GreaterOrEqual And Or Not Where
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    ArgMax ArgMin TopK OneHot Trilu CumSum
    Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Gather GatherElements Expand Tile Pad Resize
    DepthToSpace SpaceToDepth Shape Size ConstantOfShape Constant Range Cast CastLike Identity
"""
SCOPE = frozenset(NAMES.split())
# Einsum, OneHot and CumSum have their cases in float64 alone.
TYPES = (np.float32, np.float64, np.int64, np.int32, np.bool_)


@dataclass(frozen=True)
class Outcome:
    """What became of one case at one opset: agrees, refused or wrong, and why."""

    case: str
    opset: int
    verdict: str
    why: str


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in collect_testcases(None) if _in_scope(case)]


@pytest.fixture(scope="module")
def outcomes(cases: list[Any]) -> list[Outcome]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            _outcome(case, model, stored=stored)
            for case in cases
            for model in _at_opsets(case.model)
            for stored in ((False, True) if model is case.model else (False,))
        ]
    finally:
        torch.set_num_threads(threads)


def _in_scope(case: Any) -> bool:
    nodes = case.model.graph.node
    if not all(node.op_type in SCOPE and node.domain in ("", "ai.onnx") for node in nodes):
        return False
    arrays = [array for inputs, outputs in case.data_sets for array in (*inputs, *outputs)]
    return all(isinstance(array, np.ndarray | np.generic) and array.dtype in TYPES for array in arrays)


def _at_opsets(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """The case as it stands, and at each of `OPSETS` at which it means the same."""
    own = model.opset_import[0].version
    if OLDEST_OPSET <= own <= NEWEST:
        yield model
    for opset in OPSETS:
        changed = None if opset == own else _schemas_changed(model, own, opset)
        if changed is False:
            stamped = onnx.ModelProto()
            stamped.CopyFrom(model)
            stamped.opset_import[0].version = opset
            yield stamped
        elif changed and (converted := _converted(model, opset)) is not None:
            yield converted


def _schemas_changed(model: onnx.ModelProto, own: int, opset: int) -> bool | None:
    """Whether an operator of the case has another definition at `opset`; `None` if one does not exist there."""
    try:
        return any(
            defs.get_schema(node.op_type, own).since_version != defs.get_schema(node.op_type, opset).since_version
            for node in model.graph.node
        )
    except defs.SchemaError:
        return None


def _converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto | None:
    try:
        converted = version_converter.convert_version(model, opset)
        onnx.checker.check_model(converted)
    except Exception:  # the converter raises many types; what it cannot express is no case at this opset
        return None
    return converted


def _outcome(case: Any, model: onnx.ModelProto, *, stored: bool) -> Outcome:
    """Run a case; `stored`: every input but the first is an initializer, as exporters leave shapes and weights."""
    opset = model.opset_import[0].version
    for inputs, expected in case.data_sets:
        fed = dict(zip([value.name for value in model.graph.input], inputs, strict=False))
        kept = list(fed)[1:] if stored else []
        proto = _with_initializers(model, {name: fed.pop(name) for name in kept})
        try:
            module = to_torch(Model(proto, Path(case.name), ""))
            results = module.run({name: torch.from_numpy(np.array(array)) for name, array in fed.items()})
        except CrispError as error:
            return Outcome(case.name, opset, "refused", str(error))
        for value, want in zip(model.graph.output, expected, strict=True):
            why = _difference(results[value.name].detach().numpy(), want, case.rtol, case.atol)
            if why:
                return Outcome(case.name, opset, "wrong", why)
    return Outcome(case.name, opset, "agrees", "")


def _with_initializers(model: onnx.ModelProto, arrays: dict[str, Any]) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    for value in [v for v in proto.graph.input if v.name in arrays]:
        proto.graph.input.remove(value)
    return proto


def _difference(got: np.ndarray, want: np.ndarray, rtol: float, atol: float) -> str:  # type: ignore[type-arg]
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
    if not np.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True):
        return f"differs by {np.abs(got.astype(np.float64) - want).max()}"
    return ""


def test_no_case_is_silently_wrong(outcomes: list[Outcome]) -> None:
    assert [outcome for outcome in outcomes if outcome.verdict == "wrong"] == []


@pytest.mark.parametrize("opset", OPSETS)
def test_at_least_98_percent_of_the_cases_agree(outcomes: list[Outcome], opset: int) -> None:
    counts = collections.Counter(outcome.verdict for outcome in outcomes if outcome.opset == opset)
    refused = sorted({(o.case, o.why) for o in outcomes if o.opset == opset and o.verdict == "refused"})
    assert counts.total() > 300
    assert counts["agrees"] / counts.total() >= 0.98, (counts, refused)


def test_every_operator_in_scope_has_a_case(cases: list[Any], outcomes: list[Outcome]) -> None:
    agree = {outcome.case for outcome in outcomes if outcome.verdict == "agrees"}
    assert {node.op_type for case in cases if case.name in agree for node in case.model.graph.node} == SCOPE
