"""One window on Ising's grid: packed rounds to the network's input, its output to corrections.

A correction is a data qubit that flips just before a round (c), or a measurement that came out
wrong in it (m). c[t] flips the detectors of its checks in round t; m[t] flips its stabiliser's
detectors of rounds t and t + 1. So of what is committed, only m of the last round of the commit
region reaches beyond it: into the seam.

A window that opens in mid-stream has no syndrome of the rounds before it, which are committed: the
network is shown quiet ones, as many as it looks back, with all stabilisers present. Nothing of
their output is used; what was wrong in them came in with the seam. Where a window stays open at its
end, the network sees nothing behind it, and what it says there is provisional.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bits, Bytes, pack, unpack
from qdec.codes.spacetime import SpaceTime
from qdec.neural.engine import Floats
from qdec.neural.ising.placement import Placement
from qdec.windows.cut import answer_bytes
from qdec.windows.geometry import Window

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GridTables:
    """A `WindowGrid` as data, for those who do what it does elsewhere.

    Flat indices are into ``(4, T, D, D)``; its size stands for nothing.

    Attributes:
        constant: ``(4, T, D, D)`` float32 of 0/1: the input of a window without events.
        event_nodes, event_cells: bit ``event_nodes[i]`` of a window is shown at flat index
            ``event_cells[i]``.
        sources: ``(bits, 6)``: corrections that flip each bit of the window, first the ones there.
        frame_sources: corrections whose parity flips the frame, bit 0 of the answer.
        seam_bits, seam_sources: bits of the answer that are a correction each, and which.
        answer_bits: how many bits an answer has.
    """

    constant: Floats
    event_nodes: Ints
    event_cells: Ints
    sources: Ints
    frame_sources: Ints
    seam_bits: Ints
    seam_sources: Ints
    answer_bits: int


class WindowGrid:
    """The place of a window's bits on the grid, and what corrections do to them."""

    def __init__(
        self, placement: Placement, space: SpaceTime, window: Window, *, past: int
    ) -> None:
        """Work out the tables.

        Args:
            placement: of the code.
            space: the code's rounds.
            window: which rounds, and how many of them commit.
            past: quiet rounds to show the network before a window that opens in mid-stream.
        """
        self._placement = placement
        self._row = 8 * space.layout.record_bytes
        rounds = window.end - window.start
        templates = [
            space.class_rounds[space.class_of(r, window.length)]
            for r in range(window.start, window.end)
        ]
        # What lies behind the last round on the grid says nothing, and is passed on as it is.
        self._rounds = sum(template <= placement.last for template in templates)
        self._perfect = np.array(templates[: self._rounds]) == placement.last
        self.past = past if window.start else 0
        self._nodes = rounds * self._row
        frame_bytes, seam_bytes = answer_bytes(space)
        self._answer_bits = 8 * (frame_bytes + seam_bytes)
        self._seam_bit = 8 * frame_bytes
        size = placement.patch.distance
        self.shape = (4, self.past + self._rounds, size, size)
        self._checks = placement.checks[templates]
        self._lay_out(window)

    def _lay_out(self, window: Window) -> None:
        """Tables of flat indices into ``(4, T, D, D)``; one past the end stands for nothing."""
        laid = self._placement.patch
        self._input = np.zeros(self.shape, dtype=np.float32)
        self._input[2:, : self.past] = laid.presence[:, None]  # quiet rounds have everything
        nowhere = self._input.size
        self._sources = np.full((self._nodes, 6), nowhere, dtype=np.int64)
        events: list[tuple[int, int]] = []  # node, where the network sees it
        seam: list[tuple[int, int]] = []  # bit of the answer, what flips it
        qubits = [[np.flatnonzero(check) for check in checks] for checks in laid.checks]
        for t, row in enumerate(self._checks):
            shown = [self._shown(kind, t) for kind in range(2)]
            for kind in range(2):
                if shown[kind]:
                    self._input[2 + kind, self.past + t] = laid.presence[kind]
            for bit in np.flatnonzero(row >= 0).tolist():
                kind, check = divmod(int(row[bit]), laid.half)
                node, cell = t * self._row + bit, int(laid.cells[kind][check])
                before = self._measured(kind, t - 1, cell)
                flips = [*before, *self._measured(kind, t, cell)]
                if t < self._rounds:
                    flips += [self._at(kind, t, int(q)) for q in qubits[kind][check]]
                self._sources[node, : len(flips)] = flips
                if t == window.commit:
                    seam += [(self._seam_bit + bit, at) for at in before]
                if shown[kind]:
                    events.append((node, self._at(kind, t, cell)))
        self._events, self._event_cells = _columns(events)
        self._seam_bits, self._seam_sources = _columns(seam)
        committed = np.zeros((4, self.shape[1], laid.distance**2), dtype=np.bool_)
        rounds = slice(self.past, self.past + window.commit)
        committed[self._placement.memory, rounds] = self._placement.observable
        self._frame_sources = np.flatnonzero(committed)

    def _at(self, channel: int, t: int, cell: int) -> int:
        _, rounds, size, _ = self.shape
        return (channel * rounds + self.past + t) * size * size + cell

    def _measured(self, kind: int, t: int, cell: int) -> list[int]:
        """Flat index of a wrong measurement in round t; nothing where there can be none."""
        if not 0 <= t < self._rounds or self._perfect[t]:
            return []
        return [self._at(2 + kind, t, cell)]

    def _shown(self, kind: int, t: int) -> bool:
        """Whether the network sees the stabilisers of a type in a round.

        Those of the other basis are hidden in the perfect round, even where the circuit has them.
        """
        if t >= self._rounds or (self._perfect[t] and kind != self._placement.memory):
            return False
        row = self._checks[t]
        return bool((row[row >= 0] // self._placement.patch.half == kind).any())

    @property
    def tables(self) -> GridTables:
        """What `network_input` and `apply` go by."""
        return GridTables(
            self._input,
            self._events,
            self._event_cells,
            self._sources,
            self._frame_sources,
            self._seam_bits,
            self._seam_sources,
            self._answer_bits,
        )

    def network_input(self, syndromes: Bytes) -> Floats:
        """``(B, rounds * record_bytes)`` uint8 packed rounds → ``(B, 4, T, D, D)`` float32."""
        bits = unpack(syndromes, self._nodes)
        out = np.repeat(self._input[None], len(syndromes), axis=0)
        out.reshape(len(out), -1)[:, self._event_cells] = bits[:, self._events]
        return out

    def apply(self, syndromes: Bytes, corrections: Bits) -> tuple[Bytes, Bytes]:
        """What corrections leave to be matched, and what of them is committed.

        Args:
            syndromes: ``(B, rounds * record_bytes)`` uint8 packed rounds.
            corrections: ``(B, 4, T, D, D)`` bool: c_Z, c_X, m_X, m_Z. What cannot be (a wrong
                measurement where there is no stabiliser, or in the perfect round) is passed over.

        Returns:
            The residual, packed as the syndromes are, and ``(B, frame_bytes + seam_bytes)`` uint8:
            the answer to XOR into the one that matching gives to the residual.
        """
        shots = len(syndromes)
        flat = np.zeros((shots, self._input.size + 1), dtype=np.uint8)
        flat[:, :-1] = corrections.reshape(shots, -1)
        effects = np.bitwise_xor.reduce(flat[:, self._sources], axis=2)
        answer = np.zeros((shots, self._answer_bits), dtype=np.uint8)
        answer[:, 0] = np.bitwise_xor.reduce(flat[:, self._frame_sources], axis=1)
        answer[:, self._seam_bits] = flat[:, self._seam_sources]
        return syndromes ^ pack(effects), pack(answer)


def _columns(pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
