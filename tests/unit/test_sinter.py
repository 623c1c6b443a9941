"""The decoders that sinter is offered, called as it calls them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pymatching
import pytest
import sinter
import stim

import qdec.match.sinter as ours
from helpers.circuits import REPETITION, ROTATED_X, code, detections, memory
from qdec import sinter_decoders
from qdec.bits import Bytes, unpack
from qdec.errors import CodeError
from qdec.match import Tier
from qdec.match.offline import decode_shots
from qdec.match.unlikely import as_unlikely
from qdec.windows import WHOLE, Geometry

NAMES = list(sinter_decoders())
WINDOWED = {
    "qdec_w2d": (Tier.MATCHING, 6, 3),
    "qdec_w3d": (Tier.MATCHING, 9, 3),
    "qdec_correlated_w2d": (Tier.CORRELATED, 6, 3),
    "qdec_correlated_w3d": (Tier.CORRELATED, 9, 3),
}


def predict(name: str, dem: stim.DetectorErrorModel, shots: Bytes) -> Bytes:
    compiled = sinter_decoders()[name].compile_decoder_for_dem(dem=dem)
    return compiled.decode_shots_bit_packed(bit_packed_detection_event_data=shots)


def by_pymatching(dem: stim.DetectorErrorModel, shots: Bytes, *, correlated: bool) -> Bytes:
    matching = pymatching.Matching.from_detector_error_model(dem, enable_correlations=correlated)
    predictions: Bytes = matching.decode_batch(
        shots,
        bit_packed_shots=True,
        bit_packed_predictions=True,
        enable_correlations=correlated,
    )
    return predictions


def without_coordinates(dem: stim.DetectorErrorModel) -> stim.DetectorErrorModel:
    return stim.DetectorErrorModel(
        "\n".join(str(i) for i in dem.flattened() if i.type != "detector")
    )


def test_qdec_is_imported_without_sinter_or_anything_heavy() -> None:
    heavy = ("sinter", "numpy", "stim", "matplotlib")
    program = f"import sys, qdec; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_names() -> None:
    assert [
        tier + windows for tier in ("qdec", "qdec_correlated") for windows in ("", "_w2d", "_w3d")
    ] == NAMES
    assert all(isinstance(one, sinter.Decoder) for one in sinter_decoders().values())


@pytest.mark.parametrize("name", WINDOWED)
def test_windowed_predictions_are_those_of_the_service(name: str) -> None:
    tier, window, commit = WINDOWED[name]
    own = code(ROTATED_X, 3, 30, 0.015)
    shots, _ = detections(memory(ROTATED_X, 3, 30, 0.015), 3000)
    frames, _ = decode_shots(own, tier, Geometry(window, commit), own.layout.to_records(shots))
    np.testing.assert_array_equal(predict(name, own.dem, shots), frames)
    whole, _ = decode_shots(own, tier, WHOLE, own.layout.to_records(shots))
    assert (frames != whole).any(), "these shots cannot tell windows from whole shots"


@pytest.mark.parametrize(("name", "correlated"), [("qdec", False), ("qdec_correlated", True)])
def test_short_shots_under_auto_windows_are_pymatchings(name: str, correlated: bool) -> None:
    circuit = memory(ROTATED_X, 3, 30, 0.006)
    dem = circuit.detector_error_model(decompose_errors=True)
    shots, _ = detections(circuit, 3000)
    expected = by_pymatching(dem, shots, correlated=correlated)
    np.testing.assert_array_equal(predict(name, dem, shots), expected)


def test_long_shots_under_auto_windows_are_cut() -> None:
    own = code(REPETITION, 3, 90, 0.01)
    shots, _ = detections(memory(REPETITION, 3, 90, 0.01), 500)
    frames, _ = decode_shots(own, Tier.MATCHING, Geometry(63, 60), own.layout.to_records(shots))
    np.testing.assert_array_equal(predict("qdec", own.dem, shots), frames)


def test_the_distance_of_a_long_model_is_found_and_not_assumed() -> None:
    """Beyond the service's bound on that search; 5, for want of anything better, would be wrong."""
    own = code(REPETITION, 3, 10_500, 0.02)
    assert own.distance is None
    shots, _ = detections(memory(REPETITION, 3, 10_500, 0.02), 40)
    records = own.layout.to_records(shots)
    frames, _ = decode_shots(own, Tier.MATCHING, Geometry(6, 3), records)
    others, _ = decode_shots(own, Tier.MATCHING, Geometry(10, 5), records)
    np.testing.assert_array_equal(predict("qdec_w2d", own.dem, shots), frames)
    assert (frames != others).any()


def test_batches_are_cut_to_bound_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    own = code()
    shots, _ = detections(memory(), 1000)
    expected = predict("qdec_w2d", own.dem, shots)
    monkeypatch.setattr(ours, "_BITS_AT_ONCE", 7 * 8 * own.layout.record_bytes * 11 + 5)
    np.testing.assert_array_equal(predict("qdec_w2d", own.dem, shots), expected)


