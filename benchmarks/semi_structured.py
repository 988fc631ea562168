"""What 2:4 zeros gain on a GPU, through PyTorch's own semi-structured kernels (cuSPARSELt), beside dense products.

python -m benchmarks.semi_structured [--device cuda] [--batch 64] [--dtype fp16 --dtype int8] [--network ResNet-50]

Every shape of the layers of ResNet-50 and of the products of ViT-S/16 and ViT-B/16 once: the matrix product dense and
2:4, and of convolutions the convolution by cuDNN (channels last) beside the 2:4 product with its patches made first:
PyTorch has no 2:4 convolution of its own. Each way is a graph of calls that is replayed in turns with the others.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import product
from types import MappingProxyType
from typing import Any

import click
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.layer_lists import resnet50
from benchmarks.record import card, record
from crisp_onnx.lowering.layer_sparsity import LayerSparsity
from crisp_onnx.lowering.matrix import Matrix, product_matrix

CALLS, ROUNDS, LEAST_MS = 10, 9, 3.0
TYPES = MappingProxyType({"fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8})
STEP, ROWS = 64, 16
"""What the kernels' K, and their number of positions, are multiples of."""
TOKENS = 197
Call = Callable[[], Tensor]
Row = dict[str, Any]


def resnet(batch: int) -> Counter[Matrix]:
    """The shapes that can be 2:4, and how often each stands in the network."""
    layers = resnet50(lambda matrix, prunable: LayerSparsity())
    return Counter(layer.matrix for layer in layers if layer.matrix is not None and layer.matrix.K % STEP == 0)


def vit(width: int) -> Callable[[int], Counter[Matrix]]:
    """Of 12 blocks: queries, keys and values in one, their projection, and both products of the MLP."""
    shapes = ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width))
    return lambda batch: Counter({product_matrix(rows, columns, TOKENS): 12 for rows, columns in shapes})


NETWORKS = MappingProxyType({"ResNet-50": resnet, "ViT-S/16": vit(384), "ViT-B/16": vit(768)})


@click.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 64), show_default=True)
@click.option("--dtype", "dtypes", type=click.Choice([*TYPES]), multiple=True, default=("fp16", "int8"))
@click.option("--network", "networks", type=click.Choice([*NETWORKS]), multiple=True, default=tuple(NETWORKS))
def main(device: str, batches: tuple[int, ...], dtypes: tuple[str, ...], networks: tuple[str, ...]) -> None:
    """Check, time, print and write the table: a row a shape, and each network's total."""
    name = card(device) or "processor"
    rows: list[Row] = []
    notes = [
        f"{name}, torch {torch.__version__}. Microseconds of one call, medians of {ROUNDS} rounds in turns.",
        "'dense' of a convolution is cuDNN's in channels last; a 2:4 convolution is the product behind its patches.",
    ]
    for network, batch, dtype in product(networks, batches, dtypes):
        which = {"network": network, "batch": batch, "type": dtype}
        found = []
        for matrix, count in NETWORKS[network](batch).items():
            found.append(which | {"times": count} | measured(matrix, batch, dtype, device))
            print(found[-1], flush=True)
        rows += found
        gains = f"products {gain(found, 'product us')} times as fast, layers {gain(found, 'us')} times"
        notes.append(f"All of {network}, batch {batch}, {dtype}: {gains}.")
    table = f"semi_structured_{name.lower().replace(' ', '_')}"
    record(table, "2:4 through PyTorch's semi-structured kernels", rows, notes=notes)


def gain(rows: list[Row], what: str) -> str:
    """How many times as fast 2:4 is over all shapes, each as often as it stands in the network."""
    if any(row[f"{way} {what}"] is None for row in rows for way in ("dense", "2:4")):
        return "(not measured)"
    dense_us, sparse_us = (sum(row[f"{way} {what}"] * row["times"] for row in rows) for way in ("dense", "2:4"))
    return f"{dense_us / sparse_us:.2f}"


def measured(matrix: Matrix, batch: int, dtype: str, device: str) -> Row:
    """The time of each way to compute this layer."""
    torch.manual_seed(0)
    positions = _whole(matrix.N * batch)
    weights = _drawn((matrix.M, matrix.K), dtype, device) * two_of_four((matrix.M, matrix.K), device)
    patches = _drawn((positions, matrix.K), dtype, device)
    calls: dict[str, Call] = {"dense product us": dense_product(weights, patches, dtype)}
    if torch.device(device).type == "cuda":
        calls["2:4 product us"] = sparse_product(weights, patches)
        answers = [calls[name]().float() for name in ("dense product us", "2:4 product us")]
        apart = float((answers[0] - answers[1].reshape(answers[0].shape)).abs().max() / answers[0].abs().max())
        if apart > (0 if dtype == "int8" else 1e-2):
            raise SystemExit(f"The 2:4 product of {matrix} in {dtype} is wrong by {apart:.3g} of its largest value.")
    window = matrix.window[0]
    if window > 1 and dtype != "int8":  # cuDNN's int8 convolutions are not PyTorch's
        calls |= convolutions(matrix, batch, weights, dtype, device)
    found = in_turns(calls, device)
    if window == 1:
        found |= {"dense us": found["dense product us"], "2:4 us": found.get("2:4 product us")}
    names = ("dense product us", "2:4 product us", "dense us", "2:4 us")
    layer = {"window": window, "M": matrix.M, "K": matrix.K, "N": positions}
    return layer | {name: None if found.get(name) is None else round(found[name] or 0.0, 2) for name in names}


