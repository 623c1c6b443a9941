"""A simulated QPU keeps its cycle time, and does not burst after it was held up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from qdec_tools import qpu
from qdec_tools.qpu import Qpu

US = 1000
FRAME = 10


class Clock:
    """Time that passes only in `poll`; one poll takes much longer than it was asked to."""

    def __init__(self, held_up_us: int) -> None:
        self.ns = 10**12
        self._held_up_ns = held_up_us * US

    def wait(self, timeout_s: float) -> None:
        self.ns += max(1 * US, round(timeout_s * 1e9))
        if self.ns > 10**12 + 500 * US:
            self.ns += self._held_up_ns
            self._held_up_ns = 0


def run(monkeypatch: pytest.MonkeyPatch, held_up_us: int) -> tuple[Qpu, list[int], list[int]]:
    """Pace 1 ms at 1 µs; when frames left, and the stamps they had."""
    clock = Clock(held_up_us)
    monkeypatch.setattr(qpu.time, "monotonic_ns", lambda: clock.ns)
    left: list[int] = []
    stamps: list[int] = []

    def send(records: np.ndarray, *, t_send: int) -> None:
        left.append(clock.ns)
        stamps.append(t_send)

    stream = SimpleNamespace(
        info=SimpleNamespace(next_round=0, window=10, shot_rounds=0),
        committed=0,
        resumes=0,
        on_event=None,
        send=send,
        poll=lambda timeout_s=0.0: clock.wait(timeout_s) or [],
    )
    source = SimpleNamespace(
        next=lambda n: np.zeros((n, 1), dtype=np.uint8),
        forget=lambda: None,
        check=lambda _commits: None,
        errors=0,
        checked=0,
        rate=float("nan"),
    )
    one = Qpu(stream, source, lambda _report: None)
    one._pace(1.0, (clock.ns + 1000 * US) * 1e-9, FRAME)
    return one, left, stamps


def test_frames_leave_when_their_last_round_has_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    one, left, stamps = run(monkeypatch, 0)
    assert len(left) == 100
    assert set(np.diff(stamps).tolist()) == {FRAME * US}
    assert all(0 <= a - b <= 2 * US for a, b in zip(left, stamps, strict=True))
    assert one.report.stalled_s == 0


def test_the_clock_stops_while_the_simulator_is_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    one, left, stamps = run(monkeypatch, 200)
    assert one.report.stalled_s == pytest.approx(200e-6, rel=0.1)
    assert len(left) == 80
    # No burst: the frames behind the gap are as far apart as those before it.
    assert min(np.diff(left)) >= (FRAME - 2) * US
    assert all(0 <= a - b <= 2 * US for a, b in zip(left, stamps, strict=True))
