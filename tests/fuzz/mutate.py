"""Mutations: of bytes, of text by its words, of PNG chunks, and of ONNX graphs field by field."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable

import onnx
from onnx import TensorProto

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
WORDS = (
    "9" * 5000, "1e999999999", "-1", "0", "nan", "inf", "1/0", "null", "true", "~", "*a", "&a", "!!int x", "<<", "---",
    "{", "}", "[", "]", ":", ",", "\t", "\n", "\x00", "\x1b[2J", "\ud800", "\u202e", "\ufeff", "é", "犬", "%s{0}", "#",
    "'", '"', "\\", "/", "..", "/dev/null", "2020-99-99", "0x1f", "1_000", "1:30", "[" * 2000, "- " * 50, "a" * 10_000,
)  # fmt: skip

Mutation = Callable[[bytes, random.Random], bytes]


def mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    """One to six small changes: bits, bytes, numbers, cuts, copies."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if not changed:
            return bytes(changed)
        place = chance.randrange(len(changed))
        length = min(chance.choice((1, 2, 4, 8, 32, 256)), len(changed) - place)
        kind = chance.randrange(8)
        if kind == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place] = chance.randrange(256)
        elif kind in (2, 3):
            width = chance.choice((1, 2, 4, 8))
            number = chance.choice(NUMBERS) & ((1 << 8 * width) - 1)
            changed[place : place + width] = number.to_bytes(width, chance.choice(("little", "big")))
        elif kind == 4:
            del changed[place : place + length]
        elif kind == 5:
            other = chance.randrange(len(changed))
            changed[place:place] = changed[other : other + length]
        elif kind == 6:
            changed[place : place + length] = chance.randbytes(length)
        elif chance.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def mutate_text(content: bytes, chance: random.Random) -> bytes:
    """Words swapped, doubled, lost, or replaced by troublesome ones; at times the bytes themselves."""
    if chance.random() < 0.15:
        return mutate_bytes(content, chance)
    words = re.split(r"(\W)", content.decode("utf-8", "surrogateescape"))
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(len(words))
        kind = chance.randrange(5)
        if kind in (0, 1):
            words[place] = chance.choice(WORDS)
        elif kind == 2:
            words.insert(place, chance.choice(WORDS))
        elif kind == 3:
            words[place] = words[chance.randrange(len(words))]
        else:
            start, end = sorted((place, chance.randrange(len(words))))
            words[start:end] = words[start:end] * chance.choice((0, 2, 3))
    return "".join(words).encode("utf-8", "surrogatepass")


def mutate_png(content: bytes, chance: random.Random) -> bytes:
    """Changed bytes under check sums that fit again, so that the change reaches the decoder."""
    chunks = []
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return mutate_bytes(content, chance)
    place = chance.randrange(len(chunks))
    kind, body = chunks[place]
    chunks[place] = (kind, mutate_bytes(body or b"\0", chance))
    if chance.random() < 0.2:
        chunks.insert(chance.randrange(len(chunks)), chance.choice(chunks))
    return content[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def mutate_model(content: bytes, chance: random.Random) -> bytes:
    """Fields of the graph changed: sizes, types, names, edges, attributes, stored values; at times the bytes."""
    if chance.random() < 0.15:
        return mutate_bytes(content, chance)
    model = onnx.ModelProto()
    model.ParseFromString(content)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if model.graph.node:
            chance.choice(_GRAPH)(model.graph, chance)
    if chance.random() < 0.05:
        model.opset_import[0].version = chance.choice((0, 1, 6, 7, 12, 21, 99, 2**40))
    if chance.random() < 0.05:
        words = chance.choice(WORDS[:30]).encode("utf-8", "replace").decode()
        model.metadata_props.add(key=chance.choice(("names", "labels", "classes")), value=words)
    return model.SerializeToString()


def _size(chance: random.Random) -> int:
    return chance.choice((-1, 0, 1, 2, 3, 5, 31, 32, 33, 1000, 2**16, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63)))


def _dims(graph: onnx.GraphProto, chance: random.Random) -> None:
    values = [*graph.input, *graph.output, *graph.value_info]
    if not values:  # an earlier change has taken them all
        return
    dims = chance.choice(values).type.tensor_type.shape.dim
    if dims and chance.random() < 0.8:
        chance.choice(dims).dim_value = _size(chance)
    elif dims and chance.random() < 0.5:
        del dims[chance.randrange(len(dims))]
    else:
        dims.add().dim_value = _size(chance)


