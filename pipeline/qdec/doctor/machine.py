"""The machine as checks see it. Looking changes nothing, and every look is bounded in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdec.errors import ConfigError

# The configuration pulls in all of the service, so it is imported when it is asked for: a machine
# where something does not load is one that a doctor must be able to look at.
if TYPE_CHECKING:
    from qdec.config import Config, ServiceSection

# Bit numbers of capability.h.
CAP_IPC_LOCK = 14
CAP_SYS_NICE = 23


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe said.

    Attributes:
        facts: empty if it did not answer.
        trouble: why it did not.
    """

    facts: dict[str, Any]
    trouble: str = ""


class Machine:
    """Files, limits and probes.

    Args:
        root: where ``/proc`` and ``/sys`` hang; elsewhere in tests.
        config_path: the configuration to look at the machine with.
        seconds: how long all probes may take together.
    """

    def __init__(
        self, *, root: Path = Path("/"), config_path: Path | None = None, seconds: float = 5.0
    ) -> None:
        """Nothing is looked at yet."""
        self._root = root
        self.config_path = config_path
        self._until = time.monotonic() + seconds
        self._answers: dict[tuple[str, ...], Answer] = {}

    def text(self, path: str) -> str | None:
        """Contents of a file without its last line break, or None where it cannot be read."""
        try:
            return (self._root / path.lstrip("/")).read_text(errors="replace").rstrip("\n")
        except OSError:
            return None

    def texts(self, pattern: str) -> dict[str, str]:
        """Contents of all files that a glob pattern matches, by path, in order."""
        names = sorted(
            f"/{p.relative_to(self._root)}" for p in self._root.glob(pattern.lstrip("/"))
        )
        return {name: text for name in names if (text := self.text(name)) is not None}

    def exists(self, path: str) -> bool:
        """Whether there is such a file or directory."""
        return (self._root / path.lstrip("/")).exists()

    def capable(self, bit: int) -> bool:
        """Whether this process has a capability in effect."""
        for line in (self.text("/proc/self/status") or "").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> bit & 1)
        return False

    @property
    def seconds_left(self) -> float:
        """What remains for probes."""
        return max(0.0, self._until - time.monotonic())

    def probe(self, name: str, seconds: float, **arguments: Any) -> Answer:
        """Run a probe (see `qdec.doctor.probe`) once; asked again, it gives the same answer.

        Args:
            name: of the probe.
            seconds: how long it may take.
            arguments: its own, as JSON has them.
        """
        key = (name, json.dumps(arguments))
        if key not in self._answers:
            self._answers[key] = self._run(key, min(seconds, self.seconds_left))
        return self._answers[key]

    @staticmethod
    def _run(key: tuple[str, ...], seconds: float) -> Answer:
        if seconds <= 0:
            return Answer({}, "out of time: the machine is busy, try again")
        command = [sys.executable, "-m", "qdec.doctor.probe", str(os.getpid()), *key]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return Answer({}, f"no answer within {seconds:.1f} s: the machine is busy, try again")
        try:
            return Answer(dict(json.loads(done.stdout)))
        except ValueError:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            said = f": {words[-1]}" if words else ""
            return Answer({}, f"the probe ended with status {done.returncode}{said}")

    @cached_property
    def config(self) -> Config | None:
        """The configuration, if one was given.

        Raises:
            ConfigError: it is wrong.
        """
        if self.config_path is None:
            return None
        from qdec.config import load_config

        return load_config(self.config_path)

    @cached_property
    def usable_config(self) -> Config | None:
        """The same, or None where it is wrong, for checks that can do without."""
        try:
            return self.config
        except (ConfigError, ImportError):
            return None

    @property
    def service(self) -> ServiceSection:
        """The service's settings: the configuration's, or the defaults."""
        from qdec.config import ServiceSection

        config = self.usable_config
        return ServiceSection() if config is None else config.service

    @property
    def lane_cores(self) -> list[int | None]:
        """The core of every lane, None for those that may run anywhere."""
        config = self.usable_config
        return [None] if config is None else [lane.cpu for lane in config.lane]
