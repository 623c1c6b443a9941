"""What all processes have counted, read from the arena at one moment."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from operator import add
from typing import TypeVar

from qdec.accelerator.stats import AcceleratorStats
from qdec.arena import Arena, Head
from qdec.lane.stats import MAX_NAMED, NAME_BYTES, LaneStats, StreamStats, Words, stream_offset

_LANE_WORDS = ctypes.sizeof(LaneStats) // 8
_STREAM_WORDS = ctypes.sizeof(StreamStats) // 8
_NAME_WORDS = NAME_BYTES // 8
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Reading:
    """Numbers of one moment, slots of the same lane added up.

    Attributes:
        head: the supervisor's.
        accelerator: what the accelerator counts.
        lanes: of each lane that was ever served.
        streams: of each stream with counters of its own that was ever opened.
    """

    head: Head
    accelerator: AcceleratorStats
    lanes: dict[int, LaneStats]
    streams: dict[str, StreamStats]


class Reader:
    """Takes readings; keeps the slots mapped that it has seen in use."""

    def __init__(self, arena: Arena) -> None:
        """Read from this segment."""
        self._arena = arena
        self._slots: dict[int, memoryview] = {}

    def read(self) -> Reading:
        """Add everything up."""
        head = self._arena.head
        lanes: dict[int, array[int]] = {}
        streams: dict[str, array[int]] = {}
        for index, owner in enumerate(head.slot_lane):
            if not owner:
                continue
            if index not in self._slots:
                self._slots[index] = self._arena.read_slot(index)
            live = bool(head.slot_live[index])
            slot = self._slots[index]
            words = array("Q", slot[:_LANE_WORDS])
            named = min(LaneStats.at(words).named, MAX_NAMED)
            _merge(LaneStats, lanes, owner - 1, _without_old_gauges(LaneStats, words, live))
            for name, stream in _streams(slot, named):
                stream = _without_old_gauges(StreamStats, stream, live)
                _merge(StreamStats, streams, name, stream)
        return Reading(
            head,
            self._arena.accelerator,
            {lane: LaneStats.at(words) for lane, words in lanes.items()},
            {name: StreamStats.at(words) for name, words in streams.items()},
        )


def _streams(slot: memoryview, named: int) -> Iterator[tuple[str, array[int]]]:
    for i in range(named):
        start = stream_offset(i) // 8
        words = array("Q", slot[start : start + _STREAM_WORDS])
        name = StreamStats.at(words).name
        words[:_NAME_WORDS] = array("Q", bytes(8 * _NAME_WORDS))  # names do not add up
        yield name, words


def _without_old_gauges(kind: type[Words], words: array[int], live: bool) -> array[int]:
    """What a dead process had last shown is not so any more; what it counted is."""
    if not live:
        for word in kind.fleeting():
            words[word] = 0
    return words


def _merge(kind: type[Words], sums: dict[_Key, array[int]], key: _Key, words: array[int]) -> None:
    """Take a slot's words together with those of the same lane or stream; see `Words`."""
    before = sums.get(key)
    if before is None:
        sums[key] = words
        return
    merged = sums[key] = array("Q", map(add, before, words))
    for word in kind.words_of(kind.MOMENTS):
        merged[word] = min(filter(None, (before[word], words[word])), default=0)
    for word in kind.words_of(kind.PEAKS):
        merged[word] = max(before[word], words[word])
