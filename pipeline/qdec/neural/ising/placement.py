"""A code's detectors on Ising's grid: which stabiliser each one is, and what a data flip does.

The grid is found from the detectors' coordinates, the two types from their parity on it, and the
memory basis from the mechanisms that flip the observable. What a correction flips is then checked
against the code's own mechanisms, so that it never says anything that the matcher would not.

Row is the second coordinate, column the first, as Stim's surface codes are drawn; coordinates that
are turned by 45 degrees, like Google's, are turned back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bits
from qdec.codes import Code
from qdec.codes.rows import owners
from qdec.codes.spacetime import Components, concatenate
from qdec.errors import ModelError
from qdec.neural.ising.patch import KINDS, MAX_DISTANCE, Basis, Orientation, Patch, patch

Ints = NDArray[np.int64]
_NOT = "the ising tier is for memory experiments of one rotated surface code patch"


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a code's detectors stand on Ising's grid.

    Attributes:
        patch: the grid.
        basis: of the memory experiment.
        checks: ``(rounds, 8 * record_bytes)`` for each bit of the template's rounds: the stabiliser
            it tells of, X ones as 0 to half - 1, then Z ones; -1 where there is none.
        observable: ``(D²,)`` bool: the data qubits whose flip, detected by the memory basis'
            stabilisers, flips the observable.
        last: the template's round that is perfect: the last on the grid. It is the one that comes
            from the data's readout, or, where the circuit ends with a round without noise and that
            says nothing new, the one before it.
    """

    patch: Patch
    basis: Basis
    checks: Ints
    observable: Bits
    last: int

    @property
    def memory(self) -> int:
        """The memory basis as an index into `KINDS`."""
        return KINDS.index(self.basis)


@lru_cache(maxsize=4)
def place(code: Code, basis: Basis | None = None) -> Placement:
    """Place a code's detectors.

    Args:
        code: with detector coordinates.
        basis: what the memory experiment stores; None for what the circuit's readout says, and Z
            for a DEM, which does not tell: X and Z differ in nothing but their names, and the
            other choice is another of the four orientations.

    Raises:
        ModelError: it is no memory experiment of one rotated surface code patch of odd distance.
    """
    if code.num_observables != 1:
        raise ModelError(f"{_NOT}: the code has {code.num_observables} observables")
    size, parity, at = _grid(code)
    rounds, bits = code.layout.round_of, code.layout.bit_of
    memory_class = _memory_class(code, parity)
    basis = basis or code.readout or "Z"
    kind = KINDS.index(basis)
    x_class = memory_class if kind == 0 else 1 - memory_class
    laid = _orientation(size, x_class, at)
    checks = np.full((code.layout.num_rounds, 8 * code.layout.record_bytes), -1, dtype=np.int64)
    index = {
        (int(i), int(j)): kind * laid.half + n
        for kind in range(2)
        for n, (i, j) in enumerate(laid.plaquettes[kind])
    }
    checks[rounds, bits] = [index[i, j] for i, j in at.tolist()]
    _check_rounds(laid, checks)
    everything = _template(code)
    touched = np.concatenate([everything.u_round, everything.v_round])
    quiet_end = not (touched == code.layout.num_rounds - 1).any()
    last = code.layout.num_rounds - (2 if quiet_end else 1)
    observable = _observable(laid, kind, checks, everything)
    return Placement(laid, basis, checks, observable, last)


def canonical_order(code: Code, placement: Placement) -> Ints:
    """A shot's detectors in Ising's order (see `qdec.neural.ising.shots`): their numbers.

    Raises:
        ModelError: the rounds do not have the detectors that Ising's have: those of the memory
            basis in the first and last, all in between.
    """
    checks, memory, half = placement.checks, placement.memory, placement.patch.half
    of_place = np.full(checks.shape, -1, dtype=np.int64)
    of_place[code.layout.round_of, code.layout.bit_of] = np.arange(code.layout.num_detectors)
    order = []
    for round_, row in enumerate(checks):
        bits = np.flatnonzero(row >= 0)
        bits = bits[np.argsort(row[bits])]
        kinds = (memory,) if round_ in (0, len(checks) - 1) else (0, 1)
        wanted = np.concatenate([np.arange(half) + kind * half for kind in kinds])
        if not np.array_equal(row[bits], wanted):
            raise ModelError(f"round {round_} does not have the detectors that Ising's shots have")
        order.append(of_place[round_, bits])
    return np.concatenate(order)


