"""Training runs: they learn, they go on exactly where they stopped, they leave a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qdec.errors import ConfigError
from qdec.neural.engine import compile_network
from qdec.neural.folded_model import from_stored
from qdec.neural.store import load_model
from qdec_tools.training.command import Curve, run
from qdec_tools.training.data import make_kind
from qdec_tools.training.recipe import Recipe

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'qdec[train]'")

RECIPE = Recipe.model_validate(
    {
        "name": "tiny",
        "tier": "speed",
        "seed": 5,
        "steps": 60,
        "warmup": 5,
        "cells": 1600,
        "adam_rate": 0.01,
        "ema": 0.8,
        "network": {"width": 16, "inner": 8, "blocks": 1},
        "data": [
            {"distance": 3, "rounds": [4], "noise": [0.01, 0.02]},
            {"distance": 3, "rounds": [5, 6], "noise": [0.01], "kind": "middle"},
        ],
    }
)
TOML = """
name = "tiny"
tier = "speed"
steps = 8
warmup = 2
cells = 800
[network]
width = 16
inner = 8
blocks = 1
[[data]]
distance = 3
rounds = [4]
noise = [0.02]
"""


def trainer(recipe: Recipe = RECIPE, precision: str = "fp32"):  # type: ignore[no-untyped-def]
    from qdec_tools.training.trainer import Trainer

    torch.set_num_threads(1)
    return Trainer(recipe, "cpu", precision)


def test_an_untrained_network_is_the_prior_and_a_trained_one_better() -> None:
    one = trainer()
    before = one.check(0, 4)
    kind = one.data.batch(0).kind
    change = one.net(torch.zeros(1, 4, *kind.static.shape[1:]), torch.from_numpy(kind.static)[None])
    assert not change.detach().numpy().any()
    for _ in range(60):
        one.advance()
    assert one.check(0, 4) < 0.8 * before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, precision: str) -> None:
    straight = trainer(precision=precision)
    for _ in range(6):
        straight.advance()
    first = trainer(precision=precision)
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "a.safetensors")
    second = trainer(RECIPE.model_copy(update={"seed": 5}), precision)
    second.load(tmp_path / "a.safetensors")
    assert (second.step, second.windows) == (first.step, first.windows)
    for _ in range(3):
        second.advance()
    for name, value in straight.average.items():
        assert torch.equal(value, second.average[name]), name
    for a, b in zip(straight.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(ConfigError, match="no checkpoint"):
        trainer().load(path)
    other = RECIPE.model_copy(update={"network": RECIPE.network.model_copy(update={"width": 24})})
    trainer(other).save(path)
    with pytest.raises(ConfigError, match="another shape"):
        trainer().load(path)


def test_the_network_served_is_the_network_trained() -> None:
    from qdec.codes import Code
    from qdec.neural.grid import Lattice
    from qdec.windows.cut import cut, merge_parallel
    from qdec.windows.geometry import Window
    from qdec_tools.circuits import memory
    from qdec_tools.noise import uniform

    one = trainer()
    for _ in range(20):
        one.advance()
    network = one.network()
    arch = network.arch
    code = Code.from_circuit(memory(3, 3, 0.01, "surface_code:rotated_memory_z"))
    window = Window(0, 4, 4, 4)
    problem = cut(code.spacetime, window)
    grid = Lattice(code, arch.classes).grid(window, problem, merge_parallel(problem))
    kind = make_kind(arch, 3, "z", "whole", 4, uniform(0.01))
    events, _ = kind.sampler.sample(16, np.random.default_rng(0))
    found = compile_network(network.onnx(grid), precision="fp32")(events.astype(np.float32))
    one._swap()
    with torch.no_grad():
        static = torch.from_numpy(kind.static)[None]
        wanted = one.net(torch.from_numpy(events).float(), static).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_muon_moves_along_orthogonal_matrices() -> None:
    from qdec_tools.training.muon import orthogonal

    torch.manual_seed(0)
    for shape in ((8, 40), (40, 8), (16, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)).float())
        assert values.max() < 1.4
        assert values.min() > 0.4


def test_the_command_trains_stops_and_goes_on(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TOML)
    out = tmp_path / "out"
    options = {"device": "cpu", "threads": 1, "every": 2, "shots": 0}
    assert run(str(recipe), out=out, minutes=0.0, **options) == 130
    assert run(str(recipe), out=out, **options) == 0
    points = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    assert [one["step"] for one in points] == [2, 4, 6, 8]
    stored = load_model(str(out / "tiny.safetensors"))
    assert from_stored(stored).arch.width == 16
    assert stored.info.told["shots_seen"] == str(points[-1]["windows"])
    # Another run may start from the model that this one left.
    other = tmp_path / "other"
    assert run(str(recipe), out=other, start=str(out / "tiny.safetensors"), steps=2, **options) == 0
    # More steps later go on from there.
    assert run(str(recipe), out=out, steps=10, **options) == 0
    assert json.loads((out / "curve.jsonl").read_text().splitlines()[-1])["step"] == 10


def test_a_curve_forgets_what_a_checkpoint_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6')
    assert [one["step"] for one in Curve(path, 2).points] == [2]
    path.write_text('{"pets": 2}\n')
    with pytest.raises(ConfigError, match="no curve"):
        Curve(path, 2)
