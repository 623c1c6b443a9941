"""Warnings that whoever causes them cannot flood the log with."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_EVERY_S = 5.0


class Rarely:
    """Logs at most one line per kind and interval, with how many were left out before it."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to a log. Kinds are the caller's own words, so there are few."""
        self._log = log
        self._clock = clock
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, kind: str, line: str) -> None:
        """Log a line, unless one of its kind was a moment ago."""
        now = self._clock()
        if now < self._next.get(kind, 0.0):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._next[kind] = now + _EVERY_S
        left_out = self._left_out.pop(kind, 0)
        more = f" (and {left_out} more such since the last line)" if left_out else ""
        self._log.warning("%s%s", line, more)
