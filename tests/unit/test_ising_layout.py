"""Ising's grid: where stabilisers and detectors stand, by published answers and by Stim."""

from __future__ import annotations

import numpy as np
import pytest
import stim

from helpers.circuits import REPETITION, UNROTATED_Z, memory, two_patches
from helpers.google import experiment as google
from helpers.patches import ALL, Simulation, experiment, packed
from qdec.codes import Code
from qdec.errors import DataError, ModelError
from qdec.neural.ising import shots
from qdec.neural.ising.patch import Basis, Orientation, patch
from qdec.neural.ising.placement import canonical_order, place
from qdec.neural.ising.window import WindowGrid
from qdec.windows import Window

# Published: the cells of the stabilisers at d = 3, in their order.
CELLS = {
    "XV": ([0, 2, 3, 4], [1, 4, 2, 8]),
    "XH": ([1, 0, 4, 6], [0, 4, 2, 5]),
    "ZV": ([0, 1, 3, 7], [3, 1, 5, 2]),
    "ZH": ([0, 1, 3, 5], [1, 7, 2, 5]),
}


def whole(code: Code) -> Window:
    rounds = code.spacetime.rounds
    return Window(0, rounds, rounds, rounds)


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_the_published_ones(name: str) -> None:
    cells = patch(3, Orientation(name)).cells
    assert tuple(c.tolist() for c in cells) == CELLS[name]


def test_presence_is_one_half_on_pairs() -> None:
    presence = patch(3, Orientation.XV).presence.reshape(2, 9)
    assert presence[0].tolist() == [1, 0, 0.5, 0.5, 1, 0, 0, 0, 0]
    assert presence[1].tolist() == [0, 0.5, 1, 0, 1, 0, 0, 0, 0.5]


@pytest.mark.parametrize("orientation", Orientation)
@pytest.mark.parametrize("distance", range(3, 33, 2))
def test_patches_are_surface_codes(distance: int, orientation: Orientation) -> None:
    laid = patch(distance, orientation)
    x, z = (check.astype(int) for check in laid.checks)
    assert len(x) == len(z) == laid.half == (distance**2 - 1) // 2
    assert not ((x @ z.T) % 2).any(), "stabilisers commute"
    logical_x, logical_z = laid.logicals
    assert not ((z @ logical_x) % 2).any()
    assert not ((x @ logical_z) % 2).any()
    assert (logical_x & logical_z).sum() == 1, "logical operators do not"
    assert logical_x.sum() == logical_z.sum() == distance
    for kind in range(2):
        assert len(set(laid.cells[kind].tolist())) == laid.half, "no two on one cell"
        assert laid.checks[kind][np.arange(laid.half), laid.cells[kind]].all()


@pytest.mark.parametrize("distance", [1, 2, 4, 103, -3])
def test_other_distances_are_refused(distance: int) -> None:
    with pytest.raises(ModelError, match="odd distances from 3"):
        patch(distance, Orientation.XV)


@pytest.mark.parametrize("d", [3, 5])
@pytest.mark.parametrize(("basis", "orientation"), ALL)
def test_circuits_are_placed_in_their_orientation(
    basis: Basis, orientation: Orientation, d: int
) -> None:
    circuit = experiment(basis, orientation, d, 6)
    assert len(circuit.shortest_graphlike_error()) == d
    code = Code.from_circuit(circuit)
    placement = place(code)
    assert (placement.basis, placement.patch.orientation) == (basis, orientation)
    # The circuit's observable may be another representative of the logical operator.
    memory_, other = placement.memory, 1 - placement.memory
    laid = placement.patch
    assert not (laid.checks[other].astype(int) @ placement.observable % 2).any()
    assert (placement.observable & laid.logicals[other]).sum() % 2 == 1
    assert placement.observable.sum() == laid.logicals[memory_].sum()


@pytest.mark.parametrize("d", [7, 31])
def test_large_distances_are_placed(d: int) -> None:
    placement = place(Code.from_circuit(experiment("X", Orientation.XV, d, 4)))
    assert placement.patch is patch(d, Orientation.XV)


def test_the_other_basis_is_another_orientation() -> None:
    code = Code.from_circuit(experiment("Z", Orientation.ZV))
    assert place(code, "X").patch.orientation is Orientation.XV
    assert place(code, "Z").patch.orientation is Orientation.ZV
    of_model = Code.parse("dem", str(code.dem))
    assert place(of_model).basis == "Z"


def test_coordinates_may_be_turned_by_45_degrees() -> None:
    data = google("surface_code_bX_d5_r11_center_5_5")
    placement = place(Code.parse("dem", data.dem))
    assert placement.patch.distance == 5
    assert placement.observable.sum() == 5