def _whole(positions: int) -> int:
    return -(-positions // ROWS) * ROWS


def _drawn(shape: tuple[int, ...], dtype: str, device: str) -> Tensor:
    if dtype == "int8":
        return torch.randint(-8, 8, shape, dtype=torch.int8, device=device)
    return (torch.randn(shape, device=device) / 8).to(TYPES[dtype])


def two_of_four(shape: tuple[int, int], device: str) -> Tensor:
    """A mask of ones at two random places of every four neighbours along K."""
    rows, columns = shape
    places = torch.rand(rows, columns // 4, 4, device=device).argsort(-1)
    return (places < 2).reshape(shape).to(torch.int8)


def dense_product(weights: Tensor, patches: Tensor, dtype: str) -> Call:
    """(N, K) times (K, M), int32 for bytes."""
    if dtype != "int8" or weights.device.type == "cpu":
        return lambda: functional.linear(patches, weights)
    return lambda: torch._int_mm(patches, weights.t())


def sparse_product(weights: Tensor, patches: Tensor) -> Call:
    """The same with packed weights, by the fastest of cuSPARSELt's algorithms; transposed where it comes so."""
    packed, columns = torch._cslt_compress(weights), patches.t()
    out = torch.int32 if weights.dtype == torch.int8 else weights.dtype
    best = torch._cslt_sparse_mm_search(packed, columns, out_dtype=out, transpose_result=True)
    return lambda: torch._cslt_sparse_mm(packed, columns, out_dtype=out, transpose_result=True, alg_id=best)


def convolutions(matrix: Matrix, batch: int, weights: Tensor, dtype: str, device: str) -> dict[str, Call]:
    """A window's convolution by cuDNN, and by the 2:4 product behind its patches."""
    side, stride = matrix.window[0], matrix.stride[0]
    channels, (height, width) = matrix.K // side**2, matrix.out_hw
    image = _drawn((batch, channels, height * stride, width * stride), dtype, device)
    image = image.to(memory_format=torch.channels_last)
    kernel = weights.reshape(matrix.M, side, side, channels).permute(0, 3, 1, 2)
    kernel = kernel.contiguous(memory_format=torch.channels_last)

    def patches() -> Tensor:
        padded = functional.pad(image, (side // 2,) * 4)
        windows = padded.unfold(2, side, stride).unfold(3, side, stride)  # (n, c, h, w, kh, kw)
        rows = windows[:, :, :height, :width].permute(0, 2, 3, 4, 5, 1).reshape(-1, matrix.K)
        missing = _whole(len(rows)) - len(rows)
        return functional.pad(rows, (0, 0, 0, missing)) if missing else rows

    def convolved() -> Tensor:
        return functional.conv2d(image, kernel, stride=stride, padding=side // 2)

    calls: dict[str, Call] = {"dense us": convolved}
    truth = convolved().float().permute(0, 2, 3, 1).reshape(-1, matrix.M)
    apart = float((functional.linear(patches(), weights)[: len(truth)].float() - truth).abs().max() / truth.abs().max())
    if apart > 2e-2:
        raise SystemExit(f"Patches of {matrix} give another convolution: {apart:.3g} of its largest value.")
    if torch.device(device).type == "cuda":
        packed = torch._cslt_compress(weights)
        calls["2:4 us"] = lambda: torch._cslt_sparse_mm(packed, patches().t(), transpose_result=True)
    return calls


def in_turns(calls: Mapping[str, Call], device: str) -> dict[str, float | None]:
    """Microseconds of one call of each: medians of rounds in which each is replayed once."""
    replays = {name: _replay(call, device) for name, call in calls.items()}
    counts = {}
    for name, replay in replays.items():
        once_ms = min(_elapsed_ms(replay, 1, device) for _ in range(3))
        counts[name] = max(1, round(LEAST_MS / max(once_ms, 1e-3)))
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, replay in replays.items():
            took[name].append(1e3 * _elapsed_ms(replay, counts[name], device) / counts[name] / CALLS)
    return {name: statistics.median(us) for name, us in took.items()}


def _replay(call: Call, device: str) -> Callable[[], None]:
    """`CALLS` calls; on a GPU as one graph, so that it is not the host's time that is measured."""
    for _ in range(3):
        call()
    if torch.device(device).type != "cuda":
        return lambda: [call() for _ in range(CALLS)] and None
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    return graph.replay


def _elapsed_ms(replay: Callable[[], None], count: int, device: str) -> float:
    if torch.device(device).type != "cuda":
        start_s = time.perf_counter()
        for _ in range(count):
            replay()
        return 1e3 * (time.perf_counter() - start_s)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(count):
        replay()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


if __name__ == "__main__":
    main()
