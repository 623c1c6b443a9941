"""Answers from the device: the least weight, surely enough, or none at all."""

from __future__ import annotations

import re
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers import emulated
from helpers.component_cases import (
    Floats,
    check_components,
    judged,
    random_case,
    random_table,
)
from helpers.emulated import Emulation
from helpers.kernel_cases import Batch, scattered
from qdec.accelerator.component_tables import component_table
from qdec.bits import Bytes, pack, unpack
from qdec.codes import Code
from qdec.cuda import component_plan
from qdec.cuda.compile import KERNELS
from qdec.cuda.component_plan import MAX_ASKED_SHARED, ComponentPlan
from qdec.cuda.component_reference import components
from qdec.cuda.component_table import CUT, INSIDE, SIDE, ComponentTable
from qdec.errors import GeometryError
from qdec.match import Tier
from qdec.match.soft import SoftWindow, soft_window
from qdec.match.sparse import Route, SparseMatcher
from qdec.neural.folded_model import FoldedModel, shipped_model
from qdec.windows import Window
from qdec_tools.circuits import memory

pytestmark = pytest.mark.skipif(
    emulated.compiler() is None, reason="no C++ compiler (Debian: apt-get install g++)"
)
CASES = {
    "seed": st.integers(0, 2**32),
    "window_bytes": st.integers(1, 20),
    "degree": st.sampled_from([1.0, 2.0, 4.0]),
    "answer_bytes": st.integers(1, 9),
    "apart": st.sampled_from([0.0, 1.0, 8.0]),
    "density": st.sampled_from([0.01, 0.05, 0.2]),
}


@pytest.fixture(scope="module")
def run() -> Emulation:
    return emulated.emulation()


@settings(max_examples=40)
@given(**CASES)
def test_it_does_what_the_reference_does(
    run: Emulation,
    seed: int,
    window_bytes: int,
    degree: float,
    answer_bytes: int,
    apart: float,
    density: float,
) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(rng, window_bytes, degree, answer_bytes, apart)
    batch, odds, sick = random_case(rng, table, 4, density)
    check_components(run, table, batch, odds, sick)


@settings(max_examples=150)
@given(**CASES)
def test_an_answer_is_the_sparse_matchers(
    seed: int,
    window_bytes: int,
    degree: float,
    answer_bytes: int,
    apart: float,
    density: float,
) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(rng, window_bytes, degree, answer_bytes, apart)
    batch, odds, _ = random_case(rng, table, 4, density)
    _, found, answers, _ = ComponentPlan(table).record.read(
        components(table, batch.windows, judged(odds))
    )
    wanted = matcher_of(table).decode(odds, batch.windows)
    settled = found["settled"] == 1
    np.testing.assert_array_equal(answers[settled], wanted.bits[settled])
    np.testing.assert_allclose(found["residual"][settled], wanted.residual[settled], atol=1e-4)
    assert not (wanted.route[settled] == Route.INFEASIBLE).any()
    if apart == 0 and density < 0.05:
        empty = wanted.route == Route.EMPTY
        assert settled[empty].all(), "nothing is left to match"


def matcher_of(table: ComponentTable) -> SparseMatcher:
    u, v = table.ends.T.astype(np.int64)
    ptr, ids = table.id_ptr.astype(np.int64), table.ids.astype(np.int64)
    return SparseMatcher(table.nodes, u, v, ptr, ids, 8 * table.answer_bytes)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), apart=st.sampled_from([0.0, 0.5, 2.0, 4.0]))
