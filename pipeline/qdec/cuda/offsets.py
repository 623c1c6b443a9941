"""Where the windows of a batch lie, and where their records go: checked before every launch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.cuda.record import ALIGNMENT
from qdec.errors import DataError


def check_offsets(
    what: str, offsets: NDArray[np.int64], size: int, room: int, *, align: int = 1
) -> None:
    """See that every place of a batch lies inside the memory that it is said to lie in.

    Args:
        what: it is, for the message.
        offsets: ``(B,)``; negative for empty places.
        size: bytes of each.
        room: bytes of the memory, a multiple of 4.
        align: bytes of which offsets must be multiples: `ALIGNMENT` for records.

    Raises:
        DataError: one does not, or is not aligned.
    """
    if offsets.dtype != np.int64 or offsets.ndim != 1:
        raise DataError(f"offsets of {what} must be (B,) int64")
    if room % 4:
        raise DataError(f"the memory of {what} ends inside a word: {room} bytes")
    used = offsets[offsets >= 0]
    if used.size and int(used.max()) > room - size:
        raise DataError(f"{what} of {size} bytes at {used.max()}, in a memory of {room}")
    if (used % align).any():
        raise DataError(f"{what} must begin at multiples of {align} bytes")


def check_record_offsets(offsets: NDArray[np.int64], size: int, room: int) -> None:
    """`check_offsets` of records; no two may overlap, since blocks write them at once.

    Raises:
        DataError: they do, or as `check_offsets`.
    """
    check_offsets("records", offsets, size, room, align=ALIGNMENT)
    used = np.sort(offsets[offsets >= 0])
    if (np.diff(used) < size).any():
        raise DataError(f"two records of {size} bytes overlap")
