"""From moments of detection events to the strength of each symptom: a regularised least squares.

What is measured are sums: of all symptoms with a detector, of all with a pair. There are more
symptoms than sums, so a fit needs more than data. In two steps:

1. every kind of symptom gets one factor for all rounds, near 1 unless the data speak against it;
2. then every symptom gets a strength of its own, near what its kind says.

How near was chosen on Google's Sycamore data (d=3, d=5), fitted on half of the shots and judged by
matching on the other half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import stim
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array, vstack
from scipy.sparse.linalg import spsolve

from qdec.priors.model import FaultModel
from qdec.priors.moments import Moments

Floats = NDArray[np.float64]
# Standard deviations: of a kind's factor about 1, of a symptom's strength about its kind's.
KINDS_VARY, SYMPTOMS_VARY = 0.3, 1.0
# No strength falls below this share of the model's: what was not seen is rare, not impossible.
_LEAST_SHARE = 1e-3
_MOST_TURNS = 50


@dataclass(frozen=True)
class Fitted:
    """An estimate.

    Attributes:
        model: what was fitted.
        strength: ``(S,)`` of each symptom.
        sigma: ``(S,)`` standard deviation of each, the others being as they are.
        by_kind: ``(K,)`` factor of each kind over the model.
        shots: it rests on.
    """

    model: FaultModel
    strength: Floats
    sigma: Floats
    by_kind: Floats
    shots: float

    @property
    def dem(self) -> stim.DetectorErrorModel:
        """The model with the estimated probabilities."""
        return self.model.with_strengths(self.strength)

    @property
    def p(self) -> Floats:
        """``(S,)`` probability of each symptom."""
        return -np.expm1(-self.strength) / 2


def fit(model: FaultModel, moments: Moments) -> Fitted:
    """Estimate the strengths of a model's symptoms.

    Raises:
        DataError: no shots were counted.
    """
    one, of_one, both, of_both = moments.strengths()
    measured = np.concatenate([one, both])
    weight = diags_array(1 / np.sqrt(np.concatenate([of_one, of_both])))
    parts = weight @ _sums(model, len(one))
    wanted = weight @ measured

    symptoms, kinds = len(model.strength), int(model.kind.max()) + 1
    spread = csr_array((model.strength, (np.arange(symptoms), model.kind)), shape=(symptoms, kinds))
    factors = _least_squares(
        vstack([parts @ spread, eye_array(kinds) / KINDS_VARY]).tocsr(),
        np.concatenate([wanted, np.full(kinds, 1 / KINDS_VARY)]),
        np.full(kinds, _LEAST_SHARE),
    )
    near = spread @ factors
    tau = SYMPTOMS_VARY * near
    matrix = vstack([parts, diags_array(1 / tau)]).tocsr()
    strength = _least_squares(
        matrix, np.concatenate([wanted, near / tau]), _LEAST_SHARE * model.strength
    )
    sigma = 1 / np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).reshape(-1))
    return Fitted(model, strength, sigma, factors, moments.shots)


def _sums(model: FaultModel, detectors: int) -> csr_array:
    """Which symptoms each measured sum is of: rows are detectors, then pairs."""
    number = {(int(u), int(v)): i for i, (u, v) in enumerate(model.pairs)}
    rows: list[int] = []
    columns: list[int] = []
    for symptom, flipped in enumerate(model.symptoms):
        for i, u in enumerate(flipped):
            rows.append(u)
            columns.append(symptom)
            for v in flipped[i + 1 :]:
                rows.append(detectors + number[u, v])
                columns.append(symptom)
    shape = detectors + len(model.pairs), len(model.symptoms)
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _least_squares(matrix: csr_array, wanted: Floats, least: Floats) -> Floats:
    """The x with the least ``|matrix x - wanted|`` where x >= least: an active set method."""
    normal, right = (matrix.T @ matrix).tocsc(), matrix.T @ wanted
    held = np.zeros(len(least), dtype=np.bool_)
    x = least.copy()
    for _ in range(_MOST_TURNS):
        free = np.flatnonzero(~held)
        x[held] = least[held]
        rest = right - normal[:, np.flatnonzero(held)] @ x[held] if held.any() else right
        x[free] = spsolve(normal[free][:, free], rest[free])
        too_small = x < least
        if too_small.any():
            held |= too_small
            continue
        pull = right - normal @ x
        freed = held & (pull > 1e-9 * np.abs(right).max())
        if not freed.any():
            return x
        held &= ~freed
    return np.maximum(x, least)
