"""What each kernel computes, in NumPy: plainly, for tests and for machines without a GPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes, pack, unpack
from qdec.cuda.record import BitRecord, OddsRecord
from qdec.cuda.tables import EdgeTable, ResidualTable, UnpackTable

Reals = NDArray[np.floating]
# Log-odds that no network has a reason for.
WILD = 1e4


def unpack_windows(
    table: UnpackTable, windows: Bytes, values: NDArray[np.unsignedinteger]
) -> NDArray[np.unsignedinteger]:
    """``(B, window_bytes)`` → ``(B, C, T, H, W)`` of `values`, which stand for the constants."""
    entries = table.entries
    bits = unpack(windows, 8 * table.window_bytes)[:, np.maximum(entries, 0)]
    constants = values[np.maximum(~entries, 0)]
    return np.where(entries >= 0, values[bits], constants)


def residual(table: ResidualTable, windows: Bytes, logits: Reals) -> Bytes:
    """``(B, window_bytes)`` and ``(B, elements)`` logits → ``(B, size)`` records (`BitRecord`).

    Windows with logits that are not finite get no corrections.
    """
    record = BitRecord(table.window_bytes, table.answer_bytes)
    records = np.zeros((len(windows), record.size), dtype=np.uint8)
    head, left, answer = record.read(records)
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    made = np.zeros((len(windows), table.elements + 1), dtype=np.uint8)  # the last: nowhere
    made[:, :-1] = (logits >= 0) & finite[:, None]
    left[:] = windows ^ pack(np.bitwise_xor.reduce(made[:, table.sources], axis=2))
    bits = made[:, table.answers]
    bits[:, 0] ^= np.bitwise_xor.reduce(made[:, table.frame], axis=1)
    answer[:] = pack(bits)
    head["doubt"], head["margin"] = _confidence(logits[:, table.counted], finite)
    head["count"] = np.unpackbits(left, axis=1).sum(axis=1, dtype=np.uint32)
    head["sick"] = ~finite
    return records


def edges(table: EdgeTable, change: Reals, likely: float, *, half: bool = False) -> Bytes:
    """``(B, elements)`` of a network's output → ``(B, size)`` records (`OddsRecord`).

    Windows whose output is not finite, or beyond `WILD`, get NaN.
    """
    record = OddsRecord(table.edges, half)
    records = np.zeros((len(change), record.size), dtype=np.uint8)
    head, out = record.read(records)
    sound = np.asarray((np.abs(change) < WILD).all(axis=1))  # False for NaN
    each = change[:, table.places].astype(np.float32) + table.priors
    odds = each[:, table.ptr[:-1]].copy()
    for edge in np.flatnonzero(np.diff(table.ptr) > 1).tolist():
        several = each[:, table.ptr[edge] : table.ptr[edge + 1]].astype(np.float64)
        product = np.prod(-np.tanh(several / 2), axis=1)
        with np.errstate(divide="ignore"):  # certain causes: infinite odds
            odds[:, edge] = np.log1p(-product) - np.log1p(product)
    odds[~sound] = np.nan
    out[:] = odds
    head["doubt"], head["margin"] = _confidence(odds, sound)
    head["count"] = (odds > np.float32(likely)).sum(axis=1)
    head["sick"] = ~sound
    return records


def _confidence(logits: Reals, sound: NDArray[np.bool_]) -> tuple[Reals, Reals]:
    """Sum of softplus(-|l|), and min |l|; inf and 0 where not sound."""
    size = np.abs(np.where(sound[:, None], logits, 1).astype(np.float64))
    doubt = np.log1p(np.exp(-size)).sum(axis=1)
    margin = size.min(axis=1, initial=np.inf)
    return np.where(sound, doubt, np.inf), np.where(sound, margin, 0)
