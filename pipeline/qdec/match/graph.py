"""A PyMatching graph over some of a window's ids, and how its predictions become answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pymatching
import stim
from numpy.typing import NDArray

from qdec.bits import Bytes, num_bytes, unpack

Ints = NDArray[np.int64]
# PyMatching keeps observables in one 64-bit mask up to this many, and is several times slower
# beyond.
FAST_IDS = 64


_FEASIBLE = np.ones(64, dtype=np.bool_)
_FEASIBLE.flags.writeable = False


def all_feasible(shots: int) -> NDArray[np.bool_]:
    """``(shots,)`` of True, read-only where it is shared."""
    return _FEASIBLE[:shots] if shots <= len(_FEASIBLE) else np.ones(shots, dtype=np.bool_)


def decode_feasibly(
    matching: pymatching.Matching, shots: Bytes, width: int, *, correlated: bool = False
) -> tuple[Bytes, NDArray[np.bool_]]:
    """`Matching.decode_batch`, bit-packed, that survives infeasible shots.

    PyMatching raises for the whole batch if one shot has no perfect matching; then each shot is
    decoded alone. (An infeasible shot leaves nothing behind in the matcher: tested.)

    Returns:
        ``(B, width)`` uint8 predictions, zero where infeasible, and ``(B,)`` feasibility.
    """
    try:
        predictions = matching.decode_batch(
            shots,
            bit_packed_shots=True,
            bit_packed_predictions=True,
            enable_correlations=correlated,
        )
        return predictions, all_feasible(len(shots))
    except ValueError:
        if len(shots) == 1:
            return np.zeros((1, width), dtype=np.uint8), np.zeros(1, dtype=np.bool_)
    each = [
        decode_feasibly(matching, shots[i : i + 1], width, correlated=correlated)
        for i in range(len(shots))
    ]
    return np.concatenate([p for p, _ in each]), np.concatenate([ok for _, ok in each])


@dataclass(slots=True)
class Graph:
    """One PyMatching graph: the nodes it looks at, and where its predicted bits belong.

    Attributes:
        matching: the compiled graph over all of the window's nodes.
        mask: ``(num_nodes/8,)`` uint8 selecting the bits that belong to it; None for all.
        ids: answer bit of each predicted bit; None where they are the same.
        correlated: two-pass correlated matching.
    """

    matching: pymatching.Matching
    mask: Bytes | None
    ids: Ints | None
    correlated: bool = False
    _width: int = field(init=False)

    def __post_init__(self) -> None:
        """Know how wide PyMatching's predictions are."""
        self._width = num_bytes(self.matching.num_fault_ids)

    def predict(self, syndromes: Bytes, width: int) -> tuple[Bytes, NDArray[np.bool_]]:
        """Decode ``(B, num_nodes/8)`` into answer bits ``(B, width)`` and feasibility ``(B,)``."""
        shots = syndromes if self.mask is None else syndromes & self.mask
        predicted, feasible = decode_feasibly(
            self.matching, shots, self._width, correlated=self.correlated
        )
        if self.ids is None:
            return predicted, feasible
        bits = np.zeros((len(shots), width * 8), dtype=np.uint8)
        bits[:, self.ids] = unpack(predicted, len(self.ids))
        return np.packbits(bits, axis=-1, bitorder="little"), feasible


def targets(u: Ints, v: Ints, id_ptr: Ints, ids: Ints) -> list[str]:
    """DEM targets of components: detectors `u` and `v` (-1: the boundary), then their ids."""
    out = [f"D{a} D{b}" if b >= 0 else f"D{a}" for a, b in zip(u.tolist(), v.tolist(), strict=True)]
    for k in np.flatnonzero(np.diff(id_ptr)).tolist():
        out[k] += "".join(f" L{i}" for i in ids[id_ptr[k] : id_ptr[k + 1]].tolist())
    return out


def error_lines(p: NDArray[np.float64], flips: list[str]) -> list[str]:
    """DEM error instructions; each distinct probability is formatted once."""
    unique, which = np.unique(p, return_inverse=True)
    heads = [f"error({q!r}) " for q in unique.tolist()]
    return [heads[i] + f for i, f in zip(which.reshape(-1).tolist(), flips, strict=True)]


def graph_from_lines(
    lines: list[str],
    num_nodes: int,
    num_ids: int,
    *,
    mask: Bytes | None,
    ids: Ints | None,
    correlated: bool = False,
) -> Graph:
    """Compile DEM lines. Padding the model fixes the numbers of nodes and of predicted bits."""
    lines = [*lines, f"detector D{num_nodes - 1}"]
    if num_ids:
        lines.append(f"logical_observable L{num_ids - 1}")
    model = stim.DetectorErrorModel("\n".join(lines))
    matching = pymatching.Matching.from_detector_error_model(model, enable_correlations=correlated)
    matching.ensure_num_fault_ids(num_ids)
    warm = np.zeros((1, num_bytes(num_nodes)), dtype=np.uint8)
    decode_feasibly(matching, warm, num_bytes(num_ids), correlated=correlated)
    return Graph(matching, mask, ids, correlated)
