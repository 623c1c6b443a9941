"""Resume cursors: a stream's state behind a commit, sealed so that only the service can make one.

A client treats a cursor as opaque bytes and hands the newest one back. It holds nothing secret (all
of it follows from what the client sent), but a lane believes it, so it is authenticated with a key
that the service keeps: BLAKE2b, keyed, 16-byte tag.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from qdec.bus.wire import MAX_CURSOR_BYTES
from qdec.errors import CursorError

_TAG = 16
# version, code's shape, stream-name hash, raw, tier, window W, commit C, shot rounds, part, parts,
# digests of networks and ladder; then the state's integers and the lengths of its five byte
# strings.
_TERMS = struct.Struct("<B32s16sBBIIQBB8s8s")
_STATE = struct.Struct("<QQQBIIIII")
_HEAD = struct.Struct(_TERMS.format + _STATE.format.lstrip("<"))
_VERSION = 6


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a lane needs to take a stream over.

    Attributes:
        shape: 32 bytes; see `qdec.codes.Code.shape`.
        stream: the stream's name.
        raw: rounds carry measurements.
        tier: tier number.
        window_rounds, commit_rounds: the pinned geometry; 0, 0 for whole shots.
        shot_rounds: rounds per shot; 0 if endless.
        part, parts: which part of the stream, and of how many; 0, 1 for all of it.
        networks, ladder: 8 bytes each: digests of the networks that answer, and of who is asked
            where the tier is not sure; zeros for none.
        window, base, start, sweep_lost: as in `qdec.commit.StreamState`.
        frame, seam, history, sweep, lost: likewise.
    """

    shape: bytes
    stream: str
    raw: bool
    tier: int
    window_rounds: int
    commit_rounds: int
    shot_rounds: int
    part: int
    parts: int
    networks: bytes
    ladder: bytes
    window: int
    base: int
    start: int
    sweep_lost: bool
    frame: bytes
    seam: bytes
    history: bytes
    sweep: bytes
    lost: bytes


def stream_tag(stream: str) -> bytes:
    """16-byte hash that stands for a stream's name."""
    return hashlib.blake2b(stream.encode(), digest_size=16).digest()


def cursor_size(frame: int, seam: int, history: int, sweep: int) -> int:
    """Most bytes of a sealed cursor; where bits of the history were lost it holds that twice."""
    return _HEAD.size + frame + seam + 2 * history + sweep + _TAG


class Sealer:
    """Makes the cursors of one open stream: what was agreed is serialised once."""

    def __init__(
        self,
        *,
        shape: bytes,
        stream: str,
        raw: bool,
        tier: int,
        window_rounds: int,
        commit_rounds: int,
        shot_rounds: int,
        part: int,
        parts: int,
        networks: bytes,
        ladder: bytes,
        key: bytes,
    ) -> None:
        """See `Cursor` for the terms; `key` is the service's."""
        self._key = key
        self._terms = _TERMS.pack(
            _VERSION,
            shape,
            stream_tag(stream),
            raw,
            tier,
            window_rounds,
            commit_rounds,
            shot_rounds,
            part,
            parts,
            networks,
            ladder,
        )

    def seal(self, window: int, base: int, start: int, sweep_lost: bool, *parts: bytes) -> bytes:
        """Serialise and authenticate a state; `parts` are frame, seam, history, sweep and lost."""
        state = _STATE.pack(window, base, start, sweep_lost, *map(len, parts))
        payload = b"".join((self._terms, state, *parts))
        return payload + hashlib.blake2b(payload, key=self._key, digest_size=_TAG).digest()


def seal(cursor: Cursor, key: bytes) -> bytes:
    """Serialise and authenticate."""
    c = cursor
    sealer = Sealer(
        shape=c.shape,
        stream=c.stream,
        raw=c.raw,
        tier=c.tier,
        window_rounds=c.window_rounds,
        commit_rounds=c.commit_rounds,
        shot_rounds=c.shot_rounds,
        part=c.part,
        parts=c.parts,
        networks=c.networks,
        ladder=c.ladder,
        key=key,
    )
    return sealer.seal(
        c.window, c.base, c.start, c.sweep_lost, c.frame, c.seam, c.history, c.sweep, c.lost
    )


def unseal(sealed: bytes, stream: str, key: bytes) -> Cursor:
    """Check and parse a cursor handed back for `stream`.

    Raises:
        CursorError: it was not made by this service, or for another stream.
    """
    if not _HEAD.size + _TAG <= len(sealed) <= MAX_CURSOR_BYTES:
        raise CursorError("the cursor has an impossible size")
    payload, tag = sealed[:-_TAG], sealed[-_TAG:]
    expected = hashlib.blake2b(payload, key=key, digest_size=_TAG).digest()
    if not hmac.compare_digest(tag, expected):
        raise CursorError("the cursor is not one this service made (or its key was replaced)")
    version, shape, name, raw, *agreed = _HEAD.unpack_from(payload)
    tier, w, c, shot, part, of, networks, ladder, *state = agreed
    window, base, start, sweep_lost, *sizes = state
    if version != _VERSION or name != stream_tag(stream):
        raise CursorError("the cursor belongs to another stream, or another version of qdec")
    parts = []
    at = _HEAD.size
    for size in sizes:
        parts.append(payload[at : at + size])
        at += size
    if at != len(payload):
        raise CursorError("the cursor's parts do not add up")
    terms = shape, stream, bool(raw), tier, w, c, shot, part, of, networks, ladder
    return Cursor(*terms, window, base, start, bool(sweep_lost), *parts)
