"""``qdec replay`` over real sockets: exact failure counts, every way to name the data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import stim
import zmq

from helpers.circuits import memory, two_patches, with_sweeps
from helpers.google import experiment
from helpers.replays import Recorded, qdec, record, replay
from qdec.bits import unpack
from qdec.bus.wire import Error, Open, Status, StatusReply, decode_from_client, encode
from qdec.codes import Code
from qdec.errors import WireCode
from qdec.match import Tier
from qdec.match.offline import decode_shots
from qdec.windows import parse_geometry
from qdec_tools.service import Service, running_service

D3 = "surface_code_bX_d3_r05_center_3_5"
D5 = "surface_code_bX_d5_r11_center_5_5"
BY_PYMATCHING = "pm2.4_pred_circuit_dem.b8"
KEYS = ["shots", "failures", "ler", "tier", "windows", "agreement", "latency_us"]
SHOTS = 700


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A d=3 memory experiment with sweep bits, on disk in every way it can be."""
    folder = tmp_path_factory.mktemp("recorded")
    one = record(folder, with_sweeps(memory(d=3, rounds=6, p=0.01)), SHOTS)
    circuit = one.circuit
    circuit.to_file(folder / "circuit_noisy.stim")
    Code.from_circuit(circuit).dem.to_file(folder / "own.dem")
    one.save("detection_events.b8", one.dets, circuit.num_detectors)
    one.save("detection_events.01", one.dets, circuit.num_detectors)
    one.save("plain.dets", one.dets, circuit.num_detectors)
    one.save("measurements.b8", one.measurements, circuit.num_measurements, "measurements")
    one.save("measurements.01", one.measurements, circuit.num_measurements, "measurements")
    one.save("sweep.b8", one.sweep, circuit.num_sweep_bits, "measurements")
    one.save("obs_flips_actual.01", one.obs, 1, "observables")
    one.save("obs_flips_predicted_by_pymatching.01", one.predicted, 1, "observables")
    assert 0 < one.failures < SHOTS
    return one


def expect(found: dict[str, object], recorded: Recorded, **other: object) -> None:
    assert found["shots"] == SHOTS
    assert found["failures"] == recorded.failures
    for key, value in other.items():
        assert found[key] == value


# -- Google's experiments ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tier", "failures"),
    [
        (D3, "matching", 7_825),
        (D3, "correlated", 7_263),
        (D5, "matching", 15_254),
        (D5, "correlated", 13_326),
    ],
)
def test_googles_experiments_fail_as_often_as_published(
    service: Service, name: str, tier: str, failures: int
) -> None:
    found = replay(experiment(name).folder, "--tier", tier, "--endpoint", service.endpoint)
    assert (found["shots"], found["failures"], found["tier"]) == (50_000, failures, tier)
    assert found["windows"] == "whole"
    assert found["ler"] == failures / 50_000
    if tier == "matching":
        assert found["agreement"][BY_PYMATCHING] == 50_000


def test_googles_raw_measurements_give_the_same_answers(service: Service) -> None:
    found = replay(experiment(D3).folder, "--raw", "--endpoint", service.endpoint)
    assert found["failures"] == 7_825
    assert found["agreement"][BY_PYMATCHING] == 50_000


@pytest.mark.parametrize(("name", "windows", "shots"), [(D3, "3,1", 50_000), (D5, "5,2", 10_000)])
def test_windows_fail_as_offline_and_hardly_more_than_whole_shots(
    service: Service, name: str, windows: str, shots: int
) -> None:
    data = experiment(name)
    arguments = ("--windows", windows, "--shots", shots, "--endpoint", service.endpoint)
    found = replay(data.folder, *arguments)
    assert found["windows"] == windows
    code = Code.parse("dem", data.dem)
    records = code.layout.to_records(data.packed("detection_events.b8", code.layout.num_detectors))
    geometry = parse_geometry(windows)
    assert geometry != "auto"
    frames, _ = decode_shots(code, Tier.MATCHING, geometry, records[:shots])
    assert found["failures"] == int((frames != data.flips[:shots]).sum())
    whole = int((data.packed(BY_PYMATCHING, 1)[:shots] != data.flips[:shots]).sum())
    assert 0.98 * whole < found["failures"] < 1.04 * whole


