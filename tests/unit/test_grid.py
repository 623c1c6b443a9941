"""The folded grid: every detector a cell of its own, every edge a place of its class."""

from __future__ import annotations

import numpy as np
import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from qdec.codes import Code
from qdec.errors import CodeError
from qdec.match.edge_odds import EdgeOdds, odd_number
from qdec.neural.grid import ROTATED, SQUARES, Lattice, WindowGrid
from qdec.windows.cut import Edges, Problem, cut, merge_parallel
from qdec.windows.geometry import Window
from qdec_tools.circuits import memory

BASES = ("surface_code:rotated_memory_z", "surface_code:rotated_memory_x")


def laid_out(
    code: Code, start: int, end: int, *, open_end: bool
) -> tuple[Problem, Edges, WindowGrid]:
    length = code.spacetime.rounds
    commit = end - start - code.spacetime.span if open_end else end - start
    window = Window(start, end, commit, length)
    problem = cut(code.spacetime, window)
    edges = merge_parallel(problem)
    return problem, edges, Lattice(code, ROTATED).grid(window, problem, edges)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize(
    ("d", "rounds"), [(3, 3), (3, 9), (4, 4), (5, 2), (7, 5), (13, 3), (31, 2)]
)
def test_every_detector_has_a_cell_and_every_edge_a_place(basis: str, d: int, rounds: int) -> None:
    code = Code.from_circuit(memory(d, rounds, 0.005, basis))
    problem, edges, grid = laid_out(code, 0, code.spacetime.rounds, open_end=False)
    assert grid.shape == (rounds + 1, (d + 2) // 2, (d + 2) // 2)
    cells = grid.node_at[grid.node_at >= 0]
    assert len(cells) == code.layout.num_detectors == len(np.unique(cells))
    assert (grid.node_at[problem.u] >= 0).all()
    assert len(grid.edge_ptr) == len(edges.u) + 1
    assert (np.diff(grid.edge_ptr) >= 1).all()
    # In a whole shot nothing is cut off, so each edge is one place, and each place one edge.
    assert len(grid.places) == len(edges.u)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize(
    ("start", "end", "open_end"), [(0, 8, True), (3, 9, True), (10, 16, False), (5, 7, True)]
)
def test_priors_are_the_edges_weights(basis: str, start: int, end: int, open_end: bool) -> None:
    code = Code.from_circuit(memory(5, 15, 0.004, basis))
    _, edges, grid = laid_out(code, start, end, open_end=open_end)
    change = np.zeros((1, ROTATED.channels, *grid.shape), dtype=np.float32)
    odds = EdgeOdds(grid)(change)[0]
    np.testing.assert_allclose(odds, np.log(edges.p / (1 - edges.p)), rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-25, 3), min_size=1, max_size=4))
def test_an_odd_number_of_causes(log_odds: list[float]) -> None:
    p = 1 / (1 + np.exp(-np.array(log_odds)))
    odd = 0.0
    for one in p:
        odd = odd * (1 - one) + (1 - odd) * one
    found = odd_number(np.array([log_odds]))[0]
    assert found == pytest.approx(np.log(odd) - np.log1p(-odd), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 3.5])
def test_where_the_coordinates_begin_and_what_they_measure_does_not_matter(scale: float) -> None:
    circuit = memory(5, 4, 0.003)
    moved = stim.Circuit()
    for item in circuit.flattened():
        if item.name == "DETECTOR":
            x, y, t = item.gate_args_copy()
            args = [scale * x - 7, scale * y + 11, t]
            moved.append("DETECTOR", item.targets_copy(), args)
        else:
            moved.append(item)
    one, two = (laid_out(Code.from_circuit(c), 0, 5, open_end=False)[2] for c in (circuit, moved))
    np.testing.assert_array_equal(one.node_at, two.node_at)
    np.testing.assert_array_equal(one.place, two.place)


def test_a_patch_that_lies_another_way_round_is_turned() -> None:
    circuit = stim.Circuit()
    for item in memory(5, 4, 0.003).flattened():
        if item.name == "DETECTOR":
            x, y, t = item.gate_args_copy()
            circuit.append("DETECTOR", item.targets_copy(), [-y, x, t])
        else:
            circuit.append(item)
    _, _, grid = laid_out(Code.from_circuit(circuit), 0, 5, open_end=False)
    assert grid.shape == (5, 3, 3)


def test_squares_of_one_parity_hold_one_kind_of_detector() -> None:
    # In a Z memory the first round has Z detectors only, and they stand on even squares.
    code = Code.from_circuit(memory(5, 4, 0.003, BASES[0]))
    _, _, grid = laid_out(code, 0, 5, open_end=False)
    first = grid.node_at[: 8 * code.layout.record_bytes]
    square = first[first >= 0] // int(np.prod(grid.shape))
    assert {sum(SQUARES[s]) % 2 for s in square.tolist()} == {0}


@pytest.mark.parametrize("task", ["surface_code:unrotated_memory_z", "repetition_code:memory"])
def test_codes_that_the_network_does_not_know_are_refused(task: str) -> None:
    code = Code.from_circuit(memory(5, 4, 0.003, task))
    with pytest.raises(CodeError, match=r"no edges of a kind|coordinates"):
        Lattice(code, ROTATED)


def test_detectors_off_the_lattice_are_refused() -> None:
    dem = stim.DetectorErrorModel(
        "error(.1) D0 D1\nerror(.1) D1 D2 L0\ndetector(0, 0, 0) D0\n"
        "detector(1, 0, 0) D1\ndetector(2.3, 0, 0) D2"
    )
    code = Code.parse("dem", str(dem))
    with pytest.raises(CodeError, match="lattice"):
        Lattice(code, ROTATED)
