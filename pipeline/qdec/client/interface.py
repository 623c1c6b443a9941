"""What a client sees of an open stream, whether one lane decodes it or several share it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.bus.wire import OpenedBody
from qdec.errors import ServiceUnavailable

Commits = NDArray[np.void]


class Stream(ABC):
    """An open stream. Make it with `open_stream`.

    Attributes:
        on_event: called with a line of text when something out of the ordinary happens.
    """

    def __init__(self) -> None:
        """Nobody listens yet."""
        self.on_event: Callable[[str], None] = lambda _line: None

    def __enter__(self) -> Self:
        """The stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Close; on an error, without waiting for the service."""
        self.close(wait=kind is None)

    @property
    @abstractmethod
    def info(self) -> OpenedBody:
        """What was agreed; `OpenedBody` documents the fields."""

    @property
    @abstractmethod
    def paused(self) -> int | None:
        """Why the service asked for a pause, see `qdec.bus.wire.PauseReason`, or None."""

    @property
    @abstractmethod
    def resumes(self) -> int:
        """Breaks survived."""

    @property
    @abstractmethod
    def committed(self) -> int:
        """Rounds committed: every round before this one is covered by a commit."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Rounds held here because no commit covers them yet."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Rounds queued here that have not been sent for want of credit."""

    @property
    @abstractmethod
    def sent_until(self) -> int:
        """One past the newest round given to `send`."""

    @property
    @abstractmethod
    def next_window(self) -> int:
        """Number of the window that will be handed over next."""

    @abstractmethod
    def send(
        self,
        records: Bytes,
        *,
        last: bool = False,
        lost: Bytes | None = None,
        t_send: int | None = None,
    ) -> None:
        """Queue the next rounds and send what credit allows; never blocks.

        Watch `pending` if the source can outrun the service for long: rounds are held here.

        Args:
            records: ``(n, record_bytes)`` uint8, C-contiguous; must not change afterwards.
            last: the shot ends with these rounds (endless streams).
            lost: same shape, ones where a bit was lost.
            t_send: ns stamp that comes back with the commit (default: now, CLOCK_MONOTONIC).

        Raises:
            DataError: the shape is wrong.
        """

    @abstractmethod
    def poll(self, timeout_s: float = 0.0) -> list[Commits]:
        """Commits that have arrived, in order; waits up to `timeout_s` for the first.

        Returns:
            Structured arrays with the fields of `qdec.bus.records`, one row per window.

        Raises:
            Refused: the service refused what was sent.
            ServiceUnavailable: the service has been away for too long.
        """

    @abstractmethod
    def close(self, *, wait: bool = True) -> None:
        """Close the stream; with `wait`, until the service has confirmed (up to a second)."""

    def drain(self, until_round: int | None = None, timeout_s: float = 60.0) -> list[Commits]:
        """Wait until everything before `until_round` (default: all that was sent) is committed.

        Only complete windows are answered: for an endless stream, end it with ``last=True`` first.

        Raises:
            ServiceUnavailable: it took longer than `timeout_s`.
        """
        target = self.sent_until if until_round is None else until_round
        deadline = time.monotonic() + timeout_s
        collected: list[Commits] = []
        while self.committed < target:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"rounds {self.committed}...{target} were not committed in {timeout_s} s"
                )
            collected += self.poll(0.05)
        return collected + self.poll(0)
