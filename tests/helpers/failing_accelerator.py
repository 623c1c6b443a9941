"""An accelerator process whose device fails when a test says so, and a service that starts it.

As a program it is that process. Only a supervisor that a test has changed (`main`) starts it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qdec.accelerator.executor import Completion, Executor, Job
from qdec.accelerator.process import Accelerator
from qdec.accelerator.work import StreamTerms
from qdec.bits import Bytes
from qdec.child import main as be_child
from qdec.errors import DeviceError, DeviceFault
from qdec.supervisor.table import ACCELERATOR
from qdec_tools.chaos.changed import replace_modules

MODULE = "helpers.failing_accelerator"
# The file that a fault is read from, once.
FAULT_FILE = "QDEC_TESTS_FAULT"


def main() -> None:
    """Be ``qdec``, whose supervisor starts failing accelerators."""
    from qdec.cli import main

    replace_modules({ACCELERATOR: MODULE})
    main()


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
    be_child(lambda child: FailingAccelerator(child).run())
