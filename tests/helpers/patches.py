"""Surface-code circuits on Ising's grid in all orientations, and the true corrections of shots.

Stim generates one orientation; the others are the same circuits drawn from another side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import stim

from helpers.circuits import ROTATED_X, ROTATED_Z, memory
from qdec.bits import Bits, Bytes
from qdec.neural.ising.patch import Basis, Orientation, Patch, patch

TASKS: dict[Basis, str] = {"X": ROTATED_X, "Z": ROTATED_Z}
ALL = [(basis, orientation) for basis in TASKS for orientation in Orientation]
NOISE = ("DEPOLARIZE1", "DEPOLARIZE2", "X_ERROR", "Z_ERROR")
Point = tuple[float, float]


def drawn(orientation: Orientation, d: int) -> Callable[[float, float], Point]:
    """Where a point (x, y) of Stim's drawing lies in an orientation's."""
    return {
        Orientation.ZV: lambda x, y: (x, y),
        Orientation.XH: lambda x, y: (2 * d - x, y),
        Orientation.ZH: lambda x, y: (y, x),
        Orientation.XV: lambda x, y: (2 * d - y, x),
    }[orientation]


@cache
def experiment(
    basis: Basis = "Z",
    orientation: Orientation = Orientation.ZV,
    d: int = 3,
    rounds: int = 10,
    p: float = 0.003,
    *,
    perfect_end: bool = False,
) -> stim.Circuit:
    """A memory experiment, flattened; its last round and readout without noise if asked for."""
    point = drawn(orientation, d)
    out = stim.Circuit()
    measured = 0
    for item in memory(TASKS[basis], d, rounds, p).flattened():
        args = item.gate_args_copy()
        if item.name in ("QUBIT_COORDS", "DETECTOR"):
            args[:2] = point(*args[:2])
        if perfect_end and measured >= rounds - 1 and item.name in NOISE:
            continue
        measured += item.name == "MR"
        out.append(item.name, item.targets_copy(), args)
    return out


@dataclass(frozen=True)
class Truth:
    """What really happened in B shots of r rounds.

    Attributes:
        corrections: ``(B, 4, r + 1, D, D)`` c_Z, c_X, m_X, m_Z; the last round is the readout's.
        detectors: ``(B, detectors)``.
        flips: ``(B,)`` of the observable.
    """

    corrections: Bits
    detectors: Bits
    flips: Bits


class Simulation:
    """Pauli frames of an experiment, looked at after every round."""

    def __init__(self, basis: Basis, orientation: Orientation, d: int, circuit: stim.Circuit):
        self.patch: Patch = patch(d, orientation)
        self._memory = "XZ".index(basis)
        self._circuit = circuit
        point = drawn(Orientation.ZV, d)  # the circuit is drawn in its orientation already
        self._data: dict[int, int] = {}  # qubit → row * D + column
        self._ancilla: dict[int, tuple[int, int]] = {}  # qubit → kind, stabiliser
        where = {
            (int(i), int(j)): (kind, n)
            for kind in range(2)
            for n, (i, j) in enumerate(self.patch.plaquettes[kind])
        }
        for qubit, at in circuit.get_final_qubit_coordinates().items():
            x, y = point(*at)
            if x % 2:
                self._data[qubit] = int(y - 1) // 2 * d + int(x - 1) // 2
            else:
                self._ancilla[qubit] = where[int(y) // 2 - 1, int(x) // 2 - 1]

    def sample(self, shots: int, seed: int = 5) -> Truth:
        """What the circuit's own noise does."""
        return self._run(shots, seed, None)

    def inject(self, corrections: Bits) -> Truth:
        """What these corrections, made to happen, flip; the circuit should have no noise."""
        return self._run(len(corrections), 0, corrections)

    def _run(self, shots: int, seed: int, wanted: Bits | None) -> Truth:
        simulator = stim.FlipSimulator(
            batch_size=shots, disable_stabilizer_randomization=True, seed=seed
        )
        size, half = self.patch.distance, self.patch.half
        rounds = sum(item.name == "MR" for item in self._circuit) + 1
        frames = np.zeros((shots, 2, rounds, size * size), dtype=bool)  # Z flips, X flips
        wrong = np.zeros((shots, 2, rounds, half), dtype=bool)
        t, started = 0, False
        for item in self._circuit:
            # A round's data flips come before its first gate.
            if item.name in ("H", "CX", "M", "MX") and not started:
                started = True
                if wanted is not None:
                    self._flip_data(simulator, wanted, t)
            if item.name == "MR" and wanted is not None:
                self._flip_ancillas(simulator, wanted, t, item)
            simulator.do(item)
            if item.name not in ("MR", "M", "MX"):
                continue
            xs, zs, measured, *_ = simulator.to_numpy(
                output_xs=True, output_zs=True, output_measure_flips=True
            )
            for qubit, cell in self._data.items():
                frames[:, 0, t, cell], frames[:, 1, t, cell] = zs[qubit], xs[qubit]
            if item.name == "MR":
                n = len(item.targets_copy())
                for flips, target in zip(measured[-n:], item.targets_copy(), strict=True):
                    kind, check = self._ancilla[target.value]
                    ideal = frames[:, kind, t][:, self.patch.checks[kind][check]].sum(axis=1) % 2
                    wrong[:, kind, t, check] = flips ^ ideal.astype(bool)
            t, started = t + 1, False
        frames[:, 1 - self._memory, -1] = frames[:, 1 - self._memory, -2]  # not read out
        corrections = np.zeros((shots, 4, rounds, size * size), dtype=bool)
        corrections[:, :2] = np.diff(frames, axis=2, prepend=False)
        for kind in range(2):
            corrections[:, 2 + kind][..., self.patch.cells[kind]] = wrong[:, kind]
        return Truth(
            corrections.reshape(shots, 4, rounds, size, size),
            simulator.get_detector_flips().T,
            simulator.get_observable_flips()[0],
        )

    def _flip_data(self, simulator: stim.FlipSimulator, wanted: Bits, t: int) -> None:
        flat = wanted.reshape(*wanted.shape[:3], -1)
        for qubit, cell in self._data.items():
            for channel, pauli in ((0, "Z"), (1, "X")):
                mask = np.zeros((self._circuit.num_qubits, len(wanted)), dtype=bool)
                mask[qubit] = flat[:, channel, t, cell]
                simulator.broadcast_pauli_errors(pauli=pauli, mask=mask)

    def _flip_ancillas(
        self, simulator: stim.FlipSimulator, wanted: Bits, t: int, item: stim.CircuitInstruction
    ) -> None:
        flat = wanted.reshape(*wanted.shape[:3], -1)
        for target in item.targets_copy():
            kind, check = self._ancilla[target.value]
            mask = np.zeros((self._circuit.num_qubits, len(wanted)), dtype=bool)
            mask[target.value] = flat[:, 2 + kind, t, self.patch.cells[kind][check]]
            simulator.broadcast_pauli_errors(pauli="X", mask=mask)


def packed(bits: Bits) -> Bytes:
    """``(B, n)`` bits as Stim packs them."""
    return np.packbits(bits, axis=1, bitorder="little")
