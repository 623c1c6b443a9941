"""A configuration tried by a process of its own, while the service goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qdec.config import load_config
from qdec.errors import ConfigError
from qdec.supervisor import check
from qdec.supervisor.check import Check
from qdec_tools.circuits import memory

LANE = '[[lane]]\nendpoints = ["ipc:///run/qdec/nowhere.ipc"]\n'


def stream(name: str) -> str:
    return f'[[stream]]\nname = "{name}"\ncode = "code.stim"\nwindows = "4,2"\n'


def checked(path: Path) -> Check:
    found = Check(load_config(path), path)
    give_up = time.monotonic() + 60
    while not found.done:
        if time.monotonic() > give_up:
            found.give_up()
            raise AssertionError("it never ends")
        time.sleep(0.02)
    return found


def test_a_check_that_has_much_to_say_ends(tmp_path: Path) -> None:
    (tmp_path / "code.stim").write_text(str(memory(3, 4, 0.003)))
    names = [f"{number:060}" for number in range(800)]
    path = tmp_path / "qdec.toml"
    path.write_text(LANE + "".join(map(stream, names)))
    config, makings = checked(path).result()
    assert [one.name for one in config.stream] == names == list(makings)


def test_a_check_that_tells_nothing_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "qdec.toml"
    path.write_text(LANE)
    monkeypatch.setattr(check.sys, "executable", "/bin/true")
    with pytest.raises(ConfigError, match="nothing that can be read"):
        checked(path).result()
    monkeypatch.setattr(check.sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="cannot be checked"):
        Check(load_config(path), path)
