"""`Quantity`: one number of a hardware descriptor with its unit, where it comes from, and a reference."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, model_validator

from crisp_onnx.errors import nearest
from crisp_onnx.lowering.units import UNITS

Provenance = Literal["literature", "datasheet", "measured", "fitted", "assumed"]

MOST = 1 << 20
"""Of rows, lanes, columns and other things that an array has or holds."""


class Strict(BaseModel):
    """A section of a descriptor: unknown keys are errors, values are never coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Quantity(Strict):
    """`{value, unit, prov, ref}`. Values are positive: what is missing is null (or left out), never 0."""

    dimension: ClassVar[str] = "count"

    value: Annotated[StrictInt | StrictFloat, Field(gt=0, allow_inf_nan=False)]
    unit: str
    prov: Provenance
    ref: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _unit_fits(self) -> Quantity:
        allowed = UNITS[self.dimension]
        if self.unit not in allowed:
            known = ", ".join(repr(name) for name in allowed)
            hint = nearest(self.unit, allowed)
            raise ValueError(f"unit {self.unit!r} is not a unit of {self.dimension}.{hint} Use {known}")
        return self


class Whole(Quantity):
    """A whole number of things, of which there is at least one."""

    @model_validator(mode="after")
    def _is_whole(self) -> Whole:
        if self.value != int(self.value) or not 1 <= self.value <= MOST:
            raise ValueError(f"{self.value:g} {self.unit} is not a whole number from 1 to {MOST:,}. Correct it")
        return self


class Frequency(Quantity):
    dimension = "frequency"


class Count(Whole):
    dimension = "count"


class Columns(Whole):
    dimension = "columns"


class Values(Whole):
    dimension = "values"


class Bits(Quantity):
    dimension = "bits"


class Macs(Quantity):
    dimension = "macs"


class Ratio(Quantity):
    dimension = "ratio"


class Share(Ratio):
    """A ratio of at most 1."""

    @model_validator(mode="after")
    def _at_most_one(self) -> Share:
        if self.value * float(UNITS["ratio"][self.unit]) > 1:
            raise ValueError(f"a share of {self.value} {self.unit} is over 1. Give a number from 0 to 1")
        return self


class Bytes(Quantity):
    """At least one."""

    dimension = "bytes"

    @model_validator(mode="after")
    def _at_least_one(self) -> Bytes:
        if self.value * float(UNITS["bytes"][self.unit]) < 1:
            raise ValueError(f"{self.value:g} {self.unit} is less than one byte. Correct the number or its unit")
        return self


class Bandwidth(Quantity):
    dimension = "bandwidth"


class Time(Quantity):
    dimension = "time"


class Energy(Quantity):
    dimension = "energy"


class Power(Quantity):
    dimension = "power"


class Throughput(Quantity):
    dimension = "throughput"


class EnergyRange(Strict):
    """Low, nominal and high energy of one action; the estimator reports all three."""

    low: Energy
    nominal: Energy
    high: Energy

    @model_validator(mode="after")
    def _ordered(self) -> EnergyRange:
        scale = UNITS["energy"]
        low, nominal, high = (float(q.value) * float(scale[q.unit]) for q in (self.low, self.nominal, self.high))
        if not low <= nominal <= high:
            raise ValueError("low, nominal and high must ascend. Sort the three")
        return self
