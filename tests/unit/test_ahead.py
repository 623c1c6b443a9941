"""What a network found elsewhere is taken once, for the windows that it was found in."""

from __future__ import annotations

import numpy as np
import pytest

from qdec.bits import Bytes
from qdec.codes import Code
from qdec.match import Tier
from qdec.match.ahead import Ahead, innermost
from qdec.match.assess import Assessor
from qdec.match.compile import compile_window
from qdec.match.escalate import Switching
from qdec.match.settled import Settled
from qdec.match.soft import SoftWindow
from qdec.windows.geometry import WHOLE, Window
from qdec_tools.circuits import memory


def test_it_is_taken_once_and_for_that_array_alone() -> None:
    asked: list[int] = []

    def here(syndromes: Bytes) -> str:
        asked.append(len(syndromes))
        return "here"

    ahead = Ahead(here)
    mine, other = np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8)
    ahead.put(mine, "elsewhere")
    assert ahead(mine) == "elsewhere"
    assert ahead(mine) == "here"
    ahead.put(mine, "elsewhere")
    assert ahead(other) == "here"
    assert ahead(mine) == "here"  # what was put is gone: its window has had its turn
    assert asked == [2, 2, 2]


@pytest.mark.parametrize(
    "switching",
    [Switching(), Switching(confidence=True), Switching(True, (Tier.ACCURACY,), below=0.999)],
)
def test_every_wrapper_hands_the_very_windows_to_the_one_it_asks_first(
    switching: Switching,
) -> None:
    circuit = memory(3, 3, 0.01)
    code = Code.from_circuit(circuit)
    window = Window(0, 4, 4, 4)
    if switching:
        compiled = Assessor(code, Tier.SPEED, WHOLE, switching=switching).compile(window)
    else:
        compiled = compile_window(code, Tier.SPEED, WHOLE, window)
    inner = innermost(compiled)
    assert isinstance(inner, SoftWindow)
    sampler = circuit.compile_detector_sampler(seed=3)
    records = code.layout.to_records(sampler.sample(64, bit_packed=True))
    syndromes = np.ascontiguousarray(records).reshape(64, -1)
    wanted = compiled.decode(syndromes)
    inner.ahead.put(syndromes, np.full_like(inner.log_odds(syndromes), np.nan))  # a sick network
    found = compiled.decode(syndromes)
    assert found.tiers is not None
    assert set(found.tiers.tolist()) <= {Tier.MATCHING, Tier.ACCURACY}
    inner.ahead.put(syndromes, inner.log_odds(syndromes))
    again = compiled.decode(syndromes)
    np.testing.assert_array_equal(again.bits, wanted.bits)
    again = compiled.decode(syndromes)
    np.testing.assert_array_equal(again.bits, wanted.bits)


def test_answers_from_elsewhere_stand_and_the_rest_is_answered_here() -> None:
    circuit = memory(3, 3, 0.01)
    code = Code.from_circuit(circuit)
    window = Window(0, 4, 4, 4)
    inner = compile_window(code, Tier.SPEED, WHOLE, window)
    assert isinstance(inner, SoftWindow)
    sampler = circuit.compile_detector_sampler(seed=3)
    records = code.layout.to_records(sampler.sample(64, bit_packed=True))
    syndromes = np.ascontiguousarray(records).reshape(64, -1)
    wanted = inner.decode(syndromes)
    odds = inner.log_odds(syndromes)
    rest = np.arange(0, 64, 3)
    bits = np.where(np.isin(np.arange(64), rest)[:, None], 0, wanted.bits).astype(np.uint8)
    inner.ahead.put(syndromes, Settled(bits, rest, odds[rest]))
    found = inner.decode(syndromes)
    np.testing.assert_array_equal(found.bits, wanted.bits)
    assert found.feasible.all()
    assert found.tiers is None
    odds[rest[2]] = np.nan
    inner.ahead.put(syndromes, Settled(bits, rest, odds[rest]))
    found = inner.decode(syndromes)
    assert found.tiers is not None
    assert np.flatnonzero(found.tiers == Tier.MATCHING).tolist() == [rest[2]]
    assert (found.tiers != Tier.SPEED).sum() == 1
    # Answers do not say how sure they are.
    _, signals = inner.decode_signalled(syndromes)
    inner.ahead.put(syndromes, Settled(bits, rest, odds[rest]))
    np.testing.assert_array_equal(inner.decode_signalled(syndromes)[1], signals)


def test_single_faults_are_corrected_whatever_was_found_elsewhere() -> None:
    """The guard has the last word of answers that were found elsewhere, too."""
    circuit = memory(3, 3, 0.01)
    code = Code.from_circuit(circuit)
    inner = compile_window(code, Tier.SPEED, WHOLE, Window(0, 4, 4, 4))
    assert isinstance(inner, SoftWindow)
    sampler = code.dem.compile_sampler(seed=1)
    events, _, faults = sampler.sample(400, bit_packed=True, return_errors=True)
    assert faults is not None
    one = np.unpackbits(faults, axis=1).sum(axis=1) == 1
    syndromes = np.ascontiguousarray(code.layout.to_records(events[one]).reshape(one.sum(), -1))
    right = inner.decode(syndromes).bits
    none = np.zeros(0, dtype=np.int64)
    nothing = np.zeros((0, inner.matcher.num_edges), dtype=np.float32)
    inner.ahead.put(syndromes, Settled(right ^ np.uint8(1), none, nothing))
    assert len(right) > 50
    np.testing.assert_array_equal(inner.decode(syndromes).bits, right)