def _tensor(graph: onnx.GraphProto, chance: random.Random) -> None:
    if not graph.initializer:
        return
    tensor = chance.choice(graph.initializer)
    kind = chance.randrange(6)
    if kind == 0 and tensor.dims:
        tensor.dims[chance.randrange(len(tensor.dims))] = _size(chance)
    elif kind == 1 and tensor.dims:
        del tensor.dims[chance.randrange(len(tensor.dims))]
    elif kind == 2:
        tensor.data_type = chance.choice((*TensorProto.DataType.values(), 99))
    elif kind == 3:
        tensor.raw_data = mutate_bytes(tensor.raw_data, chance)
    elif kind == 4:
        tensor.raw_data = struct.pack("<f", chance.choice((float("nan"), float("inf"), 1e38, 0.0))) * (
            len(tensor.raw_data) // 4
        )
    else:
        graph.initializer.remove(tensor)


def _edge(graph: onnx.GraphProto, chance: random.Random) -> None:
    node = chance.choice(graph.node)
    names = [name for other in graph.node for name in (*other.input, *other.output)] + ["", "nowhere", "image"]
    side = node.input if chance.random() < 0.7 else node.output
    kind = chance.randrange(3)
    if kind == 0 and side:
        side[chance.randrange(len(side))] = chance.choice(names)
    elif kind == 1 and side:
        del side[chance.randrange(len(side))]
    else:
        side.append(chance.choice(names))


def _node(graph: onnx.GraphProto, chance: random.Random) -> None:
    node = chance.choice(graph.node)
    kind = chance.randrange(5)
    if kind == 0:
        node.op_type = chance.choice((*(other.op_type for other in graph.node), *OPERATORS))
    elif kind == 1:
        graph.node.remove(node)
    elif kind == 2:
        graph.node.insert(chance.randrange(len(graph.node)), node)
    elif kind == 3:
        node.domain = chance.choice(("", "ai.onnx.ml", "pkg.crisp_onnx", "no.such"))
    else:
        node.name = chance.choice(("", "[red]x[/]", "\x1b[2J", "a" * 3000, "$\\foo$", "(", graph.node[0].name))


OPERATORS = (
    "Reshape", "Loop", "If", "Scan", "Cast", "Resize", "Slice", "Pad", "Softmax", "ArgMax", "TopK", "Gather", "Concat",
    "Split", "Squeeze", "Expand", "ConstantOfShape", "LSTM", "QuantizeLinear", "MatMul", "Gemm", "NonZero",
)  # fmt: skip
ATTRIBUTES = ("axis", "pads", "strides", "group", "to", "auto_pad", "kernel_shape", "dilations", "epsilon")


def _attribute(graph: onnx.GraphProto, chance: random.Random) -> None:
    node = chance.choice(graph.node)
    if not node.attribute or chance.random() < 0.2:
        name = chance.choice(ATTRIBUTES)
        value = chance.choice((_size(chance), [_size(chance)] * 4, "SAME_UPPER", 0.5, [], "x"))
        if value != []:
            node.attribute.append(onnx.helper.make_attribute(name, value))
        return
    attribute = chance.choice(node.attribute)
    kind = chance.randrange(4)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1 and attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = _size(chance)
    elif kind == 2:
        attribute.i = _size(chance)
    else:
        attribute.name = chance.choice(("", "x", *(other.name for other in node.attribute)))


def _interface(graph: onnx.GraphProto, chance: random.Random) -> None:
    values = graph.input if chance.random() < 0.5 else graph.output
    kind = chance.randrange(4)
    if kind == 0 and values:
        del values[chance.randrange(len(values))]
    elif kind == 1 and values:
        values.append(chance.choice(values))
    elif kind == 2 and values:
        chance.choice(values).type.tensor_type.elem_type = chance.choice((0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 99))
    elif values:
        chance.choice(values).name = chance.choice([name for node in graph.node for name in node.output] + ["", "x"])


_GRAPH = (_dims, _tensor, _tensor, _edge, _node, _attribute, _attribute, _interface)
