"""``qdec serve``: what it refuses to start with, and which settings a reload changes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from helpers.circuits import memory
from helpers.replays import qdec
from helpers.services import lane_pids, wait_for_log
from qdec.codes import Code
from qdec.neural.engine import why_not
from qdec_tools.service import Service, running_service

CIRCUIT = memory(d=3, rounds=8)
NO_REPETITION = memory(d=3, rounds=2)


def wide(rounds: int) -> str:
    """A DEM one of whose mechanisms spans it: its seam is as long as a shot."""
    chain = (f"detector(0, 0, {r}) D{r}\nerror(0.01) D{r} D{r + 1}\n" for r in range(rounds))
    return "".join(chain) + f"detector(0, 0, {rounds}) D{rounds}\nerror(0.01) D0 D{rounds} L0\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "d3.stim").write_text(str(CIRCUIT))
    (tmp_path / "d3.dem").write_text(str(Code.from_circuit(CIRCUIT).dem))
    (tmp_path / "short.stim").write_text(str(NO_REPETITION))
    (tmp_path / "wide.dem").write_text(wide(7000))
    (tmp_path / "broken.stim").write_text("H H H")
    (tmp_path / "bad.rounds").write_text("0\n1\n")
    return tmp_path / "qdec.toml"


# The second stream's table, further settings of the service, and words of the refusal.
STREAMS = {
    "measurements of a model": ('code = "d3.dem"\nraw = true', "", "how measurements make"),
    "too little memory": ('code = "d3.stim"', "max_stream_bytes = 4096", "max_stream_bytes"),
    "too much state to resume from": ('code = "wide.dem"', "", "cursor would exceed"),
    "no repetition": ('code = "short.stim"\nendless = true', "", "no repeating round"),
    "windows without a buffer": ('code = "d3.stim"\nwindows = "3,3"', "", "buffer W - C"),
    "no circuit": ('code = "broken.stim"', "", "not a Stim circuit"),
    "another code's rounds": ('code = "d3.stim"\nmap = "bad.rounds"', "", "2 entries"),
}


def written(config: Path, table: str, service: str) -> None:
    """Line 7 is the header of the stream in question."""
    config.write_text(
        f'[service]\nstate_dir = "{config.parent}/state"\n{service}\n'
        f'[[lane]]\nendpoints = ["ipc://{config.parent}/lane.ipc"]\n\n'
        f'[[stream]]\nname = "bad"\n{table}\n'
    )


@pytest.mark.parametrize("name", STREAMS)
def test_what_no_client_could_open_is_refused_by_line(config: Path, name: str) -> None:
    table, service, words = STREAMS[name]
    written(config, table, service)
    done = qdec("serve", "--config", config, "--check")
    assert done.returncode == 78, done
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"qdec: {config}:7: stream 'bad': ")
    assert words in line


def test_a_service_does_not_start_with_what_the_check_refuses(config: Path) -> None:
    written(config, *STREAMS["measurements of a model"][:2])
    done = qdec("serve", "--config", config)
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1].startswith(f"qdec: {config}:7: stream 'bad': ")


def test_a_reload_changes_what_can_change_and_refuses_what_cannot(tmp_path: Path) -> None:
    with running_service(settings={"stall_s": 60}) as service:
        text = service.config.read_text()
        reload(service, text.replace("/state", "/elsewhere"))
        said = wait_for_log(service, "the old one stays")
        assert "state_dir cannot change" in said
        reload(service, text.replace("stall_s = 60", "stall_s = 0.6"))
        wait_for_log(service, "configuration reloaded")
        (lane,) = lane_pids(service)
        os.kill(lane, signal.SIGSTOP)
        wait_for_log(service, "its loop has not turned for 0.6 s")


def reload(service: Service, text: str) -> None:
    service.config.write_text(text)
    os.kill(service.pid, signal.SIGHUP)


needs_no_gpu = pytest.mark.skipif(not why_not("tensorrt"), reason="TensorRT can be had here")
NETWORK = 'code = "d3.stim"\ntier = "speed"\nendless = true\nwindows = "6,3"\n'


@needs_no_gpu
def test_an_engine_that_cannot_be_had_is_refused_where_nothing_may_take_its_place(
    config: Path,
) -> None:
    written(config, f'{NETWORK}[accelerator]\nengine = "tensorrt"\nfallback = false', "")
    for more in ("--check", None):
        done = qdec("serve", "--config", str(config), *([more] if more else []))
        assert done.returncode == 78, done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith('qdec: engine = "tensorrt" cannot be had: ')
        assert last.endswith("under [accelerator]")


@needs_no_gpu
def test_otherwise_networks_run_on_the_processor(config: Path) -> None:
    stream = f'[[stream]]\nname = "net"\n{NETWORK}'.replace("d3.stim", f"{config.parent}/d3.stim")
    engine = '[accelerator]\nengine = "tensorrt"\n'
    with running_service(tables=stream + engine) as service:
        wait_for_log(service, "engine 'tensorrt' cannot be had, networks run on the processor")
        wait_for_log(service, "networks run in openvino")