def test_a_fitted_dem_is_better_than_the_circuits(service: Service) -> None:
    folder = experiment(D3).folder
    dem = folder / "pij_from_odd_for_even.dem"
    found = replay(folder, "--dem", dem, "--endpoint", service.endpoint)
    assert found["failures"] < 7_825


# -- generated recordings ------------------------------------------------------------------------


def test_a_folder_through_a_service_of_its_own(recorded: Recorded) -> None:
    found = replay(recorded.folder, "--dem", recorded.folder / "own.dem")
    assert list(found) == KEYS
    assert list(found["latency_us"]) == ["p50", "p99", "p99_9", "max"]
    latencies = list(found["latency_us"].values())
    assert latencies == sorted(latencies)
    assert found["ler"] == recorded.failures / SHOTS
    expect(found, recorded, tier="matching", windows="whole")
    assert found["agreement"] == {"obs_flips_predicted_by_pymatching.01": SHOTS}


@pytest.mark.parametrize(
    "files",
    [
        ("--dem", "own.dem", "--dets", "detection_events.b8"),
        ("--circuit", "circuit_noisy.stim", "--dets", "detection_events.01"),
        ("--dem", "own.dem", "--dets", "plain.dets"),
        ("--circuit", "circuit_noisy.stim", "--measurements", "measurements.b8"),
        ("--circuit", "circuit_noisy.stim", "--measurements", "measurements.01"),
    ],
)
def test_files_named_one_by_one(
    service: Service, recorded: Recorded, files: tuple[str, ...]
) -> None:
    def path(name: str) -> Path:
        return recorded.folder / name

    named = [word if word.startswith("--") else path(word) for word in files]
    sweep = ["--sweep", path("sweep.b8")] if "--measurements" in files else []
    obs = path("obs_flips_actual.01")
    expect(replay(*named, *sweep, "--obs", obs, "--endpoint", service.endpoint), recorded)


def test_windows_pace_and_a_part_of_the_shots(service: Service, recorded: Recorded) -> None:
    arguments = ("--raw", "--windows", "4,2", "--shots", 100, "--cycle-us", 50)
    found = replay(recorded.folder, *arguments, "--endpoint", service.endpoint)
    assert (found["shots"], found["windows"]) == (100, "4,2")
    agreed = found["agreement"]["obs_flips_predicted_by_pymatching.01"]
    assert 95 <= agreed <= 100


def test_a_dets_file_brings_its_observables_along(service: Service, tmp_path: Path) -> None:
    one = record(tmp_path, two_patches(memory(d=3, rounds=4, p=0.01)), 300)
    circuit = one.circuit
    assert circuit.num_observables == 2
    circuit.to_file(tmp_path / "c.stim")
    one.save("d.b8", one.dets, circuit.num_detectors)
    one.save("o.b8", one.obs, 2, "observables")
    both = np.concatenate([unpack(one.dets, circuit.num_detectors), unpack(one.obs, 2)], axis=1)
    stim.write_shot_data_file(
        data=both.astype(np.bool_),
        path=str(tmp_path / "d.dets"),
        format="dets",
        num_detectors=circuit.num_detectors,
        num_observables=2,
    )
    code = ("--circuit", tmp_path / "c.stim", "--endpoint", service.endpoint)
    apart = replay(*code, "--dets", tmp_path / "d.b8", "--obs", tmp_path / "o.b8")
    together = replay(*code, "--dets", tmp_path / "d.dets")
    assert together["failures"] == apart["failures"] == one.failures > 0


