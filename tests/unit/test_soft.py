"""Soft decoding: whatever the network says, the answer explains the syndrome, and weighs least."""

from __future__ import annotations

from typing import cast

import numpy as np
import pymatching
import pytest
import stim
from numpy.typing import NDArray

from qdec.bits import Bytes, unpack
from qdec.codes import Code
from qdec.codes.parts import split
from qdec.errors import CodeError, GeometryError
from qdec.match import SOFT, Tier, compile_window
from qdec.match.joint import JointAnswers, JointDecoder
from qdec.match.matching import MatchingWindow
from qdec.match.offline import OfflineDecoder
from qdec.match.review import Gaps, JointReview
from qdec.match.soft import SoftWindow
from qdec.match.soft_gap import SoftGap
from qdec.match.sparse import SparseMatcher
from qdec.neural.folded import Architecture, prior_planes
from qdec.neural.folded_model import FoldedModel
from qdec.neural.grid import ROTATED, Lattice, WindowGrid
from qdec.neural.network import Network, shapes
from qdec.windows.cut import Erasure, Problem, cut, cut_closed, merge_parallel
from qdec.windows.geometry import WHOLE, Geometry, Window
from qdec_tools.circuits import memory
from qdec_tools.training.sampler import Sampler

ARCH = Architecture(ROTATED, width=8, inner=8, blocks=1)
BASES = ("surface_code:rotated_memory_z", "surface_code:rotated_memory_x")
Floats = NDArray[np.float32]


