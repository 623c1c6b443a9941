"""Ising's training samples: what Stim says happened, in Ising's tensors."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import stim
from numpy.typing import NDArray

from qdec.bits import Bits
from qdec.errors import CodeError, ConfigError
from qdec.neural.ising.patch import KINDS, Basis, Orientation, Patch, patch
from qdec.neural.ising.shots import decide, network_input, parity, residual
from qdec_tools.circuits import circuit
from qdec_tools.noise import NoiseModel, si1000, uniform
from qdec_tools.training.frames import Reader, Words, rounds_of
from qdec_tools.training.ising_data import IsingMix, IsingSampler, Kind, kinds

PATCHES = list(product(KINDS, Orientation))
ALL = kinds([3], [uniform(0.01)], rounds=6) + kinds([5], [si1000(0.004)], rounds=6)


def bits(words: Words, shots: int) -> Bits:
    """``(..., W)`` words → ``(shots, ...)``."""
    flat = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")[..., :shots]
    return np.moveaxis(flat, -1, 0).astype(bool)


def fixed(noisy: stim.Circuit, rng: np.random.Generator, share: float) -> stim.Circuit:
    """The circuit with a random choice of its faults, which then always happen."""
    out = stim.Circuit()
    for item in noisy.flattened():
        if item.name.startswith("DEPOLARIZE") or item.name.endswith("_ERROR"):
            names = (
                [item.name] if item.name.endswith("_ERROR") else ["X_ERROR", "Y_ERROR", "Z_ERROR"]
            )
            for target in item.targets_copy():
                if rng.random() < share:
                    out.append(names[rng.integers(len(names))], [target.value], 1)
        else:
            out.append(item)
    return out


def by_place(on: Patch) -> dict[tuple[int, int], tuple[int, int]]:
    """Coordinates of a plaquette → kind, number."""
    return {
        (2 * j + 2, 2 * i + 2): (kind, n)
        for kind in range(2)
        for n, (i, j) in enumerate(on.plaquettes[kind].tolist())
    }


@pytest.mark.parametrize("noise", [uniform(0.01), si1000(0.01)])
@pytest.mark.parametrize(("basis", "orientation"), PATCHES)
def test_frames_are_what_stims_detectors_and_observable_see(
    basis: Basis, orientation: Orientation, noise: NoiseModel
) -> None:
    rounds, on = 4, patch(3, orientation)
    noisy = circuit(3, rounds, noise, basis, orientation)
    memory = KINDS.index(basis)
    for seed in range(8):
        made = fixed(noisy, np.random.default_rng(seed), 0.03 * (1 + seed))
        frames = Reader(noisy, on).run(rounds_of(made), 1, seed, readout=True)
        detectors, observables = made.compile_detector_sampler().sample(
            1, separate_observables=True
        )
        differences = bits(frames.differences, 1)[0]
        places = made.get_detector_coordinates()
        assert len(places) == 2 * rounds * on.half
        for detector, (x, y, t) in places.items():
            kind, n = by_place(on)[int(x), int(y)]
            assert differences[kind, int(t), n] == detectors[0, detector]
        flips = bits(frames.flips, 1)[0, memory].sum(axis=0) @ on.logicals[memory] % 2
        assert flips == observables[0, 0]
        assert not frames.wrong[:, -1].any()  # the readout measures what is there


@pytest.mark.parametrize("kind", ALL)
def test_labels_leave_nothing_to_match(kind: Kind) -> None:
    sampler, shots = IsingSampler(kind), 200
    inputs, labels = sampler.sample(shots, np.random.default_rng(1))
    on, rounds = sampler.patch, kind.rounds
    for at in range(2):
        c = labels[:, at].reshape(shots, rounds, -1)
        m = labels[:, 2 + at].reshape(shots, rounds, -1)[..., on.cells[at]]
        s = inputs[:, at].reshape(shots, rounds, -1)[..., on.cells[at]].astype(np.uint8)
        left = s ^ m ^ parity(c.astype(bool), on.checks[at])
        left[:, 1:] ^= m[:, :-1]
        unseen = kind.basis != KINDS[at]
        first = 1 if unseen and kind.starts else 0
        last = rounds - 1 if unseen and kind.end != "middle" else rounds
        assert s[:, first:last].any()
        assert not left[:, first:last].any()
        # and nothing stands where there is nothing
        for channel, cells in ((inputs[:, at], on.cells[at]), (labels[:, 2 + at], on.cells[at])):
            assert channel.sum() == channel.reshape(shots, rounds, -1)[..., cells].sum()
        assert not s[:, :first].any()
        assert not s[:, last:].any()


@pytest.mark.parametrize(("basis", "orientation"), PATCHES)
def test_ising_reads_whole_shots_as_they_are_drawn(basis: Basis, orientation: Orientation) -> None:
    kind = Kind(5, 5, uniform(0.008), basis, orientation)
    sampler, shots = IsingSampler(kind), 300
    inputs, labels = sampler.sample(shots, np.random.default_rng(2))
    on, memory = sampler.patch, KINDS.index(basis)
    s = [inputs[:, at].reshape(shots, 5, -1)[..., on.cells[at]] for at in range(2)]
    middle = np.stack([s[0][:, 1:], s[1][:, 1:]], axis=2).reshape(shots, -1)
    boundary = np.zeros((shots, on.half))  # the last round was perfect
    detectors = np.concatenate([s[memory][:, 0], middle, boundary], axis=1).astype(np.uint8)
    assert np.array_equal(network_input(on, basis, detectors), inputs)
    corrections = decide(labels * np.float32(2) - 1)
    left = residual(on, basis, detectors, corrections)
    # Ising's own formulas leave the other basis' last round, which it does not see
    halves = left[:, 1 + on.half : -on.half].reshape(shots, 4, 2, on.half)
    halves[:, -1, 1 - memory] = 0
    assert not left[:, 1:].any()
    expected = labels[:, memory].sum(axis=1).reshape(shots, -1) @ on.logicals[memory] % 2
    assert np.array_equal(left[:, 0], expected)


@pytest.mark.parametrize("noise", [uniform(0.01), si1000(0.003)])
@pytest.mark.parametrize("basis", KINDS)
def test_events_are_as_frequent_as_stims(basis: Basis, noise: NoiseModel) -> None:
    shots, on = 30_000, patch(3, Orientation.XV)
    kind = Kind(3, 5, noise, basis, Orientation.XV, end="readout")
    inputs, _ = IsingSampler(kind).sample(shots, np.random.default_rng(3))
    made = circuit(3, 4, noise, basis, Orientation.XV)
    theirs = made.compile_detector_sampler(seed=3).sample(shots).mean(axis=0)
    for detector, (x, y, t) in made.get_detector_coordinates().items():
        at, n = by_place(on)[int(x), int(y)]
        ours = inputs[:, at].reshape(shots, 5, -1)[:, int(t), on.cells[at][n]].mean()
        spread = np.sqrt(2 * theirs[detector] / shots)
        assert abs(ours - theirs[detector]) < 5 * spread, (x, y, t)


def test_rounds_of_the_middle_are_all_alike() -> None:
    kind = Kind(3, 4, uniform(0.01), starts=False, end="middle")
    inputs, labels = IsingSampler(kind).sample(40_000, np.random.default_rng(4))
    each = labels.mean(axis=(0, 3, 4))  # (4, T)
    assert each == pytest.approx(np.repeat(each.mean(axis=1, keepdims=True), 4, axis=1), rel=0.05)
    events = inputs[:, :2].mean(axis=(0, 3, 4))
    usual = np.repeat(events[:, 1:].mean(axis=1, keepdims=True), 3, axis=1)
    assert events[:, 1:] == pytest.approx(usual, rel=0.05)
    # What the wrong measurements before it would have shown, the seam has explained.
    assert (events[:, 0] < 0.9 * usual[:, 0]).all()


def same(a: tuple[NDArray[Any], ...], b: tuple[NDArray[Any], ...]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_generator_alone_says_what_is_drawn() -> None:
    sampler = IsingSampler(Kind(3, 4, uniform(0.02)))
    rng = np.random.default_rng
    assert same(sampler.sample(100, rng(5)), sampler.sample(100, rng(5)))
    assert not same(sampler.sample(100, rng(5)), sampler.sample(100, rng(6)))
    inputs, labels = np.ones((100, 4, 4, 3, 3), np.float32), np.ones((100, 4, 4, 3, 3), np.uint8)
    sampler.fill(inputs, labels, rng(5))
    assert same((inputs, labels), sampler.sample(100, rng(5)))


@pytest.mark.parametrize("shots", [1, 63, 64, 65])
def test_any_number_of_shots_will_do(shots: int) -> None:
    inputs, labels = IsingSampler(Kind(3, 2, uniform(0.1))).sample(shots, np.random.default_rng(7))
    assert inputs.shape == labels.shape == (shots, 4, 2, 3, 3)
    assert labels[-1].any()


def test_a_mix_draws_all_its_kinds() -> None:
    mix = IsingMix(kinds([3, 5], [uniform(0.01)], orientations=[Orientation.XV], ends=["middle"]))
    rng = np.random.default_rng(8)
    presences = {mix.sample(1, rng)[0][:, 2:].tobytes() for _ in range(100)}
    assert len(presences) == 2 * (2 + 1)  # distances; X or Z masked at the start, or none
    with pytest.raises(ConfigError, match="no kinds"):
        IsingMix([])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"distance": 4}, "distance = 4"),
        ({"distance": 33}, "distance = 33"),
        ({"rounds": 1}, "rounds = 1"),
        ({"rounds": 1025}, "rounds = 1025"),
        ({"basis": "Y"}, "basis = 'Y'"),
        ({"end": "open"}, "end = 'open'"),
    ],
)
def test_kinds_out_of_bounds_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Kind(**{"distance": 3, "rounds": 3, "noise": uniform(0.01), **change})


def test_batches_that_do_not_fit_are_refused_before_they_are_made() -> None:
    sampler = IsingSampler(Kind(3, 1000, uniform(0.001)))
    for shots in (0, 1_000_000_000):
        with pytest.raises(ConfigError, match="4 GiB"):
            sampler.sample(shots, np.random.default_rng())


def test_a_circuit_of_another_patch_is_refused() -> None:
    made = circuit(3, 2, uniform(0.01), "Z", Orientation.XV)
    for on in (patch(5, Orientation.XV), patch(3, Orientation.XH)):
        with pytest.raises(CodeError, match="not that of a distance"):
            Reader(made, on)
    with pytest.raises(CodeError, match="MR"):
        Reader(stim.Circuit("M 0"), patch(3, Orientation.XV))
