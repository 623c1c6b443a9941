"""The client's merging of parts: every window once, in order, however the parts come in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.bus.records import commit_dtype
from qdec.bus.wire import OpenedBody
from qdec.client import Commits
from qdec.client.split import _LATE, _PREEMPTED, Backlog, _agreed, merge
from qdec.commit import Flag
from qdec.errors import Refused

DTYPE = commit_dtype(2, 3)
LATE, PREEMPTED = int(Flag.LATE), int(Flag.PREEMPTED)


def commits(n: int, seed: int = 0) -> Commits:
    """Windows of ten rounds, with answers at random."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, dtype=DTYPE)
    rows["window"] = np.arange(n)
    rows["first_round"] = 10 * np.arange(n)
    rows["count"] = 10
    rows["tier"] = 1
    for name in ("frame", "seam"):
        rows[name] = rng.integers(0, 256, rows[name].shape)
    for name in ("latency_ns", "t_send"):
        rows[name] = rng.integers(0, 1000, n)
    rows["confidence"] = rng.random(n)
    return rows


@given(
    cuts=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7)), max_size=40),
    n=st.integers(1, 30),
)
def test_windows_come_once_and_in_order(cuts: list[tuple[int, int]], n: int) -> None:
    parts = [commits(n, seed) for seed in range(3)]
    backlogs = [Backlog() for _ in parts]
    at, taken = [0, 0, 0], []
    for which, count in [*cuts, *((k, n) for k in range(3))]:
        rows = parts[which][at[which] : at[which] + count]
        backlogs[which].extend([rows] if len(rows) else [])
        at[which] += len(rows)
        assert len(backlogs[which]) == at[which] - sum(map(len, taken))
        if ready := min(map(len, backlogs)):
            taken.append(merge([backlog.take(ready) for backlog in backlogs]))
    whole = np.concatenate(taken)
    assert whole["window"].tolist() == list(range(n))
    for name in ("frame", "seam"):
        np.testing.assert_array_equal(
            whole[name], np.bitwise_xor.reduce([part[name] for part in parts])
        )
    for name in ("latency_ns", "t_send"):
        np.testing.assert_array_equal(whole[name], np.max([part[name] for part in parts], axis=0))
    np.testing.assert_allclose(
        whole["confidence"], np.prod([part["confidence"] for part in parts], axis=0), rtol=1e-5
    )


def test_what_the_lanes_sent_stays_as_it_was() -> None:
    """Commits are views of received messages, which others may hold."""
    first, second = commits(3, 1), commits(3, 2)
    frozen = np.frombuffer(first.tobytes(), dtype=DTYPE)
    backlog, other = Backlog(), Backlog()
    backlog.extend([frozen])
    other.extend([second])
    merge([backlog.take(2), other.take(2)])
    np.testing.assert_array_equal(frozen, first)
    assert len(backlog) == 1


def test_confidence_that_one_part_does_not_know_is_not_known() -> None:
    parts = commits(1, 1), commits(1, 2)
    parts[1]["confidence"] = math.nan
    assert math.isnan(merge(parts)["confidence"][0])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((0, 0), 0),
        ((LATE, 0), LATE),
        ((0, LATE | PREEMPTED), LATE | PREEMPTED),
        ((LATE | PREEMPTED, LATE | PREEMPTED), LATE | PREEMPTED),
        # One part was late by itself, so the whole was.
        ((LATE, LATE | PREEMPTED), LATE),
        ((LATE | PREEMPTED, LATE), LATE),
        ((Flag.INFEASIBLE, Flag.ERASURE), Flag.INFEASIBLE | Flag.ERASURE),
        ((Flag.SHOT_END | LATE, Flag.SHOT_END), Flag.SHOT_END | LATE),
    ],
    ids=str,
)
def test_flags(flags: tuple[int, int], expected: int) -> None:
    parts = commits(1, 1), commits(1, 2)
    for part, flag in zip(parts, flags, strict=True):
        part["flags"] = flag
    assert merge(parts)["flags"][0] == expected
    assert (_LATE, _PREEMPTED) == (LATE, PREEMPTED)


@pytest.mark.parametrize("name", ["window", "first_round", "count"])
def test_answers_to_other_windows_are_not_merged(name: str) -> None:
    parts = commits(3, 1), commits(3, 2)
    parts[1][name][1] += 1
    with pytest.raises(Refused, match=f"disagree about '{name}'"):
        merge(parts)


def opened(part: int, **changed: object) -> OpenedBody:
    numbers = {
        name: 1 for name, field in OpenedBody.model_fields.items() if field.annotation is int
    }
    texts = {"stream": "s", "tier": "matching", "code_sha256": "ab"}
    given = {**numbers, **texts, "notes": [], "cursor": b"c", "parts": ["a", "b"], "part": part}
    return OpenedBody(**{**given, **changed})


def test_what_the_parts_agreed_to_is_one_agreement() -> None:
    info = _agreed(
        [
            opened(0, credit_until=70, ring_rounds=60, notes=["x", "y"]),
            opened(1, credit_until=60, ring_rounds=70, notes=["y", "z"]),
        ]
    )
    assert (info.credit_until, info.ring_rounds) == (60, 60)
    assert info.notes == ["x", "y", "z"]
    assert info.cursor == b""


@pytest.mark.parametrize(
    "changed",
    [{"window": 2}, {"code_sha256": "cd"}, {"next_round": 0}, {"parts": ["a", "c"]}],
    ids=str,
)
def test_parts_that_were_opened_for_other_work_are_refused(changed: dict[str, object]) -> None:
    (name,) = changed
    with pytest.raises(Refused, match=f"disagree about '{name}'"):
        _agreed([opened(0), opened(1, **changed)])


def test_a_part_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(Refused, match="part 0 was opened instead of 1"):
        _agreed([opened(0), opened(0)])
