"""A real service with clients in processes of their own, and handles on every part of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from qdec.bus.records import commit_dtype
from qdec.client import Commits
from qdec.errors import ServiceUnavailable
from qdec.match import Tier
from qdec_tools.chaos import changed, client, processes, unkind
from qdec_tools.chaos.accounts import Account, Judge, Spans
from qdec_tools.chaos.disk import Disk
from qdec_tools.chaos.engine import garble
from qdec_tools.chaos.patches import PATCHES, Patch, tables
from qdec_tools.chaos.proxy import Proxy
from qdec_tools.chaos.relay import Relay
from qdec_tools.service import Setting, as_toml, await_ready, free_ports, serving

_LANES = 2
_READY_S = 90.0
_DRAIN_S = 60.0
_POLL_S = 0.005
_GATEWAY = "qdec.gateway.process"


class Stage:
    """What faults are injected into; enter it to start it.

    Attributes:
        patches: its streams.
        folder: everything that is written.
        stall_s: silence after which the supervisor gives a child up.
        proxies, relays: by lane.
        endpoints: of the lanes themselves.
    """

    def __init__(
        self, seed: int, patches: Sequence[Patch] = PATCHES, *, stall_s: float = 2.0
    ) -> None:
        """Start nothing yet.

        Args:
            seed: of all noise; each stream has its own.
            patches: the streams.
            stall_s: see `Stage`.
        """
        self.patches = tuple(patches)
        self.stall_s = stall_s
        self._seed = seed
        self._stack = ExitStack()
        self._service = ExitStack()
        self._clients: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Start the service, wait until it answers, start the clients, wait for their answers."""
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        enter = self._stack.enter_context
        self.folder = Path(enter(tempfile.TemporaryDirectory(prefix="qdec-", dir="/tmp")))
        self.disk = Disk(self.folder / "disk")
        self._stack.callback(self.disk.let_go)
        *ports, gateway = free_ports(_LANES + 1)
        self.endpoints = tuple(f"tcp://127.0.0.1:{port}" for port in ports)
        self._metrics = f"http://127.0.0.1:{gateway}/metrics"
        settings: dict[str, Setting] = {
            "state_dir": str(self.disk.folder / "state"),
            "spare_lanes": 1,
            "plain_tcp": True,
            "stall_s": self.stall_s,
            # No round is lost for good here, and what a lane gives up no replay can repeat.
            "gap_ms": 5000.0,
        }
        more = f'[gateway]\nlisten = "127.0.0.1:{gateway}"\n[accelerator]\nengine = "openvino"\n'
        self._config = self.folder / "qdec.toml"
        text = as_toml(settings, self.endpoints) + more + tables(self.patches, self.folder)
        self._config.write_text(text, encoding="utf-8")
        self._stack.callback(lambda: self._service.close())
        self.serve()
        self.proxies = {i: enter(Proxy(one)) for i, one in enumerate(self.endpoints)}
        self.relays = {i: enter(Relay(one, self._seed)) for i, one in enumerate(self.endpoints)}
        self._stack.callback(self._kill_clients)
        for patch in self.patches:
            command = client.job(
                patch, self._way(patch), self.seed_of(patch), self.folder, _DRAIN_S
            )
            self._clients[patch.name] = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        now = time.monotonic_ns()
        self.wait(lambda: self.answered_since(now) and self.accelerates(), _READY_S)

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """End everything."""
        self._stack.close()

    # -- the service ---------------------------------------------------------------------------

    def serve(self) -> None:
        """Start the service; whatever served before is gone."""
        self._service = ExitStack()
        environment = {changed.FOLDER: str(self.folder)}
        program, log = changed.__name__, self.disk.folder / "log"
        process = self._service.enter_context(serving(self._config, log, program, environment))
        self.supervisor = process.pid
        self._process = process
        await_ready(process, self.endpoints, log, _READY_S)

    def kill_service(self) -> None:
        """SIGKILL for the supervisor; its children die with it."""
        family = [*self.children]
        self._process.kill()
        self._service.close()
        self.wait(lambda: not any(map(_alive, family)), 10.0)

    @property
    def children(self) -> list[int]:
        """The supervisor's children."""
        return list(processes.children(self.supervisor))

    @property
    def everything(self) -> dict[int, str]:
        """The service's processes: what each is, the supervisor included."""
        found = {self.supervisor: "supervisor"}
        for pid, words in processes.children(self.supervisor).items():
            for module, kind in _KINDS.items():
                if f" -m {module} " in words:
                    found[pid] = kind
        serves = {self.lane(index): index for index in range(_LANES)}
        for pid, kind in found.items():
            if kind == "lane":
                found[pid] = f"lane {serves[pid]}" if pid in serves else "spare"
        return found

    def lane(self, index: int) -> int | None:
        """The process that serves a lane, as that has said."""
        path = self.folder / f"lane{index}"
        pid = int(path.read_text()) if path.exists() else 0
        return pid if pid in processes.of_module(self.supervisor, changed.LANE_MODULE) else None

    def spare(self) -> int | None:
        """A lane process that serves nothing."""
        serving_ = {self.lane(i) for i in range(_LANES)}
        lanes = processes.of_module(self.supervisor, changed.LANE_MODULE)
        return next((pid for pid in lanes if pid not in serving_), None)

    def spare_is_warm(self) -> bool:
        """Whether every lane serves, and a spare is ready to take one's place."""
        spare = self.spare()
        if spare is None or None in map(self.lane, range(_LANES)):
            return False
        return processes.rests(spare)

    def accelerator(self) -> int | None:
        """The accelerator's process."""
        return next(iter(processes.of_module(self.supervisor, changed.ENGINE_MODULE)), None)

    def gateway(self) -> int | None:
        """The gateway's process."""
        return next(iter(processes.of_module(self.supervisor, _GATEWAY)), None)

    def gateway_answers(self) -> bool:
        """Whether it can be scraped."""
        with suppress(OSError), urllib.request.urlopen(self._metrics, timeout=0.5) as reply:
            return bool(reply.status == 200)
        return False

    def tell(self, name: str, words: str) -> None:
        """See `changed.tell`."""
        changed.tell(self.folder, name, words)

    # -- the clients ---------------------------------------------------------------------------

    def seed_of(self, patch: Patch) -> int:
        """Of a stream's noise."""
        return 1000 * self._seed + self.patches.index(patch)

    def _way(self, patch: Patch) -> str:
        lane = patch.lanes[0]
        if patch.way == "proxy":
            return self.proxies[lane].endpoint
        return self.relays[lane].endpoint if patch.way == "relay" else self.endpoints[lane]

    def client(self, name: str) -> int:
        """The process of a stream's client."""
        return self._clients[name].pid

    def rows(self, patch: Patch, start: int = 0) -> Commits:
        """The commit records that a client was handed so far, without the first few."""
        dtype = self._dtype(patch)
        if dtype is None:
            return np.zeros(0, commit_dtype(0, 0))
        return _whole(self._file(patch, "rows"), dtype, start)

    def waiting(self, patch: Patch) -> int:
        """Rounds that were sent and not answered when a client was last handed something."""
        sent = _whole(self._file(patch, "times"), client.DELIVERY, -1)["sent"]
        if not len(sent):
            return 0
        answered = self._newest(patch, "first_round") + self._newest(patch, "count")
        return max(0, int(sent[-1]) - answered)

    def deliveries(self, patch: Patch) -> np.ndarray[Any, Any]:
        """When they were handed over, see `client.DELIVERY`."""
        return _whole(self._file(patch, "times"), client.DELIVERY)

    def _file(self, patch: Patch, suffix: str) -> Path:
        return self.folder / f"{patch.name}.{suffix}"

    def _dtype(self, patch: Patch) -> np.dtype[np.void] | None:
        path = self._file(patch, "open")
        if not path.exists() or not (text := path.read_text()):
            return None
        sizes = json.loads(text)
        return commit_dtype(sizes["frame"], sizes["seam"])

    def answered_since(self, at: int) -> bool:
        """Whether every stream was handed an answer to rounds that were sent after `at` (ns)."""
        return all(self._newest(patch, "t_send") >= at for patch in self.patches)

    def accelerates(self) -> bool:
        """Whether the accelerator answered the newest window of each stream that it should."""
        return all(
            self._newest(patch, "tier") == Tier.from_label(patch.tier)
            for patch in self.patches
            if patch.accelerated
        )

    def _newest(self, patch: Patch, name: str) -> int:
        """A field of the newest window that was answered; 0 before the first."""
        dtype = self._dtype(patch)
        if dtype is None:
            return 0
        newest = _whole(self._file(patch, "rows"), dtype, -1)
        return int(newest[name][0]) if len(newest) else 0

    def wait(self, done: Callable[[], bool], at_most_s: float) -> float:
        """Wait for something; how long it took, in seconds.

        Raises:
            ServiceUnavailable: a client has ended, or it took longer than `at_most_s`.
        """
        started = time.monotonic()
        while not done():
            self.look_after_clients()
            if time.monotonic() - started > at_most_s:
                raise ServiceUnavailable(f"it did not come to pass within {at_most_s:g} s")
            time.sleep(_POLL_S)
        return time.monotonic() - started

    def look_after_clients(self) -> None:
        """See that all are there.

        Raises:
            ServiceUnavailable: one has ended; the message says why.
        """
        for name, process in self._clients.items():
            if process.poll() is not None:
                report = self._report(name)
                why = report["error"] or f"exit status {process.returncode}"
                raise ServiceUnavailable(f"the client of stream '{name}' has ended: {why}")

    def _report(self, name: str) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        report: dict[str, Any] = {"error": "it left no word", "rounds": 0, "resumes": 0}
        if path.exists():
            report = json.loads(path.read_text())
        return report

    def finish(self) -> dict[str, dict[str, Any]]:
        """Have every client end its shot, wait for the last answer, and go. What each reports."""
        for process in self._clients.values():
            process.terminate()
        give_up = time.monotonic() + _DRAIN_S + 30
        for process in self._clients.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, give_up - time.monotonic()))
        self._kill_clients()
        return {name: self._report(name) for name in self._clients}

    def _kill_clients(self) -> None:
        for process in self._clients.values():
            process.kill()
            process.wait()

    def account(
        self,
        patch: Patch,
        report: dict[str, Any],
        garbled: Spans,
        on_wrong: Callable[[str], None],
    ) -> Account:
        """Count a stream's windows, after `finish`."""
        deliveries = self.deliveries(patch)
        rounds = report["rounds"] or (int(deliveries["sent"][-1]) if len(deliveries) else 0)
        if not rounds:
            return Account()
        detectors = patch.detectors(self.seed_of(patch), rounds)
        judge = Judge(patch, garble, garbled)
        return judge.account(self.rows(patch), detectors, on_wrong)

    # -- those who do harm ---------------------------------------------------------------------

    @contextmanager
    def harm(self, what: str, lane: int = 0) -> Iterator[int]:
        """One of `unkind.WHAT`, as long as the block lasts; its pid."""
        process = subprocess.Popen(
            unkind.command(what, self.endpoints[lane], os.getpid()),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process.pid
        finally:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()


_KINDS = {
    changed.LANE_MODULE: "lane",
    changed.ENGINE_MODULE: "accelerator",
    _GATEWAY: "gateway",
}


def _alive(pid: int) -> bool:
    try:
        text = (Path("/proc") / str(pid) / "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def _whole(path: Path, dtype: np.dtype[Any], start: int = 0) -> np.ndarray[Any, Any]:
    """A file's complete records from one on; from the last one on if negative."""
    if not path.exists():
        return np.zeros(0, dtype)
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) // dtype.itemsize
        start = min(size, start) if start >= 0 else max(0, size + start)
        file.seek(start * dtype.itemsize)
        return np.frombuffer(file.read((size - start) * dtype.itemsize), dtype)
