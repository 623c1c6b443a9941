"""One stream that several lanes share: every round to all of them, their answers made one.

Each lane decodes a part of the code, so the frame is the XOR of the parts' frames and the seam the
XOR of their seams. The parts' streams mend their own breaks; the windows of one that is behind are
waited for, so each window is still handed over once, in order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from qdec.bits import Bytes
from qdec.bus.wire import OpenedBody
from qdec.client.interface import Commits, Stream
from qdec.client.options import Patience
from qdec.client.stream import LaneStream, wait_readable
from qdec.errors import Refused, WireCode

# As in qdec.commit.Flag, which clients do not import: a decoder would come along.
_LATE, _PREEMPTED = 2, 64
# What lanes that share a stream must have agreed to alike.
_ALIKE = (
    "code_sha256",
    "shot_rounds",
    "record_bytes",
    "frame_bytes",
    "seam_bytes",
    "window",
    "commit",
    "next_round",
    "next_window",
    "parts",
)


class SplitStream(Stream):
    """A stream in parts. Made by `open_stream`; see `Stream`."""

    def __init__(self, parts: Sequence[LaneStream], patience: Patience) -> None:
        """Take over freshly opened streams, one for each part.

        Raises:
            Refused: they were not opened for the same work (the configuration has just changed).
        """
        super().__init__()
        self._parts = tuple(parts)
        self._look_s = patience.silence_s
        self._info = _agreed([part.info for part in parts])
        self._waiting = tuple(Backlog() for _ in parts)
        for number, part in enumerate(parts):
            part.on_event = partial(self._event, number)

    def _event(self, part: int, line: str) -> None:
        self.on_event(f"part {part}: {line}")

    @property
    def info(self) -> OpenedBody:
        """See `Stream.info`. There is no one cursor: each part has its own."""
        return self._info

    @property
    def paused(self) -> int | None:
        """See `Stream.paused`."""
        return next((p.paused for p in self._parts if p.paused is not None), None)

    @property
    def resumes(self) -> int:
        """See `Stream.resumes`: of all parts together."""
        return sum(part.resumes for part in self._parts)

    @property
    def committed(self) -> int:
        """See `Stream.committed`."""
        return min(part.committed for part in self._parts)

    @property
    def pending(self) -> int:
        """See `Stream.pending`."""
        return max(part.pending for part in self._parts)

    @property
    def unsent(self) -> int:
        """See `Stream.unsent`."""
        return max(part.unsent for part in self._parts)

    @property
    def sent_until(self) -> int:
        """See `Stream.sent_until`."""
        return self._parts[0].sent_until

    @property
    def next_window(self) -> int:
        """See `Stream.next_window`."""
        return min(part.next_window for part in self._parts)

    def send(
        self,
        records: Bytes,
        *,
        last: bool = False,
        lost: Bytes | None = None,
        t_send: int | None = None,
    ) -> None:
        """See `Stream.send`."""
        stamp = time.monotonic_ns() if t_send is None else t_send
        for part in self._parts:
            part.send(records, last=last, lost=lost, t_send=stamp)

    def poll(self, timeout_s: float = 0.0) -> list[Commits]:
        """See `Stream.poll`."""
        deadline = time.monotonic() + timeout_s
        self._receive()
        while not (ready := min(len(backlog) for backlog in self._waiting)):
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            socks = [part.socket for part in self._parts]
            wait_readable(min(left, self._look_s), *socks)
            self._receive()
        return [merge([backlog.take(ready) for backlog in self._waiting])]

    def _receive(self) -> None:
        for part, backlog in zip(self._parts, self._waiting, strict=True):
            backlog.extend(part.poll())

    def close(self, *, wait: bool = True) -> None:
        """See `Stream.close`."""
        for part in self._parts:
            part.close(wait=wait)


class Backlog:
    """One part's windows in order, until the other parts have answered them, too."""

    def __init__(self) -> None:
        """Start empty."""
        self._batches: list[Commits] = []
        self._rows = 0

    def __len__(self) -> int:
        """Windows waiting."""
        return self._rows

    def extend(self, batches: list[Commits]) -> None:
        """Add what came, oldest first."""
        self._batches += batches
        self._rows += sum(map(len, batches))

    def take(self, count: int) -> Commits:
        """The oldest `count` windows, in an array of their own that may be written to."""
        rows = np.concatenate(self._batches)
        rest = rows[count:]
        self._batches = [rest] if len(rest) else []
        self._rows = len(rest)
        return rows[:count]


def merge(parts: Sequence[Commits]) -> Commits:
    """Answers to the same windows by all parts, made one.

    Args:
        parts: ``(n,)`` commit records of each part; the first array is written to.

    Returns:
        The first array: frames and seams XORed, what made them (0 where parts disagree), flags of
        any part (but PREEMPTED only where no part was late by its lane's own doing), the latest
        latency and stamp, and the probability that all parts are right.

    Raises:
        Refused: they are not answers to the same windows.
    """
    whole, *others = parts
    flags = [part["flags"].copy() for part in parts]
    for other in others:
        for name in ("window", "first_round", "count"):
            if not np.array_equal(whole[name], other[name]):
                raise Refused(
                    WireCode.INTERNAL, f"the lanes that share the stream disagree about '{name}'"
                )
        for name in ("frame", "seam"):
            whole[name] ^= other[name]
        for name in ("latency_ns", "t_send"):
            whole[name] = np.maximum(whole[name], other[name])
        whole["made_by"][whole["made_by"] != other["made_by"]] = 0
        whole["confidence"] *= other["confidence"]
        whole["flags"] |= other["flags"]
    ours = np.any([(f & (_LATE | _PREEMPTED)) == _LATE for f in flags], axis=0)
    whole["flags"][ours] &= ~np.uint16(_PREEMPTED)
    return whole


def _agreed(infos: Sequence[OpenedBody]) -> OpenedBody:
    first = infos[0]
    for number, info in enumerate(infos):
        if info.part != number:
            raise Refused(WireCode.INTERNAL, f"part {info.part} was opened instead of {number}")
        for name in _ALIKE:
            if getattr(info, name) != getattr(first, name):
                raise Refused(
                    WireCode.INTERNAL,
                    f"the lanes that share stream '{first.stream}' disagree about '{name}': the "
                    "service's configuration has just changed, so open it again",
                )
    return first.model_copy(
        update={
            "credit_until": min(info.credit_until for info in infos),
            "ring_rounds": min(info.ring_rounds for info in infos),
            "notes": list(dict.fromkeys(note for info in infos for note in info.notes)),
            "cursor": b"",
        }
    )
