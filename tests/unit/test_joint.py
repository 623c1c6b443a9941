"""X and Z together: every answer explains its window, none beats the optimum, most attain it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import memory as small
from helpers.circuits import two_patches, without_reset
from qdec.bits import Bytes, unpack
from qdec.codes import Code
from qdec.errors import DataError
from qdec.match import SOFT, Tier
from qdec.match.edge_odds import Floats
from qdec.match.gate import try_faults
from qdec.match.guarded.tables import tabulate
from qdec.match.joint import JointDecoder
from qdec.match.offline import OfflineDecoder
from qdec.windows.cut import Edges, Problem, cut, cut_closed, merge_parallel
from qdec.windows.geometry import WHOLE, Geometry, Window
from qdec_tools.circuits import memory
from qdec_tools.optimum import least_weight

BASES = ("surface_code:rotated_memory_z", "surface_code:rotated_memory_x")


def window_of(code: Code, window: Window) -> tuple[JointDecoder, Problem, Edges]:
    problem = cut(code.spacetime, window)
    edges = merge_parallel(problem)
    joint = JointDecoder.of(problem, cut_closed(code.spacetime, window), edges)
    assert joint is not None
    return joint, problem, edges


def whole(code: Code) -> Window:
    rounds = code.spacetime.rounds
    return Window(0, rounds, rounds, rounds)


def syndromes_of(code: Code, shots: int, seed: int) -> tuple[Bytes, Bytes]:
    events, flips, _ = code.dem.compile_sampler(seed=seed).sample(shots, bit_packed=True)
    return code.layout.to_records(events).reshape(shots, -1), flips


def prior(edges: Edges, shots: int) -> Floats:
    odds = np.log(edges.p) - np.log1p(-edges.p)
    return np.tile(odds.astype(np.float32), (shots, 1))


@pytest.mark.parametrize("basis", BASES)
def test_nothing_beats_the_optimum_and_most_attain_it(basis: str) -> None:
    code = Code.from_circuit(memory(3, 3, 0.03, basis))
    joint, problem, edges = window_of(code, whole(code))
    tables = tabulate(problem)
    syndromes, _ = syndromes_of(code, 60, 3)
    found = joint.decode(prior(edges, 60), syndromes)
    least = np.array([least_weight(tables, one) for one in syndromes])
    assert (found.weight > least - 1e-6).all()
    # The sum over a class may prefer another class than the lightest set's.
    assert np.mean(found.weight < least + 1e-6) > 0.85


EXPLAINED = {
    "middle": (Code.from_circuit(memory(3, 12, 0.02)), Window(3, 9, 3, None)),
    "whole": (Code.from_circuit(memory(3, 4, 0.02, BASES[1])), whole),
    "no reset": (Code.from_circuit(without_reset(memory(3, 12, 0.02))), Window(3, 10, 4, None)),
}


@settings(deadline=None, max_examples=30)
@given(
    case=st.sampled_from(sorted(EXPLAINED)),
    seed=st.integers(0, 2**32 - 1),
    noise=st.floats(0, 8),
)
def test_every_answer_explains_its_window(case: str, seed: int, noise: float) -> None:
    """Whatever the network says: with an answer bit for each edge, the edges flip the events."""
    code, where = EXPLAINED[case]
    window = where(code) if callable(where) else where
    problem = cut(code.spacetime, window)
    count = len(problem.u)
    named = replace(
        problem,
        num_ids=8 * -(-count // 8),
        id_ptr=np.arange(count + 1),
        ids=np.arange(count),
    )
    edges = merge_parallel(named)
    joint = JointDecoder.of(named, cut_closed(code.spacetime, window), edges)
    assert joint is not None
    rng = np.random.default_rng(seed)
    thrown = rng.random((20, count)) < problem.p
    want = np.zeros((20, problem.num_nodes), dtype=np.int64)
    for row, components in enumerate(thrown):
        np.add.at(want[row], problem.u[components], 1)
        np.add.at(want[row], problem.v[components & (problem.v >= 0)], 1)
    syndromes = np.packbits((want & 1).astype(np.uint8), axis=1, bitorder="little")
    odds = prior(edges, 20) + noise * rng.standard_normal((20, len(edges.u))).astype(np.float32)
    found = joint.decode(odds, syndromes)
    chosen = unpack(found.bits, named.num_ids)[:, :count]
    got = np.zeros_like(want)
    for row, components in enumerate(chosen.astype(bool)):
        np.add.at(got[row], problem.u[components], 1)
        np.add.at(got[row], problem.v[components & (problem.v >= 0)], 1)
    np.testing.assert_array_equal(got & 1, want & 1)
    assert np.isfinite(found.weight).all()
    assert (found.gap >= 0).all()


@pytest.mark.parametrize("tier", SOFT)
@pytest.mark.parametrize("geometry", [WHOLE, Geometry(12, 5)], ids=str)
def test_fewer_failures_than_correlated_matching(tier: Tier, geometry: Geometry) -> None:
    """At d = 5, p = .006: a fifth to a quarter fewer; a tenth is far beyond chance."""
    rounds, shots = (5, 20_000) if geometry == WHOLE else (20, 4_000)
    code = Code.from_circuit(memory(5, rounds, 0.006))
    records, flips = syndromes_of(code, shots, 11)
    records = records.reshape(shots, code.spacetime.rounds, -1)
    failures = {
        one: int(
            (OfflineDecoder(code, one, geometry).decode(records)[0] != flips).any(axis=1).sum()
        )
        for one in (tier, Tier.CORRELATED)
    }
    assert failures[tier] < 0.9 * failures[Tier.CORRELATED]


def test_what_cannot_be_explained_has_no_optimum() -> None:
    code = Code.from_circuit(memory(3, 3, 0.01))
    window = whole(code)
    tables = tabulate(cut(code.spacetime, window))
    idle = np.setdiff1d(np.arange(8 * code.layout.record_bytes), tables.edge_u)
    syndrome = np.zeros(window.end * code.layout.record_bytes, dtype=np.uint8)
    syndrome[idle[0] // 8] |= 1 << (idle[0] % 8)
    with pytest.raises(DataError, match="no set of faults"):
        least_weight(tables, syndrome)


def test_windows_without_two_classes_have_no_such_decoder() -> None:
    code = Code.from_circuit(two_patches(small(d=3, rounds=3, p=0.01)))
    window = whole(code)
    problem = cut(code.spacetime, window)
    closed = cut_closed(code.spacetime, window)
    assert JointDecoder.of(problem, closed, merge_parallel(problem)) is None


def test_no_windows_are_no_answers() -> None:
    code = Code.from_circuit(memory(3, 3, 0.01))
    joint, problem, edges = window_of(code, whole(code))
    nothing = np.zeros((0, problem.num_nodes // 8), dtype=np.uint8)
    found = joint.decode(np.zeros((0, len(edges.u)), dtype=np.float32), nothing)
    assert found.bits.shape == (0, problem.num_ids // 8)
    assert len(found.gap) == len(found.weight) == 0


@pytest.mark.parametrize("tier", SOFT)
@pytest.mark.parametrize("basis", BASES)
def test_soft_tiers_keep_the_distance(tier: Tier, basis: str) -> None:
    """All single faults, and of the pairs at d = 5 those that are the hardest to tell apart."""
    for d in (3, 5):
        code = Code.from_circuit(memory(d, d, 0.001, basis))
        decoder = OfflineDecoder(code, tier, WHOLE)
        assert try_faults(code, decoder, 1, name=tier.label).passed
    assert try_faults(code, decoder, 2, name=tier.label, near=True, limit=4_000).passed


def test_several_observables_have_a_second_opinion() -> None:
    """Soft decoding of two patches side by side fails no more often than guarded matching."""
    circuit = two_patches(memory(3, 3, 0.02))
    code = Code.from_circuit(circuit)
    records, flips = syndromes_of(code, 4_000, 5)
    records = records.reshape(4_000, code.spacetime.rounds, -1)
    failures = {
        tier: int((OfflineDecoder(code, tier, WHOLE).decode(records)[0] != flips).any(axis=1).sum())
        for tier in (Tier.ACCURACY, Tier.GUARDED)
    }
    assert failures[Tier.ACCURACY] < failures[Tier.GUARDED] + 3 * failures[Tier.GUARDED] ** 0.5
