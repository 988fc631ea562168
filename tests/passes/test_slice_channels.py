"""Removing channels and putting zeros in their places give the same answers, on every kind of network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from onnx import numpy_helper
from random_graphs import networks
from topologies import seeded, simplified

from crisp_onnx.api.widths import with_stated_lengths
from crisp_onnx.bridge import to_torch, write_back
from crisp_onnx.errors import Defect
from crisp_onnx.groups import ChannelGroup, Removal, channel_groups
from crisp_onnx.model import Model, load, tensor_shapes, weight_layers
from crisp_onnx.passes import MaskChannels, SliceChannels, run_pass

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
Answers = Callable[..., list[np.ndarray]]


def groups_of(model: Model) -> tuple[ChannelGroup, ...]:
    shapes = tensor_shapes(model)
    return channel_groups(model.graph(), weight_layers(model, shapes), shapes)


def removals_of(model: Model, share: float, seed: int = 0) -> list[Removal]:
    """About that share of the channels of every group that may lose some, drawn at random."""
    rng = np.random.default_rng(seed)
    found = []
    for group in groups_of(model):
        count = min(group.width - 1, max(1, round(share * group.width))) if group.removable else 0
        if count:
            found.append(Removal(group, tuple(int(c) for c in rng.permutation(group.width)[:count])))
    return found


def changed(model: Model, kind: type[SliceChannels] | type[MaskChannels], removals: list[Removal]) -> Model:
    graph = model.graph()
    run_pass(kind(removals, tensor_shapes(model)), graph)
    return model.with_graph(graph)


def assert_exact(answers: Answers, model: Model, removals: list[Removal], image: np.ndarray) -> Model:
    """The narrow model answers as the masked one does, passes the checker, and has lost the elements that it should."""
    narrow, masked = (changed(model, kind, removals) for kind in (SliceChannels, MaskChannels))
    for one, other in zip(answers(masked, image), answers(narrow, image), strict=True):
        assert one.shape == other.shape
        assert np.isfinite(one).all()
        assert np.abs(np.subtract(one, other, dtype=np.float64)).max() <= 1e-5 * max(1e-3, np.abs(one).max())
    onnx.checker.check_model(narrow.proto, full_check=True)
    assert elements(narrow) == elements(model) - lost(model, removals)
    return narrow


def elements(model: Model) -> int:
    """Of all tensors that could hold channels."""
    floats = (t for t in model.proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and t.dims)
    return sum(int(np.prod(t.dims)) for t in floats)


def lost(model: Model, removals: list[Removal]) -> int:
    """Elements of stored tensors at any of the removed indices, counted element by element."""
    gone = {t.name: np.zeros(t.dims, bool) for t in model.proto.graph.initializer}
    for removal in removals:
        for member in removal.group.members:
            np.moveaxis(gone[member.tensor], member.axis, 0)[member.indices(removal.channels)] = True
    return sum(int(where.sum()) for where in gone.values())


@given(networks())
@settings(max_examples=60)
def test_removing_channels_of_a_random_network_is_masking_them(answers: Answers, model: Model) -> None:
    image = np.random.default_rng(1).standard_normal((1, 3, 4, 4)).astype(np.float32)
    for share in (0.3, 1.0):
        assert_exact(answers, model, removals_of(model, share), image)


SLOW = {"bvlc_alexnet": 5, "densenet121": 120, "inception_v2": 69, "resnet50": 37, "vgg19": 18, "zfnet512": 5}
QUICK = {"squeezenet": 25, "inception_v1": 55, "shufflenet": 13}


@pytest.mark.parametrize(
    ("name", "groups"), [*QUICK.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())]
)
def test_well_known_topologies_lose_channels_of_every_group(answers: Answers, name: str, groups: int) -> None:
    model = seeded(simplified(load(LIGHT / f"light_{name}.onnx")))
    removals = removals_of(model, 0.4)
    assert len(removals) == groups
    assert_exact(answers, model, removals, np.random.default_rng(1).standard_normal(model.input.fixed(1)).astype("f4"))


@pytest.mark.parametrize(
    "name",
    ["resnet18w32_cifar100", *(pytest.param(f"mobilenet{v}_imagenet", marks=pytest.mark.slow) for v in ("v1", "v2"))],
)
def test_real_models_lose_channels(answers: Answers, shared_data: Path, name: str) -> None:
    model = simplified(load(shared_data / "models" / f"{name}.onnx"))
    removals = removals_of(model, 0.5)
    assert len(removals) >= 12
    image = np.random.default_rng(1).standard_normal(model.input.fixed(2, (64, 64))).astype(np.float32)
    assert_exact(answers, model, removals, image)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(("kind", "groups"), [("VisionTransformer", 5), ("TorchTransformer", 3), ("UNet", 6)])
def test_exports_of_torch_lose_channels_and_heads(
    answers: Answers, torch_export: Callable[..., tuple[Model, object]], kind: str, groups: int, dynamo: bool
) -> None:
    model = with_stated_lengths(simplified(torch_export(kind, dynamo)[0]), (32, 32))
    removals = removals_of(model, 0.5)
    image = np.random.default_rng(1).standard_normal(model.input.fixed(2)).astype(np.float32)
    assert_exact(answers, model, removals, image)
    assert len(removals) == groups


MIXER = """
(float[N,6,4] x) => (float[N,3] y)
<float[4,8] p, float[6,10] a, float[10,6] b, float[8,12] c, float[12,8] d, float[8,3] f, int64[1] one = {1}>
{
  e = MatMul(x, p)
  t = Transpose<perm = [0,2,1]>(e)  u = MatMul(t, a)  r = Relu(u)  v = MatMul(r, b)  w = Transpose<perm = [0,2,1]>(v)
  s = Add(e, w)  h = MatMul(s, c)  k = Relu(h)  m = MatMul(k, d)  z = Add(s, m)
  g = ReduceMean<keepdims = 0>(z, one)  y = MatMul(g, f)
}
"""


def test_a_tensor_that_loses_tokens_and_channels_is_masked_along_both(
    answers: Answers, model_of: Callable[..., Model]
) -> None:
    model = model_of(MIXER, opset=18)
    model.proto.graph.node[0].name = "u.mask"
    removals = removals_of(model, 0.5)
    assert sorted(removal.group.width for removal in removals) == [8, 10, 12]
    image = np.random.default_rng(1).standard_normal((2, 6, 4)).astype(np.float32)
    assert_exact(answers, model, removals, image)
    masked = changed(model, MaskChannels, removals)
    names = [node.name for node in masked.proto.graph.node]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "norm",
    [
        "LayerNormalization<axis=-1, epsilon=0.01>(h, s, b)",
        "LayerNormalization(h, s)",
        "RMSNormalization<axis=-1, epsilon=0.01>(h, s)",
    ],
)
def test_a_norm_over_channels_is_over_as_many_as_before(
    answers: Answers, model_of: Callable[..., Model], norm: str
) -> None:
    shift = ", float[8] b" if ", b)" in norm else ""
    model = model_of(
        f"(float[N,3,5] x) => (float[N,3,4] y) <float[5,8] up, float[8] s{shift}, float[8,4] down>"
        f"{{ h = MatMul(x, up) g = {norm} y = MatMul(g, down) }}",
        opset=23,
    )
    (group,) = [group for group in groups_of(model) if group.removable]
    image = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    narrow = assert_exact(answers, model, [Removal(group, (1, 5, 6))], image)
    # The oracle: the same weights with zeros in place, which the whole norm sees.
    stored = {t.name: np.array(t.values) for t in model.graph().tensors().values() if isinstance(t, gs.Constant)}
    for name, values in stored.items():
        np.moveaxis(values, 1 if name == "up" else 0, 0)[[1, 5, 6]] = 0
    hidden = image @ stored["up"]
    mean = 0 if norm.startswith("RMS") else hidden.mean(-1, keepdims=True)
    epsilon = 0.01 if "epsilon" in norm else 1e-5
    normed = (hidden - mean) / np.sqrt(np.square(hidden - mean).mean(-1, keepdims=True) + epsilon) * stored["s"]
    expected = (normed + stored.get("b", 0)) @ stored["down"]
    assert np.allclose(answers(narrow, image)[0], expected, atol=1e-5)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_channels_and_places_is_over_as_many_as_before(
    answers: Answers, model_of: Callable[..., Model], keepdims: int
) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,A,B,C] y) <float[8,3,1,1] w, float[6,8,1,1] c, int64[2] axes = {1, 3},"
        " int64[2] added = {1, 3}>"
        f"{{ h = Conv(x, w) m = ReduceMean<keepdims={keepdims}>(h, axes)"
        + ("n = Identity(m)" if keepdims else "n = Unsqueeze(m, added)")
        + " g = Sub(h, n) y = Conv(g, c) }",
        opset=18,
    )
    (group,) = [group for group in groups_of(model) if group.removable]
    image = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    assert_exact(answers, model, [Removal(group, (0, 2))], image)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_extreme_over_channels_is_over_the_zeros_of_those_that_are_gone_too(
    answers: Answers, model_of: Callable[..., Model], op: str, sign: int
) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,6,4,4] y) <float[8,3,1,1] w, float[8] b, float[6,8,1,1] c, int64[1] axes = {1}>"
        f"{{ h = Conv(x, w, b) m = {op}(h, axes) g = Mul(h, m) y = Conv(g, c) }}",
        opset=18,
    )
    for tensor in model.proto.graph.initializer:
        if tensor.name == "b":  # all channels on one side of zero, so that a zero decides
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, 9.0 * sign, np.float32), "b"))
    (group,) = [group for group in groups_of(model) if group.removable]
    image = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    assert_exact(answers, model, [Removal(group, (0, 2))], image)


@pytest.mark.parametrize("stated", ["wide = Identity(whole)", "n = Shape<end=1>(x) wide = Concat<axis=0>(n, last)"])
def test_one_value_that_is_expanded_to_all_channels_is_expanded_to_those_that_are_left(
    answers: Answers, model_of: Callable[..., Model], stated: str
) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,6,4,4] y) <float[8,3,1,1] w, float[6,8,1,1] c, int64[1] axes = {1},"
        " int64[4] whole = {1, 8, 4, 4}, int64[3] last = {8, 4, 4}>"
        f"{{ h = Conv(x, w) m = ReduceL2(h, axes) {stated} e = Expand(m, wide) g = Div(h, e) y = Conv(g, c) }}",
        opset=18,
    )
    model = with_stated_lengths(simplified(model), (4, 4))
    (group,) = [group for group in groups_of(model) if group.removable]
    narrow = assert_exact(
        answers, model, [Removal(group, (0, 2, 5))], np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    )
    (expand,) = [node for node in narrow.graph().nodes if node.op == "Expand"]
    assert tensor_shapes(narrow)[expand.outputs[0].name][1] == 5


def test_a_split_states_its_new_sizes_and_a_slice_its_new_places(
    answers: Answers, model_of: Callable[..., Model]
) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,6,4,4] y) <float[8,3,1,1] w, float[6,4,1,1] a, float[6,4,1,1] b,"
        " int64[1] zero = {0}, int64[1] one = {1}, int64[1] nine = {9}, int64[1] two = {2}>"
        "{ s = Conv(x, w) p, q = Split<axis=1, num_outputs=2>(s) u = Conv(p, a)"
        " r = Slice(s, zero, nine, one, two) v = Conv(r, b) y = Add(u, v) }",
        opset=18,
    )
    groups = [group for group in groups_of(model) if group.removable]
    removals = [Removal(group, (0,)) for group in groups if group.width > 1]
    narrow = assert_exact(answers, model, removals, np.ones((2, 3, 4, 4), np.float32))
    (split,) = [node for node in narrow.graph().nodes if node.op == "Split"]
    assert "num_outputs" not in split.attrs
    assert sum(split.inputs[1].values) == 8 - len(removals)


def test_a_depthwise_convolution_keeps_a_group_a_channel(answers: Answers, model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,6,4,4] y) <float[8,3,1,1] w, float[16,1,1,1] d, float[6,16,1,1] c>"
        "{ s = Conv(x, w) t = Conv<group=8>(s, d) y = Conv(t, c) }"
    )
    (group,) = [group for group in groups_of(model) if group.removable]
    narrow = assert_exact(answers, model, [Removal(group, (1, 5, 6))], np.ones((2, 3, 4, 4), np.float32))
    assert [node.attrs.get("group", 1) for node in narrow.graph().nodes] == [1, 5, 1]
    assert [tuple(t.values.shape) for t in constants(narrow)] == [(5, 3, 1, 1), (10, 1, 1, 1), (6, 10, 1, 1)]


def constants(model: Model) -> list[gs.Constant]:
    return [node.inputs[1] for node in model.graph().nodes]


def test_what_asks_for_the_number_of_channels_keeps_them(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,6,4,4] y) <float[8,3,1,1] w, float[6,8,1,1] c, int64 one = {1}>"
        "{ s = Conv(x, w) [ask] h = Shape(s) n = Gather(h, one) f = Cast<to=1>(n) t = Div(s, f) y = Conv(t, c) }"
    )
    (group,) = [group for group in groups_of(model) if group.movable]
    assert [str(barrier) for barrier in group.keeps] == ["Shape 'ask': it asks for their number"]


def test_bound_channels_and_all_channels_are_refused(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,6,4,4] y) <float[8,3,1,1] a, float[6,8,1,1] b>{ h = Conv(x, a) y = Conv(h, b) }"
    )
    free = next(group for group in groups_of(model) if group.removable)
    bound = next(group for group in groups_of(model) if not group.removable)
    with pytest.raises(Defect, match="graph input"):
        SliceChannels([Removal(bound, (0,))], {})
    with pytest.raises(Defect, match="at most 7"):
        SliceChannels([Removal(free, tuple(range(8)))], {})
    with pytest.raises(Defect, match="at most 7"):
        SliceChannels([Removal(free, (8,))], {})


def test_statistics_that_are_stored_once_for_several_norms_are_cut_in_each(
    answers: Answers, model_of: Callable[..., Model]
) -> None:
    model = simplified(
        model_of(
            "(float[1,3,4,4] x) => (float[1,5,1,1] y) <float[8,3,1,1] a, float[8,8,1,1] b, float[5,8,1,1] c,"
            " float[8] s, float[8] v> { h = Conv(x, a) n = BatchNormalization(h, v, s, s, v) r = Relu(n) k = Conv(r, b)"
            " m = BatchNormalization(k, v, s, s, v) q = Relu(m) g = GlobalAveragePool(q) y = Conv(g, c) }",
            v=np.linspace(0.5, 1.5, 8),
        )
    )
    trained = write_back(to_torch(model), model)  # with a name for the statistics of each norm
    assert {t.name for t in trained.proto.graph.initializer} == {t.name for t in model.proto.graph.initializer}
    removals = removals_of(model, 0.5)
    assert_exact(answers, trained, removals, np.random.default_rng(1).standard_normal((1, 3, 4, 4)).astype("f4"))
