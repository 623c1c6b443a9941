"""The client's store of rounds: nothing is sent twice or skipped, and shots' tails stay whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdec.bits import Bytes
from qdec.client import Outbox
from qdec.errors import DataError


def rounds(first: int, count: int) -> Bytes:
    """Records that say which rounds they are."""
    return np.arange(first, first + count, dtype="<u4").view(np.uint8).reshape(count, 4)


def numbers(records: Bytes) -> list[int]:
    return [int(one) for one in np.ascontiguousarray(records).view("<u4").reshape(-1)]


def taken(box: Outbox, until: int, most: int) -> list[int]:
    """The rounds of the next frame, of which there is one."""
    frame = box.take(until, most)
    assert frame is not None
    return numbers(frame.records)


def filled(*chunks: int, first: int = 0, tail: int = 1) -> Outbox:
    box = Outbox(first, tail)
    for n in chunks:
        box.append(rounds(box.end, n), None, False, box.end)
    return box


def test_chunks_leave_as_they_came() -> None:
    box = filled(3, 1, 4)
    frames = []
    while frame := box.take(100, 100):
        frames.append((frame.first, numbers(frame.records), frame.t_send))
    assert frames == [(0, [0, 1, 2], 0), (3, [3], 3), (4, [4, 5, 6, 7], 4)]
    assert (box.next, box.end, box.held) == (8, 8, 8)
    assert box.take(100, 100) is None


def test_credit_and_frame_size_cut_chunks() -> None:
    box = filled(10)
    assert taken(box, 7, 5) == [0, 1, 2, 3, 4]
    assert taken(box, 7, 5) == [5, 6]
    assert box.take(7, 5) is None
    assert taken(box, 100, 5) == [7, 8, 9]


def test_lost_planes_are_cut_alike() -> None:
    box = Outbox(0)
    box.append(rounds(0, 6), rounds(100, 6), False, 0)
    frame = box.take(4, 9)
    assert frame is not None
    assert frame.lost is not None
    assert numbers(frame.lost) == [100, 101, 102, 103]


def test_a_streams_first_round_need_not_be_zero() -> None:
    box = filled(4, first=50)
    assert box.take(50, 9) is None
    assert taken(box, 52, 9) == [50, 51]
    with pytest.raises(DataError, match="round 49"):
        box.rewind(49)


def test_rewind_and_release() -> None:
    box = filled(4, 4, 4)
    while box.take(100, 100):
        pass
    box.release(6)
    assert box.held == 8  # chunks are kept whole
    with pytest.raises(DataError, match="round 3 is asked for again, but only 4"):
        box.rewind(3)
    box.rewind(6)
    assert taken(box, 100, 100) == [6, 7]
    with pytest.raises(DataError):
        box.rewind(13)
    box.rewind(12)
    assert box.take(100, 100) is None
    box.release(12)
    assert box.held == 0


def test_nothing_unsent_is_released() -> None:
    box = filled(4, 4)
    box.take(100, 100)
    box.release(8)
    assert taken(box, 100, 100) == [4, 5, 6, 7]


@pytest.mark.parametrize("limit", ["credit", "frame size"])
def test_a_tail_is_never_cut(limit: str) -> None:
    """A shot longer than credit or a frame still ends with its tail in one piece."""
    for n in range(2, 40):
        box = Outbox(0, 3)
        box.append(rounds(0, n), None, True, 0)
        credit, sent, lasts = 8, [], []
        while len(sent) < n:
            frame = box.take(credit if limit == "credit" else 10**6, 8)
            if frame is None:
                credit += 1
                assert credit < n + 9
                continue
            sent += numbers(frame.records)
            lasts.append((len(frame.records), frame.last))
        assert sent == list(range(n))
        assert [last for _, last in lasts] == [False] * (len(lasts) - 1) + [True]
        assert lasts[-1][0] >= min(3, n)


@given(data=st.data())
@settings(max_examples=150)
def test_against_a_model(data: st.DataObject) -> None:
    """Whatever happens in whatever order: frames are the rounds from `next` on, in order."""
    tail = data.draw(st.integers(1, 3))
    box = Outbox(0, tail)
    ends: set[int] = set()
    position = credit = kept = 0
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["append", "append", "take", "take", "rewind", "commit"])):
            case "append":
                n = data.draw(st.integers(1, 6))
                last = n >= tail and data.draw(st.booleans())
                box.append(rounds(box.end, n), None, last, 0)
                ends |= {box.end} if last else set()
            case "take":
                credit += data.draw(st.integers(0, 6))
                frame = box.take(credit, data.draw(st.integers(tail, 8)))
                if frame is None:
                    continue
                assert frame.first == position
                assert numbers(frame.records) == list(
                    range(position, position + len(frame.records))
                )
                position += len(frame.records)
                assert position <= credit
                assert frame.last == (position in ends)
                # The rest of a shot is enough for a tail, so that it can be sent in one frame.
                assert not any(position < end < position + tail for end in ends)
            case "rewind":
                # A lane never asks for the inside of a tail: it had all of it, or none.
                places = range(kept, position + 1)
                asked = [r for r in places if not any(e - tail < r < e for e in ends)]
                position = data.draw(st.sampled_from(asked or [position]))
                box.rewind(position)
            case "commit":
                kept = data.draw(st.integers(kept, position))
                box.release(kept)
                assert box.first <= kept
        assert box.next == position
        assert box.held == box.end - box.first
    # Everything arrives in the end.
    while frame := box.take(box.end, 8):
        assert frame.first == position
        position += len(frame.records)
    assert position == box.end
