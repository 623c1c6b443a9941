"""A detector error model by what its faults flip: which of them events can tell apart.

Faults that flip the same detectors leave the same events, whatever else they do, so only their
probability together can be estimated: a *symptom*. Symptoms that are the same but for the round are
of one *kind*: the device does in every round what it does in the others, at least about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import stim
from numpy.typing import NDArray

from qdec.codes.rounds import RoundLayout
from qdec.errors import CodeError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# A symptom of more detectors has more pairs than it is worth; it keeps its probability.
_MOST_DETECTORS = 8
_MOST_SYMPTOMS = 200_000


@dataclass(frozen=True)
class FaultModel:
    """What is to be estimated.

    Attributes:
        dem: the model, flat, in its own order.
        symptoms: detectors of each, ascending.
        kind: ``(S,)`` number of each symptom's kind.
        strength: ``(S,)`` ``-log(1 - 2 p)`` of each by the model, p being the probability that an
            odd number of its faults happen. Strengths of independent faults add up.
        pairs: ``(P, 2)`` detectors that some symptom has both of.
        instruction: ``(I,)`` for each error instruction the number of its symptom; -1 for those
            that are not estimated.
    """

    dem: stim.DetectorErrorModel
    symptoms: tuple[tuple[int, ...], ...]
    kind: Ints
    strength: Floats
    pairs: Ints
    instruction: Ints

    @classmethod
    def read(cls, dem: stim.DetectorErrorModel) -> FaultModel:
        """Take a model apart.

        Raises:
            CodeError: it has no faults, too many, or a fault as likely as not.
            RoundsUnknown: its detectors have no coordinates.
        """
        flat = dem.flattened()
        numbers: dict[tuple[int, ...], int] = {}
        strengths: list[float] = []
        instruction: list[int] = []
        for one in flat:
            if one.type != "error":
                continue
            flipped: set[int] = set()
            for target in one.targets_copy():
                if target.is_relative_detector_id():
                    flipped ^= {target.val}
            p = one.args_copy()[0]
            if not 0 < p < 0.5 or not 0 < len(flipped) <= _MOST_DETECTORS:
                if p >= 0.5:
                    raise CodeError(f"a fault of probability {p:g} cannot be estimated: {one}")
                instruction.append(-1)
                continue
            number = numbers.setdefault(tuple(sorted(flipped)), len(numbers))
            if number == len(strengths):
                strengths.append(0.0)
            strengths[number] -= math.log1p(-2 * p)
            instruction.append(number)
        if not numbers:
            raise CodeError("the model has no faults that detectors see: there is nothing to fit")
        if len(numbers) > _MOST_SYMPTOMS:
            raise CodeError(
                f"{len(numbers):,} faults that events could tell apart are too many to fit (limit "
                f"{_MOST_SYMPTOMS:,}): give a model of fewer rounds"
            )
        symptoms = tuple(numbers)
        pairs = sorted({pair for one in symptoms for pair in combinations(one, 2)})
        return cls(
            flat,
            symptoms,
            _kinds(flat, symptoms),
            np.array(strengths),
            np.array(pairs, dtype=np.int64).reshape(-1, 2),
            np.array(instruction, dtype=np.int64),
        )

    def with_strengths(self, strength: Floats) -> stim.DetectorErrorModel:
        """The model with other probabilities; faults of one symptom keep their shares.

        Args:
            strength: ``(S,)``, positive.
        """
        ratio = strength / self.strength
        changed = stim.DetectorErrorModel()
        numbers = iter(self.instruction.tolist())
        for one in self.dem:
            if one.type != "error" or (number := next(numbers)) < 0:
                changed.append(one)
                continue
            p = one.args_copy()[0]
            p = -math.expm1(math.log1p(-2 * p) * ratio[number]) / 2
            changed.append("error", p, one.targets_copy())
        return changed


def _kinds(dem: stim.DetectorErrorModel, symptoms: tuple[tuple[int, ...], ...]) -> Ints:
    """Numbers of the symptoms' kinds: the same places, the same rounds after the first."""
    rounds = RoundLayout.from_dem(dem).round_of
    where = dem.get_detector_coordinates()
    places = {
        detector: tuple(at[:2]) if len(at) >= 3 else tuple(at[:-1])
        for detector, at in where.items()
    }
    numbers: dict[tuple[object, ...], int] = {}
    found = []
    for one in symptoms:
        first = min(rounds[detector] for detector in one)
        key = tuple(sorted((places[detector], int(rounds[detector] - first)) for detector in one))
        found.append(numbers.setdefault(key, len(numbers)))
    return np.array(found, dtype=np.int64)
