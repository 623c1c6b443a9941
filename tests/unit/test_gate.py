"""The fault-distance gate, and what is known of the tiers that go through it."""

from __future__ import annotations

import json
import re
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stim
from numpy.typing import NDArray

from helpers import circuits
from helpers.circuits import TASKS, ring
from qdec.bits import Bytes, pack, unpack
from qdec.codes import Code
from qdec.errors import CodeError, GeometryError
from qdec.match import Tier
from qdec.match.faults import Faults
from qdec.match.gate import GateReport, try_faults
from qdec.match.near import NearSets
from qdec.match.offline import OfflineDecoder, decode_shots
from qdec.windows import WHOLE, Geometry
from qdec_tools import gate
from qdec_tools.circuits import memory

MEMORY_X = "surface_code:rotated_memory_x"


def code(d: int, rounds: int, p: float = 0.001, task: str = gate.DEFAULT_TASK) -> Code:
    return Code.from_circuit(memory(d, rounds, p, task))


def tried(
    code: Code, tier: Tier, weight: int = 1, geometry: Geometry = WHOLE, **options: Any
) -> GateReport:
    decoder = OfflineDecoder(code, tier, geometry)
    return try_faults(code, decoder, weight, name=tier.label, **options)


def test_faults_are_what_the_instructions_flip() -> None:
    text = (
        "error(0.1) D0 D1 ^ D1 D2 L0\nerror(0.2) D0 D2 L0\nerror(0) D1\nerror(0.1) D3 ^ D3\n"
        "repeat 3 {\n error(0.1) D0 ^ D1 L9\n error(0.1) D1 L0\n shift_detectors 1\n}\n"
        "error(0.1) D0\n"
    )
    parsed = Code.parse("dem", text, round_map=[0, 0, 1, 1])
    faults = Faults(parsed)
    everything = np.arange(len(faults))
    # D0 D1 ^ D1 D2 L0 is D0 D2 L0 to a decoder; D3 ^ D3 is nothing.
    assert [faults.text(k) for k in range(len(faults))] == [
        "error(0.1) D0 D1 ^ D1 D2 L0",
        "error(0.1) D0 ^ D1 L9",
        "error(0.1) D1 L0",
        "error(0.1) D1 ^ D2 L9",
        "error(0.1) D2 L0",
        "error(0.1) D2 ^ D3 L9",
        "error(0.1) D3 L0",
        "error(0.1) D3",
    ]
    assert faults.records(everything)[..., 0].tolist() == [
        [1, 1], [3, 0], [2, 0], [2, 1], [0, 1], [0, 3], [0, 2], [0, 2]
    ]  # fmt: skip
    assert faults.frames(everything)[:2].tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize("task", [gate.DEFAULT_TASK, MEMORY_X])
@pytest.mark.parametrize("d", [3, 5])
def test_matching_corrects_every_single_fault(d: int, task: str) -> None:
    report = tried(code(d, d, task=task), Tier.MATCHING)
    assert report.passed
    assert not report.sampled
    assert report.first_failure == ()
    windowed = tried(code(d, 3 * d, task=task), Tier.MATCHING, geometry=Geometry(2 * d, d))
    assert windowed.passed
    assert windowed.tried > 2 * report.tried


def test_correlated_matching_does_not_at_distance_3() -> None:
    report = tried(code(3, 3), Tier.CORRELATED)
    assert (report.failed, report.tried) == (6, 219)
    assert not report.passed
    assert len(report.first_failure) == 1
    assert report.first_failure[0].startswith("error(")
    assert tried(code(3, 9), Tier.CORRELATED, geometry=Geometry(6, 3)).failed > 0
    assert tried(code(5, 5), Tier.CORRELATED).passed


