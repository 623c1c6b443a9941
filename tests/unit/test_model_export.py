"""An exported network computes what the served one does, from the file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers.command import Run
from helpers.weights import metadata, random_stack, write
from qdec.bits import unpack
from qdec.match import Tier, compile_window
from qdec.match.drawing import WindowSampler
from qdec.match.edge_odds import odd_number
from qdec.match.soft import SoftWindow
from qdec.neural.engine import compile_network
from qdec.neural.folded_model import FoldedModel, from_stored
from qdec.neural.ising.network import PUBLISHED
from qdec.neural.store import import_model, load_model
from qdec.windows import WHOLE
from qdec.windows.cut import cut, merge_parallel
from qdec_tools.model_export import Wish


def told(path: Path) -> dict[str, Any]:
    """What a file's metadata say."""
    props = {one.key: one.value for one in onnx.load(path).metadata_props}
    text = ("model", "sha256", "basis")
    return {key: value if key in text else json.loads(value) for key, value in props.items()}


@pytest.mark.parametrize(
    "wish",
    [Wish(3, 8), Wish(3, 5, "X", 0.01, whole=True), Wish(5, 12, "X")],
    ids=str,
)
def test_it_computes_what_is_served(qdec: Run, tmp_path: Path, wish: Wish) -> None:
    path = tmp_path / "speed.onnx"
    options = ["-d", wish.distance, "-r", wish.rounds, "--basis", wish.basis, "-p", wish.noise]
    status, printed, words = qdec(
        "model", "export", "speed", *options, *(["--whole"] if wish.whole else []), "-o", path
    )
    assert (status, words) == (0, "")
    assert f"d={wish.distance} {wish.basis}" in printed.replace("\n", " ")

    code, window = wish.window()
    assert window.end - window.start == wish.rounds
    assert window.closes == wish.whole
    problem = cut(code.spacetime, window)
    syndromes, _ = WindowSampler(problem).draw(200, np.random.default_rng(1))
    says = told(path)
    # By the file alone: bits to where it says, and what comes out added to the priors.
    exported = compile_network(path.read_bytes(), precision="fp32")
    shape = [one.dim_value for one in onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1:]]
    events = np.zeros((200, int(np.prod(shape))), dtype=np.float32)
    at = np.array(says["events"])
    bits = unpack(syndromes, len(at))
    assert not bits[:, at < 0].any()
    events[:, at[at >= 0]] = bits[:, at >= 0]
    change = exported(events.reshape(200, *shape)).reshape(200, -1)
    odds = change[:, says["places"]] + np.array(says["prior"], dtype=np.float32)

    network = from_stored(load_model("speed"))
    model = FoldedModel(network, precision="fp32")
    served = compile_window(code, Tier.SPEED, WHOLE, window, model=model)
    assert isinstance(served, SoftWindow)
    edges = merge_parallel(problem)
    u, v, mine, flips = zip(*says["edges"], strict=True)
    np.testing.assert_array_equal(u, edges.u)
    np.testing.assert_array_equal(v, edges.v)
    if window.length is None:
        assert {len(one) for one in mine} > {1}  # where the window's end cuts edges off
    own = np.stack([odd_number(odds[:, one].astype(np.float64)) for one in mine], axis=1)
    found = served.log_odds(syndromes)
    assert found.std() > 1
    np.testing.assert_allclose(own, found, atol=1e-3)
    observables = [
        problem.ids[problem.id_ptr[k] : problem.id_ptr[k + 1]].tolist() for k in edges.component
    ]
    assert [0 in one for one in observables] == [one == [0] for one in flips]
    assert sum(map(len, flips)) > 0


def test_what_it_is_stands_in_it(qdec: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_text("an older one")
    status, printed, _ = qdec(
        "model", "export", "accuracy", "-d", 3, "-r", 4, "-o", path, "--basis", "x", "--json"
    )
    assert status == 0
    row = json.loads(printed)
    says = told(path)
    assert row["bytes"] == path.stat().st_size
    for key in ("model", "sha256", "distance", "rounds", "basis", "noise", "whole"):
        assert says[key] == row[key]
    assert says["sha256"] == load_model("accuracy").info.sha256
    assert (says["basis"], says["distance"], says["rounds"]) == ("X", 3, 4)
    assert [one.name for one in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("speed", "-d", 1, "-r", 8), "--distance 1: give one from 2 to 63"),
        (("speed", "-d", 3, "-r", 1), "--rounds 1"),
        (("speed", "-d", 3, "-r", 10**9), "--rounds 1000000000"),
        (("speed", "-d", 3, "-r", 8, "--basis", "y"), "--basis 'Y': give X or Z"),
        (("speed", "-d", 3, "-r", 8, "-p", "nan"), "--noise nan"),
        (("nobody", "-d", 3, "-r", 8), "there is no model 'nobody'"),
        (("speed", "-d", 31, "-r", 900), "too large for a network"),
    ],
    ids=str,
)
def test_what_cannot_be_exported(
    qdec: Run, tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    status, printed, said = qdec("model", "export", *options, "-o", tmp_path / "a.onnx")
    assert (status, printed) == (2, "")
    (line,) = said.splitlines()
    assert words in line
    assert not list(tmp_path.iterdir())


def test_another_familys_model_is_refused(qdec: Run, tmp_path: Path) -> None:
    fast = random_stack(PUBLISHED[1], seed=4)
    import_model(write(tmp_path / "p.safetensors", fast, metadata(1)), folder=tmp_path / "kept")
    status, _, said = qdec(
        *("model", "export", "ising-1", "-d", 3, "-r", 4, "-o", tmp_path / "a.onnx"),
        *("--models", tmp_path / "kept"),
    )
    assert status == 2
    assert "family ising" in said


def test_a_folder_that_is_not_there_is_named(qdec: Run, tmp_path: Path) -> None:
    path = tmp_path / "no" / "a.onnx"
    status, _, said = qdec("model", "export", "speed", "-d", 3, "-r", 4, "-o", path)
    assert status == 2
    assert f"cannot write {path}: No such file" in said
