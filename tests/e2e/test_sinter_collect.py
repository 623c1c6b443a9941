"""sinter itself, with our decoders: its own test suite for decoders, and its command line."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.circuits import ROTATED_X, ROTATED_Z, memory
from qdec import sinter_decoders

SUITE = "sinter._decoding._decoding_test"
SHOTS = 6_000


def test_sinters_own_suite_for_decoders(tmp_path: Path) -> None:
    """Every test that it has for a decoder of its own must have run for each of ours."""
    if importlib.util.find_spec(SUITE) is None:
        pytest.skip(f"this sinter ships no {SUITE}")
    report = tmp_path / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", "-k", "qdec or vacuous", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--pyargs", SUITE],
        cwd=tmp_path,  # its settings, not ours
        env={**os.environ, "SINTER_PYTEST_CUSTOM_DECODERS": "qdec:sinter_decoders"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout
    passed = defaultdict(set)
    for case in ElementTree.parse(report).iter("testcase"):
        test, _, parameters = case.get("name", "").rstrip("]").partition("[")
        decoder, _, others = parameters.partition("-")
        if not list(case):  # a case that failed or was skipped says so in a child
            passed[decoder].add((test, others))
    assert len(passed["vacuous"]) > 30
    for name in sinter_decoders():
        assert passed[name] == passed["vacuous"]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], int]:
    """Errors by (decoder, distance) as ``sinter collect`` writes them down."""
    folder = tmp_path_factory.mktemp("sinter")
    files = []
    for d, task in ((3, ROTATED_Z), (5, ROTATED_X)):
        file = folder / f"d={d}.stim"
        memory(task, d, 10 * d, 0.004).to_file(file)
        files.append(file)
    out = folder / "out.csv"
    saved = ["--save_resume_filepath", out]
    custom = ["--custom_decoders_module_function", "qdec:sinter_decoders"]
    decoders = ["--decoders", "pymatching", *sinter_decoders()]
    options = ["--max_shots", str(SHOTS), "--processes", "2", "--metadata_func", "auto", "--quiet"]
    command = Path(sys.executable).parent / "sinter"
    done = subprocess.run(
        [command, "collect", *custom, *decoders, *options, *saved, "--circuits", *files],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    errors: dict[tuple[str, int], int] = defaultdict(int)
    shots: dict[tuple[str, int], int] = defaultdict(int)
    with out.open(newline="") as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            key = row["decoder"], int(json.loads(row["json_metadata"])["d"])
            errors[key] += int(row["errors"])
            shots[key] += int(row["shots"])
            assert row["discards"] == "0"
    assert set(shots.values()) == {SHOTS}
    assert len(shots) == 2 * (1 + len(sinter_decoders()))
    return errors


@pytest.mark.parametrize("d", [3, 5])
@pytest.mark.parametrize("name", ["qdec", "qdec_w2d", "qdec_w3d"])
def test_windows_fail_as_often_as_sinters_pymatching(
    collected: dict[tuple[str, int], int], name: str, d: int
) -> None:
    """sinter draws every decoder's shots anew, so counts differ by the error of both."""
    ours, theirs = collected[name, d], collected["pymatching", d]
    assert theirs > 200, "too few errors to compare"
    assert abs(ours - theirs) < 6 * math.sqrt(ours + theirs)


@pytest.mark.parametrize("d", [3, 5])
@pytest.mark.parametrize("name", [n for n in sinter_decoders() if "correlated" in n])
def test_correlated_windows_fail_no_more_often(
    collected: dict[tuple[str, int], int], name: str, d: int
) -> None:
    ours, theirs = collected[name, d], collected["pymatching", d]
    assert 50 < ours < theirs + 6 * math.sqrt(ours + theirs)
