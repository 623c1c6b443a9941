"""A stream that is cut at any commit and resumed elsewhere answers as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.lanes import Lane, same
from helpers.recordings import RECORDINGS, Recording, recording
from qdec.bits import Bytes, pack
from qdec.commit import Flag

Stop = tuple[int, bytes, int]


@dataclass
class Undisturbed:
    """All commits, and after each COMMIT (row reached, cursor, retain_from)."""

    commits: np.ndarray
    stops: list[Stop]


@cache
def undisturbed(name: str) -> Undisturbed:
    rec = recording(name)
    # Slow, so that hardly two windows share a message: each commit is a place at which to be cut.
    stream = rec.open(Lane(tick=1_000_000))
    taken = [stream.collect()]
    stops = [(0, stream.cursor, 0)]
    # A round a frame, as far as it goes: the most places at which to be cut.
    for first, end, last in rec.frames(0, list(range(len(rec.records)))):
        assert stream.send(first, rec.records[first:end], last=last) is None
        while stream.lane.core.work():
            rows = stream.collect_once()
            taken.append(rows)
            stops.append((sum(map(len, taken)), stream.cursor, stream.retain_from))
    commits = np.concatenate(taken)
    assert commits["window"].tolist() == list(range(len(commits)))
    assert commits["count"].sum() == len(rec.records)
    assert commits["frame"].any()
    return Undisturbed(commits, stops)


cuts = st.lists(st.integers(0, 10_000), max_size=12)


def play(
    rec: Recording, first: int, cursor: bytes, where: list[int], lazy: list[bool]
) -> np.ndarray:
    """The rest of a recording on a new lane, in other frames, decoded at other times."""
    stream = rec.open(Lane(), cursor=cursor)
    assert stream.info is not None
    assert stream.info.next_round == first
    taken = [stream.collect()]
    for i, (start, end, last) in enumerate(rec.frames(first, where)):
        assert stream.send(start, rec.records[start:end], last=last) is None
        if not (lazy and lazy[i % len(lazy)]):
            taken.append(stream.collect())
    taken.append(stream.collect())
    return np.concatenate(taken)


@pytest.mark.parametrize("name", RECORDINGS)
@given(stop=st.integers(0, 10_000), where=cuts, lazy=st.lists(st.booleans(), max_size=4))
@settings(max_examples=25)
def test_resume(name: str, stop: int, where: list[int], lazy: list[bool]) -> None:
    whole = undisturbed(name)
    row, cursor, retain_from = whole.stops[stop % len(whole.stops)]
    rest = play(recording(name), retain_from, cursor if row else b"", where, lazy)
    same(rest, whole.commits[row:])


@pytest.mark.parametrize("name", RECORDINGS)
def test_resume_behind_every_commit(name: str) -> None:
    """In mid-shot, at a shot's end, and inside the tail that must come in one frame."""
    whole = undisturbed(name)
    for row, cursor, retain_from in whole.stops:
        same(
            play(recording(name), retain_from, cursor if row else b"", [], []), whole.commits[row:]
        )


def test_a_cursor_outlives_another_wish_for_streams_that_are_behind() -> None:
    """The geometry is pinned; M of a new configuration counts only where it fits."""
    rec = recording("endless")
    stream = rec.open(Lane())
    assert stream.send(0, rec.records[:12]) is None
    stream.collect()
    for windows in ("4,2,2", "12,6", "4,2,24"):
        again = rec.open(Lane(), cursor=stream.cursor, windows=windows)
        assert again.info is not None
        assert (again.info.window, again.info.commit) == (6, 3)


@cache
def damage(name: str) -> Bytes:
    """A plane with one bit in twenty lost."""
    records = recording(name).records
    bits = np.random.default_rng(9).random((len(records), 8 * records.shape[1])) < 1 / 20
    return pack(bits)


def with_losses(name: str, first: int, cursor: bytes) -> tuple[np.ndarray, list[Stop]]:
    """The rest of a recording with bits lost, a round a frame; and where it may be resumed."""
    rec, lost = recording(name), damage(name)
    stream = rec.open(Lane(), cursor=cursor)
    taken = [stream.collect()]
    stops: list[Stop] = []
    for start, end, last in rec.frames(first, list(range(len(rec.records)))):
        part = rec.records[start:end]
        assert stream.send(start, part, last=last, lost=lost[start:end]) is None
        rows = stream.collect()
        if len(rows):
            taken.append(rows)
            stops.append((sum(map(len, taken)), stream.cursor, stream.retain_from))
    return np.concatenate(taken), stops


@pytest.mark.parametrize("name", RECORDINGS)
def test_resume_with_losses(name: str) -> None:
    """What was lost right before the boundary still matters behind it, and is in the cursor."""
    whole, stops = with_losses(name, 0, b"")
    assert (whole["flags"] & (Flag.ERASURE | Flag.ERASURE_IGNORED)).any()
    for row, cursor, retain_from in stops:
        same(with_losses(name, retain_from, cursor)[0], whole[row:])
