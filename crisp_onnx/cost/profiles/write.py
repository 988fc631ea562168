"""Write a target whose rates were fitted to a profile: the descriptor that it started from, with what was fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from crisp_onnx.cost.profiles.fit import FittedRates
from crisp_onnx.lowering.target import Target


def fitted_text(name: str, base: Target, found: FittedRates, *, files: str, date: str) -> str:
    """The YAML file. `files`: names of the profile's files, which every fitted number refers to."""
    content: dict[str, Any] = base.descriptor.model_dump(mode="json", by_alias=True, exclude_unset=True)
    where = f"{found.tool} profile {files}, {found.layers_fitted} layers, {date}"
    content |= {"name": name, "version": 1, "summary": f"{base.descriptor.summary}; rates fitted to {where}"}
    shares = {kind: _number(share, "ratio", where) for kind, share in found.rates.efficiency.items()}
    if shares:
        content["array"]["efficiency"] = {**content["array"].get("efficiency", {}), **shares}
    if found.rates.bandwidth is not None:
        _narrow(content["memory"][0], found.rates.bandwidth, where)
    if found.rates.overhead_us is not None:
        overhead = content.setdefault("overhead", {})
        overhead.pop("by_kind", None)
        overhead["per_layer"] = _number(found.rates.overhead_us, "us", where)
    content["profiled"] = {
        "tool": found.tool,
        "files": files,
        "date": date,
        "layers_fitted": found.layers_fitted,
        "layers_held_out": found.layers_held_out,
        "median_error_percent": round(found.median_error_percent, 2),
        "p90_error_percent": round(found.p90_error_percent, 2),
    }
    return yaml.safe_dump(_quoted(content), sort_keys=False, allow_unicode=False, width=120, default_flow_style=None)


def _narrow(memory: dict[str, Any], share: float, where: str) -> None:
    """The memory's bandwidths at `share` of what is stated, in place."""
    for key in ("read_bw", "write_bw"):
        stated = memory.get(key)
        if stated is not None:
            ref = f"{where}: {100 * share:.0f} % of {stated['value']:g} {stated['unit']}"
            memory[key] = _number(stated["value"] * share, stated["unit"], ref)


def _number(value: float, unit: str, ref: str) -> dict[str, Any]:
    return {"value": float(f"{value:.5g}"), "unit": unit, "prov": "fitted", "ref": ref}


def _quoted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain dictionaries and lists, as the YAML writer wants them."""
    return {key: _plain(value) for key, value in content.items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
