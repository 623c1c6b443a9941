"""What a GPU does of a kind of window, and what is left to the processor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdec.accelerator.component_tables import component_table
from qdec.bits import Bytes
from qdec.cuda.component_plan import ComponentPlan
from qdec.cuda.plan import EdgePlan, ResidualPlan, UnpackPlan
from qdec.cuda.record import BitRecord, ComponentRecord, OddsRecord
from qdec.cuda.runtime import Program
from qdec.cuda.tables import EdgeTable, ResidualTable, UnpackTable
from qdec.errors import GeometryError
from qdec.match import CompiledWindow
from qdec.match.ahead import innermost
from qdec.match.ising import Corrected, IsingWindow
from qdec.match.settled import Settled
from qdec.match.soft import SoftWindow
from qdec.neural.engine import CompiledNetwork

log = logging.getLogger("qdec.accelerator")

Programs = Callable[[CompiledNetwork, tuple[int, int, int]], Program]


@dataclass(frozen=True, eq=False)
class GpuKind:
    """A kind of window whose network runs on a GPU.

    Attributes:
        decoder: what the processor calls once `hand_over` has put what was found.
        network: as it was compiled.
        unpack: from packed rounds to the network's input.
        constants: of that.
        then: from the network's output to a record of each window.
        shape: (channels, T, H, W) of the input.
        outputs: elements of the output.
        program: makes the network's program, one for each stream.
        hand_over: puts what a batch's records say, for the very array of syndromes.
        settle: from those records, which stay on the device then, to answers where it can.
    """

    decoder: CompiledWindow
    network: CompiledNetwork
    unpack: UnpackPlan
    constants: tuple[float, ...]
    then: EdgePlan | ResidualPlan
    shape: tuple[int, ...]
    outputs: int
    program: Callable[[], Program]
    hand_over: Callable[[Bytes, Bytes], None]
    settle: ComponentPlan | None = None

    @property
    def record(self) -> BitRecord | OddsRecord | ComponentRecord:
        """What a batch leaves of each window."""
        return self.then.record if self.settle is None else self.settle.record


def gpu_kind(decoder: CompiledWindow, programs: Programs, *, settle: bool = True) -> GpuKind | None:
    """What a GPU does for a decoder; None where there is no network to run.

    Args:
        decoder: of a kind of window.
        programs: makes the program of a compiled network for windows of (T, H, W).
        settle: whether windows may be answered there: else all log-odds come back, as they do
            where answers have to say how sure they are.

    Raises:
        GeometryError: the window is too large for the kernels.
    """
    inner = innermost(decoder)
    if isinstance(inner, SoftWindow):
        return _soft(decoder, inner, programs, settle=settle and decoder is inner)
    if isinstance(inner, IsingWindow):
        return _ising(decoder, inner, programs)
    return None


def _soft(
    decoder: CompiledWindow, inner: SoftWindow, programs: Programs, *, settle: bool
) -> GpuKind:
    _, channels = inner.network.channels
    table = UnpackTable.of_folded(inner.grid, len(inner.grid.node_at) // 8)
    plan = EdgePlan(EdgeTable.of_folded(inner.grid, channels))
    answers = _settle(inner) if settle else None

    def hand_over(syndromes: Bytes, records: Bytes) -> None:
        if answers is None:
            _, odds = plan.record.read(records)
            inner.ahead.put(syndromes, np.array(odds, dtype=np.float32))
            return
        heads, found, bits, odds = answers.record.read(records)
        rest = np.flatnonzero(found["settled"] == 0)
        left = odds[rest]
        left[heads["sick"][rest] != 0] = np.nan
        inner.ahead.put(syndromes, Settled(bits, rest, left))

    return _kind(decoder, inner.network, table, plan, programs, hand_over, answers)


def _settle(inner: SoftWindow) -> ComponentPlan | None:
    """What answers windows on the device; None where they are too much for it."""
    try:
        table = component_table(inner)
        return None if table is None else ComponentPlan(table)
    except GeometryError as error:
        log.info("windows are matched on the processor alone: %s", error)
        return None


def _ising(decoder: CompiledWindow, inner: IsingWindow, programs: Programs) -> GpuKind:
    plan = ResidualPlan(ResidualTable.of_ising(inner.grid))

    def hand_over(syndromes: Bytes, records: Bytes) -> None:
        heads, left, committed = plan.record.read(records)
        sick: NDArray[np.bool_] = np.asarray(heads["sick"] != 0)
        inner.ahead.put(syndromes, Corrected(left.copy(), committed.copy(), sick))

    table = UnpackTable.of_ising(inner.grid)
    return _kind(decoder, inner.network, table, plan, programs, hand_over)


def _kind(
    decoder: CompiledWindow,
    network: CompiledNetwork,
    table: UnpackTable,
    plan: Any,
    programs: Programs,
    hand_over: Callable[[Bytes, Bytes], None],
    settle: ComponentPlan | None = None,
) -> GpuKind:
    channels, rounds, height, width = table.entries.shape
    size = (rounds, height, width)
    return GpuKind(
        decoder,
        network,
        UnpackPlan(table),
        table.constants,
        plan,
        (channels, *size),
        plan.elements,
        lambda: programs(network, size),
        hand_over,
        settle,
    )
