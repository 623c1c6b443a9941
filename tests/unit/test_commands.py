"""The command line as a person uses it: what is printed, exit codes, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.circuits import memory
from helpers.command import Run
from qdec.codes import Code


@pytest.fixture
def bare(tmp_path: Path) -> tuple[Path, Path]:
    """A DEM without coordinates, and the map that says what they would have."""
    code = Code.from_circuit(memory(d=3, rounds=5, p=0.01))
    lines = str(code.dem.flattened()).splitlines()
    dem, rounds = tmp_path / "bare.dem", tmp_path / "rounds"
    dem.write_text("\n".join(line for line in lines if not line.startswith("detector")))
    rounds.write_text("\n".join(map(str, code.layout.round_of.tolist())))
    return dem, rounds


def one_line(ran: tuple[int, str, str], status: int = 2) -> str:
    assert ran[0] == status, ran
    assert ran[1] == ""
    (line,) = ran[2].splitlines()
    assert line.startswith("qdec: ")
    return line


@pytest.mark.parametrize("command", ["layout", "gate"])
def test_a_round_map_stands_in_for_coordinates(
    qdec: Run, bare: tuple[Path, Path], command: str
) -> None:
    dem, rounds = bare
    assert "give a round map" in one_line(qdec(command, dem))
    assert qdec(command, dem, "--map", rounds)[0] in (0, 1)
    missing = rounds.with_name("no")
    assert f"cannot read the round map {missing}: " in one_line(
        qdec(command, dem, "--map", missing)
    )


@pytest.mark.parametrize("distance", [0, 1, 64, 10**30])
def test_the_gate_names_a_distance_that_there_is_not(qdec: Run, distance: int) -> None:
    line = one_line(qdec("gate", distance))
    assert f"distance {distance}"[:29] in line
    assert "from 2 to 63" in line


@pytest.mark.parametrize("noise", ["0", "nan", "-1", "0.6", "inf"])
def test_the_gate_names_noise_that_there_is_not(qdec: Run, noise: str) -> None:
    assert f"--noise {noise}: faults have a probability above 0" in one_line(
        qdec("gate", 5, "-p", noise)
    )


def test_the_gate_tries_up_to_four_faults(qdec: Run) -> None:
    status, _, words = qdec("gate", 3, "--weight", 5)
    assert status == 2
    assert "--weight" in words


def test_the_gate_needs_no_map_for_a_distance(qdec: Run, bare: tuple[Path, Path]) -> None:
    assert "--map goes with a code's file" in one_line(qdec("gate", 3, "--map", bare[1]))


def test_a_round_without_measurements_is_told_as_such(qdec: Run, tmp_path: Path) -> None:
    path = tmp_path / "late.stim"
    path.write_text(
        "X_ERROR(0.1) 0 1\nM 0 1\nDETECTOR(0, 0, 0) rec[-2]\nDETECTOR(0, 0, 1) rec[-1] rec[-2]\n"
        "DETECTOR(0, 0, 2) rec[-1]\nOBSERVABLE_INCLUDE(0) rec[-1]\n"
    )
    _, printed, _ = qdec("layout", path, "--raw")
    assert "no measurement" in printed
    assert "rec[2]" not in printed


@pytest.mark.parametrize("command", [("qpu", "-d", 3), ("ler", "-d", 3)])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--noise-model", "willow", "-p", 0.01), "willow"),
        (("--noise-model", "si1000", "-p", 0.2), "measure_flip = 1.0"),
    ],
)
def test_noise_that_there_is_not_is_refused_before_anything_runs(
    qdec: Run, command: tuple[object, ...], options: tuple[object, ...], says: str
) -> None:
    assert says in one_line(qdec(*command, *options))
