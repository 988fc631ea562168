"""What follows from shapes alone, and what hands on what it takes, costs nothing; all else is charged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crisp_onnx.cost import estimate
from crisp_onnx.lowering import load_target, lower, target_names
from crisp_onnx.model import Model

HEAD = """(float[1,8,4,4] x) => (float[1,5] y) <float[8,8,3,3] w, float[128,5] v, {more}> {{
  c = Conv <pads = [1,1,1,1]> (x, w)"""
WRITTEN = HEAD.format(more="int64[2] t") + " r = Relu (c)  f = Reshape (r, t)  y = MatMul (f, v) }"
ASKED = (
    HEAD.format(more="int64 zero, int64[1] axis, int64[1] rest, int64[1] one, float half")
    + """
  s = Shape (c)  r = Relu (c)  n = Gather (s, zero)  m = Mul (n, zero)  a = Add (m, n)  u = Unsqueeze (a, axis)
  l = Slice (s, one, rest)  p = ReduceProd <keepdims = 1> (l)  t = Concat <axis = 0> (u, rest)  k = Cast <to = 1> (p)
  h = Sqrt (k)  d = Div (h, h)  f = Reshape (r, t)  e = Dropout (f, half)  i = Identity (e)  y = MatMul (i, v)
}"""
)
VALUES = {
    "t": np.array([1, -1]), "zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1]), "one": np.array([1]),
    "half": np.array(0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", target_names())
def test_a_model_that_asks_for_its_shape_costs_what_it_costs_where_that_is_written(
    model_of: Callable[..., Model], name: str
) -> None:
    target = load_target(name)
    asked, written = (lower(model_of(text, **VALUES), target) for text in (ASKED, WRITTEN))
    assert asked.operators == tuple(
        op.model_copy(update={"name": mine.name, "reads": mine.reads, "fused": mine.fused})
        for op, mine in zip(written.operators, asked.operators, strict=True)
    )
    assert [op.op for op in asked.operators] == ["Conv", "MatMul"]
    assert asked.operators[0].fused_ops == ("Relu",)  # though the shape is asked for before it
    assert asked.peak_activation_bytes == written.peak_activation_bytes
    assert estimate(asked, target).as_is.latency_ms == estimate(written, target).as_is.latency_ms
    assert estimate(asked, target).elsewhere == estimate(written, target).elsewhere


def test_the_shape_of_a_tensor_does_not_keep_it(model_of: Callable[..., Model]) -> None:
    text = """(float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,8,3,3] w> {
      a = Conv <pads = [1,1,1,1]> (x, w)  b = Sigmoid (a)  s = Shape (b)  c = Conv <pads = [1,1,1,1]> (b, w)
      d = Conv <pads = [1,1,1,1]> (c, w)  e = Reshape (d, s)  y = Softmax (e)
    }"""
    found = lower(model_of(text), "portable")
    names = {op.name: op for op in found.operators}
    last = found.operators[-1]
    assert [names[name].op for name in last.reads] == ["Conv"]
    assert found.peak_activation_bytes == 2 * 8 * 16 * 4


@pytest.mark.parametrize(
    ("text", "charged"),
    [
        ("y = Expand (x, same)", []),
        ("y = Expand (x, more)", ["Expand"]),
        ("y = Tile (x, ones)", []),
        ("y = Slice (x, zero, far)", []),
        ("y = Slice (x, zero, far, axis, step)", []),
        ("y = Slice (x, zero, two)", ["Slice"]),
        ("y = Slice (x, back, front, axis, minus)", ["Slice"]),  # as large as it was, and turned around
        ("y = Concat <axis = 0> (x)", []),
        ("y = Concat <axis = 0> (x, x)", ["Concat"]),
        ("y = Sum (x)", []),
        ("s = Shape (x)  y = Expand (x, s)", []),
        ("n = NonZero (x)  s = Shape (n)  a = Add (s, s)  y = Tile (x, a)", ["NonZero", "Add", "Tile"]),
        ("r = RandomNormalLike (x)  y = Add (r, x)", ["RandomNormalLike", "Add"]),
        ("g = Gather (x, zero)  y = Neg (g)", ["Gather", "Neg"]),
    ],
)
def test_what_reads_values_of_the_image_is_charged(
    model_of: Callable[..., Model], text: str, charged: list[str]
) -> None:
    model = model_of(
        "(float[1,4] x) => (float[A,B] y, float[1,4] z) <int64[2] same, int64[2] more, int64[2] ones, "
        "int64[1] zero, int64[1] far, int64[1] two, int64[1] axis, int64[1] step, int64[1] minus, "
        f"int64[1] back, int64[1] front> {{ z = Softmax (x) {text} }}",
        same=np.array([1, 4]), more=np.array([3, 4]), ones=np.array([1, 1]), zero=np.array([0]), far=np.array([9]),
        two=np.array([0]), axis=np.array([1]), step=np.array([1]), minus=np.array([-1]), back=np.array([3]),
        front=np.array([-9]),
    )  # fmt: skip
    assert [op.op for op in lower(model, "portable").operators] == ["Softmax", *charged]


@pytest.mark.parametrize(
    ("tail", "target", "inside", "elsewhere"),
    [
        ("y = Sigmoid (c)", "arm_ethos_u55", ("Sigmoid",), []),
        ("y = Softplus (c)", "arm_ethos_u55", (), ["Softplus"]),
        ("e = Erf (c)  a = Add (e, one)  y = Mul (c, a)", "hailo_8", ("Erf", "Add", "Mul"), []),  # it has Gelu
        ("e = Erf (c)  a = Add (e, one)  y = Mul (c, a)", "arm_ethos_u55", (), ["Erf"]),
        ("e = Erf (c)  a = Add (e, one)  y = Mul (c, a)", "nvidia_a100", ("Erf", "Add", "Mul"), []),
        ("y = PRelu (c, one)", "jetson_orin_dla", (), ["PRelu"]),
    ],
)
def test_what_a_target_lacks_does_not_run_inside_a_product_there(
    model_of: Callable[..., Model], tail: str, target: str, inside: tuple[str, ...], elsewhere: list[str]
) -> None:
    text = f"(float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,8,1,1] w, float one> {{ c = Conv (x, w)  {tail} }}"
    chosen = load_target(target)
    found = lower(model_of(text, one=np.array(1.0)), chosen)
    assert set(found.operators[0].fused_ops) == set(inside)
    cost = estimate(found, chosen)
    assert [sentence.split()[1] for sentence in cost.elsewhere] == elsewhere
    for layer in cost.layers:
        assert layer.latency_ms > 0 or target == "hailo_8"  # whose hand-over hides it
        assert ("has no" in layer.reason) == (layer.op in elsewhere)
