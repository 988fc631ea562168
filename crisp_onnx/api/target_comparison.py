"""`estimate` on several targets: one row each, of those that cannot take the model too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crisp_onnx.api.files_read import files_read
from crisp_onnx.api.one_target import Asked, estimate_on, read_source, with_densities
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import Lowered, Target
from crisp_onnx.lowering.describe import hand_over
from crisp_onnx.lowering.target_groups import load_targets
from crisp_onnx.model import Model, Size, write_files
from crisp_onnx.report.comparison_page import comparison_page
from crisp_onnx.report.findings import TargetComparison, TargetRow
from crisp_onnx.writing import keep_inputs, require_name, require_place

ANOTHER = "Choose another name for the result."


def compare_targets(
    model: str | Path,
    targets: Sequence[str | Path],
    *,
    against: str | Path | None = None,
    batch: int = 1,
    size: int | Size | None = None,
    dtype: str | None = None,
    data: Path | None = None,
    preprocess: str | None = None,
    page: Path | None = None,
) -> TargetComparison:
    """`estimate` of `model` on each of `targets`: names, YAML files, or all, skip, store, nothing, cpu, gpu, npu.

    The words stand for groups of built-in targets. A target that cannot take the model so has the reason in its row.
    `page`: an HTML file with the table. All else: see `estimate`.

    Raises:
        CrispError: a file cannot be read or written, a target is unknown, or none can take the model.
    """
    chosen = load_targets(targets)
    outputs = () if page is None else (page,)
    paths = [Path(one) for one in (model, against) if one is not None]
    keep_inputs(outputs, (*paths, *(one.path for one in chosen), *files_read(outputs, data, preprocess)), ANOTHER)
    for output in outputs:
        require_name(output, (".html", ".htm"), "a page")
        require_place(output)
    sources = [(path, read_source(path)) for path in paths]
    keep_inputs(outputs, [file for _, one in sources if isinstance(one, Model) for file in one.data_files], ANOTHER)
    asked = Asked(batch, size, dtype, data, preprocess)
    ways = [with_densities(one, asked) if isinstance(one, Model) else asked for _, one in sources]
    read = [(path, one, way) for (path, one), way in zip(sources, ways, strict=True)]
    rows = tuple(_row(target, read) for target in chosen)
    if all(row.refused for row in rows):
        raise CrispError(rows[0].refused)
    found = TargetComparison(paths[0].name, paths[1].name if against is not None else None, batch, rows)
    if page is not None:
        write_files({page: comparison_page(found).encode()})
    return found


def _row(target: Target, read: Sequence[tuple[Path, Model | Lowered, Asked]]) -> TargetRow:
    try:
        one, *others = (estimate_on(path, source, target, asked) for path, source, asked in read)
    except CrispError as error:
        return TargetRow(target.name, str(target.path), hand_over(target), refused=str(error))
    dense_uj, uj = one.dense.nominal_uj, one.as_is.nominal_uj
    return TargetRow(
        target=target.name,
        path=str(target.path),
        hand_over=hand_over(target),
        fits=one.fit.verdict,
        dense_ms=one.dense.latency_ms,
        latency_ms=one.as_is.latency_ms,
        speedup=one.speedup,
        limited_by=one.limited_by,
        dtypes=one.dtypes,
        retyped=one.retyped,
        elsewhere=one.elsewhere,
        assumed=one.assumed,
        dense_mj=None if dense_uj is None else dense_uj / 1e3,
        energy_mj=None if uj is None else uj / 1e3,
        from_power=one.as_is.energy is not None and one.as_is.energy[1].from_tdp,
        against_ms=others[0].as_is.latency_ms if others else None,
        notes=one.notes,
    )
