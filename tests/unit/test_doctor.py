"""Judgements on made-up machines: each in at least two ways, and every bad one with its fix."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq

from qdec.doctor import cpu, endpoints, gpu, memory, network, realtime, service, software
from qdec.doctor.check import Check, Group
from qdec.doctor.checks import GROUPS
from qdec.doctor.cpu import IdleState
from qdec.doctor.machine import Answer, Machine
from qdec.doctor.report import examine, verdict
from qdec.findings import Finding, Status, fail, ok, unknown, warn

OK, WARN, FAIL, UNKNOWN = Status.OK, Status.WARN, Status.FAIL, Status.UNKNOWN
NONE_SAID = Answer({}, "no answer within 1.0 s")
CRASHED = Answer({}, "the probe ended with status -4")
DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Wed Jul 23 2026\nGCC version: 12.2.0"
NODES = {0: {0, 1, 2, 3}, 1: {4, 5, 6, 7}}
KEY = Path("/var/lib/qdec/cursor.key")
HOME = Path("/var/lib/qdec")


def latency(p99: float = 50.0, stall: float = 10.0, fifo: bool = True) -> Answer:
    return Answer({"fifo": fifo, "p50": 4.0, "p99": p99, "max": 2 * p99, "stall": stall})


def lane(name: str, status: str, fix: str = "", refused: tuple[int, ...] = ()) -> Answer:
    return Answer({"found": {name: [status, "as it is", fix]}, "refused": list(refused)})


def device(**changes: Any) -> dict[str, Any]:
    row = {"name": "H200", "capability": [9, 0], "memory": 141 << 30, "bus": "0000:1B:00.0"}
    return {**row, "persistence": True, "mig": False, **changes}


# What was judged, and the status and a word that must come of it (in the fix, if there is one).
CASES: list[tuple[Finding, Status, str]] = [
    (software.judge_package("numpy", "numpy", Answer({"numpy": {"version": "2.1"}})), OK, "2.1"),
    (
        software.judge_package("stim", "stim", Answer({"stim": {"error": "ImportError: libx"}})),
        FAIL,
        "pip install --force-reinstall stim",
    ),
    (software.judge_package("libzmq", "pyzmq", Answer({"pyzmq": {}})), FAIL, "pyzmq"),
    (software.judge_package("stim", "stim", CRASHED), FAIL, "stim"),
    (software.judge_package("stim", "stim", NONE_SAID), UNKNOWN, "no answer"),
    (cpu.judge_cores({0, 1, 2, 5}, 8), OK, "4 of 8 (0-2,5)"),
    (cpu.judge_cores({3}, 8), WARN, "CPUAffinity"),
    (cpu.judge_quota(None), OK, "none"),
    (cpu.judge_quota("max 100000"), OK, "none"),
    (cpu.judge_quota("150000 100000"), WARN, "CPUQuota="),
    (cpu.judge_isolation("2-3", "2-3", 4), OK, "tick off on 2-3"),
    (cpu.judge_isolation("2-3", "(null)", 4), OK, "2-3"),
    (cpu.judge_isolation("", None, 2), OK, "too few"),
    (cpu.judge_isolation("", "(null)", 8), WARN, "isolcpus=managed_irq,domain,6-7"),
    (cpu.judge_governor(["performance"] * 2), OK, "performance"),
    (cpu.judge_governor(["performance", "powersave"]), WARN, "-g performance"),
    (cpu.judge_governor([]), UNKNOWN, "not exposed"),
    (cpu.judge_smt("0"), OK, "off"),
    (cpu.judge_smt("1"), WARN, "smt/control"),
    (cpu.judge_smt(None), UNKNOWN, "not exposed"),
    (cpu.judge_idle([]), UNKNOWN, "not exposed"),
    (cpu.judge_idle([IdleState("C6", 133, False)]), OK, "all off"),
    (cpu.judge_idle([IdleState("C1", 2, True), IdleState("C6", 133, False)]), OK, "C1"),
    (cpu.judge_idle([IdleState("C1", 2, True), IdleState("C6", 133, True)]), WARN, "idle-set"),
    (cpu.judge_virtual(False, "cpu 9 0 9 99 0 0 0 0 0 0"), OK, "itself"),
    (cpu.judge_virtual(True, "cpu 9 0 9 99999 0 0 0 1 0 0"), OK, "stolen"),
    (cpu.judge_virtual(True, "cpu 9 0 9 99 0 0 0 9 0 0"), WARN, "bare metal"),
    (cpu.judge_clock("tsc", "tsc hpet"), OK, "tsc"),
    (cpu.judge_clock("kvm-clock", "kvm-clock tsc"), OK, "kvm-clock"),
    (cpu.judge_clock("hpet", "tsc hpet"), WARN, "echo tsc"),
    (cpu.judge_clock("acpi_pm", "hpet acpi_pm"), WARN, "tsc=reliable"),
    (cpu.judge_clock(None, None), UNKNOWN, "not exposed"),
    (cpu.judge_preemption("full", True), OK, "full"),
    (cpu.judge_preemption("rt", False), OK, "rt"),
    (cpu.judge_preemption("voluntary", True), WARN, "preempt=full"),
    (cpu.judge_preemption("none", False), WARN, "PREEMPT_DYNAMIC"),
    (cpu.judge_preemption(None, True), UNKNOWN, "does not say"),
    (memory.judge_huge_pages("always [madvise] never"), OK, "madvise"),
    (memory.judge_huge_pages("[always] madvise never"), WARN, "echo madvise"),
    (memory.judge_huge_pages(None), UNKNOWN, "not exposed"),
    (memory.judge_swap("Filename Type Size Used Priority", False), OK, "none"),
    (memory.judge_swap("Filename Type\n/dev/sda2 partition 1 2 3", True), OK, "locked"),
    (memory.judge_swap("Filename Type\n/dev/sda2 partition 1 2 3", False), WARN, "swapoff"),
    (realtime.judge_had(lane("memory", "ok"), "memory", "auto"), OK, "as it is"),
    (realtime.judge_had(lane("memory", "warn", "a fix"), "memory", "auto"), WARN, "a fix"),
    (realtime.judge_had(lane("memory", "fail", "a fix"), "memory", "require"), FAIL, "a fix"),
    (realtime.judge_had(lane("core", "ok"), "memory", "off"), OK, 'realtime = "off"'),
    (realtime.judge_had(NONE_SAID, "memory", "auto"), UNKNOWN, "no answer"),
    (realtime.judge_priority_limit(0, 21, 21, privileged=False), OK, "up to 21"),
    (realtime.judge_priority_limit(0, -1, 21, privileged=False), OK, "-1"),
    (realtime.judge_priority_limit(0, 0, 21, privileged=True), OK, "CAP_SYS_NICE"),
    (realtime.judge_priority_limit(0, 20, 21, privileged=False), WARN, "LimitRTPRIO=21"),
    (realtime.judge_throttling("950000", "1000000"), OK, "5%"),
    (realtime.judge_throttling("-1", "1000000"), WARN, "sched_rt_runtime_us"),
    (realtime.judge_throttling("0", "1000000"), WARN, "sched_rt_runtime_us"),
    (realtime.judge_throttling(None, None), UNKNOWN, "not exposed"),
    (realtime.judge_wake_up(latency(p99=99)), OK, "SCHED_FIFO"),
    (realtime.judge_wake_up(latency(p99=400, fifo=False)), WARN, "isolation"),
    (realtime.judge_wake_up(NONE_SAID), UNKNOWN, "no answer"),
    (realtime.judge_stall(latency(stall=999)), OK, "999 µs"),
    (realtime.judge_stall(latency(stall=2500)), WARN, "isolation"),
    (realtime.judge_stall(NONE_SAID), UNKNOWN, "no answer"),
    (network.judge_loopback(Answer({"p50": 90.0, "p99": 300.0})), OK, "90 / 300"),
    (network.judge_loopback(Answer({"p50": 90.0, "p99": 3000.0})), WARN, "cores"),
    (network.judge_loopback(CRASHED), FAIL, "ip link set lo up"),
    (network.judge_loopback(NONE_SAID), UNKNOWN, "no answer"),
    (network.judge_buffers("4096 131072 33554432", "4096 16384 4194304"), OK, "32 MiB"),
    (network.judge_buffers("4096 131072 33554432", "4096 16384 65536"), WARN, "tcp_wmem"),
    (network.judge_buffers(None, None), UNKNOWN, "not exposed"),
    (network.judge_files(65536, 1024), OK, "65536"),
    (network.judge_files(-1, 1024), OK, "per process"),
    (network.judge_files(1024, 1024), WARN, "LimitNOFILE=1088"),
    (network.judge_files(64, 1024), FAIL, "LimitNOFILE=1088"),
    (gpu.judge_driver(False, None, Answer({})), OK, "on the processor"),
    (gpu.judge_driver(True, None, Answer({})), WARN, "--gpus all"),
    (gpu.judge_driver(True, DRIVER.format("580.65.06"), Answer({"devices": []})), OK, "580.65.06"),
    (gpu.judge_driver(True, DRIVER.format("535.104.12"), Answer({"devices": []})), WARN, "580"),
    (
        gpu.judge_driver(True, DRIVER.format("580.65.06"), Answer({"trouble": "it is stuck"})),
        WARN,
        "nvidia-smi",
    ),
    (gpu.judge_driver(True, DRIVER.format("580.65.06"), NONE_SAID), UNKNOWN, "no answer"),
    (gpu.judge_driver(True, "odd", Answer({"devices": []})), OK, "odd"),
    (gpu.judge_devices([]), UNKNOWN, "did not answer"),
    (gpu.judge_devices([device()]), OK, "H200, 141 GiB, compute capability 9.0"),
    (gpu.judge_devices([device(capability=[7, 5])]), WARN, "Ampere"),
    (gpu.judge_persistence([device()]), OK, "on"),
    (gpu.judge_persistence([device(persistence=False)]), WARN, "nvidia-smi -pm 1"),
    (gpu.judge_persistence([device(persistence=None)]), UNKNOWN, "not told"),
    (gpu.judge_mig([device()]), OK, "off"),
    (gpu.judge_mig([device(mig=None)]), OK, "none"),
    (gpu.judge_mig([device(mig=True)]), WARN, "CUDA_VISIBLE_DEVICES"),
    (gpu.judge_numa(None, NODES, [1]), UNKNOWN, "not exposed"),
    (gpu.judge_numa("-1", NODES, [1]), OK, "one node"),
    (gpu.judge_numa("0", {0: {0, 1}}, [1]), OK, "one node"),
    (gpu.judge_numa("1", NODES, [4]), OK, "node 1 (cores 4-7)"),
    (gpu.judge_numa("1", NODES, []), OK, "not pinned"),
    (gpu.judge_numa("1", NODES, [2, 5]), WARN, "cpu = 4"),
    (gpu.judge_package("cupy", "14.2.0 (cupy-cuda13x)"), OK, "14.2.0"),
    *((gpu.judge_package(one, None), WARN, "qdec[gpu]") for one in ("tensorrt", "cupy", "pycuda")),
    (gpu.judge_torch(None), OK, "stands in"),
    (gpu.judge_torch("2.13.0+cpu (torch)"), OK, "without CUDA"),
    (gpu.judge_torch("2.11.0+cu130 (torch)"), OK, "cu130"),
    (gpu.judge_memlock(64 << 10, 64 << 10, privileged=False), WARN, "LimitMEMLOCK=infinity"),
    (gpu.judge_memlock(64 << 10, -1, privileged=False), OK, "no limit"),
    (gpu.judge_memlock(64 << 10, 4 << 30, privileged=False), OK, "4096 MiB"),
    (gpu.judge_memlock(64 << 10, 64 << 10, privileged=True), OK, "CAP_IPC_LOCK"),
    (gpu.judge_reserved("HugePages_Total:   8\nHugepagesize:    2048 kB"), OK, "8 of 2 MiB"),
    (gpu.judge_reserved("HugePages_Total:   0\nHugepagesize:    2048 kB"), OK, "none"),
    (gpu.judge_reserved(None), UNKNOWN, "not exposed"),
    (gpu.judge_engine("auto", True, {"tensorrt": "a", "torch": "b"}), OK, "on the processor"),
    (gpu.judge_engine("auto", True, {"tensorrt": "a"}), OK, "torch"),
    (gpu.judge_engine("openvino", False, {}), OK, "openvino"),
    (gpu.judge_engine("tensorrt", False, {}), OK, "tensorrt"),
    (gpu.judge_engine("tensorrt", True, {"tensorrt": "do a"}), WARN, "do a"),
    (gpu.judge_engine("torch", False, {"torch": "do b"}), FAIL, "do b"),
    (service.judge_config(Path("q.toml"), "", 2, 3), OK, "2 lane(s), 3 stream(s)"),
    (service.judge_config(Path("q.toml"), "q.toml:3: no", 0, 0), FAIL, "--config q.toml --check"),
    (service.judge_endpoints({"a": "", "b": endpoints.TAKEN}, ["b"]), OK, "1 free, 1 in use"),
    (service.judge_endpoints({"a": "", "b": endpoints.TAKEN}, []), FAIL, "endpoints under"),
    (service.judge_lane_cores([None], NONE_SAID), OK, "any core"),
    (service.judge_lane_cores([2, 3], lane("core", "ok")), OK, "2, 3"),
    (service.judge_lane_cores([2, 99], lane("core", "ok", "", (99,))), FAIL, "lscpu"),
    (service.judge_lane_cores([2, 2], lane("core", "ok")), WARN, "another core"),
    (service.judge_lane_cores([2], NONE_SAID), UNKNOWN, "no answer"),
    (service.judge_state_dir(HOME, HOME, True), OK, str(HOME)),
    (service.judge_state_dir(HOME, Path("/var/lib"), True), OK, "first start"),
    (service.judge_state_dir(HOME, Path("/var/lib"), False), FAIL, "StateDirectory=qdec"),
    (service.judge_key(KEY, None, False), OK, "first start"),
    (service.judge_key(KEY, 0o600, True), OK, "0600"),
    (service.judge_key(KEY, 0o640, True), FAIL, f"chmod 600 {KEY}"),
    (service.judge_key(KEY, 0o600, False), FAIL, "chown"),
    (service.judge_systemd(True), OK, "present"),
    (service.judge_systemd(False), WARN, "restart"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_judgements(case: int) -> None:
    finding, status, word = CASES[case]
    assert finding.status is status, finding
    assert word in (finding.fix or finding.value), finding
    assert bool(finding.fix) == (status in (WARN, FAIL)), "what is amiss has a fix, and only that"
    assert finding.value


@pytest.mark.parametrize(
    ("version", "told", "model"),
    [
        ("#1 SMP PREEMPT_RT", {}, "rt"),
        ("#1 SMP PREEMPT_DYNAMIC", {"realtime": "1"}, "rt"),
        ("#1 SMP PREEMPT_DYNAMIC", {"debugfs": "none voluntary (full) lazy"}, "full"),
        ("#1 SMP PREEMPT_DYNAMIC", {"cmdline": "quiet preempt=voluntary"}, "voluntary"),
        ("#1 SMP PREEMPT_DYNAMIC", {"build": "CONFIG_PREEMPT_NONE=y\n"}, "none"),
        (
            "#1 SMP PREEMPT_DYNAMIC",
            {"build": "CONFIG_PREEMPT_BUILD=y\n# CONFIG_PREEMPT is not set\nCONFIG_PREEMPT_LAZY=y"},
            "lazy",
        ),
        ("#1 SMP PREEMPT_DYNAMIC", {}, None),
        ("#1 SMP PREEMPT", {}, "full"),
        ("#1 SMP", {}, None),
    ],
)
def test_the_preemption_model_is_read_wherever_it_stands(
    version: str, told: dict[str, str], model: str | None
) -> None:
    unsaid: dict[str, Any] = {"realtime": None, "debugfs": None, "cmdline": "", "build": None}
    assert cpu.preemption_model(version, **{**unsaid, **told}) == model


@pytest.mark.parametrize(
    ("text", "cores"),
    [("", set()), ("0", {0}), ("0-2,5,7-8\n", {0, 1, 2, 5, 7, 8})],
)
def test_lists_of_cores(text: str, cores: set[int]) -> None:
    assert cpu.parse_cores(text) == cores
    assert cpu.format_cores(cores) == text.strip()


# -- looking ---------------------------------------------------------------------------------------


def look(machine: Machine, group: str, name: str) -> Finding:
    checks = next(one.checks for one in GROUPS if one.name == group)
    return next(check for check in checks if check.name == name).run(machine)


@pytest.fixture
def laptop(tmp_path: Path) -> Machine:
    """A machine with everything that a laptop does wrong."""
    files = {
        "proc/cpuinfo": "flags : fpu tsc",
        "proc/stat": "cpu 1 2 3 4 5 6 7 0 9 10\ncpu0 1",
        "proc/swaps": "Filename Type\n/dev/dm-1 partition 1 2 3",
        "proc/self/cgroup": "0::/user.slice",
        "proc/sys/kernel/sched_rt_runtime_us": "-1",
        "proc/sys/kernel/sched_rt_period_us": "1000000",
        "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456",
        "proc/sys/net/ipv4/tcp_wmem": "4096\t16384\t1048576",
        "sys/fs/cgroup/user.slice/cpu.max": "50000 100000",
        "sys/devices/system/cpu/online": "0-7",
        "sys/devices/system/cpu/isolated": "",
        "sys/devices/system/cpu/smt/active": "1",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
        "sys/devices/system/cpu/cpu0/cpuidle/state0/name": "POLL",
        "sys/devices/system/cpu/cpu0/cpuidle/state0/latency": "0",
        "sys/devices/system/cpu/cpu0/cpuidle/state1/name": "C10",
        "sys/devices/system/cpu/cpu0/cpuidle/state1/latency": "890",
        "sys/devices/system/cpu/cpu0/cpuidle/state1/disable": "0",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
        "run/systemd/system/.keep": "",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    return Machine(root=tmp_path)


@pytest.mark.parametrize(
    ("group", "name", "word"),
    [
        ("cpu", "quota", "50 ms of CPU time in 100 ms"),
        ("cpu", "isolation", "none"),
        ("cpu", "governor", "powersave"),
        ("cpu", "smt", "on"),
        ("cpu", "idle states", "C10, 890 µs"),
        ("cpu", "clock", "hpet"),
        ("memory", "huge pages", "always"),
        ("realtime", "throttling", "off"),
        ("network", "buffers", "tcp_rmem up to 6 MiB, tcp_wmem up to 1 MiB"),
    ],
)
def test_a_laptop(laptop: Machine, group: str, name: str, word: str) -> None:
    finding = look(laptop, group, name)
    assert finding.status is WARN, finding
    assert word in finding.value


def test_a_laptop_is_a_machine_itself_and_has_systemd(laptop: Machine) -> None:
    assert look(laptop, "cpu", "virtualisation").status is OK
    assert look(laptop, "service", "systemd").status is OK


GPU_FILES = {
    "sys/bus/pci/devices/0000:1b:00.0/vendor": "0x10de",
    "sys/bus/pci/devices/0000:1b:00.0/class": "0x030200",
    "sys/bus/pci/devices/0000:1b:00.0/numa_node": "1",
    "sys/devices/system/node/node0/cpulist": "0-3",
    "sys/devices/system/node/node1/cpulist": "4-7",
    "proc/meminfo": "HugePages_Total:   0\nHugepagesize:    2048 kB",
}


def gpu_lines(machine: Machine) -> dict[str, Finding]:
    group = [one for one in GROUPS if one.name == "gpu"]
    return {line.name: line.finding for line in examine(machine, group)}


def test_a_gpu_without_a_driver_or_another_card_is_one_line(
    laptop: Machine, tmp_path: Path
) -> None:
    (finding,) = gpu_lines(laptop).values()
    assert finding.status is OK
    for path, text in GPU_FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    (finding,) = gpu_lines(laptop).values()
    assert finding.status is WARN
    sound = tmp_path / "sys/bus/pci/devices/0000:1b:00.0/class"
    sound.write_text("0x040300\n")
    (finding,) = gpu_lines(laptop).values()
    assert finding.status is OK


def test_a_machine_with_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, text in {**GPU_FILES, "proc/driver/nvidia/version": DRIVER.format("580.65")}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    config = tmp_path / "qdec.toml"
    config.write_text(
        '[accelerator]\nengine = "tensorrt"\nfallback = false\n'
        '[[lane]]\nendpoints = ["ipc:///run/qdec/lane.ipc"]\ncpu = 2\n'
    )
    machine = Machine(root=tmp_path, config_path=config)
    packages = {"tensorrt": "11.4 (tensorrt-cu13)", "cupy": None, "pycuda": "2026.1 (pycuda)"}
    facts = {"devices": [device()], "packages": {**packages, "torch": None}}
    monkeypatch.setattr(machine, "_run", lambda key, seconds: Answer(facts))
    found = gpu_lines(machine)
    assert len(found) == len(gpu.CHECKS)
    bad = {name: one.status for name, one in found.items() if one.status in (WARN, FAIL)}
    bad.pop("pinned memory", None)  # this machine's own limit
    assert bad == {"numa": WARN, "cupy": WARN, "engine": FAIL}
    assert "lanes are on 2" in found["numa"].value
    assert "cupy is not installed" in found["engine"].fix
    facts["packages"]["cupy"] = "14.2 (cupy-cuda13x)"
    assert gpu_lines(machine)["engine"] == ok("tensorrt")


def test_a_machine_that_says_nothing_is_unknown_and_not_well(tmp_path: Path) -> None:
    silent = Machine(root=tmp_path)
    for group, name in (("cpu", "governor"), ("cpu", "clock"), ("realtime", "throttling")):
        assert look(silent, group, name).status is UNKNOWN


def test_capabilities_are_bits(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    status = tmp_path / "proc/self/status"
    status.write_text("Name:\tx\nCapEff:\t0000000000800000\n")
    assert Machine(root=tmp_path).capable(23)
    assert not Machine(root=tmp_path).capable(22)
    status.unlink()
    assert not Machine(root=tmp_path).capable(23)


# -- probes ----------------------------------------------------------------------------------------


def test_a_probe_runs_once_and_answers_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    ran: list[Any] = []

    def answer(key: tuple[str, ...], seconds: float) -> Answer:
        ran.append(key)
        return Answer({"n": len(ran)})

    monkeypatch.setattr(machine, "_run", answer)
    assert machine.probe("a", 1.0, x=1).facts == machine.probe("a", 1.0, x=1).facts == {"n": 1}
    assert machine.probe("a", 1.0, x=2).facts == {"n": 2}


def test_a_probe_that_hangs_is_ended() -> None:
    answer = Machine().probe("latency", 0.2, fifo=False, cpu=None)
    assert answer.facts == {}
    assert "no answer within 0.2 s" in answer.trouble


def test_a_probe_that_fails_says_why() -> None:
    answer = Machine().probe("loopback", 20.0, nonsense=1)
    assert answer.facts == {}
    assert "ended with status 1: TypeError" in answer.trouble


def test_without_time_left_nothing_is_probed() -> None:
    machine = Machine(seconds=0)
    assert "out of time" in machine.probe("loopback", 1.0).trouble
    assert look(machine, "network", "loopback").status is UNKNOWN
    assert look(machine, "software", "stim").status is UNKNOWN


# -- endpoints -------------------------------------------------------------------------------------


@pytest.fixture
def router() -> Iterator[zmq.Socket[bytes]]:
    """Somebody else's socket, bound by libzmq as a lane's is."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as sock:
        sock.linger = 0
        yield sock


