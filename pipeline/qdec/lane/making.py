"""What makes a stream's answers, in eight bytes: every answer carries them."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from qdec.codes import Code
from qdec.match import Tier
from qdec.windows import Geometry


class Making(NamedTuple):
    """What makes a configured stream's answers, and what its rounds look like.

    Attributes:
        identity: see `identity`.
        shape: see `shape`.
    """

    identity: int
    shape: int


def shape(code: Code, length: int | None, *, raw: bool, parts: int) -> int:
    """A 64-bit hash of what cursors are bound to: streams that agree on it resume from each other.

    Args:
        code: the code.
        length: rounds of a shot; None if endless.
        raw: rounds carry measurements.
        parts: how many lanes decode it.
    """
    key = hashlib.blake2b(code.shape, digest_size=8)
    key.update(f"{length} {raw} {parts}".encode())
    return int.from_bytes(key.digest(), "little")


def identity(code: Code, tier: Tier, geometry: Geometry, networks: bytes, ladder: bytes) -> int:
    """A 64-bit hash of what a window's answer depends on, beside its rounds and its seam.

    Streams, and lanes, that agree on it answer the same windows alike. Where an answer says that
    another tier gave it, that tier was given the same code and windows.

    Args:
        code: with the faults that it is decoded by.
        tier: what is asked first.
        geometry: the windows.
        networks, ladder: as in `qdec.lane.session.Terms`.
    """
    windows = f"{geometry.window},{geometry.commit},{geometry.most}"
    key = hashlib.blake2b(f"{tier.label} {windows}".encode(), digest_size=8)
    for part in (code.digest, networks, ladder):
        key.update(part)
    return int.from_bytes(key.digest(), "little")
