"""Samples to train on: drawn as Stim draws them, with labels that explain them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qdec.codes import Code
from qdec.errors import ConfigError
from qdec.neural.grid import ROTATED, Lattice
from qdec.neural.ising.patch import Orientation
from qdec.windows.cut import cut, merge_parallel
from qdec.windows.geometry import Window
from qdec_tools.circuits import memory
from qdec_tools.noise import NoiseModel, si1000, uniform
from qdec_tools.training import RECIPES
from qdec_tools.training.command import find_recipe
from qdec_tools.training.data import Data, FedData
from qdec_tools.training.folded_data import make_kind
from qdec_tools.training.recipe import Mix, Recipe, read_recipe
from qdec_tools.training.sampler import Sampler

CHANNELS = ROTATED.channels


@pytest.mark.parametrize("basis", ["x", "z"])
@pytest.mark.parametrize(
    ("start", "end", "closes"), [(0, 5, True), (0, 6, False), (4, 9, False), (8, 13, True)]
)
def test_labels_explain_the_events(basis: str, start: int, end: int, closes: bool) -> None:
    rounds = 4 if (start, closes) == (0, True) else 12
    code = Code.from_circuit(memory(5, rounds, 0.01, f"surface_code:rotated_memory_{basis}"))
    length = code.spacetime.rounds
    commit = end - start if closes else end - start - code.spacetime.span
    window = Window(start, end, commit, length)
    problem = cut(code.spacetime, window)
    edges = merge_parallel(problem)
    grid = Lattice(code, ROTATED).grid(window, problem, edges)
    events, labels = Sampler(problem, grid, CHANNELS).sample(300, np.random.default_rng(1))
    flat = labels.reshape(300, -1)
    # Edges of the window, each the parity of its places, put back onto their nodes.
    explained = np.zeros((300, problem.num_nodes + 1), dtype=np.uint8)
    for e in range(len(edges.u)):
        places = grid.places[grid.edge_places[grid.edge_ptr[e] : grid.edge_ptr[e + 1]]]
        fired = flat[:, places].sum(axis=1) & 1
        explained[:, edges.u[e]] ^= fired.astype(np.uint8)
        explained[:, edges.v[e]] ^= fired.astype(np.uint8)  # -1: the spare column
    nodes = np.flatnonzero(grid.node_at >= 0)
    seen = events.reshape(300, -1)[:, grid.node_at[nodes]]
    np.testing.assert_array_equal(seen, explained[:, nodes])
    assert events.sum() == seen.sum()
    assert seen.any()


def test_events_are_as_frequent_as_in_stims_samples() -> None:
    shots = 20_000
    circuit = memory(3, 4, 0.02)
    code = Code.from_circuit(circuit)
    kind = make_kind_sampler(code)
    events, grid = kind
    ours = events.reshape(shots, -1)
    layout = code.layout
    at = grid.node_at[layout.round_of * 8 * layout.record_bytes + layout.bit_of]
    theirs = circuit.compile_detector_sampler(seed=5).sample(shots)
    for one, other in (
        (ours[:, at], theirs),
        (ours[:, at[:-1]] & ours[:, at[1:]], theirs[:, :-1] & theirs[:, 1:]),
    ):
        p, q = one.mean(axis=0), other.mean(axis=0)
        sigma = np.sqrt((p * (1 - p) + q * (1 - q)) / shots) + 1e-9
        assert (np.abs(p - q) / sigma).max() < 5


def make_kind_sampler(code: Code) -> tuple[np.ndarray, object]:
    window = Window(0, code.spacetime.rounds, code.spacetime.rounds, code.spacetime.rounds)
    problem = cut(code.spacetime, window)
    grid = Lattice(code, ROTATED).grid(window, problem, merge_parallel(problem))
    events, _ = Sampler(problem, grid, CHANNELS).sample(20_000, np.random.default_rng(4))
    return events, grid


@pytest.mark.parametrize("kind", ["whole", "first", "middle", "last"])
def test_every_kind_of_window_has_the_rounds_asked_for(kind: str) -> None:
    arch = read_recipe(find_recipe("accuracy")).network.architecture
    made = make_kind(arch, 3, "x", kind, 6, uniform(0.01))
    events, labels = made.sampler.sample(50, np.random.default_rng(0))
    assert events.shape == (50, 4, 6, 2, 2)
    assert labels.shape == (50, CHANNELS, 6, 2, 2)
    assert not labels[:, ~made.exists].any()
    assert (made.prior[made.exists] < 0).all()
    last = made.static[:4, -1].sum()
    assert last == (4 if kind in ("whole", "last") else 8)  # a closed end has one basis only


def test_a_step_always_sees_the_same_data() -> None:
    recipe = read_recipe(find_recipe("accuracy"))
    one, two = (Data(recipe) for _ in range(2))
    for step in (7, 3, 7):
        a, b = one.batch(step), two.batch(step)
        np.testing.assert_array_equal(a.events, b.events)
        np.testing.assert_array_equal(a.labels, b.labels)
    assert not np.array_equal(one.batch(3).events, one.batch(3, stream=1).events)


def test_steps_see_the_same_data_when_other_processes_draw_it() -> None:
    mixes = [
        {"distance": 3, "kind": kind, "rounds": (3, 5), "noise": (0.01,)}
        for kind in ("whole", "middle")
    ]
    sizes = {"width": 8, "inner": 8, "blocks": 1}
    recipe = Recipe.model_validate(
        {"name": "t", "tier": "speed", "steps": 9, "cells": 500, "network": sizes, "data": mixes}
    )
    alone, fed = Data(recipe), FedData(recipe, workers=1)
    try:
        for step, stream in ((5, 0), (6, 0), (2, 1), (7, 0), (3, 0)):  # 3: back at a checkpoint
            a, b = alone.batch(step, stream), fed.batch(step, stream)
            np.testing.assert_array_equal(a.events, b.events)
            np.testing.assert_array_equal(a.labels, b.labels)
            np.testing.assert_array_equal(a.kind.static, b.kind.static)
            np.testing.assert_array_equal(a.kind.prior, b.kind.prior)
    finally:
        fed.close()


ISING = """
name = "t"
tier = "ising"
steps = 9
cells = 2000
[network]
family = "ising"
filters = [8, 4]
kernels = [3, 3]
[[data]]
distance = 3
kind = "middle"
rounds = [5]
noise = [0.02]
[[data]]
distance = 5
rounds = [4]
noise = [0.02]
closed_by = "perfect"
"""


def ising_recipe(tmp_path: Path, *change: str) -> Recipe:
    path = tmp_path / "ising.toml"
    assert not change or change[0] in ISING
    path.write_text(ISING.replace(*change, 1) if change else ISING)
    return read_recipe(path)


def test_windows_of_isings_family_are_those_its_tier_is_shown(tmp_path: Path) -> None:
    data = Data(ising_recipe(tmp_path))
    seen: dict[tuple[int, Orientation, str], int] = {}
    for step in range(60):
        batch = data.batch(step)
        kind = batch.kind
        sampler = kind.sampler
        past = 0 if sampler.kind.starts else 2  # the halo of two 3x3x3 layers
        distance = sampler.kind.distance
        shape = (2, past + sampler.kind.rounds, distance, distance)
        assert (kind.past, kind.presence.shape) == (past, shape)
        assert kind.cells == (past + sampler.kind.rounds) * distance**2
        assert len(batch.events) == 2000 // kind.cells
        assert not batch.labels[:, ~kind.exists].any()
        # What is quiet has every stabiliser, and none of a wrong kind fires.
        np.testing.assert_array_equal(
            kind.presence[:, :past], np.repeat(sampler.patch.presence[:, None], past, axis=1)
        )
        assert not batch.events[:, kind.presence[:, past:] == 0].any()
        at = (distance, sampler.kind.orientation, sampler.kind.basis)
        seen[at] = seen.get(at, 0) + 1
        again = data.batch(step)
        np.testing.assert_array_equal(again.events, batch.events)
    assert len(seen) == 16  # both distances and bases, all orientations


def test_corrections_of_isings_family_explain_its_events(tmp_path: Path) -> None:
    """A perfect round closes the window, so labels leave nothing: c flips, m flips twice."""
    data = Data(ising_recipe(tmp_path))
    checked = 0
    for step in range(30):
        batch = data.batch(step)
        sampler = batch.kind.sampler
        if sampler.kind.end != "perfect":
            continue
        rounds, size = sampler.kind.rounds, sampler.kind.distance
        flips = batch.labels[:, :2].reshape(-1, 2, rounds, size * size).astype(np.int64)
        for kind in range(2):
            checks, cells = sampler.patch.checks[kind], sampler.patch.cells[kind]
            found = flips[:, kind] @ checks.T.astype(np.int64)
            wrong = batch.labels[:, 2 + kind].reshape(-1, rounds, size * size)[:, :, cells]
            found = found + wrong
            found[:, 1:] += wrong[:, :-1]
            events = batch.events[:, kind].reshape(-1, rounds, size * size)[:, :, cells]
            present = batch.kind.presence[kind].reshape(rounds, -1)[:, cells] > 0
            np.testing.assert_array_equal(events[:, present], (found % 2)[:, present])
            checked += int(present.sum())
    assert checked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("distance = 3", "distance = 4"), "odd one"),
        (("distance = 3", "distance = 33"), "3 to 31"),
        (('tier = "ising"', 'tier = "speed"'), "not answered by networks of family 'ising'"),
        (("kernels = [3, 3]", "kernels = [3, 4]"), "odd sizes"),
        (("kernels = [3, 3]", "kernels = [3]"), "no Ising network"),
        (("kernels = [3, 3]", "model = 1"), "write model, or filters and kernels"),
        (("kernels = [3, 3]", ""), "write model, or filters and kernels"),
        (("filters = [8, 4]", "filters = [8, 5]"), "no Ising network"),
        (('family = "ising"', 'family = "islng"'), "network: there are the families"),
        (('family = "ising"', "family = 3"), "network: there are the families"),
        (("cells = 2000", "cells = 50"), "cells"),
    ],
)
def test_wrong_recipes_of_isings_family_are_refused_with_words(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ising_recipe(tmp_path, *change)


def test_the_noise_of_a_recipe_is_a_model_by_name_or_ones_own() -> None:
    mix = {"distance": 3, "rounds": (4,), "noise": (0.003, 0.006)}
    assert Mix.model_validate(mix).noise_model(0.003) == uniform(0.003)
    assert Mix.model_validate(mix | {"model": "si1000"}).noise_model(0.003) == si1000(0.003)
    own = Mix.model_validate(mix | {"channels": {"measure_flip": 0.5, "idle": 0.1}})
    assert own.noise_model(0.003).model_dump() == pytest.approx(
        NoiseModel(measure_flip=0.003, idle=0.0006).model_dump()
    )


@pytest.mark.parametrize("basis", ["x", "z"])
@pytest.mark.parametrize("kind", ["whole", "first", "middle", "last"])
def test_other_noise_has_the_same_classes_of_edges(kind: str, basis: str) -> None:
    arch = read_recipe(find_recipe("accuracy")).network.architecture
    usual = make_kind(arch, 5, basis, kind, 6, uniform(0.001))
    made = make_kind(arch, 5, basis, kind, 6, si1000(0.001))
    np.testing.assert_array_equal(made.exists, usual.exists)


def test_shipped_recipes_are_sound() -> None:
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    assert {"accuracy", "speed"} <= set(names)
    for name in names:
        recipe = read_recipe(find_recipe(name))
        assert recipe.name == name
        assert recipe.rate(0) < 0.1
        assert recipe.rate(recipe.steps // 2) == 1.0
        assert recipe.rate(recipe.steps) == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("steps = ", "stops = "), "stops"),
        (("width = 128", "width = 4"), "network.width"),
        (("noise = [0.003", "noise = [0.7"), "noise"),
        (("rounds = [6]", "rounds = []"), "rounds"),
        (("share = 5", 'model = "willow"'), "data.0.model"),
        (("share = 5", 'model = "si1000"\nchannels = {idle = 0.1}'), "keep one"),
        (("share = 5", "channels = {idel = 0.1}"), "data.0.channels.idel"),
        (("share = 5", "channels = {}"), "cannot be scaled"),
        (('name = "accuracy"', 'name = "../x"'), "name"),
        (("[network]", "[network"), "recipe.toml"),
        (("seed = 1", "cells = 100"), "cells"),
        (('tier = "accuracy"', 'tier = "ising"'), "not answered by networks of family 'folded'"),
        (("share = 5", 'closed_by = "perfect"'), "for the family 'ising'"),
    ],
)
def test_wrong_recipes_are_refused_with_words(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    text = find_recipe("accuracy").read_text()
    path = tmp_path / "recipe.toml"
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ConfigError, match=words):
        read_recipe(path)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="accuracy"):
        find_recipe("speeed")
