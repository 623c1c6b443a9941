"""How fast a replay sends: adapts to latencies, never waits for itself, keeps a pace."""

from __future__ import annotations

import pytest

from qdec.bus.wire import OpenedBody
from qdec_tools.flow import Flow, Pace

FAST, SLOW = 1_000, 5_000_000


def agreed(shot: int, window: int = 0, commit: int = 0) -> OpenedBody:
    return OpenedBody(
        stream="s",
        next_round=0,
        next_window=0,
        credit_until=1000,
        record_bytes=1,
        shot_rounds=shot,
        frame_bytes=1,
        seam_bytes=0,
        observables=1,
        window=window,
        commit=commit,
        tier="matching",
        deadline_us=2000,
        ring_rounds=1000,
        tail_in_one_frame=0,
        code_sha256="",
        cursor=b"",
        notes=[],
    )


TERMS = [
    agreed(1),
    agreed(6),
    agreed(6, 3, 1),
    agreed(12, 105, 100),
    agreed(70, 20, 10),
    agreed(5000),
    agreed(100_000, 105, 100),
]


@pytest.mark.parametrize("info", TERMS)
def test_what_may_be_in_flight_always_completes_a_window(info: OpenedBody) -> None:
    """Else sender and lane would wait for one another, whatever was sent under earlier settings."""
    flow = Flow(info)
    need = min(info.window or info.shot_rounds, info.shot_rounds)
    sent = 0
    for latency in [FAST] * 60 + [SLOW] * 60 + [FAST, SLOW] * 20:
        assert 1 <= flow.frame <= flow.most
        # At most need - 1 rounds are answered by nothing yet; one more frame must be allowed.
        assert need - 1 + flow.frame <= flow.ahead
        sent += flow.frame
        flow.heard(latency, sent, sent)


@pytest.mark.parametrize("info", TERMS)
def test_frames_grow_while_answers_are_quick_and_shrink_when_slow(info: OpenedBody) -> None:
    flow = Flow(info)
    low = flow.frame
    for n in range(60):
        flow.heard(FAST, n, n)
    high = flow.frame
    assert high >= low
    assert high >= flow.most - info.shot_rounds
    for n in range(60, 120):
        flow.heard(SLOW, n, n)
    assert flow.frame == low


def test_a_setting_is_judged_by_what_was_sent_under_it() -> None:
    flow = Flow(agreed(6))
    flow.heard(FAST, 24, 500)
    frame = flow.frame
    flow.heard(SLOW, 499, 600)  # still answers to what went before
    assert flow.frame == frame
    flow.heard(SLOW, 500, 600)
    assert flow.frame < frame


def test_a_pace_lets_out_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pace = Pace(10.0)
    assert pace.paced
    n, wait_s = pace.due(1000)
    assert n == 0
    assert wait_s == pytest.approx(50e-6)
    now[0] += 0.001
    assert pace.due(1000)[0] == pytest.approx(100, abs=1)
    assert pace.due(7)[0] == 7
    pace.sent = 90
    assert pace.due_ns(10) == pytest.approx(100.001e9, rel=1e-12)
    assert not Pace(0).paced


def test_a_shot_shorter_than_a_frame_is_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pace = Pace(1.0)
    now[0] = 4e-6
    assert pace.due(3)[0] == 3
