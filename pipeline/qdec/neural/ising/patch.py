"""The rotated surface code on Ising's grid: which cell a stabiliser sits on, and in which order.

Data qubit q = row * D + column. A plaquette (i, j) has its corners at rows i, i+1 and columns j,
j+1, as far as they lie on the patch: four in the bulk, two at an edge. Plaquettes of one type have
the same parity of i + j.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bits
from qdec.errors import ModelError

Ints = NDArray[np.int64]
Basis = Literal["X", "Z"]
# The order of types in everything that has one entry for each: X stabilisers, then Z.
KINDS: tuple[Basis, Basis] = ("X", "Z")
# Beyond any experiment; bounds the tables.
MAX_DISTANCE = 101


class Orientation(Enum):
    """Type of the bulk plaquette in the top left corner, and how its weight-2 ones lie.

    Published as O1 to O4, in this order.
    """

    XV = "XV"
    XH = "XH"
    ZV = "ZV"
    ZH = "ZH"

    @property
    def first(self) -> int:
        """The type (an index into `KINDS`) of the bulk plaquette in the top left corner."""
        return 0 if self.value[0] == "X" else 1

    @property
    def vertical(self) -> int:
        """The type whose weight-2 stabilisers are vertical pairs, on the left and right edges."""
        return self.first if self.value[1] == "V" else 1 - self.first


@dataclass(frozen=True, eq=False)
class Patch:
    """A patch of odd distance D in one orientation. Tuples have X's entry first, then Z's.

    Attributes:
        distance: D.
        orientation: one of four.
        plaquettes: ``(half, 2)`` (i, j) of each stabiliser, half = (D² - 1) / 2.
        cells: ``(half,)`` the data qubit on whose cell it sits.
        checks: ``(half, D²)`` bool: the data qubits it checks (H_X and H_Z).
        presence: ``(2, D, D)`` float32: 1 on cells of weight-4 stabilisers, 1/2 on those of
            weight 2, else 0.
        logicals: ``(D²,)`` bool: the data qubits of the logical operator of that type.
    """

    distance: int
    orientation: Orientation
    plaquettes: tuple[Ints, Ints]
    cells: tuple[Ints, Ints]
    checks: tuple[Bits, Bits]
    presence: NDArray[np.float32]
    logicals: tuple[Bits, Bits]

    @property
    def half(self) -> int:
        """Stabilisers of each type."""
        return (self.distance**2 - 1) // 2


@cache
def patch(distance: int, orientation: Orientation) -> Patch:
    """Lay out a patch.

    Raises:
        ModelError: the distance is even, below 3, or beyond `MAX_DISTANCE`.
    """
    if distance % 2 == 0 or not 3 <= distance <= MAX_DISTANCE:
        raise ModelError(
            f"the Ising layout has odd distances from 3 to {MAX_DISTANCE}, not {distance}"
        )
    size = distance
    plaquettes: tuple[list[tuple[int, int]], ...] = ([], [])
    for i in range(-1, size):
        for j in range(-1, size):
            kind = orientation.first if (i + j) % 2 == 0 else 1 - orientation.first
            on_row_edge, on_column_edge = i in (-1, size - 1), j in (-1, size - 1)
            vertical = kind == orientation.vertical
            if not (on_row_edge and (on_column_edge or vertical)) and not (
                on_column_edge and not vertical
            ):
                plaquettes[kind].append((i, j))
    plaquettes[1].sort(key=lambda at: (at[1], at[0]))  # X by row, Z by column
    presence = np.zeros((2, size * size), dtype=np.float32)
    cells, checks = [], []
    for kind in range(2):
        corners = [_corners(at, size) for at in plaquettes[kind]]
        cells.append(np.array([_cell(kind, qubits) for qubits in corners], dtype=np.int64))
        check = np.zeros((len(corners), size * size), dtype=np.bool_)
        for row, qubits in zip(check, corners, strict=True):
            row[qubits] = True
        checks.append(check)
        presence[kind, cells[-1]] = check.sum(axis=1) / 4
    top, left = np.zeros((2, size, size), dtype=np.bool_)
    top[0], left[:, 0] = True, True
    logicals = (top, left) if orientation.vertical == 0 else (left, top)
    return Patch(
        size,
        orientation,
        (_pairs(plaquettes[0]), _pairs(plaquettes[1])),
        (cells[0], cells[1]),
        (checks[0], checks[1]),
        presence.reshape(2, size, size),
        (logicals[0].reshape(-1), logicals[1].reshape(-1)),
    )


def _corners(at: tuple[int, int], size: int) -> list[int]:
    """Data qubits of a plaquette, by row, then column."""
    i, j = at
    return [
        row * size + column
        for row in (i, i + 1)
        for column in (j, j + 1)
        if 0 <= row < size and 0 <= column < size
    ]


def _cell(kind: int, corners: list[int]) -> int:
    """X: top left. Z: top right. Of a pair, the one that lies on that side."""
    if KINDS[kind] == "X":
        return corners[0]
    horizontal = corners[1] == corners[0] + 1
    return corners[1] if horizontal else corners[0]


def _pairs(plaquettes: list[tuple[int, int]]) -> Ints:
    return np.array(plaquettes, dtype=np.int64).reshape(-1, 2)
