"""What the scheduler is asked, and what it decides: values, and nothing of engines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from qdec.accelerator.latency import Buckets
from qdec.errors import ConfigError


class Priority(IntEnum):
    """Whose work it is; what has the lower number goes first, always."""

    DECODING = 0
    CALIBRATION = 1


class Reason(IntEnum):
    """Why work is not begun."""

    LATE = 0  # it would be late even if an idle engine began it at once
    BUSY = 1  # it would be late behind the work that is ahead of it
    OVERTAKEN = 2  # it could have made it when it came: slow batches and more urgent work took that
    SHED = 3  # it would have kept others from being decoded together, and more from being in time
    LONG = 4  # calibration that would hold decoding up for longer than it may


class Work(NamedTuple):
    """Windows of one kind that are decoded in one batch, never apart.

    Attributes:
        number: whose meaning is the caller's; never the same again.
        kind: of window.
        windows: at least one.
        give_up: ns from which on the answer is of no use.
        lane: who asks, for fairness where deadlines are equal.
        priority: whose work it is.
    """

    number: int
    kind: int
    windows: int
    give_up: int
    lane: int = 0
    priority: Priority = Priority.DECODING


class Batch(NamedTuple):
    """Work that runs together.

    Attributes:
        number: never the same again.
        kind: of all its windows.
        bucket: the compiled size in which it runs.
        passes: how many times that runs: once, unless it is one work that no bucket holds.
        work: in the order of its deadlines.
    """

    number: int
    kind: int
    bucket: int
    passes: int
    work: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class StreamTerms:
    """One line of the table of an engine's streams.

    Attributes:
        buckets: what it can run.
        takes: priorities of the work that it runs.
        most: batches that it may have at a time. What is behind another one there is begun early:
            only a full batch, or one whose turn is next within `Terms.lead_ns`.
    """

    buckets: Buckets
    takes: tuple[Priority, ...] = (Priority.DECODING, Priority.CALIBRATION)
    most: int = 1

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            ConfigError: no work would ever run there.
        """
        if self.most < 1 or not self.takes:
            raise ConfigError("a stream takes work of some priority, one batch at a time or more")


@dataclass(frozen=True, slots=True)
class Terms:
    """How streams are used; all in ns.

    Attributes:
        wait_ns: how long work may wait on an idle stream for more of its kind, if its deadline
            allows that: for engines on which two batches cost more than one of both.
        lead_ns: how long before a stream is free its next batch may be handed to it.
        section_ns: how long a batch of calibration may hold a stream that decoding uses.
        hang_ns: a batch that has run for longer than this, and than `HANG_FACTOR` times what was
            expected, never comes back.
    """

    wait_ns: int = 0
    lead_ns: int = 30_000
    section_ns: int = 1_000_000
    hang_ns: int = 1_000_000_000


HANG_FACTOR = 20


class Start(NamedTuple):
    """Run a batch on a stream, given by its line in the table."""

    stream: int
    batch: Batch


class Skip(NamedTuple):
    """Do not run some work."""

    work: Work
    reason: Reason


class WaitUntil(NamedTuple):
    """Ask again then (ns), or when something has come or come back; always the last decision."""

    at: int


class Hung(NamedTuple):
    """A batch on this stream will not come back: the engine is lost, with all that it has."""

    stream: int
    batch: Batch


Decision: TypeAlias = Start | Skip | WaitUntil | Hung
