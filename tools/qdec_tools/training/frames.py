"""What really happened in a memory experiment, round by round: from Stim's frame simulator.

A *frame* is the Pauli by which a shot differs from one without faults. After each round's
measurements the data qubits' frame is read off; what it changed by is the flips c of that round,
and how the measured syndrome differs from the frame's own is the wrong measurements m. Then the
syndrome differences are ``s[t] = m[t] ^ m[t-1] ^ H c[t]``, by construction.

Shots are bits throughout, 64 to a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import stim
from numpy.typing import NDArray

from qdec.errors import CodeError
from qdec.neural.ising.patch import Patch

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
WORD = 64
# What says nothing about what happens to qubits.
_ANNOTATIONS = {"TICK", "DETECTOR", "OBSERVABLE_INCLUDE", "SHIFT_COORDS", "QUBIT_COORDS"}


def rounds_of(circuit: stim.Circuit) -> list[stim.Circuit]:
    """Cut a memory experiment after each round's measurements; without annotations.

    What comes between them, such as noise after resets, belongs to the round that follows. The last
    piece is what comes after the last round: the data's readout.
    """
    pieces = [stim.Circuit()]
    for item in circuit.flattened():
        if item.name in _ANNOTATIONS:
            continue
        pieces[-1].append(item)
        if item.name == "MR":
            pieces.append(stim.Circuit())
    return pieces


@dataclass(frozen=True, eq=False)
class Frames:
    """What happened. First axis: 0 for what X stabilisers check (Z flips), 1 for what Z ones do.

    Attributes:
        flips: ``(2, T, D², W)`` uint64: c, of data qubits.
        wrong: ``(2, T, half, W)`` uint64: m, of stabilisers in the patch's order.
        differences: ``(2, T, half, W)`` uint64: s, of measured syndromes.
    """

    flips: Words
    wrong: Words
    differences: Words


class Reader:
    """Runs rounds and reads frames. One of a kind per patch and numbering of its qubits."""

    def __init__(self, circuit: stim.Circuit, patch: Patch) -> None:
        """Find the patch's qubits in a circuit by their coordinates.

        Args:
            circuit: as `qdec_tools.circuits.circuit` lays it out.
            patch: of the same distance and orientation.

        Raises:
            CodeError: the qubits are not those of the patch.
        """
        size = patch.distance
        at = {
            (int(x), int(y)): qubit
            for qubit, (x, y) in circuit.get_final_qubit_coordinates().items()
        }
        read = next((i for i in circuit.flattened() if i.name == "MR"), None)
        if read is None:
            raise CodeError("the circuit measures no stabilisers with MR")
        column = {target.value: i for i, target in enumerate(read.targets_copy())}
        try:
            self._data = np.array(
                [at[2 * (q % size) + 1, 2 * (q // size) + 1] for q in range(size**2)]
            )
            self._columns = np.array(
                [[column[at[2 * j + 2, 2 * i + 2]] for i, j in kind] for kind in patch.plaquettes]
            )
        except KeyError:
            raise CodeError(
                f"the circuit is not that of a distance-{size} {patch.orientation.value} patch"
            ) from None
        self._qubits = circuit.num_qubits
        self._measured = len(column)
        self._checks = [_corners(checks) for checks in patch.checks]

    def run(
        self, pieces: Sequence[stim.Circuit], shots: int, seed: int, *, readout: bool = False
    ) -> Frames:
        """Run rounds, from a state without faults on.

        Args:
            pieces: of `rounds_of`, one per round.
            shots: rounded up to whole words.
            readout: the last piece is the data's readout instead: a round that measures the frame
                as it is, what goes wrong with the readout included.
            seed: of Stim's generator; the same on every machine with the same width of vector
                instructions and version of Stim.
        """
        words = -(-shots // WORD)
        # Without randomisation, what a stabiliser state makes random counts as not flipped: frames
        # hold faults alone.
        simulator = stim.FlipSimulator(
            batch_size=words * WORD,
            disable_stabilizer_randomization=True,
            num_qubits=self._qubits,
            seed=seed,
        )
        frame = np.empty((2, len(pieces), len(self._data), words), dtype=np.uint64)
        for t, piece in enumerate(pieces):
            simulator.do(piece)
            xs, zs, *_ = simulator.to_numpy(output_xs=True, output_zs=True, bit_packed=True)
            frame[0, t] = zs.view(np.uint64)[self._data]
            frame[1, t] = xs.view(np.uint64)[self._data]
        ideal = np.stack([_syndrome(*each) for each in zip(frame, self._checks, strict=True)])
        rounds = len(pieces) - readout
        flat = simulator.to_numpy(output_measure_flips=True, bit_packed=True)[2].view(np.uint64)
        records = flat[: rounds * self._measured].reshape(rounds, self._measured, words)
        measured = ideal.copy()
        measured[:, :rounds] = records[:, self._columns].swapaxes(0, 1)
        return Frames(_difference(frame), measured ^ ideal, _difference(measured))


def _corners(checks: NDArray[np.bool_]) -> Ints:
    """``(half, 4)`` qubits that each stabiliser checks, -1 where there are fewer."""
    out = np.full((len(checks), 4), -1, dtype=np.int64)
    for to, row in zip(out, checks, strict=True):
        qubits = np.flatnonzero(row)
        to[: len(qubits)] = qubits
    return out


def _syndrome(frame: Words, corners: Ints) -> Words:
    nothing = np.zeros_like(frame[:, :1])
    padded = np.concatenate([frame, nothing], axis=1)  # where -1 points
    syndrome: Words = np.bitwise_xor.reduce([padded[:, corner] for corner in corners.T])
    return syndrome


def _difference(rows: Words) -> Words:
    """Along the rounds (axis 1), from nothing on."""
    out = rows.copy()
    out[:, 1:] ^= rows[:, :-1]
    return out
