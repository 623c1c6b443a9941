"""Units of calibration data: a small table of dimensions and SI prefixes.

A unit is a symbol of the table, with a prefix where it takes one: ``us``, ``MHz``, ``mV``, ``rad``,
``deg``, ``Phi0`` (flux quanta), ``1`` (populations, amplitudes relative to full scale).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cache

from qdec.errors import UnitError


class Dimension(Enum):
    """What a unit measures; the value is the symbol of its base unit."""

    NUMBER = "1"
    TIME = "s"
    FREQUENCY = "Hz"
    VOLTAGE = "V"
    CURRENT = "A"
    PHASE = "rad"
    FLUX = "Phi0"


_PREFIXES = {"": 1.0, "G": 1e9, "M": 1e6, "k": 1e3, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9}
_PREFIXES |= {"p": 1e-12}
_PREFIXED = {"s", "Hz", "V", "A", "rad", "Phi0"}
_OTHERS = {
    "deg": (Dimension.PHASE, math.pi / 180),
    "%": (Dimension.NUMBER, 0.01),
}
MAX_UNIT = 8


@dataclass(frozen=True)
class Unit:
    """A unit: so many (`factor`) of the base unit of its dimension."""

    symbol: str
    dimension: Dimension
    factor: float

    def to(self, other: Unit) -> float:
        """Factor from numbers in this unit to numbers in another.

        Raises:
            UnitError: it measures something else.
        """
        if other.dimension is not self.dimension:
            raise UnitError(
                f"{self.symbol} is a unit of {self.dimension.name.lower()}, and {other.symbol} of "
                f"{other.dimension.name.lower()}"
            )
        return self.factor / other.factor


@cache
def _table() -> dict[str, Unit]:
    units = {d.value: Unit(d.value, d, 1.0) for d in Dimension}
    for prefix, factor in _PREFIXES.items():
        for base in _PREFIXED:
            units[prefix + base] = Unit(prefix + base, Dimension(base), factor)
    for symbol, (dimension, factor) in _OTHERS.items():
        units[symbol] = Unit(symbol, dimension, factor)
    return units


def unit(symbol: str) -> Unit:
    """Look a unit up.

    Raises:
        UnitError: there is none of that symbol.
    """
    found = _table().get(symbol)
    if found is None:
        bases = ", ".join(d.value for d in Dimension)
        raise UnitError(
            f"unknown unit {symbol[:MAX_UNIT]!r}: it must be one of {bases}, deg, %, with a prefix "
            "from p to G where it takes one (us, MHz, mV)"
        )
    return found


def convert(value: float, here: str, there: str) -> float:
    """A number in one unit as a number in another of the same dimension.

    Raises:
        UnitError: unknown units, or of different dimensions.
    """
    return value * unit(here).to(unit(there))
