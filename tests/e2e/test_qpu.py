"""``qdec qpu`` over real sockets: what it plays, what it counts, and what it refuses to confuse."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import stim

from helpers.circuits import memory, one_after_the_other
from helpers.replays import Recorded, qdec, record
from qdec.bits import unpack
from qdec.codes import Code
from qdec_tools.service import Service, running_service

SHOTS = 300
CIRCUIT = memory(d=3, rounds=6, p=0.01)
ROUNDS = 7
TABLE = '[[stream]]\nname = "{}"\ncode = "{}"\n{}\n'


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    one = record(tmp_path_factory.mktemp("recorded"), CIRCUIT, SHOTS)
    CIRCUIT.to_file(one.folder / "c.stim")
    memory(d=3, rounds=6, p=0.011).to_file(one.folder / "other.stim")
    memory(d=3, rounds=5, p=0.01).to_file(one.folder / "shorter.stim")
    one_after_the_other(memory(d=3, rounds=8)).to_file(one.folder / "two.stim")
    lines = str(Code.from_circuit(CIRCUIT).dem.flattened()).splitlines()
    bare = [line for line in lines if not line.startswith("detector")]
    (one.folder / "bare.dem").write_text("\n".join(bare))
    rounds = Code.from_circuit(CIRCUIT).layout.round_of.tolist()
    (one.folder / "rounds").write_text("\n".join(map(str, rounds)))
    for suffix in ("b8", "01", "dets"):
        one.save(f"d.{suffix}", one.dets, CIRCUIT.num_detectors)
    one.save("o.01", one.obs, 1, "observables")
    one.save("o.b8", one.obs, 1, "observables")
    one.save("short.01", one.obs[:-1], 1, "observables")
    both = np.concatenate([unpack(one.dets, CIRCUIT.num_detectors), unpack(one.obs, 1)], axis=1)
    stim.write_shot_data_file(
        data=both.astype(np.bool_),
        path=str(one.folder / "both.dets"),
        format="dets",
        num_detectors=CIRCUIT.num_detectors,
        num_observables=1,
    )
    assert one.failures > 0
    return one


@pytest.fixture(scope="module")
def service(recorded: Recorded) -> Iterator[Service]:
    at = recorded.folder
    tables = (
        TABLE.format("shots", at / "c.stim", "")
        + TABLE.format("raw", at / "c.stim", "raw = true")
        + TABLE.format("endless", at / "c.stim", "endless = true")
        + TABLE.format("bare", at / "bare.dem", f'endless = true\nmap = "{at / "rounds"}"')
    )
    with running_service(tables=tables, settings={"state_dir": str(at / "state")}) as running:
        yield running


@pytest.fixture
def qpu(service: Service, recorded: Recorded) -> Any:
    """Runs ``qdec qpu``; words that are names of the recording's files stand for their paths."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        named = [recorded.folder / w if _is_file(w) else w for w in map(str, words)]
        return qdec("qpu", "--endpoint", service.endpoint, *named)

    return run


def _is_file(word: str) -> bool:
    return word == "rounds" or ("." in word and not word.replace(".", "").isdigit())


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["final"]
    assert found["backlog"] == 0
    assert found["committed"] == found["rounds"]
    return found


# -- recorded shots ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        ("--circuit", "c.stim", "--dets", "d.b8", "--obs", "o.01"),
        ("--circuit", "c.stim", "--dets", "d.01", "--obs", "o.b8"),
        ("--circuit", "c.stim", "--dets", "both.dets"),
        ("--circuit", "c.stim", "--dets", "d.dets", "--obs", "o.01", "--cycle-us", "0"),
        ("--circuit", "bare.dem", "--map", "rounds", "--dets", "d.b8", "--obs", "o.01"),
        ("--circuit", "c.stim", "--dets", "d.b8", "--obs", "o.01", "--stream", "shots",
         "--configured"),
    ],
)  # fmt: skip
def test_every_recorded_shot_is_played_and_compared(
    qpu: Any, recorded: Recorded, files: tuple[str, ...]
) -> None:
    done = qpu(*files, "--json")
    found = report(done)
    assert (found["checked"], found["errors"]) == (SHOTS, recorded.failures)
    assert (found["rounds"], found["windows"]) == (SHOTS * ROUNDS, SHOTS)
    paced = "--cycle-us" not in files
    assert found["cycle_us"] == (10 if paced else 0)
    assert ("played at 10 µs per round" in done.stderr) == paced


def test_without_a_truth_nothing_is_checked(qpu: Any) -> None:
    found = report(qpu("--circuit", "c.stim", "--dets", "d.b8", "--json"))
    assert (found["windows"], found["checked"], found["error_rate"]) == (SHOTS, 0, None)