def test_pairs_are_each_tried_once() -> None:
    small = code(3, 2)
    faults = len(Faults(small))
    seen = []
    report = tried(small, Tier.MATCHING, 2, progress=lambda *done: seen.append(done))
    assert report.tried == faults * (faults - 1) // 2
    assert seen[-1] == (report.tried, report.tried)
    assert report.failed > 0  # distance 3 corrects one fault
    assert len(report.first_failure) == 2
    # The same by hand.
    syndromes, frames = (
        f(np.arange(faults)) for f in (Faults(small).records, Faults(small).frames)
    )
    i, j = np.triu_indices(faults, 1)
    decoded, _ = decode_shots(small, Tier.MATCHING, WHOLE, syndromes[i] ^ syndromes[j])
    assert int((decoded != frames[i] ^ frames[j]).any(axis=1).sum()) == report.failed


def test_triples_are_each_tried_once() -> None:
    text = "".join(f"error(0.1) D{k} D{k + 1} L{k}\n" for k in range(6)) + "error(0.1) D0\n"
    chain = Code.parse("dem", text, round_map=[0] * 7)
    seen: list[tuple[int, ...]] = []

    class Watched:
        def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
            frames = unpack(records[:, 0], 7)
            # A chain without a way out behind: each fault is known by the events before it.
            flips = (np.cumsum(frames, axis=1) % 2)[:, :6].astype(np.uint8)
            seen.extend(map(tuple, flips.tolist()))
            return pack(flips), np.ones(len(records), dtype=np.bool_)

    report = try_faults(chain, Watched(), 3, name="watched")
    assert (report.tier, report.tried, report.sampled) == ("watched", comb(7, 3), False)
    assert len(set(seen)) == len(seen) == comb(7, 3)
    with pytest.raises(ValueError, match="weight 0"):
        try_faults(chain, Watched(), 0, name="watched")


def test_a_rule_that_switches_is_tried_like_a_tier() -> None:
    """Correlated matching where plain matching agrees, else plain matching: that is plain."""
    d3 = code(3, 3)
    tiers = [OfflineDecoder(d3, tier, WHOLE) for tier in (Tier.MATCHING, Tier.CORRELATED)]

    class Agreement:
        def __init__(self, distrusted: int) -> None:
            self._distrusted = distrusted

        def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
            (frames, ok), (others, _) = (tier.decode(records) for tier in tiers)
            agree = (frames == others).all(axis=1, keepdims=True)
            return np.where(agree, frames, (others, frames)[self._distrusted]), ok

    assert try_faults(d3, Agreement(1), name="plain").passed
    assert try_faults(d3, Agreement(0), name="correlated").failed == 6


def test_sampled_pairs() -> None:
    d5 = code(5, 5)
    for tier in (Tier.MATCHING, Tier.CORRELATED):
        report = tried(d5, tier, 2, limit=100_000, seed=1)
        assert report.sampled
        assert report.tried == 100_000
        assert report == tried(d5, tier, 2, limit=100_000, seed=1)
        assert report.passed == (tier is Tier.MATCHING)


