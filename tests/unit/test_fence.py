"""What is tried at a stream's start is what it is served with: in its windows, no larger ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qdec.accelerator.compiled import compile_kinds
from qdec.bits import Bytes
from qdec.codes import Code
from qdec.config import StreamConfig
from qdec.errors import GeometryError
from qdec.lane.library import Library
from qdec.match import Tier
from qdec.match.fence import why_fenced
from qdec.match.offline import OfflineDecoder
from qdec.match.tier import RecordDecoder
from qdec.neural.grid import ROTATED, Lattice
from qdec.windows import WHOLE, Geometry
from qdec_tools.circuits import memory

CODE = Code.from_circuit(memory(3, 30, 0.003))


def fenced(code: Code, tier: Tier, geometry: Geometry, decoder: RecordDecoder | None = None) -> str:
    decoder = decoder or OfflineDecoder(code, tier, geometry)
    return why_fenced(code, geometry, decoder, tier, budget_s=60)


def test_a_code_whose_shots_are_too_large_for_a_network_is_served_in_windows_that_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d3.stim"
    path.write_text(str(memory(3, 30, 0.003)))
    stream = StreamConfig(name="s", code=path, tier="speed", endless=True)
    height, width = Lattice(CODE, ROTATED).cells
    monkeypatch.setattr("qdec.neural.grid.MAX_CELLS", 20 * height * width)
    with pytest.raises(GeometryError, match="too large for a network"):
        fenced(CODE, Tier.SPEED, WHOLE)
    kinds = compile_kinds(Library(), stream)
    assert kinds
    assert not any(kind.fenced for kind in kinds.values())


@pytest.mark.parametrize("geometry", [WHOLE, Geometry(6, 3), Geometry(103, 100)], ids=str)
def test_what_loses_distance_is_told(geometry: Geometry) -> None:
    words = fenced(CODE, Tier.CORRELATED, geometry)
    assert words.startswith("correlated answers ")
    assert "single faults wrongly on this code (plain matching is safer at low noise)" in words
    assert not fenced(CODE, Tier.GUARDED, geometry)
    assert not fenced(CODE, Tier.MATCHING, geometry)


class Blind:
    """Plain matching that errs on some shots."""

    def __init__(self, geometry: Geometry, errs_on: float) -> None:
        self.matching = OfflineDecoder(D5, Tier.MATCHING, geometry)
        self.errs_on = errs_on

    def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
        frames, feasible = self.matching.decode(records)
        some = np.random.default_rng(3).random(len(frames)) < self.errs_on
        return frames ^ some[:, None].astype(np.uint8), feasible


D5 = Code.from_circuit(memory(5, 20, 0.003))
# A buffer of one round at distance 5: plain matching loses pairs of faults in such windows.
HASTY = Geometry(6, 5)


def test_what_windows_lose_is_not_held_against_a_tier() -> None:
    assert not fenced(D5, Tier.GUARDED, HASTY)
    same = OfflineDecoder(D5, Tier.MATCHING, HASTY)
    assert not fenced(D5, Tier.CORRELATED, HASTY, same)


def test_what_a_tier_loses_beyond_that_is() -> None:
    words = fenced(D5, Tier.SPEED, HASTY, Blind(HASTY, 0.01))
    assert "speed answers " in words
    assert "single faults" in words


def test_a_bank_is_tried_once_and_as_it_serves() -> None:
    library = Library()
    asked = []
    bank = library.bank(CODE.streamed(raw=False), Tier.CORRELATED, Geometry(6, 3), None)
    get = bank.get

    def counted(*given: object) -> object:
        asked.append(given)
        return get(*given)

    bank.get = counted
    words = library.fence(bank)
    assert "single faults" in words
    assert asked
    assert max(window.end - window.start for (window,) in asked) == 6
    asked.clear()
    assert library.fence(bank) == words
    assert not asked