def _grid(code: Code) -> tuple[int, Ints, Ints]:
    """Distance, and for each detector the parity and (i, j) of its plaquette."""
    coordinates = code.dem.get_detector_coordinates()
    points = np.full((code.layout.num_detectors, 2), np.nan)
    for detector, where in coordinates.items():
        if len(where) >= 3:
            points[detector] = where[:2]
    if not np.isfinite(points).all():
        raise ModelError(f"{_NOT}: its detectors need coordinates (x, y, t)")
    x, y = points.T
    for columns, rows in ((x, y), (x - y, x + y)):
        i, j = _steps(rows), _steps(columns)
        if i is not None and j is not None and i.max() == j.max():
            size = int(i.max())
            found = np.unique(np.stack([i, j], axis=1), axis=0)
            if size % 2 and 3 <= size <= MAX_DISTANCE and len(found) == size**2 - 1:
                at = np.stack([i - 1, j - 1], axis=1)
                return size, (i + j) % 2, at
    raise ModelError(
        f"{_NOT}, of odd distance from 3 to {MAX_DISTANCE}: its detectors' coordinates are those "
        "of no such patch"
    )


def _steps(values: NDArray[np.float64]) -> Ints | None:
    """Evenly spaced values as 0, 1, 2, …; None if they are not."""
    unique, which = np.unique(np.round(values, 6), return_inverse=True)
    gaps = np.diff(unique)
    if not len(gaps) or not np.allclose(gaps, gaps[0], atol=1e-5):
        return None
    return which.reshape(-1).astype(np.int64)


def _template(code: Code) -> Components:
    """Components that start in one round of each class, in the template's rounds."""
    space = code.spacetime
    return concatenate([space.starting_in(r, space.rounds).shifted(r) for r in space.class_rounds])


def _memory_class(code: Code, parity: Ints) -> int:
    """Parity of the plaquettes whose events tell of the observable."""
    layout = code.layout
    of_bit = np.full((layout.num_rounds, 8 * layout.record_bytes), -1, dtype=np.int64)
    of_bit[layout.round_of, layout.bit_of] = parity
    c = _template(code)
    flips = np.diff(c.obs_ptr) > 0
    classes = np.unique(of_bit[c.u_round[flips], c.u_bit[flips]])
    if len(classes) != 1:
        raise ModelError(f"{_NOT}: events of both bases tell of the observable, or none does")
    return int(classes[0])


def _orientation(size: int, x_class: int, at: Ints) -> Patch:
    places = {(int(i), int(j)) for i, j in at}
    for orientation in Orientation:
        # The bulk plaquette in the top left corner, (0, 0), has even parity.
        if orientation.first == x_class:
            laid = patch(size, orientation)
            if places == {(int(i), int(j)) for both in laid.plaquettes for i, j in both}:
                return laid
    raise ModelError(f"{_NOT}: some stabilisers are not where those of such a patch are")


def _check_rounds(laid: Patch, checks: Ints) -> None:
    """Every round must have all stabilisers of a type or none, all but the ends both types."""
    for round_, row in enumerate(checks):
        here = row[row >= 0]
        kinds = np.unique(here // laid.half)
        inner = 0 < round_ < len(checks) - 1
        if len(np.unique(here)) != len(here) or len(here) != len(kinds) * laid.half:
            raise ModelError(f"{_NOT}: round {round_} does not measure each stabiliser once")
        if inner and len(kinds) < 2:
            raise ModelError(f"{_NOT}: round {round_} measures one type of stabilisers only")


def _observable(laid: Patch, memory: int, checks: Ints, c: Components) -> Bits:
    """Data qubits whose flip flips the observable, read off the code's mechanisms.

    Where mechanisms that flip the same detectors disagree, the likelier ones stand.
    """
    odd = np.bincount(owners(c.obs_ptr), minlength=len(c.p)) % 2 == 1
    u = checks[c.u_round, c.u_bit]
    pair = c.v_round >= 0
    v = np.where(pair, checks[c.v_round, c.v_bit], -1)
    measured = pair & (u == v) & (np.abs(c.u_round - c.v_round) == 1)
    if (odd & measured).any():
        raise ModelError(f"{_NOT}: a wrong measurement flips the observable")
    at_once = np.where(pair, c.u_round == c.v_round, True)
    half = laid.half
    out = np.zeros(laid.distance**2, dtype=np.bool_)
    for kind in range(2):
        mine = at_once & (u // half == kind) & np.where(pair, v // half == kind, True)
        # The weight of evidence that an edge flips the observable, by the edge's ends.
        votes = np.zeros((half, half + 1))
        seen = np.zeros((half, half + 1), dtype=np.bool_)
        a, b = u[mine] % half, np.where(pair[mine], v[mine] % half, half)
        low, high = np.minimum(a, b), np.maximum(a, b)
        np.add.at(votes, (low, high), np.where(odd[mine], c.p[mine], -c.p[mine]))
        seen[low, high] = True
        for qubit in range(laid.distance**2):
            ends = np.flatnonzero(laid.checks[kind][:, qubit])
            edge = (ends[0], ends[1] if len(ends) == 2 else half)
            if not seen[edge]:
                raise ModelError(
                    f"{_NOT}: no mechanism of the code flips data qubit {qubit} alone, as seen by "
                    f"its {KINDS[kind]} stabilisers"
                )
            if votes[edge] > 0:
                if kind != memory:
                    raise ModelError(f"{_NOT}: events of both bases tell of the observable")
                out[qubit] = True
    return out
