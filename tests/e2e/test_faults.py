"""Real processes, real sockets, real signals: what a lab will do to the service overnight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from helpers.services import (
    GEOMETRY,
    PATIENT,
    TEXT,
    answers_in,
    lane_pids,
    open_guest,
    rounds_of_a_shot,
    serving_pid,
    stream_all,
    undisturbed,
    wait_for_log,
)
from qdec.client import CodeText, Commits, Patience, Stream, open_stream, service_status
from qdec.codes import Code
from qdec.commit import Flag
from qdec.errors import Refused, ServiceUnavailable, WireCode
from qdec.match import Tier
from qdec.match.offline import decode_shots
from qdec.windows import Geometry
from qdec_tools.chaos.proxy import Proxy
from qdec_tools.circuits import memory
from qdec_tools.service import running_service


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_lane_changes_no_answer(signal_: signal.Signals) -> None:
    records = rounds_of_a_shot(2000, seed=1)
    with running_service(spare_lanes=1) as service, open_guest(service) as stream:
        events: list[str] = []
        stream.on_event = events.append

        def kill() -> None:
            os.kill(serving_pid(service), signal_)

        commits = stream_all(stream, records, {500: kill, 1500: kill})
        assert answers_in(commits) == undisturbed(records)
        assert stream.resumes >= 1, events


def test_a_lane_killed_between_shots_of_fixed_length_changes_no_answer() -> None:
    circuit = memory(3, 5, 0.01)
    code = Code.from_circuit(circuit)
    shots, _ = circuit.compile_detector_sampler(seed=5).sample(
        800, separate_observables=True, bit_packed=True
    )
    records = code.layout.to_records(shots)
    expected, _ = decode_shots(code, Tier.MATCHING, Geometry(0, 0), records)
    flat = records.reshape(-1, records.shape[-1])
    guest = CodeText("circuit", str(circuit))
    with (
        running_service(spare_lanes=1) as service,
        open_stream(service.endpoint, "shots", code=guest, patience=PATIENT) as stream,
    ):
        kill = {1000: lambda: os.kill(serving_pid(service), signal.SIGKILL)}
        rows = np.concatenate(stream_all(stream, flat, kill))
        assert (rows["flags"] & Flag.SHOT_END).all()
        assert (rows["frame"] == expected).all()
        assert len(rows) == len(shots)
        assert stream.resumes >= 1


def test_a_stopped_lane_is_replaced() -> None:
    records = rounds_of_a_shot(600, seed=2)
    settings = {"stall_s": 0.6}
    with running_service(spare_lanes=1, settings=settings) as service:
        with open_guest(service) as stream:
            stop = {300: lambda: os.kill(serving_pid(service), signal.SIGSTOP)}
            assert answers_in(stream_all(stream, records, stop)) == undisturbed(records)
        assert "has not turned" in service.log.read_text()


def test_a_client_that_was_away_does_not_take_the_lane_for_dead() -> None:
    patience = Patience(silence_s=0.01, dead_s=1.0)
    guest = CodeText("circuit", TEXT)
    with (
        running_service() as service,
        open_stream(service.endpoint, "away", code=guest, endless=True, patience=patience) as one,
    ):
        time.sleep(1.1)
        # Nothing can be heard yet; there must be time to ask.
        os.kill(serving_pid(service), signal.SIGSTOP)
        for _ in range(5):
            one.poll(0.02)
        os.kill(serving_pid(service), signal.SIGCONT)
        one.send(rounds_of_a_shot(60, seed=8), last=True)
        one.drain()
        assert one.resumes == 0


def test_a_broken_connection_changes_no_answer() -> None:
    records = rounds_of_a_shot(1000, seed=3)
    with (
        running_service(transport="tcp") as service,
        Proxy(service.endpoint) as proxy,
        open_guest(service, endpoint=proxy.endpoint) as stream,
    ):
        commits = stream_all(stream, records, {250: proxy.cut, 600: proxy.cut})
        assert answers_in(commits) == undisturbed(records)
        assert stream.resumes >= 1


def test_a_service_that_drains_answers_every_window_it_accepted_and_a_new_one_goes_on(
    tmp_path: Path,
) -> None:
    records = rounds_of_a_shot(1000, seed=4)
    settings = {"state_dir": str(tmp_path)}
    with running_service(transport="tcp", settings=settings) as first:
        stream = open_guest(first)
        stream.send(np.ascontiguousarray(records[:505]))
        while service_status(first.endpoint)["rounds"] < 505:
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGTERM)
        commits = stream_until(stream, 490)  # the last whole window of 505 rounds ends at 500
        psutil.Process(first.pid).wait(20)
        config = first.config.read_text()
    # Another service at the same address, with the same key.
    path = tmp_path / "again.toml"
    path.write_text(config)
    with serving(path):
        stream.send(np.ascontiguousarray(records[505:]), last=True)
        commits += stream.drain()
        stream.close()
    assert answers_in(commits) == undisturbed(records)


def test_what_keeps_coming_while_the_service_drains_is_answered() -> None:
    """A lane drains until nothing has come for a while, not for a while and then no more."""
    records = rounds_of_a_shot(2000, 8)
    with running_service() as service:
        stream = open_guest(service)
        stream.send(np.ascontiguousarray(records[:20]))
        stream_until(stream, 10)
        os.kill(service.pid, signal.SIGTERM)
        began = time.monotonic()
        sent = 20
        while time.monotonic() < began + 0.5:
            stream.send(np.ascontiguousarray(records[sent : sent + 10]))
            sent += 10
            time.sleep(0.005)
            stream.poll()
            assert not stream.resumes
        assert stream.committed >= sent - 40
        stream.close(wait=False)
        psutil.Process(service.pid).wait(20)


def stream_until(stream: Stream, round_: int) -> list[Commits]:
    commits: list[Commits] = []
    while stream.committed < round_:
        commits += stream.poll(0.05)
    return commits


@contextmanager
def serving(config: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "qdec", "serve", "--config", str(config)],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_a_killed_supervisor_takes_its_children_with_it() -> None:
    with running_service(spare_lanes=1) as service:
        children = [psutil.Process(pid) for pid in lane_pids(service)]
        assert len(children) == 2
        os.kill(service.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
        assert len(gone) == 2


def test_sighup_adds_a_stream_and_a_bad_configuration_is_refused(tmp_path: Path) -> None:
    code = tmp_path / "code.stim"
    code.write_text(TEXT)
    with running_service() as service, open_guest(service) as bystander:
        with pytest.raises(Refused) as refused:
            open_stream(service.endpoint, "late")
        assert refused.value.wire is WireCode.UNKNOWN_STREAM
        good = service.config.read_text()

        service.config.write_text(good + "\nnonsense = 1\n")
        os.kill(service.pid, signal.SIGHUP)
        wait_for_log(service, "refused, the old one stays")

        table = f'[[stream]]\nname = "late"\ncode = "{code}"\nendless = true\n'
        service.config.write_text(good + table)
        os.kill(service.pid, signal.SIGHUP)
        wait_for_log(service, "configuration reloaded")
        with open_when_known(service.endpoint, "late") as stream:
            assert stream.info.shot_rounds == 0
        records = rounds_of_a_shot(200, seed=6)
        assert answers_in(stream_all(bystander, records, {})) == undisturbed(records)
        assert bystander.resumes <= 1


def open_when_known(endpoint: str, name: str) -> Stream:
    for _ in range(100):
        with suppress(Refused):
            return open_stream(endpoint, name)
        time.sleep(0.05)
    raise AssertionError(f"stream {name} never became known")


def test_a_client_that_dies_in_mid_shot_frees_its_stream(tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(
        "import sys, time, numpy as np\n"
        "from qdec.client import CodeText, open_stream\n"
        "text = open(sys.argv[2]).read()\n"
        "s = open_stream(sys.argv[1], 'guest', code=CodeText('circuit', text), endless=True)\n"
        "s.send(np.zeros((7, s.info.record_bytes), dtype=np.uint8))\n"
        "print('open', flush=True)\n"
        "time.sleep(60)\n"
    )
    code = tmp_path / "code.stim"
    code.write_text(TEXT)
    with running_service() as service:
        client = subprocess.Popen(
            [sys.executable, str(script), service.endpoint, str(code)], stdout=subprocess.PIPE
        )
        assert client.stdout is not None
        assert client.stdout.readline() == b"open\n"
        with pytest.raises(Refused) as refused:
            open_guest(service)
        assert refused.value.wire is WireCode.STREAM_BUSY
        client.kill()
        client.wait()
        client.stdout.close()
        for _ in range(100):
            with suppress(Refused):
                stream = open_guest(service)
                break
            time.sleep(0.05)
        with stream:
            assert stream.info.next_round == 0
            assert service_status(service.endpoint)["closed"] == 1


def test_streams_are_redirected_to_their_lane(tmp_path: Path) -> None:
    code = tmp_path / "code.stim"
    code.write_text(TEXT)
    table = (
        f'[[stream]]\nname = "second"\nlane = 1\ncode = "{code}"\nendless = true\n'
        f'windows = "{GEOMETRY}"\n'
    )
    records = rounds_of_a_shot(300, seed=7)
    with running_service(lanes=2, tables=table) as service:
        with open_stream(service.endpoints[0], "second", patience=PATIENT) as stream:
            assert answers_in(stream_all(stream, records, {})) == undisturbed(records)
        assert service_status(service.endpoints[1])["rounds"] == 300
        assert service_status(service.endpoints[0])["rounds"] == 0


def test_no_service_is_a_clear_error() -> None:
    with pytest.raises(ServiceUnavailable, match="is the service running"):
        open_stream("ipc:///nowhere/at-all.ipc", "x", patience=Patience(answer_s=0.05, open_s=0.2))
