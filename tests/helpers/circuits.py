"""Circuits to test with, made once each, and what Stim says about them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import stim

from qdec.bits import Bits, Bytes
from qdec.codes import Code

ROTATED_Z = "surface_code:rotated_memory_z"
ROTATED_X = "surface_code:rotated_memory_x"
UNROTATED_Z = "surface_code:unrotated_memory_z"
REPETITION = "repetition_code:memory"
TASKS = (ROTATED_Z, ROTATED_X, UNROTATED_Z, REPETITION)


@cache
def memory(task: str = ROTATED_Z, d: int = 3, rounds: int = 10, p: float = 0.003) -> stim.Circuit:
    """Stim's own memory experiment under uniform circuit noise."""
    return stim.Circuit.generated(
        task,
        distance=d,
        rounds=rounds,
        after_clifford_depolarization=p,
        before_round_data_depolarization=p,
        before_measure_flip_probability=p,
        after_reset_flip_probability=p,
    )


@cache
def code(task: str = ROTATED_Z, d: int = 3, rounds: int = 10, p: float = 0.003) -> Code:
    return Code.from_circuit(memory(task, d, rounds, p))


@cache
def ring(d: int = 4, rounds: int = 8, p: float = 0.01) -> stim.Circuit:
    """A repetition code bent into a ring: no boundary in space, so events come in pairs.

    Only a window's open end can swallow a lone event, so a seam that loses one shows later.
    """
    data, ancilla = range(d), range(d, 2 * d)
    left = " ".join(f"{i} {d + i}" for i in range(d))
    right = " ".join(f"{(i + 1) % d} {d + i}" for i in range(d))
    body = (
        f"X_ERROR({p}) {_join(data)}\nCX {left}\nDEPOLARIZE2({p}) {left}\nTICK\n"
        f"CX {right}\nDEPOLARIZE2({p}) {right}\nTICK\nMR({p}) {_join(ancilla)}\n"
    )
    first = "".join(f"DETECTOR({i}, 0, 0) rec[{i - d}]\n" for i in range(d))
    later = "SHIFT_COORDS(0, 0, 1)\n" + "".join(
        f"DETECTOR({i}, 0, 0) rec[{i - d}] rec[{i - 2 * d}]\n" for i in range(d)
    )
    last = "".join(
        f"DETECTOR({i}, 0, 1) rec[{i - d}] rec[{(i + 1) % d - d}] rec[{i - 2 * d}]\n"
        for i in range(d)
    )
    return stim.Circuit(
        f"R {_join(range(2 * d))}\n{body}{first}REPEAT {rounds - 1} {{\n{body}{later}}}\n"
        f"M {_join(data)}\n{last}OBSERVABLE_INCLUDE(0) rec[-1]\n"
    )


def without_reset(circuit: stim.Circuit, flip: float = 0.003) -> stim.Circuit:
    """The same experiment with `M(flip)` for every `MR`: an outcome is the parity of two readings.

    A misread ancilla is then seen two rounds apart.
    """
    before: dict[int, int] = {}  # reading of each qubit before the latest
    parents: list[set[int]] = []
    out = stim.Circuit()
    measured = 0
    for item in circuit.flattened():
        if item.name in ("DETECTOR", "OBSERVABLE_INCLUDE"):
            records: set[int] = set()
            for target in item.targets_copy():
                records ^= parents[measured + target.value]
            targets = [stim.target_rec(r - measured) for r in sorted(records)]
            out.append(item.name, targets, item.gate_args_copy())
            continue
        if item.num_measurements:
            for target in item.targets_copy():
                earlier = {before[target.value]} if target.value in before else set()
                parents.append({measured} | earlier)
                if item.name == "MR":
                    before[target.value] = measured
                measured += 1
        name, args = ("M", [flip]) if item.name == "MR" else (item.name, item.gate_args_copy())
        out.append(name, item.targets_copy(), args)
    return out


def rewritten(
    circuit: stim.Circuit, **by_name: Callable[[stim.CircuitInstruction], str]
) -> stim.Circuit:
    """The flattened circuit with some instructions replaced by other text."""
    lines = (by_name.get(i.name, str)(i) for i in circuit.flattened())
    return stim.Circuit("\n".join(lines))