MISTAKES = {
    "no file": (("--dets", "no.b8", "--circuit", "c.stim"), "cannot read"),
    "no map": (("--circuit", "c.stim", "--map", "no.map"), "cannot read the round map"),
    "another code": (("--dets", "d.b8", "--circuit", "two.stim"), "another code"),
    "a shorter code": (("--dets", "d.01", "--circuit", "shorter.stim"), "another code"),
    "fewer flips": (("--dets", "d.b8", "--circuit", "c.stim", "--obs", "short.01"), "299 shots"),
    "flips alone": (("--circuit", "c.stim", "--obs", "o.01"), "--obs goes with --dets"),
    "raw": (("--dets", "d.b8", "--circuit", "c.stim", "--raw"), "leave out --raw"),
    "no code": (("--dets", "d.b8"), "--circuit"),
    "auto": (("--dets", "d.b8", "--circuit", "c.stim", "-c", "auto"), "use the recording up"),
    "endless": (
        ("--dets", "d.b8", "--circuit", "c.stim", "--stream", "endless", "--configured"),
        "stream 'endless' is endless",
    ),
    "another configured code": (
        ("--circuit", "other.stim", "--stream", "endless", "--configured"),
        "runs another code than",
    ),
    "a generated code": (("--stream", "endless", "--configured"), "generated experiment"),
    "detectors for measurements": (
        ("--circuit", "c.stim", "--stream", "raw", "--configured"),
        "takes measurements.*add --raw",
    ),
    "endless measurements": (("--circuit", "c.stim", "--raw"), "leave out --raw"),
    "a map of nothing": (("--map", "rounds"), "--map goes with --circuit"),
    "no such name": (("--stream", "a b"), "BAD_OPTION: stream"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(qpu: Any, name: str) -> None:
    words, says = MISTAKES[name]
    done = qpu(*words)
    assert done.returncode == 2, done
    assert done.stdout == ""
    *notes, line = done.stderr.splitlines()
    assert all(note.startswith("note: ") for note in notes)
    assert line.startswith("qdec: ")
    if name != "detectors for measurements":
        assert says in line
    else:
        assert all(part in line for part in says.split(".*"))


# -- what is counted -----------------------------------------------------------------------------


def test_as_fast_as_credits_allow_is_measured_too(qpu: Any) -> None:
    found = report(qpu("-d", 3, "-c", 0, "-s", 0.5, "--json"))
    assert found["windows"] > 10
    assert found["lane_us"].keys() == found["client_us"].keys() == {"p50", "p99", "p99_9", "max"}
    assert found["tiers"] == {"matching": found["windows"]}
    assert 0.5 <= found["seconds"] < 60


def test_only_what_was_streamed_at_the_pace_shown_is_counted(qpu: Any) -> None:
    found = report(qpu("-d", 3, "-p", 0.01, "-s", 3, "--json"))
    assert found["cycle_us"] > 0
    # A frame leaves when its last round has happened; only the rounds that end the shot are extra.
    paced = found["rounds"] * found["cycle_us"] * 1e-6
    assert 0 < paced < found["seconds"] + 0.1
    assert found["seconds"] < 60
    assert sum(found["tiers"].values()) == found["windows"] <= found["rounds"] / 60 + 2
    assert found["checked"] <= found["windows"]
    assert found["late_share"] == (found["late"] - found["preempted"]) / found["windows"]


def test_finding_a_cycle_time_of_shots_ends(qpu: Any) -> None:
    found = report(qpu("--circuit", "c.stim", "-r", 1, "-s", 2, "--json"))
    # The pace may have been found in the middle of a shot, which then does not count.
    assert found["checked"] == found["windows"] == found["rounds"] // ROUNDS


@pytest.mark.parametrize(
    ("words", "endless"),
    [
        (("--stream", "shots", "--circuit", "c.stim"), False),
        (("--stream", "raw", "--circuit", "c.stim", "--raw"), False),
        (("--stream", "endless", "--circuit", "c.stim"), True),
        (("--stream", "bare", "--circuit", "bare.dem", "--map", "rounds"), True),
    ],
)
def test_a_configured_stream_says_what_it_is(
    qpu: Any, words: tuple[str, ...], endless: bool
) -> None:
    found = report(qpu("--configured", *words, "-c", 20, "-s", 0.5, "--json"))
    assert found["windows"] > 0
    if not endless:
        assert found["checked"] == found["windows"] == found["rounds"] / ROUNDS


def test_patches_one_after_the_other_are_streamed_endlessly(qpu: Any) -> None:
    found = report(qpu("--circuit", "two.stim", "-c", 20, "-s", 0.5, "--json"))
    assert found["checked"] > 0


def test_reports_on_the_way_and_after_ctrl_c_tell_the_time(service: Service) -> None:
    command = ["qpu", "--endpoint", service.endpoint, "-d", "3", "-c", "20", "-s", "60"]
    with subprocess.Popen(
        [sys.executable, "-m", "qdec", *command, "--json-lines"], stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        lines = [json.loads(running.stdout.readline()) for _ in range(3)]
        running.send_signal(signal.SIGINT)
        lines += [json.loads(line) for line in running.stdout]
        assert running.wait(30) == 130
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert all(b > 0 for b in seconds[1:])
    assert lines[-1]["final"]
    assert {line["stream"] for line in lines} == {"qpu"}
