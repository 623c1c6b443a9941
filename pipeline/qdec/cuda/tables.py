"""What drives the kernels, for one kind of window: which bit or element goes where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.errors import GeometryError
from qdec.neural import grid as folded
from qdec.neural.ising import window as ising

Int32s = NDArray[np.int32]
Bools = NDArray[np.bool_]
NOWHERE = -1
SOURCES = 6
# Windows beyond are none; and what kernels count in 32 bits stays well inside.
MAX_ELEMENTS = 1 << 26
MAX_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class UnpackTable:
    """Packed rounds → network input.

    Attributes:
        entries: ``(C, T, H, W)`` int32: the bit of the window that an element shows; or, if
            negative, a constant: ``constants[~entry]``. A multiple of four elements.
        window_bytes: of a packed window.
        constants: 0, 1 (what bits become) and whatever else an input has.

    Raises:
        GeometryError: an entry is no bit of the window and no constant, or the window is too large.
    """

    entries: Int32s
    window_bytes: int
    constants: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Check what kernels will not."""
        if self.constants[:2] != (0.0, 1.0):
            raise GeometryError("the first constants of an input are 0 and 1")
        _check_sizes(self.entries.size, self.window_bytes)
        _check_range("an input element", self.entries, -len(self.constants), 8 * self.window_bytes)

    @classmethod
    def of_ising(cls, grid: ising.WindowGrid) -> UnpackTable:
        """As `qdec.neural.ising.window.WindowGrid.network_input`."""
        tables = grid.tables
        # Stabilisers on the patch's edges are present by half.
        others = [value for value in np.unique(tables.constant).tolist() if value not in (0, 1)]
        constants = (0.0, 1.0, *others)
        entries = np.zeros(tables.constant.shape, dtype=np.int32)
        for number, value in enumerate(constants):
            entries[tables.constant == value] = ~number
        entries.reshape(-1)[tables.event_cells] = tables.event_nodes
        return cls(entries, len(tables.sources) // 8, constants)

    @classmethod
    def of_folded(cls, grid: folded.WindowGrid, window_bytes: int) -> UnpackTable:
        """As `qdec.match.soft.SoftWindow` shows events to a network of the own family."""
        entries = np.full((4, *grid.shape), ~0, dtype=np.int32)
        nodes = np.flatnonzero(grid.node_at >= 0)
        entries.reshape(-1)[grid.node_at[nodes]] = nodes
        return cls(entries, window_bytes)


@dataclass(frozen=True, eq=False)
class ResidualTable:
    """Logits → residual and answer.

    Attributes:
        sources: ``(8 * window_bytes, 6)`` int32: corrections that flip a bit of the window, as flat
            indices into the logits; `NOWHERE` for none.
        answers: ``(8 * answer_bytes,)`` int32: the correction that is a bit of the answer (a
            seam's) or `NOWHERE`.
        frame: ``(n,)`` int32: corrections whose parity flips bit 0 of the answer.
        counted: ``(elements,)`` bool: logits that the terms of confidence are about.

    Raises:
        GeometryError: an index is no logit's, or the window is too large.
    """

    sources: Int32s
    answers: Int32s
    frame: Int32s
    counted: Bools

    def __post_init__(self) -> None:
        """Check what kernels will not."""
        elements = self.counted.size
        if self.sources.ndim != 2 or self.sources.shape[1] != SOURCES:
            raise GeometryError(f"a residual needs {SOURCES} sources per bit")
        if len(self.sources) % 8 or len(self.answers) % 8 or not len(self.answers):
            raise GeometryError("windows and answers are whole bytes, and no answer is empty")
        _check_sizes(elements, len(self.sources) // 8)
        _check_sizes(elements, len(self.answers) // 8)
        _check_sizes(max(4, -(-len(self.frame) // 4) * 4), 1)
        _check_range("a bit's source", self.sources, NOWHERE, elements)
        _check_range("an answer's source", self.answers, NOWHERE, elements)
        _check_range("a frame's source", self.frame, 0, elements)

    @property
    def elements(self) -> int:
        """Logits of a window."""
        return int(self.counted.size)

    @property
    def window_bytes(self) -> int:
        """Of a packed window, and of its residual."""
        return len(self.sources) // 8

    @property
    def answer_bytes(self) -> int:
        """Of what is committed."""
        return len(self.answers) // 8

    @classmethod
    def of_ising(cls, grid: ising.WindowGrid) -> ResidualTable:
        """As `qdec.neural.ising.window.WindowGrid.apply`; what has an effect counts."""
        tables = grid.tables
        elements = tables.constant.size
        sources = np.where(tables.sources < elements, tables.sources, NOWHERE).astype(np.int32)
        answers = np.full(tables.answer_bits, NOWHERE, dtype=np.int32)
        answers[tables.seam_bits] = tables.seam_sources
        counted = np.zeros(elements, dtype=np.bool_)
        counted[sources[sources >= 0]] = True
        counted[tables.frame_sources] = True
        return cls(sources, answers, tables.frame_sources.astype(np.int32), counted)


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """A soft network's output → log-odds of edges.

    Attributes:
        ptr: ``(E + 1,)`` int32: edge e has the places ``places[ptr[e]:ptr[e+1]]``, at least one.
        places: int32 flat indices into the output.
        priors: float32 log-odds that the output there is added to.
        elements: of the output, a multiple of four.

    Raises:
        GeometryError: a place is no element's, an edge has none, or the window is too large.
    """

    ptr: Int32s
    places: Int32s
    priors: NDArray[np.float32]
    elements: int

    def __post_init__(self) -> None:
        """Check what kernels will not."""
        _check_sizes(self.elements, 1)
        if self.ptr.ndim != 1 or len(self.ptr) < 2 or self.ptr[0] != 0:
            raise GeometryError("a window without edges needs no network")
        if (np.diff(self.ptr) < 1).any() or self.ptr[-1] != len(self.places):
            raise GeometryError("every edge needs a place, and every place an edge")
        if len(self.places) > MAX_ELEMENTS or self.priors.shape != self.places.shape:
            raise GeometryError("every place needs a prior, and there are too many of neither")
        _check_range("an edge's place", self.places, 0, self.elements)

    @property
    def edges(self) -> int:
        """E."""
        return len(self.ptr) - 1

    @classmethod
    def of_folded(cls, grid: folded.WindowGrid, channels: int) -> EdgeTable:
        """As `qdec.match.edge_odds.EdgeOdds`, of a network with so many output channels."""
        return cls(
            grid.edge_ptr.astype(np.int32),
            grid.places[grid.edge_places].astype(np.int32),
            grid.prior[grid.edge_places].astype(np.float32),
            channels * int(np.prod(grid.shape)),
        )


def _check_sizes(elements: int, num_bytes: int) -> None:
    if not 0 < elements <= MAX_ELEMENTS or elements % 4:
        raise GeometryError(
            f"a window's tensor has {elements} elements: kernels take a multiple of 4, at most "
            f"{MAX_ELEMENTS}"
        )
    if not 0 < num_bytes <= MAX_BYTES:
        raise GeometryError(f"a window of {num_bytes} bytes: kernels take 1 to {MAX_BYTES}")


def _check_range(what: str, indices: Int32s, low: int, end: int) -> None:
    if indices.dtype != np.int32:
        raise GeometryError(f"tables are int32, not {indices.dtype}")
    if indices.size and (indices.min() < low or indices.max() >= end):
        raise GeometryError(
            f"{what} lies at {indices.min()} to {indices.max()}, outside {low} to {end - 1}"
        )
