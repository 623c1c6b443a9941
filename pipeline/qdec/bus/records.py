"""Commit records: what a COMMIT carries per window, as a packed little-endian C struct.

::

    offset  size  field
         0     8  window        u64  number of the window in the stream
         8     8  first_round   u64  stream round at which the commit region starts
        16     8  t_send        u64  the client's stamp on the frame that completed the window
        24     4  latency_ns    u32  last byte received -> commit encoded (saturates)
        28     4  count         u32  rounds committed
        32     4  confidence    f32  probability that the frame is right; NaN if not known
        36     2  flags         u16  see qdec.commit.Flag
        38     1  tier          u8   see qdec.match.Tier
        39     1  reserved      u8   0
        40     8  made_by       u64  what made the answer: ``OPENED.identity``
        48   ...  frame         frame_bytes, LSB first
                  seam          seam_bytes
                  zeros         to a multiple of 8
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.errors import WireCode, WireError


def commit_dtype(frame_bytes: int, seam_bytes: int) -> np.dtype[np.void]:
    """The record of one window for given sizes (``OPENED.frame_bytes``, ``.seam_bytes``)."""
    size = 48 + frame_bytes + seam_bytes
    padded = -(-size // 8) * 8
    fields = {
        "window": ("<u8", 0),
        "first_round": ("<u8", 8),
        "t_send": ("<u8", 16),
        "latency_ns": ("<u4", 24),
        "count": ("<u4", 28),
        "confidence": ("<f4", 32),
        "flags": ("<u2", 36),
        "tier": ("u1", 38),
        "made_by": ("<u8", 40),
        "frame": ((np.uint8, (frame_bytes,)), 48),
        "seam": ((np.uint8, (seam_bytes,)), 48 + frame_bytes),
    }
    return np.dtype(
        {
            "names": list(fields),
            "formats": [f for f, _ in fields.values()],
            "offsets": [o for _, o in fields.values()],
            "itemsize": padded,
        }
    )


def read_records(body: bytes, n: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """View a COMMIT's body as ``(n,)`` records.

    Raises:
        WireError: BAD_FRAME if its size is not n records.
    """
    if len(body) != n * dtype.itemsize:
        raise WireError(
            WireCode.BAD_FRAME, f"{len(body)} bytes are not {n} records of {dtype.itemsize}"
        )
    return np.frombuffer(body, dtype=dtype)
