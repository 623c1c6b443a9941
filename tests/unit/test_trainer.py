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
from qdec_tools.training.data import Batch
from qdec_tools.training.folded_data import make_kind
from qdec_tools.training.ising_source import make_kind as ising_kind
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
ISING = Recipe.model_validate(
    {
        **RECIPE.model_dump(exclude={"network"}),
        "tier": "ising",
        "cells": 3000,
        "network": {"family": "ising", "filters": [16, 8, 4], "kernels": [3, 3, 3]},
    }
)
RECIPES = {"folded": RECIPE, "ising": ISING}
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


def trainer(recipe: Recipe = RECIPE, precision: str = "fp32"):
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


def test_an_untrained_ising_network_corrects_nothing_and_a_trained_one_is_likelier() -> None:
    one = trainer(ISING)
    before = one.check(0, 4)
    batch = one.data.batch(0)
    (x,) = one._family.inputs(batch, torch.device("cpu"))
    assert (one.net(x) < 0).all()
    for _ in range(60):
        one.advance()
    assert one.check(0, 4) < 0.8 * before


def test_an_ising_network_is_shown_what_its_tier_is_shown() -> None:
    """Whole windows, as the service lays them out, are the samples it is trained on."""
    from qdec.codes import Code
    from qdec.neural.ising.placement import place
    from qdec.neural.ising.window import WindowGrid
    from qdec.windows.geometry import Window
    from qdec_tools.circuits import memory
    from qdec_tools.noise import uniform
    from qdec_tools.training.ising_data import IsingSampler, Kind

    family = trainer(ISING)._family
    rng = np.random.default_rng(1)
    for start, end in ((0, 5), (0, 6), (7, 12), (8, 13)):
        rounds = 4 if (start, end) == (0, 5) else 12
        code = Code.from_circuit(memory(3, rounds, 0.01, "surface_code:rotated_memory_z"))
        placed = place(code, None)
        length = code.spacetime.rounds
        closes = end == length
        window = Window(start, end, end - start if closes else 2, length)
        grid = WindowGrid(placed, code.spacetime, window, past=3)
        ends = "readout" if closes else "middle"
        kind = Kind(3, end - start, uniform(0.01), "Z", placed.patch.orientation, start == 0, ends)
        made = ising_kind(IsingSampler(kind), 3)
        batch = Batch(made, *made.sample(4, rng))
        (x,) = family.inputs(batch, torch.device("cpu"))
        quiet = grid.network_input(
            np.zeros((1, (end - start) * code.layout.record_bytes), np.uint8)
        )
        assert x.shape[1:] == quiet.shape[1:]
        np.testing.assert_array_equal(x[0, 2:].numpy(), quiet[0, 2:])


@pytest.mark.parametrize("family", ["folded", "ising"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, precision: str, family: str) -> None:
    recipe = RECIPES[family]
    straight = trainer(recipe, precision)
    for _ in range(6):
        straight.advance()
    first = trainer(recipe, precision)
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "a.safetensors")
    second = trainer(recipe, precision)
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
    network = one.trained().network
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


def test_the_ising_network_served_is_the_network_trained() -> None:
    one = trainer(ISING)
    for _ in range(20):
        one.advance()
    batch = one.data.batch(0)
    (x,) = one._family.inputs(batch, torch.device("cpu"))
    found = one.trained().model().network(x.numpy())
    one._swap()
    with torch.no_grad():
        wanted = one.net(x).numpy()
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


def test_the_command_trains_an_ising_network_that_imports_and_answers(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from qdec.cli import app
    from qdec.match.models import served
    from qdec.neural.ising.model import IsingModel

    recipe = tmp_path / "stack.toml"
    recipe.write_text(
        TOML.replace('"tiny"', '"stack"')
        .replace('"speed"', '"ising"')
        .replace(
            "width = 16\ninner = 8\nblocks = 1",
            'family = "ising"\nfilters = [8, 4]\nkernels = [3, 3]',
        )
    )
    out = tmp_path / "out"
    options = {"device": "cpu", "threads": 1, "every": 2}
    assert run(str(recipe), out=out, shots=0, minutes=0.0, **options) == 130
    assert run(str(recipe), out=out, shots=0, **options) == 0
    model = out / "stack.safetensors"
    done = CliRunner().invoke(app, ["model", "import", str(model), "--models", str(tmp_path / "m")])
    assert done.exit_code == 0, done.output
    stored = load_model("stack", tmp_path / "m")
    assert isinstance(served(stored), IsingModel)
    assert stored.info.told["noise"] == "uniform circuit noise, p = 0.02"
    # Another run may start from it, and one of another shape may not.
    other = tmp_path / "other"
    assert run(str(recipe), out=other, start=str(model), shots=0, steps=2, **options) == 0
    wider = tmp_path / "wider.toml"
    wider.write_text(recipe.read_text().replace("[8, 4]", "[16, 4]"))
    with pytest.raises(ConfigError, match="another architecture"):
        run(str(wider), out=tmp_path / "third", start=str(model), shots=0, **options)


def test_a_curve_forgets_what_a_checkpoint_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6')
    assert [one["step"] for one in Curve(path, 2).points] == [2]
    path.write_text('{"pets": 2}\n')
    with pytest.raises(ConfigError, match="no curve"):
        Curve(path, 2)