def test_no_set_of_edges_weighs_less_or_as_little_in_another_frame(seed: int, apart: float) -> None:
    """All sets of the edges of tiny windows."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, 1, 1.0, 1, apart)
    ends, sides = table.ends[:12], table.sides[:12]
    ids = np.arange(len(ends), dtype=np.int32) % 8  # so that the answer says nearly which they are
    ptr = np.arange(len(ends) + 1, dtype=np.int32)
    table = ComponentTable(1, 1, ends, ptr, ids, sides, apart)
    odds = rng.normal(-1, 1.5, (6, len(ends))).astype(np.float32)
    windows = rng.integers(0, 256, (6, 1), dtype=np.uint8)
    windows[::2] = _flipped_by(table, odds[::2] > 0)  # else hardly one can be explained
    _, found, answers, _ = ComponentPlan(table).record.read(
        components(table, windows, judged(odds))
    )
    subsets = np.array(
        [[k in some for k in range(len(ends))] for some in _subsets(len(ends))], dtype=np.bool_
    )
    flips = _flipped_by(table, subsets)[:, 0]
    parity = (subsets & (sides == SIDE)).sum(axis=1) % 2
    measured = pack(table.measured)[0]
    within = ~(subsets & (sides == CUT)).any(axis=1)
    for row, window, said, answer in zip(odds, windows[:, 0], found, answers[:, 0], strict=True):
        if not said["settled"]:
            continue
        weights = -(subsets @ row.astype(np.float64))
        explain = np.flatnonzero(flips == window)
        best = explain[weights[explain].argmin()]
        assert answer == pack(np.bincount(ids[subsets[best]], minlength=8) % 2 == 1)[0]
        likely = -row[row > 0].astype(np.float64).sum()
        assert said["residual"] == pytest.approx(weights[best] - likely, abs=1e-5)
        of = [
            weights[within & ((flips & measured) == (window & measured)) & (parity == p)]
            for p in (0, 1)
        ]
        if apart and len(of[0]) and len(of[1]):
            assert abs(of[0].min() - of[1].min()) >= apart


def line(
    odds: list[float], window: int, *, apart: float = 0.0
) -> tuple[ComponentTable, Floats, Bytes]:
    """Eight nodes in a row, a boundary at either end: nine edges; the answer says which."""
    ends = np.array([[0, -1], *([n, n + 1] for n in range(7)), [7, -1]], dtype=np.int32)
    ids, ptr = np.arange(9, dtype=np.int32), np.arange(10, dtype=np.int32)
    sides = np.full(9, INSIDE, dtype=np.uint8)
    sides[0] = SIDE
    table = ComponentTable(1, 2, ends, ptr, ids, sides, apart)
    return table, np.array([odds], dtype=np.float32), np.array([[window]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("odds", "window", "taken", "residual"),
    [
        ([-3] * 9, 0, [], 0.0),
        ([-3] * 4 + [2] + [-3] * 4, 0b11000, [4], 0.0),  # the likely edge explains it
        ([-3] * 4 + [2] + [-3] * 4, 0, [], 2.0),  # and here it does not
        ([-3] * 9, 0b1, [0], 3.0),
        ([-3] * 9, 0b100100, [3, 4, 5], 9.0),
        ([-9] * 9, 0b10000010, [0, 1, 8], 27.0),
        ([-20] * 9, 0b10000, None, 0.0),  # too far
        ([-100] * 8 + [-np.inf], 0b10000000, [8], 64.0),  # no odds are longer
        ([np.inf] + [-3] * 8, 0b1, [0], 0.0),
    ],
)
def test_what_weighs_least_can_be_seen(
    run: Emulation, odds: list[float], window: int, taken: list[int] | None, residual: float
) -> None:
    table, row, windows = line(odds, window)
    found = check_components(run, table, whole_batch(windows), row, np.zeros(1, dtype=np.bool_))
    _, said, answers, _ = ComponentPlan(table).record.read(found)
    assert said["settled"] == [taken is not None]
    if taken is not None:
        assert np.flatnonzero(unpack(answers, 16)[0]).tolist() == taken
        assert said["residual"] == [residual]


@pytest.mark.parametrize(
    ("apart", "settled"), [(0.0, 1), (23.99, 1), (23.9999, 0), (24.0, 0), (99.0, 0)]
)
def test_an_answer_stands_where_every_other_frame_is_dearer(
    run: Emulation, apart: float, settled: int
) -> None:
    """Two edges of nine explain the window at 4 nats, the seven others at 28: 24 apart."""
    odds = [-2.0, -2.0, *[-4.0] * 7]
    table, row, windows = line(odds, 0b10, apart=apart)
    found = check_components(run, table, whole_batch(windows), row, np.zeros(1, dtype=np.bool_))
    assert ComponentPlan(table).record.read(found)[1]["settled"] == [settled]


@pytest.mark.parametrize("nodes", [1, 3, 4, 5, 9])
def test_ties_are_met_by_one_of_the_equals(run: Emulation, nodes: int) -> None:
    """All edges alike: whichever of the sets is taken, it explains the window and weighs as little
    as the one that the processor takes.
    """
    rng = np.random.default_rng(nodes)
    table = random_table(rng, nodes, 2.0, 8, 0.0)
    ids = np.arange(table.edges, dtype=np.int32)  # the answer says which edges
    bits = -(-table.edges // 8)
    ptr = np.arange(table.edges + 1, dtype=np.int32)
    table = ComponentTable(nodes, bits, table.ends, ptr, ids, table.sides, 0.0)
    odds = np.where(rng.random((5, table.edges)) < 0.05, 0.0, -1.0).astype(np.float32)
    windows = _flipped_by(table, rng.random((5, table.edges)) < 0.05)
    found = check_components(run, table, whole_batch(windows), odds, np.zeros(5, dtype=np.bool_))
    _, said, answers, _ = ComponentPlan(table).record.read(found)
    settled = said["settled"] == 1
    taken = unpack(answers, 8 * bits)[:, : table.edges].astype(np.bool_)
    np.testing.assert_array_equal(_flipped_by(table, taken)[settled], windows[settled])
    wanted = matcher_of(table).decode(odds, windows)
    np.testing.assert_allclose(said["residual"][settled], wanted.residual[settled])
    weight = -(taken * odds).sum(axis=1)
    np.testing.assert_allclose(weight[settled], wanted.weight[settled], atol=1e-6)
    assert settled.any()


def test_what_is_no_number_or_too_much_is_left_to_the_host(run: Emulation) -> None:
    rng = np.random.default_rng(3)
    pairs = [[2 * n, 2 * n + 1] for n in range(80)]
    ends = np.array(pairs + [[2 * n, -1] for n in range(80)], dtype=np.int32)
    sides = np.full(160, INSIDE, dtype=np.uint8)
    none = np.zeros(0, dtype=np.int32)
    table = ComponentTable(20, 1, ends, np.zeros(161, dtype=np.int32), none, sides, 0.0)
    odds = rng.normal(-3, 0.5, (5, 160)).astype(np.float32)
    few, many = np.zeros((2, 160), dtype=np.uint8)
    few[:64] = many[:66] = 1
    windows = np.packbits([few, many, few, few, few], axis=1, bitorder="little")
    odds[2, 150] = np.nan
    windows[3, -1] = 0x80  # a node that nothing but its neighbour can explain
    odds[3, [79, 159]] = -40.0
    found = check_components(
        run, table, whole_batch(windows), odds, np.array([0, 0, 0, 0, 1], dtype=np.bool_)
    )
    head, said, _, rest = ComponentPlan(table).record.read(found)
    assert said["settled"].tolist() == [1, 0, 0, 0, 0]
    assert head["sick"].tolist() == [0, 0, 0, 0, 1]
    np.testing.assert_array_equal(rest[1:4], odds[1:4])


def test_components_of_more_events_than_a_table_holds_are_left_to_the_host(run: Emulation) -> None:
    for events, settled in ((10, 1), (11, 0), (12, 0)):
        ends = np.array([[n, n + 1] for n in range(15)] + [[0, -1], [15, -1]], dtype=np.int32)
        ptr = np.arange(18, dtype=np.int32)
        sides = np.full(17, INSIDE, dtype=np.uint8)
        table = ComponentTable(2, 3, ends, ptr, ptr[:-1].copy(), sides, 0.0)
        odds = np.full((1, 17), -0.5, dtype=np.float32)
        window = np.array([[0xFF, (1 << (events - 8)) - 1]], dtype=np.uint8)
        found = check_components(run, table, whole_batch(window), odds, np.zeros(1, dtype=np.bool_))
        assert ComponentPlan(table).record.read(found)[1]["settled"] == [settled]


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), events=st.integers(1, 4))
def test_balls_that_are_full(run: Emulation, seed: int, events: int) -> None:
    """Many nodes near by, the boundary far off: what had no room bounds what can be known."""
    rng = np.random.default_rng(seed)
    pairs = np.array([[a, b] for a in range(96) for b in range(a + 1, min(a + 8, 96))])
    ends = np.concatenate([pairs[rng.random(len(pairs)) < 0.8], [[0, -1]]]).astype(np.int32)
    edges = len(ends)
    sides = np.full(edges, INSIDE, dtype=np.uint8)
    ptr = np.arange(edges + 1, dtype=np.int32)
    table = ComponentTable(12, -(-edges // 8), ends, ptr, ptr[:-1].copy(), sides)
    odds = -rng.uniform(0.3, 4, (3, edges)).astype(np.float32)
    bits = np.zeros((3, 96), dtype=np.uint8)
    for row in bits:
        row[rng.choice(96, events, replace=False)] = 1
    windows = np.packbits(bits, axis=1, bitorder="little")
    found = check_components(run, table, whole_batch(windows), odds, np.zeros(3, dtype=np.bool_))
    _, said, answers, _ = ComponentPlan(table).record.read(found)
    settled = said["settled"] == 1
    wanted = matcher_of(table).decode(odds, windows)
    np.testing.assert_array_equal(answers[settled], wanted.bits[settled])


def whole_batch(windows: Bytes) -> Batch:
    return scattered(windows, np.random.default_rng(0), empty=0.0)


@pytest.mark.parametrize("window", [Window(0, 13, 13, 13), Window(3, 9, 3, 13)], ids=str)
@pytest.mark.parametrize("distance", [3, 5])
def test_windows_of_the_shipped_network(run: Emulation, distance: int, window: Window) -> None:
    """What is settled has the matcher's answer, and would not have been looked at again."""
    circuit = memory(distance, 12, 0.006)
    code = Code.from_circuit(circuit)
    model = FoldedModel(shipped_model("speed").network, precision="fp32")
    decoder = soft_window(code, Tier.SPEED, window, model)
    assert isinstance(decoder, SoftWindow)
    table = component_table(decoder)
    assert table is not None
    assert table.whole == (window.end == 13 or distance == 3)  # where all nodes are at an edge
    shots = 40
    events = circuit.compile_detector_sampler(seed=4).sample(shots, bit_packed=True)
    records = code.layout.to_records(events)[:, window.start : window.end]
    windows = np.ascontiguousarray(records).reshape(shots, -1)
    odds = decoder.log_odds(windows)
    batch = scattered(windows, np.random.default_rng(1), empty=0.0)
    found = check_components(run, table, batch, odds, np.zeros(shots, dtype=np.bool_))
    _, said, answers, _ = ComponentPlan(table).record.read(found)
    settled = said["settled"] == 1
    wanted = decoder.matcher.decode(odds, windows)
    np.testing.assert_array_equal(answers[settled], wanted.bits[settled])
    np.testing.assert_allclose(said["residual"][settled], wanted.residual[settled], atol=1e-4)
    assert decoder.gap is not None
    gap = decoder.gap.measure(odds, windows)
    assert (gap[settled] >= decoder.apart).all()
    assert settled.mean() > 0.5 * (gap >= decoder.apart).mean()


