"""The GPU's benchmark: its arithmetic, and its sections on a device that the processor plays."""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from on_gpu import cards, cases, figures, table
from on_gpu.cases import FAST, SPEED, Case, Models
from on_gpu.lab import Lab
from on_gpu.section import Given

from helpers.emulated import compiler
from helpers.gpu import EmulatedProgram, EmulatedRuntime
from qdec.errors import EngineError
from qdec.neural.engine import compile_network
from qdec.neural.ising.network import PUBLISHED, Architecture

GPU_PY = Path(__file__).parents[2] / "perf" / "gpu.py"
emulated = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


def test_quantiles_are_columns() -> None:
    found = figures.quantiles("window us", list(range(101)))
    assert found == {"window us p50": 50.0, "window us p99": 99.0}
    assert figures.quantiles("x", []) == {"x p50": None, "x p99": None}


def test_a_budget_is_shared() -> None:
    now = [10.0]
    budget = figures.Budget(9.0, clock=lambda: now[0])
    assert budget.share(3).left == 3.0
    now[0] = 16.0
    assert budget.share(3).left == 1.0
    now[0] = 30.0
    assert budget.left < 0
    assert budget.share(1).left == 0.0


@given(st.floats(10, 1e5), st.integers(0, 5) | st.none())
def test_requests_come_at_their_rate(rate: float, seed: int | None) -> None:
    due = figures.arrivals(rate, 2000 / rate, seed)
    assert (np.diff(due) >= 0).all()
    assert len(due) == pytest.approx(2000, abs=1)
    assert due[-1] / 1e9 == pytest.approx(2000 / rate, rel=0.15)


@given(st.floats(1, 1e6))
@settings(max_examples=50)
def test_the_highest_rate_is_found(limit: float) -> None:
    tried = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = figures.highest_rate(holds, 1000.0, most=40, steps=6)
    assert limit / 1.02 <= found <= limit
    assert figures.highest_rate(holds, 1000.0, left=lambda: False) == 0.0


def test_the_published_stacks_do_what_they_are_said_to() -> None:
    architecture = PUBLISHED[1]
    cells = 105 * 13 * 13
    load = figures.stack_load(architecture, cells, 2, itemsize=2)
    biases = sum(architecture.filters)
    assert load.macs == 2 * cells * (architecture.parameters - biases)
    assert load.bytes < load.layered
    assert load.roofline_us(1e12, 1e30) == pytest.approx(load.macs / 1e6)
    assert load.roofline_us(1e30, 1e12) == pytest.approx(load.bytes / 1e6)


def test_layers_move_what_they_read_and_write() -> None:
    load = figures.stack_load(Architecture((6, 4), (3, 1)), 10, 1, itemsize=1)
    weights = 4 * 6 * 27 + 6 * 4
    assert load.macs == 10 * weights
    assert load.bytes == weights + 10 * (4 + 4)
    assert load.layered == weights + 10 * (4 + 6 + 6 + 4)


def test_cards_are_known_by_what_the_driver_calls_them() -> None:
    for name, bandwidth in {
        "NVIDIA H100 80GB HBM3": 3.35e12,
        "NVIDIA H100 PCIe": 2.0e12,
        "NVIDIA H200": 4.8e12,
        "NVIDIA A100-SXM4-80GB": 2.039e12,
        "NVIDIA A100-PCIE-40GB": 1.555e12,
        "NVIDIA B200": 8e12,
        "NVIDIA GB200": 8e12,
    }.items():
        rates = cards.data_sheet(name)
        assert rates is not None
        assert rates.bytes == bandwidth
        assert rates.source
    assert cards.data_sheet("NVIDIA GeForce RTX 5090") is None
    assert cards.file_name("NVIDIA H100 80GB HBM3") == "h100-80gb-hbm3"
    assert cards.file_name("???") == "gpu"


def test_sections_fit_into_nine_minutes_and_are_chosen_by_name() -> None:
    assert sum(one.budget_s for one in table.SECTIONS) < 9 * 60
    assert table.selected("all") == table.SECTIONS
    assert [one.name for one in table.selected("energy, plans,energy")] == ["energy", "plans"]
    with pytest.raises(ValueError, match="there are plans, stages"):
        table.selected("stages,none")
    for one in table.SECTIONS:
        assert callable(importlib.import_module(f"on_gpu.{one.name}").run)