def test_tcp_endpoints(router: zmq.Socket[bytes]) -> None:
    router.bind("tcp://127.0.0.1:*")
    taken = router.last_endpoint.decode()
    assert endpoints.trouble(taken) == endpoints.TAKEN
    assert endpoints.answered([taken], 0.2) == []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for host in ("127.0.0.1", "localhost", "*", "lo", "0.0.0.0"):
        assert endpoints.trouble(f"tcp://{host}:{port}") == "", host
    assert "assign" in endpoints.trouble(f"tcp://192.0.2.1:{port}")
    assert "neither an address" in endpoints.trouble(f"tcp://nowhere.example:{port}")


def test_ipc_endpoints(tmp_path: Path, router: zmq.Socket[bytes]) -> None:
    free = f"ipc://{tmp_path}/free.ipc"
    assert endpoints.trouble(free) == ""
    taken = f"ipc://{tmp_path}/taken.ipc"
    router.bind(taken)
    assert endpoints.trouble(taken) == endpoints.TAKEN
    stale = tmp_path / "stale.ipc"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(stale))
    assert endpoints.trouble(f"ipc://{stale}") == ""
    assert stale.exists()
    (tmp_path / "notes").write_text("precious")
    assert "would delete" in endpoints.trouble(f"ipc://{tmp_path}/notes")
    assert "no directory" in endpoints.trouble(f"ipc://{tmp_path}/nowhere/x.ipc")


