"""How fast recorded rounds go out: as answers come, or by a cycle time. No I/O."""

from __future__ import annotations

import time

from qdec.bus.wire import OpenedBody

# Most per message, whichever is less: calls of PyMatching are amortised from some 64 shots on.
_FRAME_SHOTS = 64
_FRAME_ROUNDS = 4096
_LEAST_FRAME_SHOTS = 4
_LEAST_FRAME_ROUNDS = 64
# A message for so long a time where rounds come at a set cycle time.
_PACED_FRAME_US = 50.0


class Flow:
    """How far ahead of the commits to send: as far as answers come within half their deadline.

    More in flight would buy little throughput, and latencies would tell of the queue only.

    Attributes:
        frame: rounds per message.
        most: no message is longer.
        ahead: most rounds in flight.
    """

    def __init__(self, info: OpenedBody) -> None:
        """Start low."""
        self._shot = info.shot_rounds
        self._least = info.commit or self._shot
        if self._shot <= _LEAST_FRAME_ROUNDS:
            self._least = min(_LEAST_FRAME_SHOTS, _LEAST_FRAME_ROUNDS // self._shot) * self._shot
        self.most = max(self._least, min(_FRAME_ROUNDS, _FRAME_SHOTS * self._shot))
        self._window = info.window or self._shot
        self._budget_ns = info.deadline_us * 500
        self._next = 0
        self.frame = self._least

    @property
    def ahead(self) -> int:
        """See the class: two messages, and what a window needs before it can be answered."""
        return 2 * self.frame + self._window

    def heard(self, latency_ns: float, committed: int, sent: int) -> None:
        """Adapt, once what was sent under the present setting is committed.

        Args:
            latency_ns: of a typical commit (the odd slow one is the scheduler's doing).
            committed: rounds committed by now.
            sent: rounds sent by now.
        """
        if committed < self._next:
            return
        whole_shots = self.frame >= self._shot
        if latency_ns < self._budget_ns:
            step = self._shot if whole_shots else self._least
            frame = max(self.frame * 5 // 4, self.frame + step)
        else:
            frame = self.frame * 3 // 4
        if whole_shots and frame >= self._shot:
            frame -= frame % self._shot
        self.frame = min(self.most, max(self._least, frame))
        self._next = sent


class Pace:
    """Rounds due by a cycle time.

    Attributes:
        paced: whether there is one.
        began: when the first round was due.
        sent: rounds sent so far.
    """

    def __init__(self, cycle_us: float) -> None:
        """Start now; 0 is as fast as possible."""
        self.paced = cycle_us > 0
        self._cycle_us = cycle_us
        self._frame = max(1, int(_PACED_FRAME_US / cycle_us)) if self.paced else 1
        self.began = time.monotonic()
        self.sent = 0

    def due(self, most: int) -> tuple[int, float]:
        """(rounds to send now, at most `most`; seconds until there will be more)."""
        elapsed_us = (time.monotonic() - self.began) * 1e6
        due = int(elapsed_us / self._cycle_us) - self.sent
        wanted = min(self._frame, most)
        if due >= wanted:
            return min(due, most), 0.05
        return 0, min(0.05, ((self.sent + wanted) * self._cycle_us - elapsed_us) * 1e-6)

    def due_ns(self, count: int) -> int:
        """When the last of the next `count` rounds is due; latencies count from there."""
        return int(self.began * 1e9 + (self.sent + count) * self._cycle_us * 1e3)