def inverted(circuit: stim.Circuit) -> stim.Circuit:
    """Every second measured qubit read upside down: `M 0 !1 2 !3`."""

    def flip(item: stim.CircuitInstruction) -> str:
        args = "".join(f"({a})" for a in item.gate_args_copy())
        targets = [
            f"!{t.value}" if i % 2 else f"{t.value}" for i, t in enumerate(item.targets_copy())
        ]
        return f"{item.name}{args} {' '.join(targets)}"

    return rewritten(circuit, M=flip, MR=flip)


def with_sweeps(circuit: stim.Circuit) -> stim.Circuit:
    """A random initial state: each data qubit X-flipped by a sweep bit, one more mid-circuit."""
    items = list(circuit.flattened())
    data = [t.value for t in next(i for i in reversed(items) if i.name == "M").targets_copy()]
    ticks = [n for n, i in enumerate(items) if i.name == "TICK"]
    start, middle = ticks[0], ticks[len(ticks) // 2]
    lines = [str(i) for i in items]
    lines[middle] += f"\nCX sweep[{len(data)}] {data[0]}"
    lines[start] += "\nCX " + " ".join(f"sweep[{k}] {q}" for k, q in enumerate(data))
    return stim.Circuit("\n".join(lines))


def two_patches(circuit: stim.Circuit) -> stim.Circuit:
    """Two copies side by side in one circuit, with observables of their own."""
    qubits, observables = circuit.num_qubits, circuit.num_observables
    at: list[int] = []  # where the first copy's k-th measurement lies among both copies'
    out = stim.Circuit()
    total = 0
    for item in circuit.flattened():
        targets, args = item.targets_copy(), item.gate_args_copy()
        if item.name in ("DETECTOR", "OBSERVABLE_INCLUDE"):
            shift = [observables] if item.name == "OBSERVABLE_INCLUDE" else [1000]
            for copy in range(2):
                records = [at[len(at) + t.value][copy] - total for t in targets]
                moved = [args[0] + copy * shift[0], *args[1:]]
                out.append(item.name, [stim.target_rec(r) for r in records], moved)
            continue
        out.append(item)
        if item.name == "TICK":
            continue
        out.append(item.name, [t.value + qubits for t in targets], args)
        n = item.num_measurements
        at.extend((total + i, total + n + i) for i in range(n))
        total += 2 * n
    return out


def one_after_the_other(circuit: stim.Circuit) -> stim.Circuit:
    """Two copies, the second run when the first is over, with the same time coordinates.

    So their detectors repeat round by round, and their measurements do not.
    """
    qubits, observables = circuit.num_qubits, circuit.num_observables
    second = stim.Circuit()
    for item in circuit.flattened():
        targets, args = item.targets_copy(), item.gate_args_copy()
        if item.name == "OBSERVABLE_INCLUDE":
            args = [args[0] + observables]
        elif item.name == "DETECTOR":
            args = [args[0] + 1000, *args[1:]]
        elif item.name != "TICK":
            targets = [t.value + qubits for t in targets]
        second.append(item.name, targets, args)
    return circuit.flattened() + second


def detections(circuit: stim.Circuit, shots: int, seed: int = 1) -> tuple[Bytes, Bytes]:
    """Packed detection events and packed observable flips of sampled shots."""
    sampler = circuit.compile_detector_sampler(seed=seed)
    return sampler.sample(shots, separate_observables=True, bit_packed=True)


def stim_conversion(circuit: stim.Circuit, measured: Bits, sweeps: Bits | None = None) -> Bytes:
    """What Stim makes of whole shots of measurements: packed detectors."""
    if sweeps is None:
        sweeps = np.zeros((len(measured), circuit.num_sweep_bits), dtype=np.bool_)
    return circuit.compile_m2d_converter().convert(
        measurements=measured, sweep_bits=sweeps, separate_observables=True, bit_packed=True
    )[0]


def _join(numbers: range) -> str:
    return " ".join(map(str, numbers))
