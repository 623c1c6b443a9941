"""Two real lanes share a stream over real sockets, and the client hands over one answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from operator import xor
from pathlib import Path

import numpy as np
import pytest

from helpers.circuits import REPETITION, ROTATED_X, memory
from helpers.services import (
    CODE,
    GEOMETRY,
    PATIENT,
    TEXT,
    answers_in,
    rounds_of_a_shot,
    serving_pid,
    stream_all,
    undisturbed,
    wait_for_log,
)
from qdec.bits import Bytes
from qdec.client import Patience, open_stream, service_status
from qdec.codes import Code
from qdec.commit import Flag
from qdec.errors import Refused, ServiceUnavailable, WireCode
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec.windows import Geometry
from qdec_tools.service import running_service


def stream_table(folder: Path, text: str = TEXT, **settings: object) -> str:
    """A ``[[stream]]`` that two lanes share."""
    path = folder / "code.stim"
    path.write_text(text)
    given = {"name": "shared", "code": str(path), "lanes": [0, 1], **settings}
    return "[[stream]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in given.items())


def endless(folder: Path) -> str:
    return stream_table(folder, endless=True, windows=str(GEOMETRY), deadline_us=10**9)


def parts_offline(records: Bytes) -> dict[int, bytes]:
    """Frame and seam of every window, from service-free runs of both parts, XORed."""
    first, second = (undisturbed(records, part) for part in CODE.split(2))
    assert first.keys() == second.keys()
    return {w: bytes(map(xor, first[w], second[w])) for w in first}


@pytest.mark.parametrize("door", [0, 1])
def test_frames_are_those_of_the_two_parts(tmp_path: Path, door: int) -> None:
    """Whichever lane is asked first, and as each lane's own counters say, both had every round."""
    records = rounds_of_a_shot(1000, seed=1)
    with running_service(lanes=2, tables=endless(tmp_path)) as service:
        with open_stream(service.endpoints[door], "shared", patience=PATIENT) as stream:
            assert stream.info.parts == list(service.endpoints)
            rows = service_status(service.endpoints[1])["streams"]
            assert [(row["stream"], row["part"]) for row in rows] == [("shared", "1 of 2")]
            commits = stream_all(stream, records, {})
            assert stream.committed == stream.sent_until == len(records)
            assert stream.next_window == sum(map(len, commits))
            assert (stream.pending, stream.unsent, stream.resumes) == (0, 0, 0)
        assert answers_in(commits) == parts_offline(records)
        for endpoint in service.endpoints:
            status = service_status(endpoint)
            assert status["rounds"] == len(records)
            assert status["streams"] == []


@pytest.mark.parametrize("lane", [0, 1])
def test_a_killed_lane_changes_no_answer(tmp_path: Path, lane: int) -> None:
    records = rounds_of_a_shot(2000, seed=2)
    with (
        running_service(lanes=2, spare_lanes=1, tables=endless(tmp_path)) as service,
        open_stream(service.endpoint, "shared", patience=PATIENT) as stream,
    ):
        events: list[str] = []
        stream.on_event = events.append

        def kill() -> None:
            os.kill(serving_pid(service, lane), signal.SIGKILL)

        commits = stream_all(stream, records, {500: kill, 1500: kill})
        assert answers_in(commits) == parts_offline(records)
        assert stream.resumes >= 1
        assert all(event.startswith(f"part {lane}: ") for event in events), events


def test_both_lanes_killed_change_no_answer(tmp_path: Path) -> None:
    records = rounds_of_a_shot(1000, seed=3)
    with (
        running_service(lanes=2, tables=endless(tmp_path)) as service,
        open_stream(service.endpoint, "shared", patience=PATIENT) as stream,
    ):

        def kill() -> None:
            for lane in (0, 1):
                os.kill(serving_pid(service, lane), signal.SIGKILL)

        assert answers_in(stream_all(stream, records, {500: kill})) == parts_offline(records)


@pytest.mark.parametrize("raw", [False, True])
def test_shots_of_fixed_length_and_measurements(tmp_path: Path, raw: bool) -> None:
    circuit = memory(ROTATED_X, rounds=30, p=0.006)
    code = Code.from_circuit(circuit)
    assert code.measurements is not None
    measured = circuit.compile_sampler(seed=4).sample(200)
    shots = circuit.compile_m2d_converter().convert(
        measurements=measured, separate_observables=True, bit_packed=True
    )[0]
    records = code.layout.to_records(shots)
    geometry = Geometry(10, 5)
    frames = [
        OfflineDecoder(code, Tier.MATCHING, geometry, part).decode(records)[0]
        for part in code.split(2)
    ]
    sent = records
    if raw:
        sent = code.measurements.to_records(np.packbits(measured, axis=1, bitorder="little"))
    flat = np.ascontiguousarray(sent.reshape(-1, sent.shape[-1]))
    table = stream_table(tmp_path, str(circuit), windows="10,5", raw=raw)
    with (
        running_service(lanes=2, tables=table) as service,
        open_stream(service.endpoint, "shared", patience=PATIENT) as stream,
    ):
        stream.send(flat)
        rows = np.concatenate(stream.drain())
    ends = rows[(rows["flags"] & Flag.SHOT_END) != 0]
    np.testing.assert_array_equal(ends["frame"], np.bitwise_xor(*frames))
    assert ends["frame"].any()