@pytest.mark.parametrize("name", NAMES)
def test_no_shots(name: str) -> None:
    shots, _ = detections(memory(), 1)
    assert predict(name, code().dem, shots[:0]).shape == (0, 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("model", "frame_bytes"),
    [
        ("", 0),
        ("error(0.1) L8", 2),
        ("detector D3", 0),
        ("error(0.1) D0", 0),
        ("detector(0, 0, 0) D0\nlogical_observable L0", 1),
        ("repeat 3 {\nerror(0) D0 L0\nshift_detectors 1\n}", 1),
    ],
)
def test_nothing_to_decode(name: str, model: str, frame_bytes: int) -> None:
    dem = stim.DetectorErrorModel(model)
    shots = np.zeros((4, -(-dem.num_detectors // 8)), dtype=np.uint8)
    frames = predict(name, dem, shots)
    assert frames.dtype == np.uint8
    assert frames.tolist() == [[0] * frame_bytes] * 4


@pytest.mark.parametrize("name", NAMES)
def test_models_without_coordinates_are_decoded_whole_and_it_is_said(name: str) -> None:
    circuit = memory(REPETITION, 5, 12, 0.03)
    dem = without_coordinates(circuit.detector_error_model(decompose_errors=True))
    assert not any(dem.get_detector_coordinates().values())
    shots, _ = detections(circuit, 1000)
    if "_w" in name:
        with pytest.warns(UserWarning, match="decoded whole, without windows"):
            frames = predict(name, dem, shots)
    else:
        frames = predict(name, dem, shots)
    expected = by_pymatching(dem, shots, correlated="correlated" in name)
    np.testing.assert_array_equal(frames, expected)


def test_buffers_cover_the_longest_mechanism() -> None:
    """Rounds 0, 2, 4 …: here a mechanism reaches over more rounds than the code has distance."""
    lines = [f"detector(0, 0, {r}) D{r}\nerror(0.05) D{r} L0\nerror(0.05) D{r}" for r in range(24)]
    lines += [f"error(0.02) D{r} D{r + 4}" for r in range(20)]
    dem = stim.DetectorErrorModel("\n".join(lines))
    shots, _, _ = dem.compile_sampler(seed=1).sample(200, bit_packed=True)
    own = ours.Code.parse("dem", str(dem))
    assert own.distance is not None
    assert own.distance < own.spacetime.span == 4
    geometry = Geometry(own.distance + 4, own.distance)
    frames, _ = decode_shots(own, Tier.MATCHING, geometry, own.layout.to_records(shots))
    np.testing.assert_array_equal(predict("qdec_w2d", dem, shots), frames)


@pytest.mark.parametrize("name", NAMES)
def test_undecomposed_hyperedges_are_refused_with_what_to_do(name: str) -> None:
    circuit = memory(ROTATED_X, 3, 5, 0.01)
    with pytest.raises(CodeError, match="decompose_errors=True"):
        sinter_decoders()[name].compile_decoder_for_dem(dem=circuit.detector_error_model())


def test_shots_that_nothing_explains_get_the_frame_that_would_be_committed() -> None:
    dem = stim.DetectorErrorModel("error(0.1) D0 D1 L0\ndetector(0, 0, 0) D0\ndetector D1")
    assert predict("qdec", dem, np.array([[0], [1], [3]], dtype=np.uint8)).tolist() == [
        [0],
        [0],
        [1],
    ]


# -- mechanisms more likely than not -------------------------------------------------------------


def likely() -> stim.DetectorErrorModel:
    """A memory experiment with mechanisms that nearly always happen, one of them decomposed."""
    dem = memory(ROTATED_X, 3, 4, 0.01).detector_error_model(decompose_errors=True)
    return dem + stim.DetectorErrorModel("error(0.93) D0 D8 L0\nerror(0.97) D1 D9 ^ D3")


def test_unlikely_models_say_the_same() -> None:
    dem = likely()
    unlikely, flips = as_unlikely(dem)
    assert flips is not None
    assert max(i.args_copy()[0] for i in unlikely if i.type == "error") <= 0.5
    said, meant = (
        [
            unpack(bits, count).mean(axis=0)
            for bits, count in zip(
                model.compile_sampler(seed=seed).sample(40_000, bit_packed=True)[:2],
                (dem.num_detectors, dem.num_observables),
                strict=True,
            )
        ]
        for model, seed in ((dem, 1), (unlikely, 2))
    )
    for rate, other, flip in zip(said, meant, flips, strict=True):
        flipped = unpack(flip, len(rate)).astype(bool)
        assert np.abs(rate - np.where(flipped, 1 - other, other)).max() < 0.02


def test_models_with_nothing_likely_stay_as_they_are() -> None:
    dem = code().dem
    assert as_unlikely(dem) == (dem, None)
    assert as_unlikely(stim.DetectorErrorModel("error(0.5) D0 L0"))[1] is None


@pytest.mark.parametrize("name", ["qdec_correlated", "qdec_correlated_w2d"])
def test_correlated_matching_takes_likely_mechanisms(name: str) -> None:
    """Global plain matching, which knows p > 1/2 by itself, is what it must not fall behind."""
    dem = likely()
    shots, truth, _ = dem.compile_sampler(seed=3).sample(4000, bit_packed=True)
    failures = int((predict(name, dem, shots) != truth).sum())
    plain = int((by_pymatching(dem, shots, correlated=False) != truth).sum())
    assert 0 < failures < plain + 5 * np.sqrt(plain) < 1000
