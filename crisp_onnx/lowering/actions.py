"""Energy of one tiled layer by component, from what each action costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crisp_onnx.lowering.matrix import Matrix
from crisp_onnx.lowering.tiling import Tiling


@dataclass(frozen=True)
class ActionEnergy:
    """pJ by component."""

    mac: float
    lrf: float
    rf: float
    buffer: float
    dram: float

    @property
    def total(self) -> float:
        return self.mac + self.lrf + self.rf + self.buffer + self.dram


def action_energy(matrix: Matrix, tiling: Tiling, pj: Mapping[str, float], *, charges_metadata: bool) -> ActionEnergy:
    """`pj`: energy by action, see `Target.energy_pj`. `charges_metadata`: whether metadata from DRAM counts.

    Metadata enters the buffer as bits where the table says what a bit costs, else as bytes like any other.
    Source: cost model of the Sparseloop designs; padding lanes are not charged, accumulators start with a write.
    """
    sums = matrix.groups * matrix.M * matrix.N
    updates = max(tiling.accumulator_updates, sums)
    metadata = tiling.dram_metadata_bytes
    filled = tiling.dram_read_bytes - tiling.residual_bytes - metadata + tiling.kept_output_bytes
    buffer = (tiling.onchip_activation_bytes + tiling.onchip_weight_bytes) * pj["buffer_read"]
    buffer += tiling.onchip_metadata_bits * pj["meta_read"]
    buffer += tiling.onchip_sum_bytes * (pj["buffer_read"] + pj["buffer_write"])
    buffer += filled * pj["buffer_write"] + metadata * (8 * pj["meta_write"] or pj["buffer_write"])
    moved = tiling.dram_read_bytes + tiling.dram_write_bytes - (0 if charges_metadata else metadata)
    return ActionEnergy(
        mac=(tiling.computed_macs - tiling.gated_macs) * pj["mac"] + tiling.gated_macs * pj["gated_mac"],
        lrf=tiling.register_accesses * pj["lrf"] * (1 + tiling.metadata_bits_per_value / 8),
        rf=updates * pj["rf_write"] + (updates - sums) * pj["rf_read"] + sums * pj["rf_write"],
        buffer=buffer,
        dram=moved * pj["dram"],
    )
