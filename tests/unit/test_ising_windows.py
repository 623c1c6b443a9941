"""The ising tier in windows: whatever the network says, answers explain the syndrome."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import detections
from helpers.networks import convolutions
from helpers.patches import ALL, Simulation, experiment, packed
from qdec.bits import Bits, Bytes
from qdec.codes import Code
from qdec.errors import GeometryError, ModelError
from qdec.match import Tier, compile_window
from qdec.match.offline import OfflineDecoder
from qdec.neural.engine import CompiledNetwork, Floats, compile_network
from qdec.neural.ising.model import IsingModel
from qdec.neural.ising.network import Architecture
from qdec.neural.ising.patch import Basis, Orientation
from qdec.neural.ising.placement import place
from qdec.neural.ising.window import WindowGrid
from qdec.windows import WHOLE, Geometry, Window, window_at
from qdec.windows.cut import answer_bytes, carry_seam

FAST = Architecture((8, 4), (3, 3))  # a halo of two rounds
GEOMETRIES = [WHOLE, Geometry(6, 3), Geometry(5, 1), Geometry(12, 9)]


class Says:
    """A network that says the same of every voxel."""

    channels = ((4,), 4)

    def __init__(self, logit: float) -> None:
        self.logit = logit

    def __call__(self, *inputs: Floats) -> Floats:
        return np.full_like(inputs[0], self.logit)


class Knows:
    """A network that says of each window what it was told beforehand of its rounds.

    Of the quiet rounds before a window it says anything at all.
    """

    channels = ((4,), 4)

    def __init__(self, corrections: Bits) -> None:
        self._corrections = corrections
        self._rng = np.random.default_rng(7)
        self.start = 0
        self.rounds = 0

    def __call__(self, *inputs: Floats) -> Floats:
        shape = inputs[0].shape
        said = self._rng.choice(np.float32([-3, 2]), shape)
        past = shape[2] - self.rounds
        known = self._corrections[:, :, self.start : self.start + self.rounds]
        said[:, :, past:] = np.where(known, 1.5, -2.5)
        return said


def model(network: CompiledNetwork) -> IsingModel:
    return IsingModel(FAST, network)


def answered(
    code: Code, records: Bytes, geometry: Geometry, network: Knows
) -> tuple[Bytes, list[Bytes]]:
    """Frames, and the residual of each window before it is matched."""
    batch, length, width = records.shape
    frame_bytes, seam_bytes = answer_bytes(code.spacetime)
    frames = np.zeros((batch, frame_bytes), dtype=np.uint8)
    seam = np.zeros((batch, seam_bytes), dtype=np.uint8)
    placement = place(code)
    residuals = []
    start = 0
    while True:
        window = window_at(geometry, start, length)
        rounds = window.end - window.start
        syndromes = records[:, window.start : window.end].reshape(batch, -1).copy()
        syndromes[:, :seam_bytes] ^= seam[:, : syndromes.shape[1]]
        network.start = window.start
        grid = WindowGrid(placement, code.spacetime, window, past=FAST.halo)
        network.rounds = grid.shape[1] - grid.past
        compiled = compile_window(code, Tier.ISING, geometry, window, model=model(network))
        answers = compiled.decode(syndromes)
        known = network(grid.network_input(syndromes)) >= 0
        residuals.append(grid.apply(syndromes, known)[0].reshape(batch, rounds, width))
        assert answers.feasible.all()
        assert answers.tiers is None
        frames ^= answers.bits[:, :frame_bytes]
        if window.closes:
            assert not answers.bits[:, frame_bytes:].any()
            return frames, residuals
        seam = carry_seam(code.spacetime, window, seam, answers.bits[:, frame_bytes:])
        start += window.commit


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("basis", "orientation"), ALL)
def test_who_says_nothing_leaves_the_matching_baseline(
    basis: Basis, orientation: Orientation, geometry: Geometry
) -> None:
    circuit = experiment(basis, orientation, 3, 20, 0.01)
    code = Code.from_circuit(circuit)
    records = code.layout.to_records(detections(circuit, 200)[0])
    silent = OfflineDecoder(code, Tier.ISING, geometry, model=model(Says(-1e-6)))
    plain = OfflineDecoder(code, Tier.MATCHING, geometry)
    np.testing.assert_array_equal(silent.decode(records)[0], plain.decode(records)[0])


@pytest.mark.parametrize("perfect_end", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("basis", "orientation"), ALL)
def test_who_knows_the_truth_leaves_nothing(
    basis: Basis, orientation: Orientation, geometry: Geometry, perfect_end: bool
) -> None:
    """Labels by Stim's frame simulator: every window's residual is empty, every frame right."""
    circuit = experiment(basis, orientation, 3, 14, 0.02, perfect_end=perfect_end)
    code = Code.from_circuit(circuit)
    truth = Simulation(basis, orientation, 3, circuit).sample(60)
    assert truth.flips.any()
    records = code.layout.to_records(packed(truth.detectors))
    frames, residuals = answered(code, records, geometry, Knows(truth.corrections))
    assert not any(residual.any() for residual in residuals)
    np.testing.assert_array_equal(frames[:, 0], truth.flips)


@pytest.mark.parametrize(("basis", "orientation"), ALL)
def test_the_truth_of_a_larger_patch_leaves_nothing(basis: Basis, orientation: Orientation) -> None:
    circuit = experiment(basis, orientation, 7, 20, 0.01)
    code = Code.from_circuit(circuit)
    truth = Simulation(basis, orientation, 7, circuit).sample(10)
    records = code.layout.to_records(packed(truth.detectors))
    frames, residuals = answered(code, records, Geometry(13, 6), Knows(truth.corrections))
    assert not any(residual.any() for residual in residuals)
    np.testing.assert_array_equal(frames[:, 0], truth.flips)


@settings(max_examples=25)
@given(st.data())
def test_corrections_and_residual_always_explain_the_syndrome(data: st.DataObject) -> None:
    """Any corrections at all, made to happen in Stim, flip what the tier says they flip."""
    basis, orientation = data.draw(st.sampled_from(ALL))
    d = data.draw(st.sampled_from([3, 5]))
    rounds = data.draw(st.integers(5, 9))
    noisy = experiment(basis, orientation, d, rounds, 0.01)
    code = Code.from_circuit(noisy)
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    batch, density = 8, data.draw(st.sampled_from([0.01, 0.2, 0.5]))
    corrections = rng.random((batch, 4, rounds + 1, d, d)) < density
    # The readout flips nothing of the other basis, and is never wrong but by a data flip.
    corrections[:, 2:, -1] = False
    quiet = Simulation(basis, orientation, d, noisy.without_noise())
    happened = quiet.inject(corrections)
    events = rng.random(happened.detectors.shape) < density
    records = code.layout.to_records(packed(events))
    window = Window(0, rounds + 1, rounds + 1, rounds + 1)
    grid = WindowGrid(place(code), code.spacetime, window, past=4)
    residual, answer = grid.apply(records.reshape(batch, -1), corrections)
    expected = code.layout.to_records(packed(events ^ happened.detectors)).reshape(batch, -1)
    np.testing.assert_array_equal(residual, expected)
    np.testing.assert_array_equal(answer[:, 0], happened.flips)
    # And so it stays where windows commit a part of them each, seams and all: matching is left
    # with just what it would have had if they had not happened.
    geometry = data.draw(st.sampled_from([Geometry(4, 2), Geometry(4, 1), Geometry(3, 1)]))
    frames, _ = answered(code, records, geometry, Knows(corrections))
    left = code.layout.to_records(packed(events ^ happened.detectors))
    matched, _ = OfflineDecoder(code, Tier.MATCHING, geometry).decode(left)
    np.testing.assert_array_equal(frames[:, 0], matched[:, 0] ^ happened.flips)


def test_logits_of_a_window_with_halo_are_those_of_the_stream() -> None:
    """In the commit region, whichever rounds lie around: signs where they are not near zero."""
    circuit = experiment("X", Orientation.XH, 5, 40, 0.02)
    code = Code.from_circuit(circuit)
    placement = place(code)
    records = code.layout.to_records(detections(circuit, 5)[0])
    network = compile_network(convolutions((4, 12, 12, 4), seed=3))
    halo, commit = 3, 7
    length = records.shape[1]
    stream = WindowGrid(placement, code.spacetime, Window(0, length, length, length), past=halo)
    everything = network(stream.network_input(records.reshape(5, -1)))
    for start in (0, 1, 3, 10, 20, 31):
        first, last = max(0, start - halo), min(length, start + commit + halo)
        window = Window(first, last, commit, length)
        grid = WindowGrid(placement, code.spacetime, window, past=0)
        seen = grid.network_input(records[:, first:last].reshape(5, -1))
        np.testing.assert_array_equal(
            seen, stream.network_input(records.reshape(5, -1))[:, :, first:last]
        )
        ours = network(seen)[:, :, start - first : start - first + commit]
        theirs = everything[:, :, start : start + commit]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        clear = np.abs(theirs) > 1e-3
        assert clear.mean() > 0.9
        np.testing.assert_array_equal((ours >= 0)[clear], (theirs >= 0)[clear])


def test_the_past_of_a_window_is_quiet_and_its_future_is_not_there() -> None:
    code = Code.from_circuit(experiment("Z", Orientation.ZV, 3, 20))
    placement = place(code)
    grid = WindowGrid(placement, code.spacetime, Window(6, 12, 3, None), past=2)
    ones = np.full((1, 6 * code.layout.record_bytes), 255, dtype=np.uint8)
    x = grid.network_input(ones)
    assert x.shape == (1, 4, 8, 3, 3)
    assert not x[:, :2, :2].any()
    np.testing.assert_array_equal(x[0, 2:, 0], placement.patch.presence)
    np.testing.assert_array_equal(x[0, :2, 2:] > 0, x[0, 2:, 2:] > 0)
    opening = WindowGrid(placement, code.spacetime, Window(0, 6, 3, None), past=2)
    assert opening.shape == (4, 6, 3, 3), "nothing comes before a shot"
    assert not opening.network_input(ones)[0, [0, 2], 0].any(), "X is random in the first round"


@pytest.mark.parametrize("nonsense", [np.nan, np.inf, -np.inf])
def test_windows_of_a_sick_network_are_matched_and_marked(nonsense: float) -> None:
    class Sick(Says):
        def __call__(self, *inputs: Floats) -> Floats:
            out = super().__call__(*inputs)
            out[1, 2, 0, 0, 0] = nonsense
            return out

    circuit = experiment("Z", Orientation.ZV, 3, 8, 0.01)
    code = Code.from_circuit(circuit)
    records = code.layout.to_records(detections(circuit, 3)[0]).reshape(3, -1)
    window = Window(0, 9, 9, 9)
    answers = compile_window(code, Tier.ISING, WHOLE, window, model=model(Sick(2.0))).decode(
        records
    )
    assert answers.tiers is not None
    assert answers.tiers.tolist() == [Tier.ISING, Tier.MATCHING, Tier.ISING]
    plain = compile_window(code, Tier.MATCHING, WHOLE, window).decode(records)
    np.testing.assert_array_equal(answers.bits[1], plain.bits[1])
    # The other two got all corrections at once.
    healthy = compile_window(code, Tier.ISING, WHOLE, window, model=model(Says(2.0)))
    np.testing.assert_array_equal(answers.bits[[0, 2]], healthy.decode(records).bits[[0, 2]])


def test_what_does_not_suit_is_refused() -> None:
    code = Code.from_circuit(experiment("Z", Orientation.ZV, 3, 20))
    window = Window(3, 9, 3, None)
    geometry = Geometry(6, 3)
    with pytest.raises(ModelError, match="needs a model"):
        compile_window(code, Tier.ISING, geometry, window)
    short = Window(3, 7, 3, None)
    with pytest.raises(GeometryError, match="looks 2 rounds ahead"):
        compile_window(code, Tier.ISING, Geometry(4, 3), short, model=model(Says(1)))
    part = code.split(2)[0]
    with pytest.raises(GeometryError, match="one lane"):
        compile_window(code, Tier.ISING, geometry, window, part=part, model=model(Says(1)))
