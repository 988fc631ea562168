"""Energy of one layer by component, each as low, nominal and high."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crisp_onnx.lowering.actions import action_energy
from crisp_onnx.lowering.lowered import LoweredOp
from crisp_onnx.lowering.target import Target

Level = Literal["low", "nominal", "high"]
LEVELS: tuple[Level, ...] = ("low", "nominal", "high")
TDP_SHARE = {"low": 0.4, "nominal": 0.7, "high": 1.0}


@dataclass(frozen=True)
class Energy:
    """uJ by component. `from_tdp`: an assumed share of the design power x time, all in `static`."""

    mac: float = 0.0
    lrf: float = 0.0
    rf: float = 0.0
    buffer: float = 0.0
    dram: float = 0.0
    static: float = 0.0
    from_tdp: bool = False

    @property
    def total_uj(self) -> float:
        return self.mac + self.lrf + self.rf + self.buffer + self.dram + self.static


def add(energies: list[Energy]) -> Energy:
    """Component by component."""
    return Energy(
        mac=sum(e.mac for e in energies),
        lrf=sum(e.lrf for e in energies),
        rf=sum(e.rf for e in energies),
        buffer=sum(e.buffer for e in energies),
        dram=sum(e.dram for e in energies),
        static=sum(e.static for e in energies),
        from_tdp=any(e.from_tdp for e in energies),
    )


def energy_of(op: LoweredOp, target: Target, seconds: float, level: Level) -> Energy | None:
    """uJ of one layer that takes `seconds`; `None` where the target says nothing about energy.

    Without a table, a share of the thermal design power (0.4, 0.7, 1.0) over the time stands in.
    """
    table = target.descriptor.energy
    if table is None:
        return None
    if table.mac_pj is None:
        return tdp_energy(target, seconds, level)
    static = float(target.number(table.static_w) or 0) * seconds * 1e6
    pj = target.energy_pj[level]
    if op.matrix is None or op.tiling is None:
        return Energy(
            buffer=float(op.onchip_bytes) * pj["buffer_read"] * 1e-6,
            dram=sum(op.dram_bytes) * pj["dram"] * 1e-6,
            static=static,
        )
    parts = action_energy(op.matrix, op.tiling, pj, charges_metadata=table.dram_metadata)
    return Energy(
        mac=parts.mac * 1e-6,
        lrf=parts.lrf * 1e-6,
        rf=parts.rf * 1e-6,
        buffer=parts.buffer * 1e-6,
        dram=parts.dram * 1e-6,
        static=static,
    )


def tdp_energy(target: Target, seconds: float, level: Level) -> Energy | None:
    """A share of the thermal design power over `seconds`; `None` where the target gives none or has a real table."""
    table = target.descriptor.energy
    watts = target.number(table.from_tdp_w) if table and table.mac_pj is None else None
    return None if watts is None else Energy(static=float(watts) * TDP_SHARE[level] * seconds * 1e6, from_tdp=True)
