"""The circuits that measurements are quoted for: Stim's memory experiments, uniform noise."""

from __future__ import annotations

import stim

from qdec.errors import CodeError

DEFAULT_TASK = "surface_code:rotated_memory_z"


def memory(distance: int, rounds: int, p: float, task: str = DEFAULT_TASK) -> stim.Circuit:
    """A memory experiment in which everything fails with probability `p`.

    Depolarising noise after every Clifford gate and on idle data before every round, flips before
    every measurement and after every reset.

    Args:
        distance: code distance.
        rounds: rounds of stabiliser measurement; there is one more round of detectors.
        p: probability of each fault.
        task: as `stim.Circuit.generated` names it.

    Raises:
        CodeError: Stim knows no such experiment.
    """
    try:
        return stim.Circuit.generated(
            task,
            distance=distance,
            rounds=rounds,
            after_clifford_depolarization=p,
            before_round_data_depolarization=p,
            before_measure_flip_probability=p,
            after_reset_flip_probability=p,
        )
    except (ValueError, TypeError) as error:  # TypeError: a number that does not fit Stim's
        problem = str(error).strip().splitlines()[0]
        raise CodeError(
            f"Stim cannot generate '{task}' with distance {distance}, {rounds} rounds and "
            f"noise {p:g}: {problem}"
        ) from None
