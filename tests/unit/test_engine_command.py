"""`qdec engine`: what is found out of a configuration, built, kept, listed and removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.circuits import memory
from helpers.command import Run
from helpers.weights import metadata, random_stack, write
from qdec.errors import EngineError
from qdec.neural.tensorrt import api, build, cache
from qdec.neural.tensorrt.api import Api
from qdec.neural.tensorrt.build import Recipe
from qdec_tools import engine_build
from qdec_tools.engine_build import Wish, wanted

FAKE = Api(None, "tensorrt-rtx", "1.7")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """Builds are made up, and remembered."""
    found: list[Recipe] = []

    def fake(recipe: Recipe, capability: Any) -> bytes:
        found.append(recipe)
        return b"a plan of " + recipe.sha256.encode()

    monkeypatch.setattr(engine_build, "tensorrt", lambda: FAKE)
    monkeypatch.setattr(build, "build", fake)
    return found


def config(folder: Path, more: str = "", accelerator: str = "") -> Path:
    (folder / "d3.stim").write_text(str(memory(d=3, rounds=12, p=0.003)))
    path = folder / "qdec.toml"
    path.write_text(
        f'[accelerator]\nbatch = 8\n{accelerator}\n[[lane]]\nendpoints = ["ipc:///run/qdec/lane.ipc"]\n'
        '[[stream]]\nname = "a"\ncode = "d3.stim"\nendless = true\nwindows = "6,3"\n'
        f'tier = "speed"\n{more}'
    )
    return path


def test_every_window_of_a_configuration_is_built_once(
    qdec: Run, tmp_path: Path, built: list[Recipe]
) -> None:
    path, folder = config(tmp_path), tmp_path / "plans"
    command = ("engine", "build", path, "--compute-capability", "9.0", "--folder", folder, "--json")
    status, said, _ = qdec(*command)
    assert status == 0
    rows = json.loads(said)["plans"]
    # The shot's beginning has other priors than mid-stream.
    assert [row["size"] for row in rows] == [[6, 2, 2]] * len(built)
    assert len({row["model"] for row in rows}) == len(rows) >= 2
    assert all(row["built"] and row["batches"] == [1, 4, 8] for row in rows)
    assert {row["precision"] for row in rows} == {"fp16"}
    rows = json.loads(qdec(*command)[1])["plans"]
    assert not any(row["built"] for row in rows), "they were there"
    Path(rows[0]["path"]).write_bytes(b"damaged")
    assert qdec("engine", "list", "--folder", folder)[0] == 1
    rows = json.loads(qdec(*command)[1])["plans"]
    assert [row["built"] for row in rows] == [True] + [False] * (len(rows) - 1)
    status, said, _ = qdec("engine", "list", "--folder", folder, "--json")
    listed = json.loads(said)
    assert status == 0
    assert {one["capability"][0] for one in listed["plans"]} == {9}
    assert [one["engine"] for one in listed["engines"]] == ["openvino", "tensorrt", "torch"]
    assert f"removed {len(rows)} plan(s)" in qdec("engine", "clear", "--folder", folder)[1]
    assert "no plans" in qdec("engine", "list", "--folder", folder)[1]


def test_a_service_looks_for_the_plans_that_were_built(
    tmp_path: Path, built: list[Recipe], qdec: Run
) -> None:
    """What the collected windows ask for is what `TensorRTNetwork` will ask for."""
    path, folder = config(tmp_path), tmp_path / "plans"
    qdec("engine", "build", path, "--compute-capability", "9.0", "--folder", folder)
    assert built
    for recipe in built:
        key = cache.key_of(recipe, FAKE, "", (9, 0))
        assert cache.read(folder, key)[0] == b"a plan of " + recipe.sha256.encode()
        assert (recipe.io, recipe.precision, recipe.batches) == ("fp32", "fp16", (1, 4, 8))
        recipe.check()


def test_precision_comes_from_the_configuration_or_the_option(tmp_path: Path) -> None:
    path = config(tmp_path, accelerator='precision = "fp32"')
    assert {one.precision for one in wanted(Wish(path))} == {"fp32"}
    assert {one.precision for one in wanted(Wish(path, precision="int8"))} == {"int8"}
    assert {one.batches for one in wanted(Wish(path, batch="1,8,64"))} == {(1, 8, 64)}


def test_an_ising_network_is_built_for_each_distance(tmp_path: Path) -> None:
    from qdec.neural.store import import_model

    source = write(tmp_path / "m.safetensors", random_stack_of(1), metadata(1))
    info = import_model(source, folder=tmp_path / "models")
    found = wanted(Wish(model=str(info.path), distance="3,5", windows="whole", rounds=4))
    assert [one.size for one in found] == [(4, 3, 3), (4, 5, 5)]
    assert len({one.sha256 for one in found}) == 1, "one network for all sizes"
    with pytest.raises(EngineError, match="cannot run in int8"):
        wanted(
            Wish(model=str(info.path), distance="3", windows="whole", rounds=4, precision="int8")
        )


def random_stack_of(number: int) -> Any:
    from qdec.neural.ising.network import PUBLISHED

    return random_stack(PUBLISHED[number], 0, np.float16)


def one_line(ran: tuple[int, str, str]) -> str:
    assert ran[0] == 2, ran
    (line,) = ran[2].splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "one of the two"),
        (("--model", "none-such"), "no model"),
        (("--model", "speed", "-d", "x"), "give numbers"),
        (("--model", "speed", "-d", "65"), "up to 63"),
        (("--model", "speed", "-p", "0"), "faults have a probability"),
        (("--model", "speed", "--basis", "y"), "x or z"),
        (("--model", "speed", "-d", "3", "--batch", "0,1"), "start at 1"),
        (("--model", "speed", "-d", "3", "--precision", "bf16"), "fp32, fp16 or int8"),
        (("--model", "speed", "--compute-capability", "nine"), "like 9.0"),
    ],
)
def test_wishes_that_are_none_are_refused(
    qdec: Run, built: list[Recipe], options: tuple[str, ...], says: str
) -> None:
    capability = () if "--compute-capability" in options else ("--compute-capability", "9.0")
    assert says in one_line(qdec("engine", "build", *options, *capability))
    assert not built


def test_without_a_gpu_or_tensorrt_it_says_what_to_do(
    qdec: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qdec.neural import driver

    def no_driver() -> None:
        raise EngineError("no NVIDIA driver")

    monkeypatch.setattr(driver, "devices", no_driver)
    monkeypatch.setattr(engine_build, "tensorrt", lambda: FAKE)
    assert "no NVIDIA driver" in one_line(qdec("engine", "build", "-m", "speed"))
    monkeypatch.undo()
    monkeypatch.setattr(api, "MODULES", ("no_such_tensorrt",))
    api.tensorrt.cache_clear()
    command = ("engine", "build", "-m", "speed", "--compute-capability", "9.0")
    assert "pip install 'qdec[gpu]'" in one_line(qdec(*command))


def test_a_configuration_without_networks_has_nothing_to_build(
    qdec: Run, tmp_path: Path, built: list[Recipe]
) -> None:
    path = config(tmp_path, "accelerated = false\n")
    command = ("engine", "build", path, "--compute-capability", "9.0")
    assert "nothing to build" in one_line(qdec(*command))
