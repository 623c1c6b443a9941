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
