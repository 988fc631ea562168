"""Scaled dot-product attention as one operator (opset 23 and later)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.handlers.create import onnx_type
from crisp_onnx.bridge.node import Node, Operator

# What the fourth output holds, by `qk_matmul_output_mode`.
_RAW, _CAPPED, _BIASED, _PROBABILITIES = range(4)


def attention(
    node: Node,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Inputs (batch, heads, sequence, size) or, with head counts as attributes, (batch, sequence, heads x size).

    `mask`: True where a key may be seen, or a bias; `valid`: number of real keys per image of the batch.
    """
    packed = q.ndim == 3
    if packed:
        q = _unpack(node, q, "q_num_heads")
        k, v = (_unpack(node, t, "kv_num_heads") for t in (k, v))
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    present = k, v
    if q.shape[1] != k.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    bias = _bias(node, q, k, mask, past, valid)
    scale = node.number("scale", 1 / math.sqrt(q.shape[3]))
    plain = not node.number("softcap", 0.0) and "softmax_precision" not in node.attrs and not node.wants(3)
    if plain and bias is None:
        y, shown = functional.scaled_dot_product_attention(q, k, v, scale=scale), None
    else:
        y, shown = _explicit(node, q, k, v, bias, scale)
    if packed:
        y = y.transpose(1, 2).flatten(2)
    return (y, *present) if shown is None else (y, *present, shown)


def _explicit(node: Node, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    root = math.sqrt(scale)
    raw = (q * root) @ (k.transpose(2, 3) * root)
    cap = node.number("softcap", 0.0)
    capped = cap * torch.tanh(raw / cap) if cap else raw
    biased = capped if bias is None else capped + bias
    precision = onnx_type(node, "softmax_precision") if "softmax_precision" in node.attrs else biased.dtype
    probabilities = functional.softmax(biased.to(precision), -1).to(q.dtype)
    if bias is not None:
        # A query that may see no key answers zero, not NaN.
        blind = torch.isneginf(bias.amax(-1, keepdim=True))
        probabilities = torch.where(blind, torch.zeros_like(probabilities), probabilities)
    shown = (raw, capped, biased, probabilities)[node.integer("qk_matmul_output_mode", _RAW)]
    return probabilities @ v, shown


def _unpack(node: Node, x: Tensor, key: str) -> Tensor:
    heads = node.integer(key, 0)
    if not heads:
        raise node.refusal(f"three-dimensional inputs without {key}")
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def _bias(node: Node, q: Tensor, k: Tensor, mask: Tensor | None, past: int, valid: Tensor | None) -> Tensor | None:
    """What is added to the scores: minus infinity where a query must not see a key; `None` if all may see all."""
    queries, keys = q.shape[2], k.shape[2]
    causal = bool(node.integer("is_causal", 0))
    left, right = node.integer("left_window_size", -1), node.integer("right_window_size", -1)
    bias = None if mask is None else _additive(mask, q, keys)
    rows = torch.arange(queries, device=q.device).reshape(-1, 1)
    columns = torch.arange(keys, device=q.device)
    if causal or left >= 0 or right >= 0:
        offset = valid.reshape(-1, 1, 1, 1) - queries if valid is not None and not past else past
        ahead = columns - rows - offset
        seen = ahead <= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
        seen = seen & (ahead >= -left) if left >= 0 else seen
        seen = seen & (ahead <= right) if right >= 0 else seen
        bias = _sum(bias, _forbid(seen, q))
    if valid is not None:
        bias = _sum(bias, _forbid(columns < valid.reshape(-1, 1, 1, 1), q))
    return bias


def _additive(mask: Tensor, like: Tensor, keys: int) -> Tensor:
    bias = _forbid(mask, like) if mask.dtype == torch.bool else mask
    return functional.pad(bias, (0, keys - bias.shape[-1]), value=float("-inf"))


def _forbid(allowed: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(allowed, dtype=like.dtype).masked_fill(~allowed, float("-inf"))


def _sum(bias: Tensor | None, more: Tensor) -> Tensor:
    return more if bias is None else bias + more


ATTENTION = {"Attention": Operator(attention)}
