"""Windows cost no accuracy: paired with PyMatching's answer to whole shots, on the same shots.

The shots that only one of the two gets wrong are as many on either side, up to chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pymatching
import pytest
import stim

from helpers.circuits import (
    REPETITION,
    ROTATED_X,
    ROTATED_Z,
    UNROTATED_Z,
    detections,
    memory,
    without_reset,
)
from helpers.google import experiment
from helpers.windowed import decode_windowed
from qdec.bits import Bytes
from qdec.codes import Code
from qdec.match import Tier
from qdec.windows import Geometry

P = 0.003
# W = 2d and C = d, unless said otherwise
CASES = {
    "rotated Z, d=3": (memory(ROTATED_Z, 3, 30, P), Geometry(6, 3), 100_000),
    "rotated X, d=3": (memory(ROTATED_X, 3, 30, P), Geometry(6, 3), 100_000),
    "rotated Z, d=5": (memory(ROTATED_Z, 5, 50, P), Geometry(10, 5), 50_000),
    "rotated X, d=5": (memory(ROTATED_X, 5, 50, P), Geometry(10, 5), 50_000),
    "rotated Z, d=7": (memory(ROTATED_Z, 7, 42, P), Geometry(14, 7), 20_000),
    "rotated X, d=7": (memory(ROTATED_X, 7, 42, P), Geometry(14, 7), 20_000),
    "rotated Z, d=9": (memory(ROTATED_Z, 9, 45, P), Geometry(18, 9), 5_000),
    "rotated X, d=9": (memory(ROTATED_X, 9, 45, P), Geometry(18, 9), 5_000),
    "unrotated Z, d=5": (memory(UNROTATED_Z, 5, 40, P), Geometry(10, 5), 10_000),
    "repetition, d=3": (memory(REPETITION, 3, 30, P), Geometry(6, 3), 100_000),
    # So near the threshold a buffer of d rounds does cost accuracy: 1.8 % more failures.
    "repetition, d=5, p=.02": (memory(REPETITION, 5, 50, 0.02), Geometry(15, 5), 40_000),
    "without reset, d=3": (without_reset(memory(ROTATED_Z, 3, 30, P)), Geometry(6, 3), 20_000),
    # A seam longer than the commit region: what the next window does not reach goes on to the one
    # behind it.
    "without reset, d=3, C=1": (without_reset(memory(ROTATED_Z, 3, 30, P)), Geometry(8, 1), 20_000),
    # The service's own choice of long commit regions, and the shortest ones.
    "rotated Z, d=3, C=20d": (memory(ROTATED_Z, 3, 150, P), Geometry(63, 60), 6_000),
    "rotated Z, d=3, C=1": (memory(ROTATED_Z, 3, 30, P), Geometry(4, 1), 40_000),
}


@dataclass(frozen=True)
class Failures:
    """How many of the same shots each way of decoding gets wrong."""

    shots: int
    whole: int
    windowed: int
    only_whole: int
    only_windowed: int

    def differ_by_chance(self) -> bool:
        """Whether what only one of the two gets wrong is as much on either side, to 4 sigma."""
        either = self.only_whole + self.only_windowed
        return abs(self.only_windowed - self.only_whole) <= 4 * math.sqrt(either) + 3


def compare(
    made: Code, shots: Bytes, flips: Bytes, geometry: Geometry, tier: Tier = Tier.MATCHING
) -> Failures:
    correlated = tier is Tier.CORRELATED
    whole = pymatching.Matching.from_detector_error_model(
        made.dem, enable_correlations=correlated
    ).decode_batch(
        shots,
        bit_packed_shots=True,
        bit_packed_predictions=True,
        enable_correlations=correlated,
    )
    frames, feasible = decode_windowed(made, made.layout.to_records(shots), geometry, tier)
    assert feasible.all()
    wrong_whole = (whole != flips).any(axis=1)
    wrong_windowed = (frames != flips).any(axis=1)
    return Failures(
        len(shots),
        int(wrong_whole.sum()),
        int(wrong_windowed.sum()),
        int((wrong_whole & ~wrong_windowed).sum()),
        int((wrong_windowed & ~wrong_whole).sum()),
    )


@pytest.mark.parametrize(("circuit", "geometry", "shots"), CASES.values(), ids=CASES.keys())
def test_windows_fail_as_often_as_whole_shots(
    circuit: stim.Circuit, geometry: Geometry, shots: int
) -> None:
    made = Code.from_circuit(circuit)
    failures = compare(made, *detections(circuit, shots, seed=11), geometry)
    assert failures.differ_by_chance(), failures
    assert failures.whole >= 5, failures  # enough to see a decoder that is no good
    assert failures.whole < 0.3 * shots, failures


@pytest.mark.parametrize(("d", "shots"), [(3, 30_000), (5, 20_000), (7, 8_000)])
def test_correlated_windows_lose_little(d: int, shots: int) -> None:
    """What a partner outside the window knew is lost: at most a few percent of the failures."""
    made = Code.from_circuit(memory(ROTATED_Z, d, 6 * d, 0.005))
    events, flips = detections(memory(ROTATED_Z, d, 6 * d, 0.005), shots, seed=13)
    geometry = Geometry(2 * d, d)
    correlated = compare(made, events, flips, geometry, Tier.CORRELATED)
    plain = compare(made, events, flips, geometry)
    noise = 4 * math.sqrt(correlated.only_whole + correlated.only_windowed) + 3
    assert correlated.windowed <= 1.05 * correlated.whole + noise, correlated
    if d > 3:  # it does not keep the code's distance, so at d=3 there is nothing to gain
        assert correlated.windowed < 0.9 * plain.windowed, (correlated, plain)


def test_stretched_shots_fail_as_often_as_whole_ones() -> None:
    """A template of a few rounds decodes shots of many."""
    circuit = memory(ROTATED_Z, 5, 60, P)
    longer, template = Code.from_circuit(circuit), Code.from_circuit(memory(ROTATED_Z, 5, 6, P))
    shots, flips = detections(circuit, 10_000, seed=12)
    failures = compare(longer, shots, flips, Geometry(10, 5))
    records = longer.layout.to_records(shots)
    frames, _ = decode_windowed(template, records, Geometry(10, 5))
    wrong = int((frames != flips).sum())
    assert abs(wrong - failures.windowed) <= 4, (wrong, failures)  # ties, by the order of edges
    assert failures.differ_by_chance(), failures


def test_too_short_a_buffer_shows() -> None:
    """The comparison sees what it is there to see: one round of buffer is not enough at d=5."""
    circuit = memory(ROTATED_Z, 5, 50, P)
    failures = compare(
        Code.from_circuit(circuit), *detections(circuit, 20_000, seed=11), Geometry(2, 1)
    )
    assert not failures.differ_by_chance(), failures


def test_googles_events_through_windows() -> None:
    """Real noise, whose model no circuit generated: windows lose nothing on it either."""
    data = experiment("surface_code_bX_d5_r11_center_5_5")
    made = Code.parse("dem", data.dem)
    events = data.packed("detection_events.b8", made.layout.num_detectors)
    failures = compare(made, events, data.flips, Geometry(10, 5))
    assert failures.whole == data.expected["fail_pm2.4_circuit_dem"]
    assert failures.differ_by_chance(), failures
