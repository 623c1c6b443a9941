"""The circuits that measurements are quoted for: Stim's memory experiments under a noise model."""

from __future__ import annotations

from collections.abc import Callable

import stim

from qdec.errors import CodeError
from qdec.neural.ising.patch import KINDS, Basis, Orientation, patch
from qdec_tools.noise import NoiseModel, uniform, with_noise

DEFAULT_TASK = "surface_code:rotated_memory_z"


def memory(distance: int, rounds: int, p: float, task: str = DEFAULT_TASK) -> stim.Circuit:
    """A memory experiment in which everything fails with probability `p`.

    Args:
        distance, rounds, task: as `experiment` takes them.
        p: probability of each fault; see `uniform`.

    Raises:
        CodeError: Stim knows no such experiment, or `p` is no such probability.
    """
    return experiment(distance, rounds, uniform(p), task)


def experiment(
    distance: int, rounds: int, noise: NoiseModel, task: str = DEFAULT_TASK
) -> stim.Circuit:
    """A memory experiment under a noise model.

    Args:
        distance: code distance.
        rounds: rounds of stabiliser measurement; there is one more round of detectors.
        noise: what fails how often.
        task: as `stim.Circuit.generated` names it.

    Raises:
        CodeError: Stim knows no such experiment.
    """
    return with_noise(_noiseless(distance, rounds, task), noise)


def circuit(
    distance: int,
    rounds: int,
    noise: NoiseModel,
    basis: Basis = "Z",
    orientation: Orientation = Orientation.ZV,
) -> stim.Circuit:
    """A memory experiment of the rotated surface code, in one of the four ways it can lie.

    All four are the same circuit on qubits that lie elsewhere: Stim's (ZV), mirrored (XH), rotated
    (XV), transposed (ZH). Data qubit (row, col) has the coordinates ``(2 col + 1, 2 row + 1)``, the
    plaquette to its lower right ``(2 col + 2, 2 row + 2)``. Observable 0 is the top row's or the
    left column's product: logical X is the row for XV and ZH, logical Z for XH and ZV.

    Args:
        distance: odd, 3 at least.
        rounds: rounds of stabiliser measurement; there is one more round of detectors.
        noise: what fails how often.
        basis: of the state that is kept.
        orientation: which of the four.

    Raises:
        CodeError: there is no such code.
    """
    if distance < 3 or distance % 2 == 0:
        raise CodeError(f"orientations are those of odd distances from 3 on, not {distance}")
    plain = _noiseless(distance, rounds, f"surface_code:rotated_memory_{basis.lower()}")
    return with_noise(_laid(plain, distance, basis, orientation), noise)


def _noiseless(distance: int, rounds: int, task: str) -> stim.Circuit:
    try:
        return stim.Circuit.generated(task, distance=distance, rounds=rounds)
    except (ValueError, TypeError) as error:  # TypeError: a number that does not fit Stim's
        problem = str(error).strip().splitlines()[0]
        raise CodeError(
            f"Stim cannot generate '{task}' with distance {distance} and {rounds} rounds: {problem}"
        ) from None


# Where a qubit at (x, y) of Stim's circuit lies, in a patch that reaches from 0 to `side`.
_PLACE: dict[Orientation, Callable[[float, float, int], tuple[float, float]]] = {
    Orientation.ZV: lambda x, y, _side: (x, y),
    Orientation.XH: lambda x, y, side: (side - x, y),
    Orientation.XV: lambda x, y, side: (side - y, x),
    Orientation.ZH: lambda x, y, _side: (y, x),
}


def _laid(
    plain: stim.Circuit, distance: int, basis: Basis, orientation: Orientation
) -> stim.Circuit:
    """The circuit with its qubits elsewhere, and the observable at the edge where it should be."""
    place = _PLACE[orientation]
    logical = patch(distance, orientation).logicals[KINDS.index(basis)]
    cell: dict[int, int] = {}  # of each data qubit: row * distance + column
    read: list[int] = []  # by the last measurement, which is that of the data

    def moved(block: stim.Circuit) -> stim.Circuit:
        nonlocal read
        out = stim.Circuit()
        for item in block:
            if isinstance(item, stim.CircuitRepeatBlock):
                out.append(stim.CircuitRepeatBlock(item.repeat_count, moved(item.body_copy())))
                continue
            targets, args = item.targets_copy(), item.gate_args_copy()
            if item.name in ("QUBIT_COORDS", "DETECTOR"):
                args[:2] = place(args[0], args[1], 2 * distance)
            if item.name == "QUBIT_COORDS":
                cell[targets[0].value] = int(args[1]) // 2 * distance + int(args[0]) // 2
            elif item.name in ("M", "MX"):
                read = [t.value for t in targets]
            elif item.name == "OBSERVABLE_INCLUDE":
                edge = [i for i, qubit in enumerate(read) if logical[cell[qubit]]]
                targets = [stim.target_rec(i - len(read)) for i in reversed(edge)]
            out.append(item.name, targets, args)
        return out

    return moved(plain)