def test_a_round_map_stands_in_for_coordinates(
    service: Service, recorded: Recorded, tmp_path: Path
) -> None:
    code = Code.from_circuit(recorded.circuit)
    bare = "\n".join(
        line for line in str(code.dem.flattened()).splitlines() if not line.startswith("detector")
    )
    (tmp_path / "bare.dem").write_text(bare)
    (tmp_path / "rounds").write_text("\n".join(map(str, code.layout.round_of.tolist())) + "\n")
    found = replay(
        "--dem", tmp_path / "bare.dem", "--map", tmp_path / "rounds",
        "--dets", recorded.folder / "detection_events.b8",
        "--obs", recorded.folder / "obs_flips_actual.01",
        "--endpoint", service.endpoint,
    )  # fmt: skip
    expect(found, recorded)


def test_without_the_truth_failures_are_null(service: Service, recorded: Recorded) -> None:
    dets = recorded.folder / "detection_events.b8"
    code = ("--dem", recorded.folder / "own.dem", "--endpoint", service.endpoint)
    done = qdec("replay", *code, "--dets", dets)
    assert done.returncode == 0
    assert "not known" in done.stdout
    found = replay(*code, "--dets", dets)
    assert (found["shots"], found["failures"], found["ler"]) == (SHOTS, None, None)


# -- what goes wrong -----------------------------------------------------------------------------


def one_line(done: subprocess.CompletedProcess[str], status: int) -> str:
    assert done.returncode == status
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("qdec: ")
    return lines[0]


def test_a_mistake_is_one_line_and_status_2(recorded: Recorded, tmp_path: Path) -> None:
    cut = tmp_path / "cut.b8"
    cut.write_bytes((recorded.folder / "detection_events.b8").read_bytes()[:-1])
    assert "truncated" in one_line(qdec("replay", recorded.folder, "--dets", cut), 2)
    assert "unknown tier" in one_line(qdec("replay", recorded.folder, "--tier", "no"), 2)


def test_nobody_at_the_endpoint_is_status_69(recorded: Recorded, tmp_path: Path) -> None:
    nowhere = f"ipc://{tmp_path}/nobody.ipc"
    for endpoint in (nowhere, "no"):
        assert endpoint in one_line(qdec("replay", recorded.folder, "--endpoint", endpoint), 69)


def test_a_lane_that_compiles_for_long_is_waited_for(recorded: Recorded, tmp_path: Path) -> None:
    """It tells its status, and then answers nothing for longer than a live client would wait."""
    endpoint = f"ipc://{tmp_path}/slow.ipc"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as lane:
        lane.bind(endpoint)
        command = [sys.executable, "-m", "qdec", "replay", recorded.folder, "--endpoint", endpoint]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            peer, header = lane.recv_multipart()
            asked = decode_from_client(header)
            assert isinstance(asked, Status)
            lane.send_multipart([peer, encode(StatusReply(asked.request, {}))])
            time.sleep(7)
            refused: set[bytes] = set()
            while running.poll() is None:
                if not lane.poll(100):
                    continue
                peer, header, *_ = lane.recv_multipart()
                asked = decode_from_client(header)
                if isinstance(asked, Open) and peer not in refused:
                    refused.add(peer)
                    said = Error(0, 0, asked.request, WireCode.LIMIT, "compiled, and too large", 0)
                    lane.send_multipart([peer, encode(said)])
            assert running.stderr is not None
            assert running.stderr.read() == b"qdec: LIMIT: compiled, and too large\n"
        assert running.returncode == 2


def test_ctrl_c_stops_the_service_too(recorded: Recorded) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "qdec", "replay", str(recorded.folder), "--cycle-us", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(recorded.folder)},
        start_new_session=True,
    )
    with running:
        children: list[psutil.Process] = []
        while len(children) < 2 and running.poll() is None:  # a supervisor and its lane
            time.sleep(0.02)
            children = psutil.Process(running.pid).children(recursive=True)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
        assert running.stdout is not None
        assert running.stdout.read() == b""
    assert not any(child.is_running() for child in children)
    assert not list(recorded.folder.glob("qdec-*"))
