"""A client in C, written from docs/protocol.md alone, hears what the Python client hears."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from helpers.services import serving_pid
from qdec.bits import Bytes
from qdec.client import open_stream, service_status
from qdec.codes import Code
from qdec_tools.circuits import memory
from qdec_tools.service import Service, running_service

SOURCE = Path(__file__).parents[2] / "docs" / "examples" / "client.c"
Lines = list[tuple[int, int, int, int, str, str]]
Running = subprocess.Popen[str]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (Debian: apt-get install gcc)")
    folder = tmp_path_factory.mktemp("c")
    probe = folder / "probe.c"
    probe.write_text("#include <zmq.h>\nint main(void) { return !zmq_ctx_new(); }\n")
    has_zmq = subprocess.run(
        [compiler, probe, "-o", folder / "probe", "-lzmq"], capture_output=True, check=False
    )
    if has_zmq.returncode:
        pytest.skip("no libzmq to compile with (Debian: apt-get install libzmq3-dev)")
    program = folder / "client"
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([compiler, *strict, SOURCE, "-o", program, "-lzmq"], check=True)
    return program


@dataclass(frozen=True)
class Case:
    """A code, and rounds of it in a file.

    Attributes:
        tables: two streams of it in the service's configuration, one per client.
        records: what the file holds.
        path: where it lies.
    """

    tables: str
    records: Bytes
    path: Path


def make_case(folder: Path, name: str, *, endless: bool, raw: bool, lane: int = 0) -> Case:
    template, shots = memory(3, 9, 0.01), 1 if endless else 40
    recorded = memory(3, 900, 0.01) if endless else template
    code = Code.from_circuit(recorded)
    if raw:
        assert code.measurements is not None
        measured = recorded.compile_sampler(seed=7).sample(shots, bit_packed=True)
        records = code.measurements.to_records(measured)
    else:
        events = recorded.compile_detector_sampler(seed=7).sample(shots, bit_packed=True)
        records = code.layout.to_records(events)
    records = np.ascontiguousarray(records.reshape(-1, records.shape[-1]))
    circuit, path = folder / f"{name}.stim", folder / f"{name}.bin"
    circuit.write_text(str(template))
    path.write_bytes(records.tobytes())
    # Few rounds in flight, so that credit runs out often; no deadline, so that nothing is late.
    settings = f"""
code = "{circuit}"
lane = {lane}
raw = {str(raw).lower()}
endless = {str(endless).lower()}
windows = "8,5"
ring_rounds = 64
deadline_us = 1000000000
"""
    tables = "".join(f'[[stream]]\nname = "{who}.{name}"{settings}' for who in ("c", "python"))
    return Case(tables, records, path)


def start(client: Path, endpoint: str, stream: str, path: Path, *more: int) -> Running:
    command = [str(client), endpoint, stream, str(path), *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def printed(process: Running) -> tuple[Lines, str]:
    """The windows it printed, and what it said of itself."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(30) == 0, err
    lines: Lines = []
    for line in out.splitlines():
        window, first, count, flags, frame, seam = line.split(" ")
        lines.append((int(window), int(first), int(count), int(flags), frame, seam))
    return lines, err


def heard_in_python(service: Service, stream: str, case: Case) -> Lines:
    with open_stream(service.endpoint, stream) as opened:
        opened.send(case.records, last=not opened.info.shot_rounds)
        rows = np.concatenate(opened.drain())
    return [
        (
            *(int(row[name]) for name in ("window", "first_round", "count", "flags")),
            row["frame"].tobytes().hex(),
            row["seam"].tobytes().hex(),
        )
        for row in rows
    ]


def test_both_clients_hear_the_same(client: Path, tmp_path: Path) -> None:
    """Shots and endless, detectors and measurements, on this lane and after a redirection."""
    cases = {
        "shots": make_case(tmp_path, "shots", endless=False, raw=False),
        "endless": make_case(tmp_path, "endless", endless=True, raw=False, lane=1),
        "raw": make_case(tmp_path, "raw", endless=True, raw=True),
        "raw.shots": make_case(tmp_path, "raw.shots", endless=False, raw=True, lane=1),
    }
    tables = "".join(case.tables for case in cases.values())
    circuit = tmp_path / "shots.stim"
    tables += f'[[stream]]\nname = "shared"\ncode = "{circuit}"\nlanes = [0, 1]\n'
    with running_service(lanes=2, transport="tcp", tables=tables) as service:
        for name, case in cases.items():
            expected = heard_in_python(service, f"python.{name}", case)
            assert sum(line[2] for line in expected) == len(case.records)
            assert any(int(line[4], 16) for line in expected)
            for per_message in (1, 7, 1000):
                process = start(client, service.endpoint, f"c.{name}", case.path, per_message)
                assert printed(process)[0] == expected, name
        # It closed what it had opened.
        for endpoint in service.endpoints:
            assert service_status(endpoint)["streams"] == []

        nobody = start(client, service.endpoint, "nobody", cases["raw"].path)
        _, err = nobody.communicate(timeout=30)
        assert nobody.returncode == 1
        assert "error 5: no stream 'nobody'" in err

        half = start(client, service.endpoint, "shared", cases["raw"].path)
        _, err = half.communicate(timeout=30)
        assert half.returncode == 1
        assert "error 16: 2 lanes share stream 'shared'" in err


def test_a_killed_lane_changes_nothing(client: Path, tmp_path: Path) -> None:
    case = make_case(tmp_path, "endless", endless=True, raw=False)
    with running_service(tables=case.tables, spare_lanes=1) as service:
        process = start(client, service.endpoint, "c.endless", case.path, 3, 2000)
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("0 0 5 ")
        os.kill(serving_pid(service), signal.SIGKILL)
        lines, said = printed(process)
        assert "resuming" in said
        assert lines == heard_in_python(service, "python.endless", case)[1:]
