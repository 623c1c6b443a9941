"""What the calibration messages share: bounded, strict, frozen values with units."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from qdec.calibration.units import MAX_UNIT, Unit, unit
from qdec.errors import UnitError

# Of both messages. A receiver refuses what it does not know.
VERSION: Final = 1
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.\-:/]{0,63}$"


def _known(symbol: str) -> str:
    try:
        unit(symbol)
    except UnitError as error:
        raise ValueError(str(error)) from None
    return symbol


Name = Annotated[str, Field(pattern=NAME)]
Line = Annotated[str, Field(min_length=1, max_length=500)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e18, le=1e18)]
UnitName = Annotated[str, Field(min_length=1, max_length=MAX_UNIT), AfterValidator(_known)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# Seconds since the Unix epoch.
Timestamp = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]


class Frozen(BaseModel):
    """A strict, immutable part of a message that knows all of its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Quantity(Frozen):
    """A number and its unit."""

    value: Number
    unit: UnitName

    @property
    def of(self) -> Unit:
        """The unit, looked up."""
        return unit(self.unit)

    @property
    def si(self) -> float:
        """In the base unit of its dimension."""
        return self.value * self.of.factor

    def within(self, symbol: str) -> float:
        """The number in another unit of the same dimension.

        Raises:
            UnitError: it is of another dimension.
        """
        return self.value * self.of.to(unit(symbol))
