"""Samples to train on: drawn as Stim draws them, with labels that explain them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qdec.codes import Code
from qdec.errors import ConfigError
from qdec.neural.grid import ROTATED, Lattice
from qdec.windows.cut import cut, merge_parallel
from qdec.windows.geometry import Window
from qdec_tools.circuits import memory
from qdec_tools.training.command import RECIPES, find_recipe
from qdec_tools.training.data import Data, make_kind
from qdec_tools.training.recipe import read_recipe
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
    made = make_kind(arch, 3, "x", kind, 6, 0.01)
    events, labels = made.sampler.sample(50, np.random.default_rng(0))
    assert events.shape == (50, 4, 6, 2, 2)
    assert labels.shape == (50, CHANNELS, 6, 2, 2)
    assert not labels[:, ~made.exists].any()
    assert (made.prior[made.exists] < 0).all()
    last = made.static[:4, -1].sum()
    assert last == (4 if kind in ("whole", "last") else 8)  # a closed end has one basis only


def test_a_step_always_sees_the_same_data() -> None:
    recipe = read_recipe(find_recipe("accuracy"))
    one, two = (Data(recipe, recipe.network.architecture) for _ in range(2))
    for step in (7, 3, 7):
        a, b = one.batch(step), two.batch(step)
        np.testing.assert_array_equal(a.events, b.events)
        np.testing.assert_array_equal(a.labels, b.labels)
    assert not np.array_equal(one.batch(3).events, one.batch(3, stream=1).events)


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
        (('name = "accuracy"', 'name = "../x"'), "name"),
        (("[network]", "[network"), "recipe.toml"),
        (("seed = 1", "cells = 100"), "cells"),
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
