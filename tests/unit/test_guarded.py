"""The guarded tier: what it takes from which matching, and the faults that it never loses."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.circuits import ROTATED_X, ROTATED_Z, TASKS, code, detections, memory, without_reset
from qdec.bits import Bytes, unpack
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.match import Tier, compile_window
from qdec.match.faults import Faults
from qdec.match.gate import try_faults
from qdec.match.guarded import guarded_window, kernels
from qdec.match.guarded.tables import Ints, Tables, edge_keys, tabulate
from qdec.match.offline import OfflineDecoder, decode_shots
from qdec.windows import WHOLE, Geometry
from qdec.windows.cut import cut
from qdec.windows.geometry import Window

TIERS = (Tier.MATCHING, Tier.CORRELATED, Tier.GUARDED)
MUCH = 10**9


@cache
def whole(task: str, d: int, p: float = 0.001) -> tuple[Code, Tables]:
    """A code of d rounds, and the tables of its only window."""
    made = code(task, d, d, p)
    rounds = made.spacetime.rounds
    return made, tabulate(cut(made.spacetime, Window(0, rounds, rounds, rounds)))


@cache
def faults_of(task: str, d: int) -> Faults:
    return Faults(whole(task, d)[0])


def events_of(records: Bytes) -> Ints:
    bits = unpack(records.reshape(-1), 8 * records.size)
    return np.flatnonzero(bits)


def found(tables: Tables, events: Ints, few: int, budget: int = MUCH) -> Bytes | None:
    bits = np.zeros(tables.fault_bits.shape[1], dtype=np.uint8)
    return bits if kernels.few_faults(tables, events, few, budget, bits) else None


def failures(truth: Bytes, frames: Bytes) -> int:
    return int((frames != truth).any(axis=1).sum())


def test_tables_say_what_the_faults_are() -> None:
    """Beside `Faults`, which reads the DEM on its own."""
    made, tables = whole(ROTATED_Z, 3)
    faults = Faults(made)
    assert len(tables.hash) == len(faults)
    everything = np.arange(len(faults))
    records, frames = faults.records(everything), faults.frames(everything)
    expected = sorted(
        (tuple(events_of(one).tolist()), int(frame[0]))
        for one, frame in zip(records, frames, strict=True)
    )
    ends = tables.fault_event_ptr
    mine = sorted(
        (tuple(tables.fault_events[ends[k] : ends[k + 1]].tolist()), int(tables.fault_bits[k, 0]))
        for k in range(len(tables.hash))
    )
    assert mine == expected


def test_ways_save_weight_and_add_up() -> None:
    made, tables = whole(ROTATED_Z, 5)
    ptr = tables.way_edge_ptr
    assert (np.diff(ptr) >= 2).all()
    assert (tables.gain > 0).all()
    for way in range(0, len(tables.gain), 7):
        edges = tables.way_edges[ptr[way] : ptr[way + 1]]
        flipped: set[int] = set()
        for edge in edges.tolist():
            flipped ^= {int(tables.edge_u[edge]), int(tables.edge_v[edge])} - {-1}
        fault = found(tables, np.array(sorted(flipped)), 1)
        assert fault is not None
        np.testing.assert_array_equal(fault, np.bitwise_xor.reduce(tables.edge_bits[edges]))
        # A fault counts once, however many edges it has.
        mark = np.zeros(len(tables.edge_key), dtype=np.uint8)
        mark[edges] = kernels.PLAIN
        bits = np.zeros_like(fault)
        count, weight = kernels._price(tables, mark, edges, kernels.PLAIN, bits)
        apart = tables.edge_weight[edges].sum()
        assert count == 1
        assert weight <= apart - tables.gain[way] + 1e-9
        np.testing.assert_array_equal(bits, fault)
        assert (mark[edges] == kernels.PLAIN).all()
    assert made.distance == 5


@pytest.mark.parametrize("task", [ROTATED_Z, ROTATED_X])
@given(data=st.data())
def test_few_faults_are_found(task: str, data: st.DataObject) -> None:
    """Whatever up to three faults at d=7 leave: an explanation of the same class."""
    _, tables = whole(task, 7)
    faults = faults_of(task, 7)
    chosen = data.draw(st.lists(st.integers(0, len(faults) - 1), min_size=1, max_size=3))
    which = np.array(chosen)
    records = np.bitwise_xor.reduce(faults.records(which), axis=0)
    frame = np.bitwise_xor.reduce(faults.frames(which), axis=0)
    events = events_of(records)
    if not len(events):
        return
    bits = found(tables, events, 3)
    assert bits is not None
    np.testing.assert_array_equal(bits[: len(frame)], frame)


def test_nothing_is_found_where_there_is_nothing() -> None:
    """All sets of events that two faults can leave at d=3, and those that they cannot."""
    _, tables = whole(ROTATED_Z, 3)
    ptr, values = tables.fault_event_ptr, tables.fault_events
    single = {frozenset(values[ptr[k] : ptr[k + 1]].tolist()) for k in range(len(ptr) - 1)}
    double = {a ^ b for a, b in combinations(sorted(single, key=sorted), 2)}
    nodes = sorted(set(values.tolist()))
    tried = {1: 0, 2: 0, 3: 0}
    for size in (1, 2, 3):
        for events in combinations(nodes, size):
            least = 1 if frozenset(events) in single else 2 if frozenset(events) in double else 3
            tried[least] += 1
            for few in (1, 2):
                bits = found(tables, np.array(events), few)
                assert (bits is not None) == (least <= few), events
    assert min(tried.values()) > 20
    assert found(tables, np.array(nodes[:1]), 0) is None


def test_a_search_gives_up() -> None:
    _, tables = whole(ROTATED_Z, 7)
    faults = faults_of(ROTATED_Z, 7)
    far = faults.records(np.array([10, len(faults) // 2, len(faults) - 10]))
    events = events_of(np.bitwise_xor.reduce(far, axis=0))
    assert found(tables, events, 3) is not None
    assert found(tables, events, 3, budget=1) is None


@pytest.mark.parametrize("p", [0.001, 0.006])
@pytest.mark.parametrize("task", [ROTATED_Z, ROTATED_X])
def test_no_single_fault_is_lost(task: str, p: float) -> None:
    for made, geometry in ((code(task, 3, 3, p), WHOLE), (code(task, 3, 9, p), Geometry(6, 3))):
        decoder = OfflineDecoder(made, Tier.GUARDED, geometry)
        assert try_faults(made, decoder, name="guarded").passed
        correlated = OfflineDecoder(made, Tier.CORRELATED, geometry)
        assert not try_faults(made, correlated, name="correlated").passed


@pytest.mark.parametrize("task", [ROTATED_Z, ROTATED_X])
def test_no_pair_that_correlated_matching_loses_is_lost(task: str) -> None:
    d5 = code(task, 5, 5, 0.001)
    decoder = OfflineDecoder(d5, Tier.GUARDED, WHOLE)
    assert try_faults(d5, decoder, 2, name="guarded", limit=100_000, seed=1).passed
    correlated = OfflineDecoder(d5, Tier.CORRELATED, WHOLE)
    lost = try_faults(d5, correlated, 2, name="correlated", limit=100_000, seed=1).failed
    assert lost > 30

    # Likelihood alone, where no distance is known, saves most of them and not all.
    rounds = d5.spacetime.rounds
    window = guarded_window(cut(d5.spacetime, Window(0, rounds, rounds, rounds)), None)

    class Likelihood:
        def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
            answers = window.decode(records.reshape(len(records), -1))
            return answers.bits[:, :1], answers.feasible

    assert 0 < try_faults(d5, Likelihood(), 2, name="x", limit=100_000, seed=1).failed < lost / 2


@pytest.mark.slow
@pytest.mark.parametrize("task", [ROTATED_Z, ROTATED_X])
def test_no_pair_is_lost(task: str) -> None:
    d5 = code(task, 5, 5, 0.001)
    report = try_faults(d5, OfflineDecoder(d5, Tier.GUARDED, WHOLE), 2, name="guarded")
    assert report.passed
    assert not report.sampled


def test_any_tier_is_safe_under_guard() -> None:
    d5 = code(ROTATED_X, 5, 5, 0.003)
    rounds = d5.spacetime.rounds
    window = Window(0, rounds, rounds, rounds)
    plain = compile_window(d5, Tier.MATCHING, WHOLE, window)
    guard = guarded_window(cut(d5.spacetime, window), d5.distance)

    class Contrary:
        """Wrong wherever plain matching is right, but overruled."""

        def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
            syndromes = records.reshape(len(records), -1)
            answers = plain.decode(syndromes)
            wrong = answers.bits ^ 1
            bits = wrong.copy()
            changed = guard.overrule(bits, syndromes)
            np.testing.assert_array_equal(changed, np.flatnonzero((bits != wrong).any(axis=1)))
            return bits[:, :1], answers.feasible

    assert try_faults(d5, Contrary(), 1, name="safe").passed
    assert try_faults(d5, Contrary(), 2, name="safe", limit=5_000).passed
    assert try_faults(d5, Contrary(), 2, name="safe", near=True, limit=5_000).passed
    assert (
        try_faults(d5, Contrary(), 3, name="safe", limit=5_000).failed > 2_500
    )  # too many to know


@pytest.mark.parametrize(("d", "p", "shots"), [(3, 0.004, 60_000), (5, 0.006, 20_000)])
def test_it_fails_less_often_than_either(d: int, p: float, shots: int) -> None:
    made = code(ROTATED_Z, d, d, p)
    events, truth = detections(memory(ROTATED_Z, d, d, p), shots, seed=3)
    records = made.layout.to_records(events)
    frames = {tier: decode_shots(made, tier, WHOLE, records)[0] for tier in TIERS}
    plain, correlated, guarded = (failures(truth, frames[tier]) for tier in TIERS)
    assert guarded < min(plain, correlated)
    same = (frames[Tier.MATCHING] == frames[Tier.CORRELATED]).all(axis=1)
    agreed = frames[Tier.MATCHING][same]
    np.testing.assert_array_equal(frames[Tier.GUARDED][same], agreed)


@pytest.mark.parametrize("task", TASKS)
def test_windows_carry_their_seams(task: str) -> None:
    """A seam that did not belong to its frame would cost far more than the windows do."""
    circuit = memory(task, 3, 30, 0.004)
    made = Code.from_circuit(circuit)
    events, truth = detections(circuit, 6_000, seed=4)
    records = made.layout.to_records(events)
    decoder = OfflineDecoder(made, Tier.GUARDED, Geometry(9, 5))
    windowed, feasible = decoder.decode(records)
    assert feasible.all()
    whole_shots, _ = decode_shots(made, Tier.GUARDED, WHOLE, records)
    differ = int((windowed != whole_shots).any(axis=1).sum())
    gap = failures(truth, windowed) - failures(truth, whole_shots)
    assert abs(gap) <= 4 * np.sqrt(differ) + 1
    # Nothing is left behind by a shot, and nothing depends on the batch.
    again = np.concatenate([decoder.decode(records[i : i + 1])[0] for i in range(300)])
    np.testing.assert_array_equal(again, windowed[:300])


def test_many_ids_and_mechanisms_of_two_rounds() -> None:
    circuit = without_reset(memory(ROTATED_X, 7, 14, 0.005))
    made = Code.from_circuit(circuit)
    events, truth = detections(circuit, 1_000, seed=5)
    records = made.layout.to_records(events)
    geometry = Geometry(11, 5)
    decoder = OfflineDecoder(made, Tier.GUARDED, geometry)
    frames, feasible = decoder.decode(records)
    assert feasible.all()
    notes = [note for window in decoder._compiled.values() for note in window.notes]
    assert any("64-bit" in note for note in notes)
    plain, _ = decode_shots(made, Tier.MATCHING, geometry, records)
    assert failures(truth, frames) < failures(truth, plain)


def test_a_window_keeps_its_tables_clean() -> None:
    made, _ = whole(ROTATED_Z, 5, 0.01)
    rounds = made.spacetime.rounds
    problem = cut(made.spacetime, Window(0, rounds, rounds, rounds))
    window = guarded_window(problem, made.distance)
    events, _ = detections(memory(ROTATED_Z, 5, 5, 0.01), 3_000, seed=6)
    syndromes = made.layout.to_records(events).reshape(len(events), -1)
    first = window.decode(syndromes)
    assert not window._mark.any()
    np.testing.assert_array_equal(window.decode(syndromes).bits, first.bits)


def test_edges_are_known_by_their_nodes_in_either_order() -> None:
    u, v = np.array([3, 5, 4]), np.array([5, 3, -1])
    keys = edge_keys(u, v, 10)
    assert keys[0] == keys[1] != keys[2]


def test_shots_without_an_explanation_are_flagged_alone() -> None:
    ring = "".join(
        f"error(0.1) D{2 * r} D{2 * r + 1} L0\n"
        f"detector(0, 0, {r}) D{2 * r}\ndetector(1, 0, {r}) D{2 * r + 1}\n"
        for r in range(8)
    )
    made = Code.parse("dem", ring)
    records = np.zeros((3, 8, 1), dtype=np.uint8)
    records[0, 4] = 3
    records[1, 4] = 1
    for geometry in (WHOLE, Geometry(4, 2)):
        frames, feasible = decode_shots(made, Tier.GUARDED, geometry, records)
        assert feasible.tolist() == [True, False, True]
        assert frames.tolist() == [[1], [0], [0]]


def test_what_it_cannot_decode_is_refused() -> None:
    likely = Code.parse("dem", "error(0.6) D0 L0\nerror(0.1) D0", round_map=[0])
    with pytest.raises(GeometryError, match="p <= 1/2"):
        decode_shots(likely, Tier.GUARDED, WHOLE, np.zeros((1, 1, 1), dtype=np.uint8))
    made = code(ROTATED_Z, 3, 9)
    part = made.split(2)[0]
    with pytest.raises(GeometryError, match="one lane"):
        compile_window(made, Tier.GUARDED, Geometry(6, 3), Window(0, 6, 3, None), part=part)
