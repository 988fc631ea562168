"""The user's regular expressions: which layers they leave dense, and how those that cannot be used are refused."""

from __future__ import annotations

import time

import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.masks import left_dense
from crisp_onnx.model import WeightLayer


def layers(*names: str) -> list[WeightLayer]:
    return [WeightLayer(name, "Conv", f"{name}.w", (8, 8, 1, 1), 1, False, 1, "") for name in names]


def test_node_and_weight_names_are_looked_at_and_the_first_that_fits_is_the_reason() -> None:
    assert left_dense((), layers("a")) == {}
    reasons = {"a": r"kept dense by the user ([ab]\.w$)", "b": "kept dense by the user (^b)"}
    assert left_dense(["^b", r"[ab]\.w$"], layers("a", "b", "c")) == reasons
    assert left_dense([r"\$\\foo"], layers(r"$\foo$", "x\ud800\n y")).keys() == {r"$\foo$"}


def test_an_expression_that_fits_nothing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(CrispError, match=r"fits none of the 1 weight layers. Did you mean 'layer1_conv' or"):
        left_dense(["layer1", "layer2_conv"], layers("layer1_conv"))


MALFORMED = ["(", "(?P<x>a)(?P<x>b)", "a{1,99999999999999999999}", "(" * 5000 + ")" * 5000, "[z-a]", "\\", "(?<=a+)b"]


@pytest.mark.parametrize("expression", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(CrispError, match="is not a regular expression"):
        left_dense([expression], layers("layer1"))


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*!", "(.*)*!", "a*a*a*a*a*a*a*a*a*a*a*!", "(?=(a+)+$)b"])
def test_an_expression_that_never_ends_is_refused_in_time(expression: str) -> None:
    start = time.monotonic()
    with pytest.raises(CrispError, match="too much work") as refused:
        left_dense(["a", expression], layers("a" * 60 + "?"), limit_s=1.0)
    assert time.monotonic() - start < 5
    assert repr(expression) in str(refused.value)
