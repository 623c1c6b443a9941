"""An accelerator process whose device fails when a test says so, and a service that starts it.

As a program it is that process. Only a supervisor that a test has changed (`install`) starts it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from qdec.accelerator.executor import Completion, Executor, Job
from qdec.accelerator.process import Accelerator
from qdec.accelerator.work import StreamTerms
from qdec.bits import Bytes
from qdec.child import main
from qdec.config import Config
from qdec.errors import DeviceError, DeviceFault
from qdec.supervisor import run
from qdec.supervisor.policy import Role
from qdec.supervisor.table import ACCELERATOR, process_table

MODULE = "helpers.failing_accelerator"
# The file that a fault is read from, once.
FAULT_FILE = "QDEC_TESTS_FAULT"
# What a service's process runs instead of `qdec`.
PROGRAM = (
    "import sys; from qdec.lane.realtime import die_with_parent; "
    "die_with_parent(int(sys.argv.pop(1))); "
    f"from {MODULE} import install; install(); from qdec.cli import main; main()"
)


def install() -> None:
    """Have this process's supervisor start failing accelerators."""

    def table(config: Config) -> tuple[Role, ...]:
        return tuple(
            dataclasses.replace(role, module=MODULE) if role.name == ACCELERATOR else role
            for role in process_table(config)
        )

    run.process_table = table


def _fault() -> DeviceFault | None:
    path = Path(os.environ[FAULT_FILE])
    if not path.exists():
        return None
    fault = DeviceFault[path.read_text()]
    path.unlink()
    return fault


class FailingExecutor:
    """Another one, until it fails."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @property
    def streams(self) -> Sequence[StreamTerms]:
        return self._executor.streams

    def submit(self, stream: int, job: Job) -> None:
        fault = _fault()
        if fault is None:
            self._executor.submit(stream, job)
        elif fault is not DeviceFault.HUNG:
            raise DeviceError(fault, "as a test has told it")

    def completions(self) -> Sequence[Completion]:
        return self._executor.completions()

    def fileno(self) -> int | None:
        return self._executor.fileno()


class FailingAccelerator(Accelerator):
    def _start_executor(self, memory: Bytes, batch: int) -> Executor:
        path = Path(os.environ[FAULT_FILE])
        if path.exists() and path.read_text() == DeviceFault.START.name:
            path.unlink()
            raise DeviceError(DeviceFault.START, "as a test has told it")
        return FailingExecutor(super()._start_executor(memory, batch))


if __name__ == "__main__":
    main(lambda child: FailingAccelerator(child).run())