def without_coordinates(circuit: stim.Circuit) -> Code:
    flat = stim.Circuit(str(circuit.flattened()))
    out = stim.Circuit()
    for item in flat:
        out.append(
            item.name, item.targets_copy(), [] if item.name == "DETECTOR" else item.gate_args_copy()
        )
    rounds = [int(at[2]) for at in circuit.get_detector_coordinates().values()]
    return Code.from_circuit(out, round_map=rounds)


def one_basis(circuit: stim.Circuit) -> Code:
    """Only the detectors of the memory basis."""
    first = {tuple(at[:2]) for at in circuit.get_detector_coordinates().values() if at[2] == 0}
    out = stim.Circuit()
    for item in circuit.flattened():
        if item.name != "DETECTOR" or tuple(item.gate_args_copy()[:2]) in first:
            out.append(item)
    return Code.from_circuit(out)


def wrong_observable(circuit: stim.Circuit) -> Code:
    """The observable includes a measurement of an ancilla."""
    out = circuit.copy()
    last = next(item for item in reversed(list(circuit)) if item.name == "DETECTOR")
    ancilla = min(last.targets_copy(), key=lambda target: target.value)
    out.append("OBSERVABLE_INCLUDE", [ancilla], 0)
    return Code.from_circuit(out)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (Code.from_circuit(memory(REPETITION)), "coordinates"),
        (Code.from_circuit(memory(UNROTATED_Z)), "coordinates"),
        (Code.from_circuit(experiment(d=4)), "odd distance"),
        (Code.from_circuit(two_patches(experiment())), "2 observables"),
        (without_coordinates(experiment()), "need coordinates"),
        (one_basis(experiment()), "coordinates"),
        (wrong_observable(experiment()), "wrong measurement|both bases"),
    ],
    ids=["repetition", "unrotated", "even", "two patches", "nowhere", "one basis", "observable"],
)
def test_other_codes_are_refused(code: Code, reason: str) -> None:
    with pytest.raises(ModelError, match=f"one rotated surface code patch.*({reason})"):
        place(code)


@pytest.mark.parametrize(("basis", "orientation"), ALL)
def test_whole_shots_that_end_perfectly_look_as_published(
    basis: Basis, orientation: Orientation
) -> None:
    """The windows' tables against the published formulas, on shots such as Ising's."""
    d, rounds, batch = 5, 7, 50
    circuit = experiment(basis, orientation, d, rounds, 0.02, perfect_end=True)
    code = Code.from_circuit(circuit)
    placement = place(code)
    assert placement.last == rounds - 1
    truth = Simulation(basis, orientation, d, circuit).sample(batch)
    detectors = truth.detectors[:, canonical_order(code, placement)].astype(np.uint8)
    records = code.layout.to_records(packed(truth.detectors)).reshape(batch, -1)
    grid = WindowGrid(placement, code.spacetime, whole(code), past=4)

    published = shots.network_input(placement.patch, basis, detectors)
    assert published.shape == (batch, 4, rounds, d, d)
    np.testing.assert_array_equal(grid.network_input(records), published)

    # Any corrections but measurements of the last round, in which there are no wrong ones.
    corrections = np.random.default_rng(3).random(published.shape) < 0.1
    corrections[:, 2:, -1] = False
    left = shots.residual(placement.patch, basis, detectors, corrections)
    residual, answer = grid.apply(records, corrections)
    mine = code.layout.from_records(residual)
    events = np.unpackbits(mine, axis=1, count=code.layout.num_detectors, bitorder="little")
    half = placement.patch.half
    same = np.ones(left.shape[1], dtype=bool)
    # The other basis' detectors of the perfect round, which the published form drops.
    start = 1 + half + (rounds - 2) * 2 * half + (1 - placement.memory) * half
    same[start : start + half] = False
    np.testing.assert_array_equal(
        events[:, canonical_order(code, placement)][:, same[1:]], left[:, 1:][:, same[1:]]
    )
    # The circuit's observable differs from Ising's logical by stabilisers, so the flips do by
    # syndromes; where nothing is left to match, they are the same.
    if (placement.observable == placement.patch.logicals[placement.memory]).all():
        np.testing.assert_array_equal(answer[:, 0], left[:, 0])
    exact = shots.residual(placement.patch, basis, detectors, truth.corrections[:, :, :rounds])
    assert not exact[:, 1 : 1 + half].any()
    assert not exact[:, 1:][:, same[1:]].any()


def test_shots_of_another_width_are_refused() -> None:
    laid = patch(3, Orientation.XV)
    with pytest.raises(DataError, match="2 T x 4"):
        shots.network_input(laid, "X", np.zeros((1, 12), dtype=np.uint8))
    with pytest.raises(DataError, match="corrections of shape"):
        shots.residual(laid, "X", np.zeros((1, 16), np.uint8), np.zeros((1, 4, 3, 3, 3), bool))