@pytest.mark.parametrize("task", [*TASKS, "ring"])
def test_near_sets_lie_along_logical_errors(task: str) -> None:
    """All of a logical error's edges together flip nothing but the observable."""
    circuit = ring(5, 5) if task == "ring" else circuits.memory(task, 5, 5, 0.001)
    made = Code.from_circuit(circuit)
    sets = NearSets(made, 2, seed=1)
    for _ in range(20):
        edges = sets.logical_error()
        assert len(edges) == made.distance == 5
        key = sets._key[edges]
        ends = np.concatenate([key // 2 // sets._sheet, key // 2 % sets._sheet])
        seen, counts = np.unique(ends[ends < sets._nodes], return_counts=True)
        assert len(seen) == len(ends[ends < sets._nodes]) / 2
        assert (counts == 2).all()
        assert int((key % 2).sum()) % 2 == 1
    items = sets.draw(500)
    assert items.shape == (500, 2)
    assert (items[:, 0] != items[:, 1]).all()


def test_near_shots_are_what_their_faults_flip() -> None:
    """Beside Stim, which reads the faults as text."""
    made = code(5, 5)
    sets = NearSets(made, 2, seed=2)
    items = sets.draw(40)
    records, frames = sets.shots(items)
    for row, faults in enumerate(items.tolist()):
        text = "\n".join(re.sub(r"\(.*?\)", "(1)", sets.text(fault)) for fault in faults)
        padding = f"detector D{made.layout.num_detectors - 1}\nlogical_observable L0"
        dem = stim.DetectorErrorModel(f"{text}\n{padding}")
        dets, obs, _ = dem.compile_sampler().sample(1, bit_packed=True)
        np.testing.assert_array_equal(made.layout.to_records(dets)[0], records[row])
        np.testing.assert_array_equal(obs[0], frames[row])


def test_near_sets_find_what_others_do_not() -> None:
    """At d=7 plain matching fails on some sets of three, too; random sets do not show it."""
    d7 = code(7, 7, p=0.003)
    near = tried(d7, Tier.MATCHING, 3, near=True, limit=10_000)
    assert near.near
    assert near.sampled
    assert near.failed > 30
    assert near == tried(d7, Tier.MATCHING, 3, near=True, limit=10_000)
    assert tried(d7, Tier.MATCHING, 3, limit=10_000).failed == 0
    d5 = code(5, 5)
    assert tried(d5, Tier.MATCHING, 2, near=True, limit=10_000).passed
    assert tried(d5, Tier.CORRELATED, 2, near=True, limit=10_000).failed > 30


def test_codes_without_logical_errors_have_no_near_sets() -> None:
    lonely = Code.parse("dem", "error(0.1) D0 L0\nerror(0.1) D0 D1 L0", round_map=[0, 1])
    with pytest.raises(CodeError, match="no logical error was found"):
        NearSets(lonely, 1).draw(1)
    with pytest.raises(CodeError, match="no 4 faults"):
        NearSets(code(3, 3), 4).draw(1)


@pytest.mark.slow
@pytest.mark.parametrize("task", [gate.DEFAULT_TASK, MEMORY_X])
def test_all_pairs_at_distance_5(task: str) -> None:
    d5 = code(5, 5, task=task)
    report = tried(d5, Tier.MATCHING, 2)
    assert report.tried > 1_400_000
    assert not report.sampled
    assert report.passed
    assert tried(d5, Tier.CORRELATED, 2).failed > 1000
    windowed = tried(code(5, 15, task=task), Tier.MATCHING, 2, Geometry(10, 5), limit=1_000_000)
    assert windowed.passed


def test_a_fault_that_no_detector_sees_fails_the_gate() -> None:
    text = "error(0.1) D0 L0\nerror(0.1) D0 D1\nerror(0.1) D1\nerror(0.01) L0\n"
    report = tried(Code.parse("dem", text, round_map=[0, 1]), Tier.MATCHING)
    assert report.failed >= 1


def test_run_prints_a_table_or_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gate.run(3) == 1
    out, _ = capsys.readouterr()
    assert "FAIL" in out
    assert "pass" in out
    assert "219" in out
    path = tmp_path / "d3.stim"
    path.write_text(str(memory(3, 3, 0.001)))
    assert gate.run(path, tier="matching", json=True) == 0
    out, _ = capsys.readouterr()
    result = json.loads(out)
    assert result["code"] == "d3.stim"
    assert result["gate"][0]["tried"] == 219
    assert result["gate"][0]["passed"] is True
    assert gate.run(3, tier="matching", weight=2, limit=500, windows="3,2") == 1
    assert "sampled" in capsys.readouterr().out
    assert gate.run(3, tier="matching, correlated", weight=3, limit=500, json=True) == 1
    rows = json.loads(capsys.readouterr().out)["gate"]
    assert [(row["tier"], row["weight"], row["tried"]) for row in rows] == [
        ("matching", 3, 500),
        ("correlated", 3, 500),
    ]
    with pytest.raises(ValueError, match="weight 5"):
        gate.run(3, weight=5)
    with pytest.raises(GeometryError):
        gate.run(3, tier="magic")
