"""Every single fault of a code, as the DEM lists them: what it flips, decomposition aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import stim
from numpy.typing import NDArray

from qdec.bits import Bytes, num_bytes
from qdec.codes import Code
from qdec.codes.mechanisms import mix

Ints = NDArray[np.int64]


class Faults:
    """The distinct faults of a code: instructions that flip the same are one, as to any decoder.

    Repeat blocks are read once, so a long experiment costs arrays, not Python objects.
    """

    def __init__(self, code: Code) -> None:
        """Read and merge the code's error instructions (p > 0, flipping anything)."""
        self._items: list[stim.DemInstruction] = []
        item, shift, _ = self._read(code.dem)
        detectors, observables = zip(*map(_flips, self._items), strict=True)
        self._detectors, self._observables = _Lists.of(detectors), _Lists.of(observables)
        hashes = self._hashes(item, shift)
        first = np.sort(np.unique(hashes, return_index=True)[1])
        flips = (self._detectors.counts + self._observables.counts)[item[first]] > 0
        self._item, self._shift = item[first[flips]], shift[first[flips]]
        layout = code.layout
        self._row_bytes = layout.record_bytes
        self._rounds = layout.num_rounds
        self._slots = layout.round_of * (8 * layout.record_bytes) + layout.bit_of
        self._frame_bytes = num_bytes(code.num_observables)

    def __len__(self) -> int:
        """Distinct faults."""
        return len(self._item)

    @property
    def shot_bytes(self) -> int:
        """Bytes of one shot's records."""
        return self._rounds * self._row_bytes

    def records(self, which: Ints) -> Bytes:
        """``(n, rounds, record_bytes)`` uint8: the whole-shot records of these faults."""
        owner, detector = self._detectors.take(self._item[which])
        slots = self._slots[detector + self._shift[which][owner]]
        flat = _scatter(len(which), self.shot_bytes, owner, slots)
        return flat.reshape(len(which), self._rounds, self._row_bytes)

    def frames(self, which: Ints) -> Bytes:
        """``(n, frame_bytes)`` uint8: the observables that these faults flip."""
        owner, observable = self._observables.take(self._item[which])
        return _scatter(len(which), self._frame_bytes, owner, observable)

    def text(self, fault: int) -> str:
        """The fault's instruction (the first of those that flip the same), detectors absolute."""
        item, shift = self._items[int(self._item[fault])], int(self._shift[fault])
        targets = [
            "^"
            if t.is_separator()
            else f"D{t.val + shift}"
            if t.is_relative_detector_id()
            else str(t)
            for t in item.targets_copy()
        ]
        return " ".join([f"error({item.args_copy()[0]:.6g})", *targets])

    def _read(self, dem: stim.DetectorErrorModel) -> tuple[Ints, Ints, int]:
        """Items and detector shifts of a model's instructions, and its own total shift."""
        items: list[Ints] = [np.zeros(0, dtype=np.int64)]
        shifts: list[Ints] = [np.zeros(0, dtype=np.int64)]
        shift = 0
        for entry in dem:
            if isinstance(entry, stim.DemRepeatBlock):
                item, inner, step = self._read(entry.body_copy())
                times = entry.repeat_count
                steps = np.repeat(np.arange(times, dtype=np.int64) * step, len(item))
                items.append(np.tile(item, times))
                shifts.append(np.tile(inner, times) + steps + shift)
                shift += step * times
            elif entry.type == "shift_detectors":
                shift += int(entry.targets_copy()[0])
            elif entry.type == "error" and entry.args_copy()[0] > 0:
                items.append(np.array([len(self._items)], dtype=np.int64))
                shifts.append(np.array([shift], dtype=np.int64))
                self._items.append(entry)
        return np.concatenate(items), np.concatenate(shifts), shift

    def _hashes(self, item: Ints, shift: Ints) -> NDArray[np.uint64]:
        hashes = np.zeros(len(item), dtype=np.uint64)
        owner, detector = self._detectors.take(item)
        np.add.at(hashes, owner, mix(detector + shift[owner]))
        owner, observable = self._observables.take(item)
        np.add.at(hashes, owner, mix(observable, np.ones_like(observable)))
        return hashes


@dataclass(frozen=True, slots=True)
class _Lists:
    """Lists of numbers, end to end."""

    counts: Ints
    ends: Ints
    values: Ints

    @classmethod
    def of(cls, lists: tuple[list[int], ...]) -> _Lists:
        counts = np.array([len(one) for one in lists], dtype=np.int64)
        values = np.array([v for one in lists for v in one], dtype=np.int64)
        return cls(counts, np.cumsum(counts), values)

    def take(self, which: Ints) -> tuple[Ints, Ints]:
        """Values of the lists `which`, each with the place in `which` that it comes from."""
        counts = self.counts[which]
        owner = np.repeat(np.arange(len(which), dtype=np.int64), counts)
        ends = np.cumsum(counts)
        at = np.arange(len(owner)) + np.repeat(self.ends[which] - ends, counts)
        return owner, self.values[at]


def _flips(item: stim.DemInstruction) -> tuple[list[int], list[int]]:
    """Detectors and observables that an instruction flips, all its components together."""
    detectors: set[int] = set()
    observables: set[int] = set()
    for target in item.targets_copy():
        if not target.is_separator():
            into = detectors if target.is_relative_detector_id() else observables
            into ^= {target.val}
    return sorted(detectors), sorted(observables)


def _scatter(rows: int, row_bytes: int, owner: Ints, bit: Ints) -> Bytes:
    """``(rows, row_bytes)`` uint8 with the bits (owner, bit) set."""
    out = np.zeros(rows * row_bytes, dtype=np.uint8)
    np.bitwise_or.at(out, owner * row_bytes + (bit >> 3), (1 << (bit & 7)).astype(np.uint8))
    return out.reshape(rows, row_bytes)
