"""Probabilities of faults from the events they leave: planted ones, exact ones, a device's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pymatching
import pytest
import stim
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from scipy.sparse import csr_array

from helpers.google import Experiment, experiment
from qdec.bits import Bytes
from qdec.cli import main
from qdec.errors import CodeError, DataError
from qdec.priors import FaultModel, Fitted, Moments, fit
from qdec.priors.fit import _least_squares
from qdec_tools.circuits import memory

PLAIN, CORRELATED = 7711, 7263  # Google's own fit, of 50,000 shots: see expected.json of d=3


def dem_of(circuit: stim.Circuit) -> stim.DetectorErrorModel:
    return circuit.detector_error_model(decompose_errors=True)


def sampled(dem: stim.DetectorErrorModel, shots: int, seed: int = 1) -> Bytes:
    events, _, _ = dem.compile_sampler(seed=seed).sample(shots, bit_packed=True)
    return events


def fitted_to(dem: stim.DetectorErrorModel, shots: Bytes) -> Fitted:
    model = FaultModel.read(dem)
    moments = Moments(dem.num_detectors, model.pairs)
    moments.add(shots)
    return fit(model, moments)


@given(
    p=st.lists(st.floats(0.001, 0.3), min_size=5, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_of_strengths_are_exact(p: list[float], seed: int) -> None:
    """For every outcome as often as it should come, the moments give the very strengths."""
    faults = [(0,), (0, 1), (1, 2), (0, 1, 2), (2,)]
    weights = np.zeros(8)
    for happened in range(32):
        flips, chance = 0, 1.0
        for bit, (detectors, q) in enumerate(zip(faults, p, strict=True)):
            if happened >> bit & 1:
                flips ^= sum(1 << d for d in detectors)
            chance *= q if happened >> bit & 1 else 1 - q
        weights[flips] += chance
    pairs = np.array([(0, 1), (0, 2), (1, 2)])
    moments = Moments(3, pairs)
    for flips in range(8):  # a shot that counts for as much as its chance
        one = Moments(3, pairs)
        one.add(np.array([[flips]], dtype=np.uint8))
        one.fade(weights[flips])
        moments.shots += one.shots
        moments._events += one._events
        moments._odd += one._odd
    single, _, both, _ = moments.strengths()
    strength = -np.log1p(-2 * np.array(p))
    for d in range(3):
        expected = sum(s for s, f in zip(strength, faults, strict=True) if d in f)
        assert single[d] == pytest.approx(expected, abs=1e-9)
    for (u, v), found in zip(pairs, both, strict=True):
        expected = sum(s for s, f in zip(strength, faults, strict=True) if {u, v} <= set(f))
        assert found == pytest.approx(expected, abs=1e-9)


def test_variances_are_what_repetition_shows() -> None:
    dem = dem_of(memory(3, 3, 0.02))
    model = FaultModel.read(dem)
    shots = sampled(dem, 400 * 500).reshape(400, 500, -1)
    found = []
    for part in shots:
        moments = Moments(dem.num_detectors, model.pairs)
        moments.add(part)
        found.append(moments.strengths())
    for value, variance in ((0, 1), (2, 3)):
        seen = np.array([one[value] for one in found]).var(axis=0)
        told = np.mean([one[variance] for one in found], axis=0)
        assert np.median(seen / told) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_a_planted_drift_is_found_and_nothing_else(factor: float) -> None:
    """The readout of one ancilla gets worse in every round."""
    dem = dem_of(memory(3, 8, 0.004))
    model = FaultModel.read(dem)
    timelike = [k for k, one in enumerate(model.symptoms) if len(one) == 2 and one[1] - one[0] == 8]
    kind = model.kind[timelike[len(timelike) // 2]]
    planted = np.where(model.kind == kind, factor * model.strength, model.strength)
    result = fitted_to(dem, sampled(model.with_strengths(planted), 60_000))
    assert result.by_kind[kind] == pytest.approx(factor, rel=0.15)
    others = np.delete(result.by_kind, kind)
    assert np.abs(others - 1).mean() < 0.15
    in_sigmas = (result.strength - planted) / result.sigma
    assert np.abs(in_sigmas).mean() < 1.5


def test_what_was_never_seen_is_rare_and_not_impossible() -> None:
    dem = dem_of(memory(3, 4, 0.004))
    result = fitted_to(dem, np.zeros((10_000, -(-dem.num_detectors // 8)), dtype=np.uint8))
    assert (result.p > 0).all()
    assert (result.strength <= 0.5 * result.model.strength).mean() > 0.5
    pymatching.Matching.from_detector_error_model(result.dem)


def test_faults_stay_what_they_are() -> None:
    dem = dem_of(memory(3, 4, 0.004))
    model = FaultModel.read(dem)
    other = model.with_strengths(2 * model.strength)
    for old, new in zip(dem.flattened(), other, strict=True):
        assert (old.type, old.targets_copy()) == (new.type, new.targets_copy())
        if old.type == "error":
            p, q = old.args_copy()[0], new.args_copy()[0]
            assert 1 - 2 * q == pytest.approx((1 - 2 * p) ** 2)
    same = model.with_strengths(model.strength)
    assert same.approx_equals(dem.flattened(), atol=1e-12)


def test_older_shots_may_count_for_less() -> None:
    dem = dem_of(memory(3, 3, 0.01))
    model = FaultModel.read(dem)
    quiet, loud = sampled(dem, 4000), sampled(model.with_strengths(3 * model.strength), 4000)
    moments = Moments(dem.num_detectors, model.pairs)
    moments.add(quiet)
    before = moments.rates.mean()
    for _ in range(8):
        moments.fade(0.5)
        moments.add(loud[:500])
    fresh = Moments(dem.num_detectors, model.pairs)
    fresh.add(loud[:500])
    assert moments.shots == pytest.approx(1000, rel=0.02)
    assert before < moments.rates.mean()
    assert moments.rates.mean() == pytest.approx(fresh.rates.mean(), rel=0.05)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(3, 12), columns=st.integers(1, 9))
def test_the_solver_finds_what_scipy_finds(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = np.concatenate([rng.normal(size=(rows, columns)), 0.1 * np.eye(columns)])
    wanted, least = rng.normal(size=rows + columns), rng.uniform(0, 0.2, columns)
    x = _least_squares(csr_array(matrix), wanted, least)
    best = lsq_linear(matrix, wanted, (least, np.inf), method="bvls").x
    assert (x >= least - 1e-12).all()
    np.testing.assert_allclose(
        np.linalg.norm(matrix @ x - wanted), np.linalg.norm(matrix @ best - wanted), rtol=1e-6
    )


def crosswise(data: Experiment) -> tuple[int, int]:
    """Failures of plain and correlated matching, fitted on even shots for odd ones, and back."""
    dem = stim.DetectorErrorModel(data.dem)
    model = FaultModel.read(dem)
    shots, flips = data.packed("detection_events.b8", dem.num_detectors), data.flips[:, 0]
    found = [0, 0]
    for fitted_on, judged_on in ((0, 1), (1, 0)):
        moments = Moments(dem.num_detectors, model.pairs)
        moments.add(np.ascontiguousarray(shots[fitted_on::2]))
        prior = fit(model, moments).dem
        for correlated in (False, True):
            matching = pymatching.Matching.from_detector_error_model(
                prior, enable_correlations=correlated
            )
            frames = matching.decode_batch(
                np.ascontiguousarray(shots[judged_on::2]),
                bit_packed_shots=True,
                enable_correlations=correlated,
            )
            found[correlated] += int((frames[:, 0] != flips[judged_on::2]).sum())
    return found[0], found[1]


def test_googles_device_is_fitted_as_well_as_google_did() -> None:
    plain, correlated = crosswise(experiment("surface_code_bX_d3_r05_center_3_5"))
    assert plain <= PLAIN
    assert correlated < CORRELATED


@pytest.mark.slow
def test_googles_larger_device_is_fitted_as_well_as_google_did() -> None:
    plain, correlated = crosswise(experiment("surface_code_bX_d5_r11_center_5_5"))
    assert plain <= 15_117
    assert correlated < 13_326


# -- the command ---------------------------------------------------------------------------------


def qdec(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["qdec", "priors", "fit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dem = dem_of(memory(3, 4, 0.01))
    (tmp_path / "in.dem").write_text(str(dem))
    sampled(dem, 3001).tofile(tmp_path / "events.b8")
    return tmp_path


def test_the_command_writes_a_model_that_says_where_it_is_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {}
    for which, shots in (("even", 1501), ("odd", 1500), ("all", 3001)):
        out = folder / f"{which}.dem"
        given_ = ["--dem", folder / "in.dem", "--dets", folder / "events.b8", "--shots", which]
        assert qdec(monkeypatch, *given_, "-o", out, "--json") == 0
        assert f'"shots": {shots},' in capsys.readouterr().out
        models[which] = stim.DetectorErrorModel.from_file(out)
        assert out.read_text().startswith("# qdec ")
    assert not models["even"].approx_equals(models["odd"], atol=1e-6)
    expected = fitted_to(
        stim.DetectorErrorModel.from_file(folder / "in.dem"),
        np.fromfile(folder / "events.b8", np.uint8).reshape(3001, -1)[1::2].copy(),
    )
    assert models["odd"].approx_equals(expected.dem, atol=1e-9)


@pytest.mark.parametrize(
    ("dem", "shots", "words"),
    [
        ("error(0.1) D0", "all", "no coordinates"),
        ("detector(0, 0, 0) D0\nlogical_observable L0", "all", "no faults"),
        ("detector(0, 0, 0) D0\nerror(0.6) D0", "all", "cannot be estimated"),
        ("nonsense", "all", "not a detector error model"),
        ("", "some", "--shots is one of"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dem: str,
    shots: str,
    words: str,
) -> None:
    (folder / "bad.dem").write_text(dem)
    out = folder / "out.dem"
    given_ = ["--dem", folder / "bad.dem", "--dets", folder / "events.b8", "--shots", shots]
    assert qdec(monkeypatch, *given_, "-o", out) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_shots_of_another_code_are_refused() -> None:
    model = FaultModel.read(dem_of(memory(3, 4, 0.01)))
    moments = Moments(model.dem.num_detectors, model.pairs)
    with pytest.raises(DataError, match="shots must be"):
        moments.add(np.zeros((3, 1), dtype=np.uint8))
    with pytest.raises(DataError, match="no shots"):
        fit(model, moments)
    with pytest.raises(CodeError, match="nothing to fit"):
        FaultModel.read(stim.DetectorErrorModel("detector(0, 0, 0) D0"))
