"""What may be changed, how far and how fast: the operator's configuration, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from qdec.calibration.units import unit
from qdec.errors import ConfigError


@dataclass(frozen=True)
class Bounds:
    """The hard limits of a value; nothing and nobody overrides them here."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse bounds that hold nothing.

        Raises:
            ConfigError: they are not finite, or the wrong way round.
        """
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"bounds {self.low:g} … {self.high:g} must be finite, low first")


@dataclass(frozen=True)
class Guarded:
    """The rules for one declared parameter, all numbers in `unit`.

    Attributes:
        bounds: hard limits.
        step: the largest change at once.
        per_hour: the largest sum of changes (whichever way) within any hour.
        depends_on: parameters that must be in good health before this one is touched.
        fresh_s: how old its own calibration may be for what depends on it.
        anomaly: robust z-score of a change against the changes before, above which a person is
            asked.
        floor: changes smaller than that are never anomalous (the history may be all alike).
        least_history: changes on record before the z-score means anything; with fewer, a person is
            asked.
        least_confidence: of the answer that suggests it, below which a person is asked.
    """

    unit: str
    bounds: Bounds
    step: float
    per_hour: float
    depends_on: tuple[str, ...] = ()
    fresh_s: float = 86_400.0
    anomaly: float = 5.0
    floor: float = 0.0
    least_history: int = 5
    least_confidence: float = 0.9

    def __post_init__(self) -> None:
        """Refuse limits that limit nothing.

        Raises:
            UnitError: the unit is unknown.
            ConfigError: a limit is not a positive number.
        """
        unit(self.unit)
        for name in ("step", "per_hour", "fresh_s", "anomaly"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} = {value:g} must be a positive number")
        if not (math.isfinite(self.floor) and self.floor >= 0):
            raise ConfigError(f"floor = {self.floor:g} must be a number, not negative")
        if not 0 <= self.least_confidence <= 1 or self.least_history < 0:
            raise ConfigError("least_confidence must be 0 … 1, least_history 0 or more")


@dataclass(frozen=True)
class Policy:
    """The rules of a device.

    Attributes:
        parameters: all that may ever be changed; what is not declared is blocked.
        frozen: nothing passes.
        dry_run: everything is judged, nothing is to be applied.
    """

    parameters: Mapping[str, Guarded] = field(default_factory=dict)
    frozen: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Freeze the table.

        Raises:
            ConfigError: a dependency is not declared, or they go round in a circle.
        """
        table = MappingProxyType(dict(self.parameters))
        object.__setattr__(self, "parameters", table)
        for name, rules in table.items():
            for other in rules.depends_on:
                if other not in table:
                    raise ConfigError(f"{name} depends on {other}, which is not declared")
        done: set[str] = set()
        while len(done) < len(table):
            ready = {n for n, r in table.items() if n not in done and done >= set(r.depends_on)}
            if not ready:
                raise ConfigError(f"dependencies go round among {sorted(set(table) - done)}")
            done |= ready