def test_results_are_whole_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "gpu-card.json"
    results = table.Results(path, {"gpu": "card"})
    results.begin("stages")
    results.row("stages", {"us": np.float64(1 / 3), "n": np.int64(3), "x": float("nan")})
    cut = json.loads(path.read_text())
    assert cut["sections"]["stages"]["outcome"] == "cut off"
    assert cut["sections"]["stages"]["rows"] == [{"us": 0.33333, "n": 3, "x": None}]
    results.end("stages", "done", 1.26)
    assert json.loads(path.read_text())["sections"]["stages"]["outcome"] == "done"
    assert list(tmp_path.iterdir()) == [path]


def test_rows_of_one_table_have_the_same_columns() -> None:
    found = figures.same_columns([{"a": 1}, {"b": 2}])
    assert found == [{"a": 1, "b": ""}, {"a": "", "b": 2}]


def test_columns_that_say_the_same_are_told_once() -> None:
    rows = [{"d": 3, "by": "x", "us": 1}, {"d": 3, "by": "x", "us": 2}]
    assert figures.told_once(rows) == ([{"d": 3, "us": 1}, {"d": 3, "us": 2}], {"by": "x"})
    assert figures.told_once(rows[:1]) == (rows[:1], {})


def test_weights_in_a_file_are_the_ones_that_are_measured(tmp_path: Path) -> None:
    weights = Models({}).weights(FAST)
    path = cases.write_weights(tmp_path / "fast.safetensors", weights)
    again = Models({FAST: str(path)}).weights(FAST)
    for a, b in zip(weights.kernels + weights.biases, again.kernels + again.biases, strict=True):
        np.testing.assert_array_equal(a, b)
    assert Models({}).said(FAST) != Models({FAST: str(path)}).said(FAST)


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GPU_PY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_without_a_gpu_it_says_so_and_nothing_else() -> None:
    from qdec.neural import driver

    try:
        driver.devices()
    except EngineError:
        done = run_script()
        assert done.returncode == 3
        assert not done.stdout
        assert done.stderr.startswith("gpu.py: no GPU to measure: ")
        assert done.stderr.count("\n") == 1
    assert run_script("--sections", "nonsense").returncode == 2


def test_a_dry_run_needs_no_gpu() -> None:
    done = run_script("--dry-run", "--distances", "3")
    assert done.returncode == 0, done.stderr
    assert "192,307 requests in 20.0 s" in done.stdout
    assert "nothing was measured" in done.stdout
    line = next(one for one in done.stdout.splitlines() if one.startswith("{"))
    assert {row["network"] for row in json.loads(line)["rows"]} == {"fast", "accurate", "speed"}


@pytest.mark.parametrize(
    ("then", "outcome"),
    [
        ("pass", "done"),
        ("time.sleep(60)", "cut off"),
        ("raise SystemExit('the device is lost')", "failed (1): the device is lost"),
    ],
)
def test_what_becomes_of_a_section_leaves_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, outcome: str
) -> None:
    script = tmp_path / "section.py"
    script.write_text(
        "import sys, time\n"
        "rows = open(sys.argv[sys.argv.index('--rows') + 1], 'a')\n"
        "rows.write('{\"us\": 1.5}\\n'); rows.flush()\n" + then + "\n"
    )
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(gpu, "__file__", str(script))
    monkeypatch.setattr(gpu, "_GRACE_S", 2.0)
    options = argparse.Namespace(engine="auto", scale=1.0, fast=None, accurate=None)
    results = table.Results(tmp_path / "results.json", {})
    section = table.Section("energy", 1.0, "")
    results.begin(section.name)
    assert gpu.watched(section, options, results) == outcome
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["sections"]["energy"]["rows"] == [{"us": 1.5}]


class EmulatedLab(Lab):
    """The kernels' emulation, networks in OpenVINO, times of the processor's clock."""

    batches = (1, 2)
    engine = "openvino"
    card = "a processor"

    def __init__(self) -> None:
        super().__init__()
        self.runtime: Any = EmulatedRuntime()

    def program(self, content: bytes, size: Any) -> Any:
        self.ran[content, size] = "emulated"
        return self.torch(content, size)

    def torch(self, content: bytes, size: Any) -> Any:
        network = compile_network(content, engine="openvino")
        return EmulatedProgram(self.runtime, network, self.batches, np.float32)

    def network(self, content: bytes, engine: str) -> Any:
        if engine == "torch":
            raise EngineError("there is none here")
        return compile_network(content, engine="openvino")

    def span(self, stream: Any, work: Any) -> float:
        started = time.perf_counter()
        work()
        self.runtime.wait(stream)
        return (time.perf_counter() - started) * 1e6

    def rates(self) -> tuple[float, float]:
        return 1e9, 1e8

    def macs_rate(self) -> float:
        return 1e9