GOOD = (2, 1, [[0, 1], [3, -1]], [0, 1, 1], [7], [INSIDE, SIDE], 1.0)


@pytest.mark.parametrize(
    ("at", "bad"),
    [
        (0, 0),
        (0, (1 << 20) + 1),
        (1, 0),
        (1, 1 << 30),
        (2, [[0, 1], [16, -1]]),
        (2, [[0, 1], [3, -2]]),
        (2, [[0, 1], [-1, 3]]),
        (2, [[0, 1], [1, 0]]),
        (2, [[0, 1], [3, 3]]),
        (2, [[0, 1, 2]]),
        (2, np.zeros((0, 2))),
        (3, [0, 2, 1]),
        (3, [0, 1]),
        (3, [1, 1, 1]),
        (4, [8]),
        (4, [-1]),
        (5, [INSIDE, 3]),
        (5, [SIDE, INSIDE]),
        (5, [INSIDE]),
        (6, -1.0),
        (6, np.nan),
        (6, np.inf),
    ],
)
def test_tables_that_make_no_sense_are_refused(at: int, bad: Any) -> None:
    def table(*given: Any) -> ComponentTable:
        numbers = [np.array(one, dtype=np.int32) for one in given[2:5]]
        sides = np.array(given[5], dtype=np.uint8)
        return ComponentTable(given[0], given[1], *numbers, sides, given[6])

    table(*GOOD)
    with pytest.raises(GeometryError):
        table(*GOOD[:at], bad, *GOOD[at + 1 :])


