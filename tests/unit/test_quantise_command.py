"""`qdec model quantise`: scales from windows, layers left as they are, models refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.command import Run
from helpers.folded import ARCH, convolve, random_network
from helpers.weights import metadata, random_stack, write
from qdec.neural.engine import precisions
from qdec.neural.folded import static_planes
from qdec.neural.folded_model import as_metadata, from_stored, shipped_model
from qdec.neural.ising.network import PUBLISHED
from qdec.neural.network import Network
from qdec.neural.quantised import SCALE
from qdec.neural.store import import_model, list_models, load_model
from qdec.neural.tensor_file import tensors_sha256, write_tensors
from qdec_tools import quantisation
from qdec_tools.model_export import Wish
from qdec_tools.quantisation import Price, calibrate, control, draw

has_int8 = pytest.mark.skipif(
    "int8" not in precisions(), reason="this processor sums products of 8 bits in 16"
)


@pytest.fixture(autouse=True)
def few_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = (Wish(3, 4, "Z", 0.01, whole=True), Wish(3, 5, "X", 0.006))
    monkeypatch.setattr(quantisation, "KINDS", kinds)
    monkeypatch.setattr("qdec_tools.model_quantise.KINDS", kinds)


def saved(path: Path, network: Network) -> Path:
    tensors = {name: value.astype(np.float16) for name, value in network.weights.items()}
    told = {**as_metadata(network.arch), "sha256": tensors_sha256(tensors), "seed": "7"}
    write_tensors(path, tensors, told)
    return path


def test_a_scale_has_the_largest_input_at_its_last_step() -> None:
    network = random_network()
    examples = draw(ARCH, 10, check=False)
    w = network.weights
    peak = 0.0
    for some in examples:
        static = static_planes(some.grid, ARCH.channels)[None].astype(np.float64)
        x = convolve(some.events.astype(np.float64), w["events.weight"])
        x = x + convolve(static, w["static.weight"]) + w["events.bias"][:, None, None, None]
        x = convolve(np.maximum(x, 0), w["squeeze.0.weight"])
        peak = max(peak, (x + w["squeeze.0.bias"][:, None, None, None]).max())
    found = calibrate(network, examples)
    assert found.keys() == {"look.0", "look.1"}
    assert found["look.0"] == pytest.approx(peak / 255, rel=1e-4)


def test_layers_that_are_given_nothing_have_no_scale() -> None:
    weights = dict(random_network().weights)
    weights["squeeze.1.weight"] = np.zeros_like(weights["squeeze.1.weight"])
    weights["squeeze.1.bias"] = np.full_like(weights["squeeze.1.bias"], -1)
    found = calibrate(Network(ARCH, weights), draw(ARCH, 10, check=False))
    assert found.keys() == {"look.0"}


def test_windows_to_check_with_are_others() -> None:
    for one, again, other in zip(
        draw(ARCH, 64, check=False),
        draw(ARCH, 64, check=False),
        draw(ARCH, 64, check=True),
        strict=True,
    ):
        np.testing.assert_array_equal(one.events, again.events)
        assert (one.events != other.events).any()


@has_int8
def test_only_layers_that_cost_too_much_stay_in_floating_point() -> None:
    network = replace(shipped_model("speed").network, scales={})
    arch = network.arch
    scales = calibrate(network, draw(arch, 200, check=False))
    checked = draw(arch, 200, check=True)
    everything, price = control(network, scales, checked, 0.01)
    assert everything.scales == scales
    assert price.rise <= 0.01
    spoilt = {**scales, "look.3": 1e-5}  # clips all there is
    kept, price = control(network, spoilt, checked, 0.01)
    assert kept.scales.keys() == scales.keys() - {"look.3"}
    assert price.rise <= 0.01
    none, price = control(network, {"look.3": 1e-5}, checked, 0.01)
    assert not none.scales
    assert price.rise > 0.01


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_never_affordable(bad: float) -> None:
    assert Price((1.0, 1.0), (1.0, bad)).rise == float("inf")


@has_int8
def test_the_file_is_the_same_with_scales(qdec: Run, tmp_path: Path) -> None:
    source = saved(tmp_path / "mine.safetensors", random_network())
    options = ["--windows", 64, "--tolerance", 1, "--models", tmp_path]
    status, out, err = qdec("model", "quantise", source, *options, "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)
    before = load_model(str(source))
    after = load_model("mine-int8", tmp_path)
    assert told["sha256"] == after.info.sha256 != before.info.sha256
    assert told["output"] == str(tmp_path / "mine-int8.safetensors")
    assert [one["window"] for one in told["loss"]] == [
        "d=3, 4 rounds, Z, p=0.01",
        "d=3, 5 rounds in mid-stream, X, p=0.006",
    ]
    assert list(from_stored(after).scales) == told["layers"] == ["look.0", "look.1"]
    assert after.info.told["seed"] == "7"
    assert after.info.told["int8"].startswith("look.0, look.1; loss ")
    for name, value in before.file.tensors.items():
        np.testing.assert_array_equal(after.file.tensors[name], value)
    # Once more: scales are replaced, not added to.
    again = tmp_path / "again.safetensors"
    status, out, _ = qdec("model", "quantise", "mine-int8", *options, "-o", again)
    assert status == 0
    assert "look.0, look.1 in 8 bits; sha256" in out
    assert load_model(str(again)).info.sha256 == after.info.sha256


@has_int8
def test_what_costs_too_much_is_not_written(
    qdec: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = Price((1.0,), (1.5,))
    monkeypatch.setattr(
        "qdec_tools.model_quantise.control",
        lambda network, *more: (replace(network, scales={}), worse),
    )
    source = saved(tmp_path / "mine.safetensors", random_network())
    ran = qdec("model", "quantise", source, "--windows", 64, "--models", tmp_path)
    assert ran[:2] == (1, "")
    assert "rises by 50.00%, and 0.50% are allowed" in ran[2]
    assert [one.name for one in list_models(tmp_path) if one.origin == "imported"] == ["mine"]


def test_models_that_cannot_be_quantised_are_refused(qdec: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "in.safetensors", random_stack(PUBLISHED[1]), metadata(1))
    import_model(source, folder=tmp_path)
    for name, words in (("ising-1", "of the family ising"), ("nobody", "no model 'nobody'")):
        status, out, err = qdec("model", "quantise", name, "--models", tmp_path)
        assert (status, out) == (2, "")
        assert words in err
    weights = {name: np.zeros_like(value) for name, value in random_network().weights.items()}
    silent = saved(tmp_path / "silent.safetensors", Network(ARCH, weights))
    status, _, err = qdec("model", "quantise", silent, "--windows", 64, "--models", tmp_path)
    assert status == 2
    assert "'silent' is silent" in err


def test_the_shipped_networks_have_scales_that_are_hashed() -> None:
    for name in ("speed", "accuracy"):
        stored = load_model(name)
        found = [one for one in stored.file.tensors if one.startswith(SCALE)]
        assert found, f"a new network? `qdec model quantise {name} -o` its file"
        assert stored.info.told["int8"]
