"""What a stream has, when it should be done with that, and when it is taken for lost."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from qdec.accelerator.work import HANG_FACTOR, Batch, StreamTerms


@dataclass(slots=True)
class Out:
    """A batch that is out; ns: when it was started, what it takes, when it is taken for lost."""

    batch: Batch
    started: int
    expected: int
    hangs_at: int = 0


@dataclass(slots=True)
class Stream:
    """A stream that runs batches in order.

    Attributes:
        index: its line in the table.
        terms: what stands there.
        out: its batches; the first one runs.
        free_at: ns when it should be done with them.
        done_at: ns when it last was done with one.
    """

    index: int
    terms: StreamTerms
    out: deque[Out] = field(default_factory=deque)
    free_at: int = 0
    done_at: int = 0

    def begins(self, now: int) -> int:
        """When the next batch would begin to run, ns."""
        return self.free_at if self.free_at > now else now

    def begin(self, batch: Batch, expected: int, now: int, hang_ns: int) -> None:
        """It has another batch, which is expected to run for so long."""
        one = Out(batch, now, expected)
        if not self.out:
            _runs_from(one, now, hang_ns)
        self.out.append(one)
        self.free_at = self.begins(now) + expected

    def end(self, one: Out, now: int, hang_ns: int) -> int:
        """It is done with a batch: for how many ns that ran."""
        took = max(0, now - max(one.started, self.done_at))
        self.out.remove(one)
        self.done_at = self.free_at = now
        for other in self.out:
            self.free_at += other.expected
        if self.out:
            _runs_from(self.out[0], now, hang_ns)
        return took


def _runs_from(one: Out, now: int, hang_ns: int) -> None:
    one.hangs_at = now + max(hang_ns, HANG_FACTOR * one.expected)