def test_windows_that_a_block_cannot_hold_are_refused() -> None:
    def plan(window_bytes: int) -> ComponentPlan:
        ends, sides = np.array([[0, 1]], dtype=np.int32), np.array([CUT], dtype=np.uint8)
        ptr, ids = np.zeros(2, dtype=np.int32), np.zeros(0, dtype=np.int32)
        return ComponentPlan(ComponentTable(window_bytes, 1, ends, ptr, ids, sides))

    most = (MAX_ASKED_SHARED - component_plan.WORK_BYTES) // 33
    assert plan(most - 1).shared <= MAX_ASKED_SHARED
    with pytest.raises(GeometryError, match="shorter"):
        plan(most + 1)
    with pytest.raises(GeometryError):
        plan(1).launch(0)
    with pytest.raises(GeometryError):
        plan(1).launch(4097)


def test_the_plan_knows_the_kernels_bounds() -> None:
    text = (KERNELS / "window_graph.cuh").read_text()
    numbers = dict(re.findall(r"constexpr \w+ k(\w+) = ([\d.]+)f?;", text))
    plan = component_plan
    assert [int(numbers[name]) for name in ("Events", "Members", "Rounds", "WorkBytes")] == [
        *(plan.EVENTS, plan.MEMBERS, plan.ROUNDS, plan.WORK_BYTES)
    ]
    assert [float(numbers[name]) for name in ("Radius", "Step")] == [plan.RADIUS, plan.STEP]
    assert plan.BALL == 32, "a node to each lane"


def _subsets(n: int) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(range(n), k) for k in range(n + 1)))


def _flipped_by(table: ComponentTable, edges: NDArray[np.bool_]) -> Bytes:
    bits = np.zeros((len(edges), table.nodes + 1), dtype=np.uint8)
    for row, some in zip(bits, edges, strict=True):
        np.bitwise_xor.at(row, table.ends[some].reshape(-1), 1)
    return np.packbits(bits[:, :-1], axis=1, bitorder="little")
