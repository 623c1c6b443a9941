"""What the guardrails know of the device: values, changes, health; never changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

HOUR_S = 3600.0
# Changes that are remembered per parameter; those of the last hour are never forgotten.
_REMEMBERED = 256


@dataclass(frozen=True)
class Applied:
    """An applied change: when (s since the epoch), from what to what, in the unit of its rules."""

    at: float
    from_: float
    to: float


@dataclass(frozen=True)
class Health:
    """The last calibration of a parameter: when, and was it good?"""

    at: float
    good: bool


@dataclass(frozen=True)
class State:
    """All that is known, in the units of the policy.

    Attributes:
        values: what is set now.
        changes: per parameter, oldest first.
        health: per parameter.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, tuple[Applied, ...]] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Copy the tables, so that nobody changes them from outside."""
        for name in ("values", "changes", "health"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def applied(self, parameter: str, to: float, at: float) -> State:
        """The state after a change."""
        change = Applied(at, self.values[parameter], to)
        before = self.changes.get(parameter, ())
        old = len(before) - _REMEMBERED
        kept = tuple(c for i, c in enumerate(before) if i > old or c.at > at - HOUR_S)
        return replace(
            self,
            values={**self.values, parameter: to},
            changes={**self.changes, parameter: (*kept, change)},
        )

    def checked(self, parameter: str, good: bool, at: float) -> State:
        """The state after a calibration of a parameter was found good or bad."""
        return replace(self, health={**self.health, parameter: Health(at, good)})
