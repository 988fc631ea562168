"""Cross-check the numbers of a descriptor against each other: peak rate, advertised TOPS, block sizes."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.quantity import Quantity
from crisp_onnx.lowering.schema import Descriptor, Dtype
from crisp_onnx.lowering.units import convert

TOLERANCE = Fraction(1, 100)
_DTYPE_BITS = {"int8": 8, "fp16": 16, "fp32": 32}


def check_consistency(descriptor: Descriptor, path: Path) -> None:
    """Raise unless the dense peak agrees with itself and with the advertised dense TOPS within 1 %.

    Raises:
        CrispError: the peak rate is missing or contradicts the array or the advertised rate (a factor of two is nearly
            always a sparse figure entered as dense), or a pattern keeps more than its group holds.
    """
    array = descriptor.array
    peaks = {dtype: _base(q, descriptor) for dtype, q in (array.peak_dense_mac_per_cycle or {}).items()}
    product = Fraction(1)
    for part in (array.units, array.rows, array.lanes):
        product *= _base(part, descriptor) if part is not None else 1
    has_product = array.rows is not None and array.lanes is not None
    if not has_product and not peaks:
        raise CrispError(f"{path}, key array: no peak rate. Give rows and lanes, or peak_dense_mac_per_cycle.")
    bits = int(_base(array.bits, descriptor)) if array.bits is not None else None
    for dtype, peak in peaks.items():
        key = f"array.peak_dense_mac_per_cycle.{dtype}"
        if has_product and bits == _DTYPE_BITS[dtype] and not _near(peak, product):
            raise CrispError(
                f"{path}, key {key}: {float(peak):g} MAC/cycle, but units x rows x lanes is {float(product):g}."
                f"{_sparse_hint(peak, product)} Correct one of them."
            )
    missing = [dtype for dtype in descriptor.dtypes if dtype not in peaks]
    if missing and (not has_product or len(missing) > 1):
        raise CrispError(
            f"{path}, key array.peak_dense_mac_per_cycle: no rate for {missing[0]}. Add it, or drop it from dtypes."
        )
    _check_tops(descriptor, path, peaks, product)
    if descriptor.ops is not None and descriptor.fallback is None:
        raise CrispError(
            f"{path}, key fallback: missing. Name the target that runs what `ops` leaves out, as portable."
        )
    for number, support in enumerate(descriptor.sparsity.nm):
        if support.keep >= support.group:
            raise CrispError(
                f"{path}, key sparsity.nm.{number}.pattern: {support.pattern!r} keeps all. Write kept:group, as 2:4."
            )


def _check_tops(descriptor: Descriptor, path: Path, peaks: Mapping[Dtype, Fraction], product: Fraction) -> None:
    array = descriptor.array
    clock = _base(descriptor.clock.hz, descriptor)
    dense = array.advertised_dense_tops or {}
    if descriptor.kind in ("gpu", "npu") and not dense:
        raise CrispError(
            f"{path}, key array.advertised_dense_tops: missing. A {descriptor.kind} needs the data sheet's dense TOPS, "
            "so that the peak rate can be checked against it."
        )
    for dtype, advertised in dense.items():
        tops = 2 * peaks.get(dtype, product) * clock / 10**12
        stated = _base(advertised, descriptor)
        if not _near(tops, stated):
            hint = _sparse_hint(max(tops, stated), min(tops, stated))
            raise CrispError(
                f"{path}, key array.advertised_dense_tops.{dtype}: {float(stated):g} TOPS advertised, but "
                f"2 x MAC/cycle x clock gives {float(tops):.4g}.{hint} Enter dense rates; what sparsity gains belongs "
                "under `sparsity`."
            )
    for dtype, advertised in (array.advertised_sparse_tops or {}).items():
        if dtype in dense and _base(advertised, descriptor) <= _base(dense[dtype], descriptor):
            raise CrispError(
                f"{path}, key array.advertised_sparse_tops.{dtype}: not above the dense figure. Exchange the two."
            )


def _near(a: Fraction, b: Fraction) -> bool:
    return abs(a - b) <= TOLERANCE * b


def _sparse_hint(larger: Fraction, smaller: Fraction) -> str:
    return " Twice as much: a sparse (2:4) figure was entered as dense." if _near(larger, 2 * smaller) else ""


def _base(quantity: Quantity, descriptor: Descriptor) -> Fraction:
    """The number in its base unit; the clock matters to none of the dimensions compared here."""
    return convert(quantity.value, quantity.unit, quantity.dimension, Fraction(1))
