"""Commits as they look on the wire: one record per window, one at a time or in columns."""

from __future__ import annotations

import math
import struct

import numpy as np

from qdec.bus.records import commit_dtype
from qdec.commit import Committed, CommittedShots

_RECORD = struct.Struct("<QQQIIfHBxQ")
_U32 = 0xFFFFFFFF


class RecordWriter:
    """Writes the commit records of one stream (see `qdec.bus.records`)."""

    def __init__(self, frame_bytes: int, seam_bytes: int, made_by: int = 0) -> None:
        """For frames and seams of these sizes; `made_by` is what makes the answers."""
        self._made_by = made_by
        self._dtype = commit_dtype(frame_bytes, seam_bytes)
        self._pad = bytes(self._dtype.itemsize - _RECORD.size - frame_bytes - seam_bytes)

    def one(self, c: Committed, latency_ns: int, more_flags: int) -> bytes:
        """The record of a window."""
        head = _RECORD.pack(
            c.window,
            c.first_round,
            c.came.t_send,
            latency_ns if latency_ns < _U32 else _U32,
            c.count,
            c.confidence,
            c.flags | more_flags,
            c.tier,
            self._made_by,
        )
        return b"".join((head, c.frame.tobytes(), c.seam.tobytes(), self._pad))

    def several(self, c: CommittedShots, latency_ns: int, more_flags: int) -> bytes:
        """The records of whole shots, whose seams are empty."""
        n = len(c.flags)
        rows = np.zeros(n, dtype=self._dtype)
        rows["window"] = np.arange(c.window, c.window + n)
        rows["first_round"] = np.arange(c.first_round, c.first_round + n * c.count, c.count)
        rows["t_send"] = c.came.t_send
        rows["latency_ns"] = min(latency_ns, _U32)
        rows["count"] = c.count
        rows["confidence"] = math.nan if c.confidence is None else c.confidence
        rows["flags"] = c.flags | more_flags
        rows["tier"] = c.tier
        rows["made_by"] = self._made_by
        rows["frame"] = c.frames
        return rows.tobytes()