def test_a_lost_bit_is_an_erasure_of_the_whole(tmp_path: Path) -> None:
    records = rounds_of_a_shot(200, seed=5)
    lost = np.zeros_like(records)
    lost[55, 0] = 1
    with (
        running_service(lanes=2, tables=endless(tmp_path)) as service,
        open_stream(service.endpoint, "shared", patience=PATIENT) as stream,
    ):
        stream.send(records, last=True, lost=lost)
        rows = np.concatenate(stream.drain())
        erased = [service_status(endpoint)["erased"] for endpoint in service.endpoints]
    flagged = np.flatnonzero(rows["flags"] & Flag.ERASURE)
    assert flagged.tolist() == [4, 5]  # rounds 40 to 59, and 50 to 69
    assert sorted(erased) == [0, 2]  # of one part only


def test_a_second_client_gets_no_part(tmp_path: Path) -> None:
    with (
        running_service(lanes=2, tables=endless(tmp_path)) as service,
        open_stream(service.endpoint, "shared", patience=PATIENT) as stream,
    ):
        with pytest.raises(Refused) as refused:
            open_stream(service.endpoint, "shared")
        assert refused.value.wire is WireCode.STREAM_BUSY
        records = rounds_of_a_shot(300, seed=6)
        assert answers_in(stream_all(stream, records, {})) == parts_offline(records)


def test_what_was_opened_is_closed_where_a_part_cannot_be(tmp_path: Path) -> None:
    """Lane 1 stands still: part 0 must not stay taken."""
    hasty = Patience(answer_s=0.5, open_s=1.0)
    with running_service(lanes=2, tables=endless(tmp_path)) as service:
        pid = serving_pid(service, 1)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ServiceUnavailable):
            open_stream(service.endpoint, "shared", patience=hasty)
        os.kill(pid, signal.SIGCONT)
        for _ in range(100):
            with suppress(Refused):
                open_stream(service.endpoint, "shared", patience=PATIENT).close()
                return
            time.sleep(0.05)
        raise AssertionError("the stream stays taken")


def test_lanes_that_swap_parts_go_on(tmp_path: Path) -> None:
    """A reload gives each part to the other lane; the cursors lead there."""
    records = rounds_of_a_shot(1000, seed=7)
    with (
        running_service(lanes=2, tables=endless(tmp_path)) as service,
        open_stream(service.endpoint, "shared", patience=PATIENT) as stream,
    ):

        def swap() -> None:
            text = service.config.read_text()
            service.config.write_text(text.replace("lanes = [0, 1]", "lanes = [1, 0]"))
            os.kill(service.pid, signal.SIGHUP)
            wait_for_log(service, "configuration reloaded")

        assert answers_in(stream_all(stream, records, {500: swap})) == parts_offline(records)
        assert stream.resumes >= 2
        rows = service_status(service.endpoints[0])["streams"]
        assert [row["part"] for row in rows] == ["1 of 2"]


def test_the_simulator_knows_no_difference(tmp_path: Path) -> None:
    with running_service(lanes=2, tables=endless(tmp_path)) as service:
        options = (
            f"--endpoint {service.endpoints[1]} --stream shared --configured "
            f"--circuit {tmp_path}/code.stim --cycle-us 20 --seconds 1"
        )
        done = subprocess.run(
            [sys.executable, "-m", "qdec", "qpu", "--json", *options.split()],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout.splitlines()[-1])
        assert report["committed"] == report["rounds"] > 0
        assert report["checked"] > 0
        # A frame that lacked one part would be wrong half of the time.
        assert report["errors"] < 0.2 * report["checked"]
        counted = [service_status(endpoint)["rounds"] for endpoint in service.endpoints]
        assert counted == [report["rounds"]] * 2


def test_a_code_that_cannot_be_shared_stops_the_service(tmp_path: Path) -> None:
    table = stream_table(tmp_path, str(memory(REPETITION)), endless=True)
    with (
        pytest.raises(ServiceUnavailable, match=r"'shared'.*at most one lane"),
        running_service(lanes=2, tables=table),
    ):
        raise AssertionError("it started")
