"""`qdec tune`, and `qdec serve` deciding from the same measurements."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.circuits import ROTATED_Z, memory
from qdec.cli import main
from qdec.supervisor import auto

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def qdec(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs the command in a state directory of its own; (exit status, stdout, stderr)."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(auto, "BUDGET_S", 0.1)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["qdec", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def test_the_table_says_what_was_chosen_and_why(qdec: Run) -> None:
    status, printed, _ = qdec("tune", "-d", 3, "-p", "0.002", "--windows", "12,6")
    assert status == 0
    assert "d=3 p=0.002, windows 12,6, deadline 2,000 µs" in printed
    assert "chosen: " in printed
    for name in ("matching", "correlated", "matching > guarded < 0.9"):
        assert name in printed
    status, printed, _ = qdec("tune", "-d", 3, "-p", "0.002", "--windows", "12,6", "--json")
    (row,) = json.loads(printed.splitlines()[-1])["streams"]
    assert not row["measured_now"]
    assert row["chosen"] in {one["candidate"] for one in row["candidates"]}


def test_a_service_takes_what_tune_found(
    qdec: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d3.stim").write_text(str(memory(ROTATED_Z, 3, 12, 0.004)))
    path = tmp_path / "qdec.toml"
    path.write_text(
        f'[service]\nstate_dir = "{tmp_path}"\n[[lane]]\nendpoints = ["ipc://{tmp_path}/lane"]\n'
        '[[stream]]\nname = "patch0"\ncode = "d3.stim"\nendless = true\nwindows = "12,6"\n'
        'tier = "auto"\n'
    )
    status, printed, _ = qdec("tune", "--config", path, "--json")
    assert status == 0
    (row,) = json.loads(printed.splitlines()[-1])["streams"]
    assert row["stream"] == "patch0"

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(auto, "measure", never)
    status, printed, words = qdec("serve", "--config", path, "--check")
    assert status == 0, words
    assert "stream patch0: ok" in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-d", "x"], "--distances 'x'"),
        (["-d", "1"], "is not a distance"),
        (["-p", ","], "--noise"),
        (["--windows", "whole"], "no whole shots"),
        (["-d", ",".join(["3"] * 101)], "at most 100"),
    ],
)
def test_wishes_that_make_no_sense(qdec: Run, arguments: list[str], told: str) -> None:
    status, printed, words = qdec("tune", *arguments)
    assert status == 2
    assert not printed
    (line,) = words.splitlines()
    assert told in line