def test_a_look_at_an_endpoint_leaves_it_working(tmp_path: Path) -> None:
    for endpoint in (f"ipc://{tmp_path}/x.ipc", "tcp://127.0.0.1:*"):
        with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
            server.linger = 0
            server.rcvtimeo = 5000
            server.bind(endpoint)
            bound = server.last_endpoint.decode()
            assert endpoints.trouble(bound) == endpoints.TAKEN
            with context.socket(zmq.DEALER) as client:
                client.linger = 0
                client.connect(bound)
                client.send(b"still there")
                assert server.recv_multipart()[1] == b"still there"


# -- the report ------------------------------------------------------------------------------------


def broken(_: Machine) -> Finding:
    raise OSError("a file of a kind nobody thought of")


def found(finding: Finding, _: Machine) -> Finding:
    return finding


def test_the_report() -> None:
    findings = [ok("a"), unknown("b"), warn("c", "do c"), fail("d", "do d")]
    checks = [Check(f.value, partial(found, f)) for f in findings]
    checks += [Check("odd", broken), Check("of a configuration", broken, with_config=True)]
    lines = list(examine(Machine(), [Group("g", tuple(checks))]))
    said = verdict(lines)
    assert [row["status"] for row in said["checks"]] == ["ok", "unknown", "warn", "fail", "unknown"]
    assert said["checks"][3] == {
        "group": "g",
        "name": "d",
        "status": "fail",
        "value": "d",
        "fix": "do d",
    }
    assert "nobody thought of" in said["checks"][4]["value"]
    assert (said["ok"], said["warnings"], said["failures"]) == (False, 1, 1)
    assert verdict(lines[:3])["ok"]


def test_names_are_unique_in_their_group() -> None:
    for group in GROUPS:
        names = [check.name for check in group.checks]
        assert len(names) == len(set(names))
    assert len({group.name for group in GROUPS}) == len(GROUPS)
