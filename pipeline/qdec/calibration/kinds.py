"""The kinds of calibration experiment: what each sweeps, and what it needs to be told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qdec.calibration.units import Dimension


class Kind(StrEnum):
    """A kind of experiment, as `calibration.request` names it."""

    RABI_AMPLITUDE = "rabi_amplitude"
    RABI_TIME = "rabi_time"
    RAMSEY = "ramsey"
    T1 = "t1"
    ECHO = "echo"
    RESONATOR_SPECTROSCOPY = "resonator_spectroscopy"
    QUBIT_SPECTROSCOPY = "qubit_spectroscopy"
    READOUT = "readout"
    DRAG = "drag"
    CZ_PHASE = "cz_phase"
    FLUX_ARCH = "flux_arch"


@dataclass(frozen=True)
class Needs:
    """What an experiment of a kind consists of.

    Attributes:
        axis: dimensions that the swept axis may have.
        y: dimensions that the observed values may have.
        labels: of its traces, in order; a single empty one means: any label.
        more: so many further traces may come along.
        points: least and largest number per trace: a search takes seconds at the most.
        settings: each trace must tell, with their dimensions.
    """

    axis: tuple[Dimension, ...]
    y: tuple[Dimension, ...] = (Dimension.NUMBER, Dimension.VOLTAGE)
    labels: tuple[str, ...] = ("",)
    more: int = 0
    points: tuple[int, int] = (15, 2048)
    settings: tuple[tuple[str, Dimension], ...] = ()


NEEDS: dict[Kind, Needs] = {
    Kind.RABI_AMPLITUDE: Needs((Dimension.NUMBER, Dimension.VOLTAGE)),
    Kind.RABI_TIME: Needs((Dimension.TIME,)),
    Kind.RAMSEY: Needs(
        (Dimension.TIME,), more=1, settings=(("artificial_detuning", Dimension.FREQUENCY),)
    ),
    Kind.T1: Needs((Dimension.TIME,)),
    Kind.ECHO: Needs((Dimension.TIME,)),
    Kind.RESONATOR_SPECTROSCOPY: Needs((Dimension.FREQUENCY,), y=(Dimension.NUMBER,)),
    Kind.QUBIT_SPECTROSCOPY: Needs((Dimension.FREQUENCY,)),
    Kind.READOUT: Needs((), labels=()),
    Kind.DRAG: Needs((Dimension.NUMBER, Dimension.TIME), labels=("xy", "yx"), points=(9, 2048)),
    Kind.CZ_PHASE: Needs((Dimension.PHASE,), labels=("control_0", "control_1"), points=(9, 2048)),
    Kind.FLUX_ARCH: Needs(
        (Dimension.VOLTAGE, Dimension.CURRENT, Dimension.FLUX), y=(Dimension.FREQUENCY,)
    ),
}