SMALL = (Case(FAST, 3, 3, 0.01), Case(SPEED, 3, 3, 0.01))


def rows_of(section: str, monkeypatch: pytest.MonkeyPatch, **more: float) -> list[dict[str, Any]]:
    """What a section says of small windows, on a device that the processor plays."""
    module = importlib.import_module(f"on_gpu.{section}")
    if hasattr(module, "CASES"):
        monkeypatch.setattr(module, "CASES", SMALL if section != "roofline" else SMALL[:1])
    rows: list[dict[str, Any]] = []
    budget = figures.Budget(8.0, clock=lambda: 0.0)  # which never runs out
    given_ = Given(EmulatedLab(), Models({}), budget, rows.append, settings=more)
    module.run(given_)
    assert not given_.failed, rows
    return [table.plain(row) for row in rows]


def test_without_tensorrt_there_are_no_plans_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = rows_of("plans", monkeypatch)
    assert row["note"].startswith("nothing to build: ")


@emulated
def test_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of("stages", monkeypatch)
    assert [(row["network"], row["batch"]) for row in rows] == [
        *itertools.product((FAST, SPEED), (1, 2))
    ]
    for row in rows:
        assert row["graph us"] > 0
        assert row["host us"] > 0
        assert row["floor"] > 0
        assert row["by"] == "emulated"


@emulated
def test_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("on_gpu.latency.latency_cases", lambda _distances: list(SMALL))
    rows = rows_of("latency", monkeypatch)
    assert len(rows) == 4
    for row in rows:
        assert row["window us p50"] > row["host us p50"] > 0
        assert row["bare us p50"] > 0
        assert row["torch us p50"] > 0
        assert row["cpu us p50"] > 0


@emulated
def test_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("on_gpu.throughput.STREAMS", (2,))
    monkeypatch.setattr("on_gpu.throughput._START", 20.0)
    rows = rows_of("throughput", monkeypatch, bound_us=1e6, trial_s=0.2)
    assert len(rows) == 2
    assert all(row["windows/s"] > 0 for row in rows)
    assert all(row["engine share"] > 0 for row in rows)


@emulated
def test_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of("agreement", monkeypatch, distance=3, shots=128)
    for row in rows:
        if row["engine"].startswith("torch"):
            assert row["note"] == "there is none here"
        elif row["what"] == "signs":
            assert row["same"] == 1.0
        else:
            assert row["fails"] == row["openvino fails"] > 0
            assert row["only this"] == row["only openvino"] == 0
    assert {row["what"] for row in rows} == {"signs", "failures"}


@emulated
def test_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    note, *rows = rows_of("roofline", monkeypatch)
    assert "0.00 TB/s" in note["note"]
    assert [row["batch"] for row in rows] == [1, 2]
    assert all(row["rates"] == "measured here" and row["of least"] > 0 for row in rows)


@emulated
def test_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meter:
        def joules(self) -> float:
            return 100 * time.monotonic()

    monkeypatch.setattr("on_gpu.energy.Meter", lambda _bus: Meter())
    device = type("Device", (), {"bus": "0"})()
    monkeypatch.setattr("on_gpu.energy.driver.devices", lambda: (device,))
    for row in rows_of("energy", monkeypatch, idle_s=0.1, load_s=0.2):
        assert row["W"] == pytest.approx(100, rel=0.1)
        assert row["J per million"] > 0


def test_energy_without_nvml_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_bus: str) -> None:
        raise EngineError("no NVML")

    monkeypatch.setattr("on_gpu.energy.Meter", none)
    device = type("Device", (), {"bus": "0"})()
    monkeypatch.setattr("on_gpu.energy.driver.devices", lambda: (device,))
    assert rows_of("energy", monkeypatch) == [{"note": "no NVML"}]


def test_cudaqs_benchmark_through_a_real_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("on_gpu.cudaq.PACES", ((20_000.0, 1.0),))
    monkeypatch.setattr("on_gpu.cudaq.SHOTS", 64)
    monkeypatch.setattr("on_gpu.cudaq.DEADLINE_US", 500_000)
    (row,) = rows_of("cudaq", monkeypatch, distance=3, rounds=5)
    assert row["sent"] > 10
    assert row["lost"] == 0
    assert row["lane us p50"] > 0
    assert row["echo us p50"] > 0
    assert row["by"].startswith("openvino")
    assert 0 <= row["LER"] < 0.2
