"""What a check is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qdec.doctor.machine import Machine
from qdec.findings import Finding, unknown


def _always(_: Machine) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        name: unique in its group.
        look: looks at the machine and judges what it saw.
        with_config: whether it makes sense only for a given configuration.
        when: whether it makes sense on a machine at all.
    """

    name: str
    look: Callable[[Machine], Finding]
    with_config: bool = False
    when: Callable[[Machine], bool] = _always

    def applies(self, machine: Machine) -> bool:
        """Whether it belongs into the report."""
        return (machine.config_path is not None or not self.with_config) and self.when(machine)

    def run(self, machine: Machine) -> Finding:
        """The finding. A check that fails itself is no verdict on the machine."""
        try:
            return self.look(machine)
        except Exception as error:  # odd machines are what a doctor is for
            return unknown(f"cannot be checked: {type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Group:
    """Checks that belong together."""

    name: str
    checks: tuple[Check, ...]