def network(scale: float, seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    weights = {
        name: (scale * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes(ARCH).items()
    }
    return Network(ARCH, weights)


def records_of(code: Code, shots: int, seed: int) -> tuple[Bytes, Bytes]:
    sampler = code.dem.compile_sampler(seed=seed)
    events, flips, _ = sampler.sample(shots, bit_packed=True)
    return code.layout.to_records(events), flips


class Says:
    """A network that says what it is told."""

    channels = ((4,), ROTATED.channels)

    def __init__(self, change: Floats) -> None:
        self.change = change

    def __call__(self, *inputs: Floats) -> Floats:
        (events,) = inputs
        assert events.shape[1] == 4
        return np.broadcast_to(self.change, (len(events), *self.change.shape[1:]))


def window_of(code: Code, window: Window) -> tuple[Problem, WindowGrid]:
    problem = cut(code.spacetime, window)
    return problem, Lattice(code, ROTATED).grid(window, problem, merge_parallel(problem))


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("geometry", [WHOLE, Geometry(8, 4), Geometry(6, 5)], ids=str)
def test_a_network_that_changes_nothing_is_plain_matching(
    basis: str, geometry: Geometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdec.match.review.JointReview.below", 0.0)
    code = Code.from_circuit(memory(3, 15, 0.01, basis))
    records, _ = records_of(code, 2000, 1)
    model = FoldedModel(network(0.0), precision="fp32")
    soft, feasible = OfflineDecoder(code, Tier.SPEED, geometry, model=model).decode(records)
    plain, _ = OfflineDecoder(code, Tier.MATCHING, geometry).decode(records)
    assert feasible.all()
    # PyMatching rounds weights to integers, so it breaks near ties its own way.
    assert (soft != plain).any(axis=1).mean() < 0.01


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("window", [Window(0, 6, 6, 6), Window(0, 5, 3, 14), Window(4, 9, 3, 14)])
def test_an_oracle_leaves_nothing_to_match(basis: str, window: Window) -> None:
    length = window.length
    assert length is not None
    code = Code.from_circuit(memory(5, length - 1, 0.01, basis))
    problem, grid = window_of(code, window)
    events, labels = Sampler(problem, grid, ROTATED.channels).sample(40, np.random.default_rng(2))
    edges = merge_parallel(problem)
    matcher = SparseMatcher.from_problem(problem)
    fallback = MatchingWindow(problem)
    for b in range(40):
        prior = np.zeros(labels[b].size, dtype=np.float32)
        prior[grid.places] = grid.prior
        change = (40.0 * labels[b].astype(np.float32) - 20.0).reshape(1, *labels[b].shape)
        change -= prior.reshape(change.shape)
        soft = SoftWindow(Tier.ACCURACY, Says(change), grid, matcher, fallback)
        nodes = np.zeros(problem.num_nodes, dtype=np.uint8)
        at = np.flatnonzero(grid.node_at >= 0)
        nodes[at] = events[b].reshape(-1)[grid.node_at[at]]
        syndrome = np.packbits(nodes, bitorder="little")[None]
        found = matcher.decode(soft.log_odds(syndrome), syndrome)
        assert found.residual[0] == 0
        truth = np.zeros(problem.num_ids, dtype=np.uint8)
        flat = labels[b].reshape(-1)
        for e in range(len(edges.u)):
            places = grid.places[grid.edge_places[grid.edge_ptr[e] : grid.edge_ptr[e + 1]]]
            if flat[places].sum() % 2:
                k = edges.component[e]
                truth[problem.ids[problem.id_ptr[k] : problem.id_ptr[k + 1]]] ^= 1
        np.testing.assert_array_equal(unpack(soft.decode(syndrome).bits, problem.num_ids)[0], truth)


@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_nonsense_costs_accuracy_and_no_more(scale: float) -> None:
    """Chosen edges explain the syndrome, and no matching under the same weights is lighter."""
    code = Code.from_circuit(memory(3, 5, 0.02))
    window = Window(0, 6, 6, 6)
    problem = cut(code.spacetime, window)
    edges = merge_parallel(problem)
    model = FoldedModel(network(scale), precision="fp32")
    soft = compile_window(code, Tier.ACCURACY, WHOLE, window, model=model)
    assert isinstance(soft, SoftWindow)
    records, _ = records_of(code, 50, 3)
    syndromes = records.reshape(50, -1)
    odds = np.clip(soft.log_odds(syndromes), -60, 60)
    found, chosen = SparseMatcher.from_problem(problem).solve(odds, syndromes)
    assert found.feasible.all()
    seen = unpack(syndromes, problem.num_nodes)
    for b in range(50):
        explained = np.zeros(problem.num_nodes + 1, dtype=np.int64)
        np.add.at(explained, edges.u[chosen[b]], 1)
        np.add.at(explained, edges.v[chosen[b]], 1)
        np.testing.assert_array_equal(explained[:-1] % 2, seen[b])
        matching = pymatching.Matching()
        for u, v, weight in zip(edges.u, edges.v, -odds[b].astype(float), strict=True):
            if v < 0:
                matching.add_boundary_edge(int(u), weight=weight, merge_strategy="replace")
            else:
                matching.add_edge(int(u), int(v), weight=weight, merge_strategy="replace")
        used = seen[b][: matching.num_detectors]
        _, weight = matching.decode(used, return_weight=True)
        assert found.weight[b] == pytest.approx(weight, abs=1e-2)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 1e38, -1e5])
def test_what_no_network_would_say_is_matched_and_marked(wild: float) -> None:
    code = Code.from_circuit(memory(3, 5, 0.02))
    window = Window(0, 6, 6, 6)
    problem, grid = window_of(code, window)
    change = np.zeros((1, ROTATED.channels, *grid.shape), dtype=np.float32)
    change.reshape(-1)[grid.places[3]] = wild
    matching = MatchingWindow(problem)
    soft = SoftWindow(Tier.SPEED, Says(change), grid, SparseMatcher.from_problem(problem), matching)
    records, _ = records_of(code, 30, 4)
    answers = soft.decode(records.reshape(30, -1))
    np.testing.assert_array_equal(answers.bits, matching.decode(records.reshape(30, -1)).bits)
    assert answers.tiers is not None
    assert set(answers.tiers.tolist()) == {int(Tier.MATCHING)}


def test_windows_with_a_small_gap_are_reviewed() -> None:
    """The network's answers stand where its gap is large; elsewhere they and it are another's."""
    code = Code.from_circuit(memory(3, 3, 0.02))
    window = Window(0, 4, 4, 4)
    problem, grid = window_of(code, window)
    edges = merge_parallel(problem)
    # Plain matching, three times as sure of itself as it should be.
    change = 2.0 * prior_planes(grid, ROTATED.channels)[None]
    matcher, matching = SparseMatcher.from_problem(problem), MatchingWindow(problem)
    meter = SoftGap.of(cut_closed(code.spacetime, window), edges)
    assert meter is not None
    seen = []

    class Looks:
        below = 5.0

        def __call__(
            self, odds: Floats, syndromes: Bytes, bits: Bytes, gap: Gaps
        ) -> tuple[Bytes, Gaps]:
            seen.append((meter.measure(odds, syndromes), gap, bits))
            return np.full_like(bits, 0x80), np.full(len(syndromes), 77.0)

    alone, reviewed = (
        SoftWindow(Tier.ACCURACY, Says(change), grid, matcher, matching, gap=meter, review=one)
        for one in (None, Looks())
    )
    records, _ = records_of(code, 8000, 8)
    syndromes = records.reshape(8000, -1)
    own, gap = alone.decode_signalled(syndromes)
    found, new_gap = reviewed.decode_signalled(syndromes)
    unsure = gap < 5.0
    assert 0 < np.count_nonzero(unsure) < 8000
    for one in seen[0][:2]:
        np.testing.assert_array_equal(one, gap[unsure])
    np.testing.assert_array_equal(seen[0][2], own.bits[unsure])
    np.testing.assert_array_equal(found.bits[~unsure], own.bits[~unsure])
    np.testing.assert_array_equal(new_gap[~unsure], gap[~unsure])
    assert (found.bits[unsure] == 0x80).all()
    assert (new_gap[unsure] == 77.0).all()
    np.testing.assert_array_equal(reviewed.decode(syndromes).bits, found.bits)


def test_no_windows_are_no_answers() -> None:
    code = Code.from_circuit(memory(3, 5, 0.02))
    soft = compile_window(
        code, Tier.SPEED, WHOLE, Window(0, 6, 6, 6), model=FoldedModel(network(0.1))
    )
    answers = soft.decode(np.zeros((0, 6 * code.layout.record_bytes), dtype=np.uint8))
    assert answers.bits.shape[0] == 0


def test_windows_with_lost_bits_are_matched_and_marked() -> None:
    code = Code.from_circuit(memory(3, 5, 0.02))
    window = Window(0, 6, 6, 6)
    erasures = (Erasure(((1, 0), (2, 0))),)
    soft = compile_window(
        code, Tier.SPEED, WHOLE, window, erasures, model=FoldedModel(network(0.1))
    )
    plain = compile_window(code, Tier.MATCHING, Geometry(6, 6), window, erasures)
    records, _ = records_of(code, 20, 4)
    answers = soft.decode(records.reshape(20, -1))
    np.testing.assert_array_equal(answers.bits, plain.decode(records.reshape(20, -1)).bits)
    assert answers.tiers is not None
    assert (answers.tiers == Tier.MATCHING).all()


@pytest.mark.parametrize("tier", SOFT)
def test_codes_that_the_network_does_not_know_are_refused(tier: Tier) -> None:
    code = Code.from_circuit(memory(3, 5, 0.02, "repetition_code:memory"))
    with pytest.raises(CodeError, match=r"coordinates|no edges"):
        compile_window(code, tier, WHOLE, Window(0, 6, 6, 6), model=FoldedModel(network(0.1)))


def test_a_part_of_a_code_is_refused() -> None:
    code = Code.from_circuit(memory(3, 5, 0.02))
    part = split(code.spacetime, 2)[0]
    with pytest.raises(GeometryError, match="all of a code's detectors"):
        compile_window(
            code,
            Tier.SPEED,
            WHOLE,
            Window(0, 6, 6, 6),
            part=part,
            model=FoldedModel(network(0.1)),
        )


@pytest.mark.parametrize("tier", SOFT)
def test_mechanisms_more_likely_than_not_are_refused(tier: Tier) -> None:
    code = Code.from_circuit(memory(3, 3, 0.01))
    sure = stim.DetectorErrorModel(str(code.dem.flattened()) + "\nerror(0.7) D0 D1")
    code = Code.parse("dem", str(sure))
    with pytest.raises(GeometryError, match=r"1/2|more likely"):
        compile_window(code, tier, WHOLE, Window(0, 4, 4, 4))


def test_what_the_review_does_not_find_stays_as_it_is() -> None:
    class Nothing:
        def decode(self, log_odds: Floats, syndromes: Bytes) -> JointAnswers:
            shots = len(syndromes)
            weight = np.full(shots, np.inf)
            weight[1] = 3.0
            return JointAnswers(np.full((shots, 1), 7, dtype=np.uint8), np.full(shots, 2.0), weight)

    bits, gap = np.ones((130, 1), dtype=np.uint8), np.full(130, 0.5)
    review = JointReview(cast(JointDecoder, Nothing()))
    odds, syndromes = np.zeros((130, 4), dtype=np.float32), np.zeros((130, 1), dtype=np.uint8)
    found, gaps = review(odds, syndromes, bits, gap)
    reviewed = np.flatnonzero(found[:, 0] == 7)
    assert reviewed.tolist() == [1, 65, 129]  # in lots of 64
    assert np.flatnonzero(gaps == 2.0).tolist() == [1, 65, 129]
    assert (bits == 1).all()
