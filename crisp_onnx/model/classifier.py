"""Find the classifier: the weight layer whose rows are the classes, walked back from the output."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from crisp_onnx.model.layers import WEIGHT_OPS

# Operators that keep "one channel, one class" between the classifier and the output.
_CLASS_KEEPING = frozenset(
    {"Identity", "Flatten", "Reshape", "Squeeze", "Softmax", "LogSoftmax", "Sigmoid", "Add", "Relu", "Dropout", "Cast"}
    | {"GlobalAveragePool", "AveragePool", "ReduceMean", "Clip"}
)


def classifier_chain(graph: gs.Graph) -> tuple[gs.Node, ...]:
    """Nodes from the classifier (first) to the graph's first output (last); empty when there is no plain chain.

    The classifier is the first Conv, Gemm or MatMul with a stored weight met on the way back, and every node between it
    and the output has one data input and one consumer. A stored weight may be an input of the graph behind the first:
    a caller may then override it. A Shape beside the chain that only tells a Reshape of the chain its target does not
    count: the opset converter wraps Softmax in such a pair.
    """

    def _is_stored(tensor: gs.Tensor) -> bool:
        return isinstance(tensor, gs.Constant) or any(tensor is given for given in graph.inputs[1:])

    chain: list[gs.Node] = []
    tensor = graph.outputs[0]
    while tensor.inputs:
        node = tensor.inputs[0]
        readers = [reader for reader in tensor.outputs if not _tells_a_shape_to(reader, chain)]
        if tensor is not graph.outputs[0] and len(readers) != 1:
            return ()
        chain.append(node)
        if node.op in WEIGHT_OPS:
            stored = len(node.inputs) > 1 and _is_stored(node.inputs[1])
            return tuple(reversed(chain)) if stored else ()
        data = [i for i in node.inputs if not _is_stored(i) and not i.is_empty()]
        data = [i for i in data if not (i.inputs and _tells_a_shape_to(i.inputs[0], [node]))]
        if node.op not in _CLASS_KEEPING or len(data) != 1:
            return ()
        tensor = data[0]
    return ()


def _tells_a_shape_to(node: gs.Node, chain: list[gs.Node]) -> bool:
    """Whether `node` is a Shape read by nothing but the target input of Reshapes in `chain`."""
    if node.op != "Shape":
        return False
    readers = node.outputs[0].outputs
    return bool(readers) and all(
        reader.op == "Reshape" and reader.inputs[0] is not node.outputs[0] and any(reader is link for link in chain)
        for reader in readers
    )


def ends_in_softmax(graph: gs.Graph) -> bool:
    """Whether the first output holds probabilities: a Softmax with nothing but reshaping behind it."""
    for node in reversed(classifier_chain(graph)):
        if node.op == "Softmax":
            return True
        if node.op not in ("Identity", "Flatten", "Reshape", "Squeeze", "Cast"):
            return False
    return False
