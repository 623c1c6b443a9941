"""Commit records: the same bytes whether read by offset, by NumPy, or written by the lane."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.lanes import Lane
from helpers.recordings import recording
from qdec.bus.records import commit_dtype, read_records
from qdec.bus.wire import Commit
from qdec.errors import WireCode, WireError

sizes = st.integers(0, 40)


@given(sizes, sizes)
def test_layout(frame_bytes: int, seam_bytes: int) -> None:
    dtype = commit_dtype(frame_bytes, seam_bytes)
    assert dtype.itemsize % 8 == 0
    assert 0 <= dtype.itemsize - (48 + frame_bytes + seam_bytes) < 8
    raw = bytearray(struct.pack("<QQQIIfHBxQ", 1, 2, 3, 4, 5, 0.25, 6, 7, 2**64 - 8))
    raw += bytes(range(1, frame_bytes + 1)) + bytes(range(101, 101 + seam_bytes))
    raw += bytes(dtype.itemsize - len(raw))
    (row,) = read_records(bytes(raw), 1, dtype)
    assert [row[name].item() for name in ("window", "first_round", "t_send")] == [1, 2, 3]
    assert [row[name].item() for name in ("latency_ns", "count", "confidence")] == [4, 5, 0.25]
    assert [row[name].item() for name in ("flags", "tier")] == [6, 7]
    assert row["made_by"].item() == 2**64 - 8
    assert row["frame"].tobytes() == bytes(range(1, frame_bytes + 1))
    assert row["seam"].tobytes() == bytes(range(101, 101 + seam_bytes))


@pytest.mark.parametrize("size", [0, 55, 57, 111, 113, 168])
def test_a_body_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(WireError) as caught:
        read_records(bytes(size), 2, commit_dtype(1, 1))
    assert caught.value.wire is WireCode.BAD_FRAME


def test_records_are_views() -> None:
    body = bytes(112)
    rows = read_records(body, 2, commit_dtype(1, 1))
    assert len(rows) == 2
    assert not rows.flags.writeable
    assert np.shares_memory(rows, np.frombuffer(body, dtype=np.uint8))


def test_the_lane_writes_what_the_dtype_reads() -> None:
    """`qdec.lane` packs records with struct; sizes that need padding, and sizes that do not."""
    for name in ("shots, windows", "endless, raw, no reset"):
        rec = recording(name)
        stream = rec.open(Lane())
        assert stream.info is not None
        for first, end, last in rec.frames(0, []):
            assert stream.send(first, rec.records[first:end], last=last) is None
        stream.lane.work()
        replies = stream.lane.hear(stream.peer)
        commits = [(m, body) for m, body in replies if isinstance(m, Commit)]
        window = 0
        for message, body in commits:
            rows = read_records(body, message.n, stream.dtype)
            assert rows["window"].tolist() == list(range(window, window + message.n))
            window += message.n
            assert set(rows["tier"].tolist()) == {1}
            assert all(math.isnan(c) for c in rows["confidence"])
            assert rows["t_send"].min() >= 1000
            raw = np.frombuffer(body, dtype=np.uint8).reshape(message.n, -1)
            assert not raw[:, 39].any()
            assert {int(one) for one in rows["made_by"]} == {int(stream.info.identity, 16)}
            used = 48 + rows["frame"].shape[1] + rows["seam"].shape[1]
            assert not raw[:, used:].any()
        assert window > 0
