"""Cursors say what was sealed, to whom it was sealed for, and to nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.bus import cursor as cursors
from qdec.bus.cursor import Cursor, cursor_size, seal, stream_tag, unseal
from qdec.bus.wire import MAX_CURSOR_BYTES
from qdec.errors import CursorError, WireCode

KEY = bytes(range(32))
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
some = st.binary(max_size=60)
CURSORS = st.builds(
    Cursor,
    shape=st.binary(min_size=32, max_size=32),
    stream=st.just("patch0"),
    raw=st.booleans(),
    tier=st.integers(0, 255),
    window_rounds=u32,
    commit_rounds=u32,
    shot_rounds=u64,
    part=st.integers(0, 255),
    parts=st.integers(0, 255),
    networks=st.binary(min_size=8, max_size=8),
    ladder=st.binary(min_size=8, max_size=8),
    window=u64,
    base=u64,
    start=u64,
    frame=some,
    seam=some,
    history=some,
    sweep=some,
    lost=some,
)
TERMS = b"c" * 32, "patch0", True, 1, 6, 3, 0, 0, 1, b"networks", b"a ladder"
ONE = Cursor(*TERMS, 7, 20, 9, True, b"f", b"se", b"his", b"", b"los")


@given(CURSORS)
def test_what_is_sealed_comes_back(cursor: Cursor) -> None:
    sealed = seal(cursor, KEY)
    assert unseal(sealed, "patch0", KEY) == cursor
    parts = (cursor.frame, cursor.seam, cursor.history, cursor.sweep)
    most = cursor_size(*map(len, parts))
    assert len(sealed) == most - len(cursor.history) + len(cursor.lost)


def test_any_flipped_bit_is_noticed() -> None:
    sealed = seal(ONE, KEY)
    for bit in range(8 * len(sealed)):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CursorError):
            unseal(bytes(forged), "patch0", KEY)


def test_any_other_length_is_noticed() -> None:
    sealed = seal(ONE, KEY)
    for n in range(len(sealed)):
        with pytest.raises(CursorError):
            unseal(sealed[:n], "patch0", KEY)
    for more in (b"\0", b"\0" * 16, b"\0" * MAX_CURSOR_BYTES):
        with pytest.raises(CursorError):
            unseal(sealed + more, "patch0", KEY)


def test_another_key_or_name_is_noticed() -> None:
    sealed = seal(ONE, KEY)
    with pytest.raises(CursorError, match="not one this service made"):
        unseal(sealed, "patch0", KEY[::-1])
    with pytest.raises(CursorError, match="another stream") as caught:
        unseal(sealed, "patch1", KEY)
    assert caught.value.wire is WireCode.BAD_CURSOR


def test_another_version_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "_VERSION", 99)
    newer = seal(ONE, KEY)
    monkeypatch.undo()
    with pytest.raises(CursorError, match="another version"):
        unseal(newer, "patch0", KEY)


def test_lengths_that_do_not_add_up_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only we can seal such a thing, by mistake; it is not read beyond its end all the same."""
    state = cursors._STATE

    class Lying:
        size = state.size

        @staticmethod
        def pack(*fields: object) -> bytes:
            return state.pack(*fields[:-1], 999)

    monkeypatch.setattr(cursors, "_STATE", Lying)
    wrong = seal(ONE, KEY)
    monkeypatch.undo()
    with pytest.raises(CursorError, match="add up"):
        unseal(wrong, "patch0", KEY)


def test_the_size_is_known_before_there_is_a_cursor() -> None:
    assert len(stream_tag("x")) == 16
    assert len(seal(ONE, KEY)) == cursor_size(1, 2, 3, 0)  # with losses, the longest
