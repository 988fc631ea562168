"""What is given as a model and is none, or none that any runtime takes: exit 2 and a sentence, for every command."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

ESTIMATED = ("estimate", "{}", "--target", "stc_edge_int8")
COMMANDS = {
    "check": ("check", "{}"),
    "inspect": ("inspect", "{}"),
    "bench": ("bench", "{}"),
    "bench --against": ("bench", "{good}", "--against", "{}"),
    "verify": ("verify", "{}", "{good}"),
    "verify compressed": ("verify", "{good}", "{}"),
    "estimate": ESTIMATED,
    "lower": ("lower", *ESTIMATED[1:]),
}


def words_of(command: str, path: object, good: object) -> list[str]:
    return [word.replace("{good}", str(good)).replace("{}", str(path)) for word in COMMANDS[command]]


@pytest.mark.parametrize(
    "kind", ["/dev/zero", "/dev/null", "fifo", "folder", "/dev/stdin", "sparse", "missing", "loop"]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_ordinary_file_is_refused_at_once(run, compressed, tmp_path, command, kind):
    path = Path(kind) if kind.startswith("/") else tmp_path / "m.onnx"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    done = run(*words_of(command, path, compressed / "model.onnx"))
    assert done.returncode == 2, done.stderr
    assert str(path) in done.stderr


def conv(weight_dims, **attributes):
    node = helper.make_node("Conv", ["x", "w"], ["c"], **attributes)
    return [node], weight_dims, "c"


def product(op, weight_dims, **attributes):
    return (
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node(op, ["f", "w"], ["c"], **attributes)],
        weight_dims,
        "c",
    )


def after(op, inputs=("x",), **attributes):
    return [helper.make_node(op, list(inputs), ["c"], **attributes)], (4, 3, 3, 3), "c"


DAMAGED = {
    "Conv weight of rank 0": conv(()),
    "Conv weight of rank 1": conv((4,)),
    "Conv weight of rank 2": conv((4, 3)),
    "Conv weight of rank 5": conv((4, 3, 3, 3, 3)),
    "Conv weight without rows": conv((0, 3, 3, 3)),
    "Conv pads of one number": conv((4, 3, 3, 3), pads=[1]),
    "Conv strides of none": conv((4, 3, 3, 3), strides=[0, 0]),
    "Conv groups of none": conv((4, 3, 3, 3), group=0),
    "Conv groups below none": conv((4, 3, 3, 3), group=-1),
    "Gemm weight of rank 0": product("Gemm", ()),
    "Gemm weight of rank 1": product("Gemm", (192,)),
    "Gemm weight of rank 1, turned": product("Gemm", (192,), transB=1),
    "Gemm weight of rank 3": product("Gemm", (192, 2, 2)),
    "MatMul weight of rank 0": product("MatMul", ()),
    "Concat without axis": after("Concat", ("x", "x")),
    "Cast without type": after("Cast"),
    "Transpose of too many axes": after("Transpose", perm=[0, 1, 2, 3, 4]),
    "Transpose of one axis": after("Transpose", perm=[0]),
    "Softmax over no axis": after("Softmax", axis=9),
    "Flatten at no axis": after("Flatten", axis=-9),
    "Pool without a window": after("MaxPool"),
    "Pool of one side": after("AveragePool", kernel_shape=[2]),
    "Gather without indices": after("Gather"),
    "BatchNormalization of nothing": after("BatchNormalization"),
    "BatchNormalization of one number": after("BatchNormalization", ("x", "s", "s", "s", "s")),
    "Reshape to a text": after("Reshape", ("x", "x")),
    "Slice without ends": after("Slice"),
    "LeakyRelu with two inputs": after("LeakyRelu", ("x", "x")),
    "GlobalAveragePool of nothing": after("GlobalAveragePool", ()),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_graph_that_no_runtime_takes_is_refused_in_a_sentence(run, tmp_path, name):
    nodes, dims, last = DAMAGED[name]
    count = 1
    for side in dims:
        count *= side
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, dims, [0.5] * count),
        helper.make_tensor("s", TensorProto.FLOAT, (), [0.5]),
    ]
    graph = helper.make_graph(
        [*nodes, helper.make_node("Identity", [last], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    for words in (("check", path), ("check", path, "--json"), ("inspect", path), ("bench", path, "--against", path)):
        done = run(*words)
        assert done.returncode == 2, (words, done.stderr)
        assert done.stderr.startswith("Error: ")
    for command in ("estimate", "lower"):
        assert run(*words_of(command, path, path)).returncode in (0, 2)
