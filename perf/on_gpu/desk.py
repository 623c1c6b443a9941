"""Windows in memory that a device reads, and an executor that is called without a worker."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from on_gpu.cases import Compiled
from on_gpu.lab import Lab, pages
from qdec.accelerator.exchange import Request
from qdec.accelerator.executor import Completion, Executor, Job, Kind
from qdec.accelerator.gpu import GpuExecutor
from qdec.accelerator.work import StreamTerms
from qdec.bits import Bytes
from qdec.errors import DeviceError, DeviceFault
from qdec.match import Answers, CompiledWindow
from qdec.windows.cut import answer_bytes

FAR = 1 << 62
KIND = 7
_HANG_S = 20.0


class Timed:
    """A decoder whose calls are timed.

    Attributes:
        taken: ns of each.
    """

    def __init__(self, decoder: CompiledWindow) -> None:
        """Wrap it."""
        self._decoder = decoder
        self.taken: list[int] = []

    @property
    def notes(self) -> Any:
        """The decoder's."""
        return self._decoder.notes

    def decode(self, syndromes: Bytes) -> Answers:
        """Call it."""
        started = time.perf_counter_ns()
        answers = self._decoder.decode(syndromes)
        self.taken.append(time.perf_counter_ns() - started)
        return answers


class Desk:
    """One kind of window on an executor of its own.

    Attributes:
        executor: the GPU's.
        host: what its processor's part took.
        syndromes: ``(n, bytes)``, in memory that the device reads.
    """

    def __init__(self, lab: Lab, compiled: Compiled, windows: int, *, streams: int = 1) -> None:
        """Take memory, capture graphs.

        Raises:
            DeviceError, EngineError: as `GpuExecutor`.
        """
        sampled, _ = compiled.sample(windows)
        memory = pages(sampled.nbytes)
        memory[: sampled.nbytes] = sampled.reshape(-1)
        self.syndromes = memory[: sampled.nbytes].reshape(sampled.shape)
        self.host = Timed(compiled.decoder)
        kind = dataclasses.replace(compiled.kind, decoder=self.host)
        self.executor = GpuExecutor(
            lab.runtime,
            {KIND: Kind(compiled.decoder, fenced=False)},
            {KIND: kind},
            memory,
            lab.batches,
            streams=streams,
        )
        self._answer_bytes = sum(answer_bytes(compiled.code.spacetime))
        self._number = 0

    def job(self, at: int, windows: int) -> Job:
        """A batch of windows that lie behind each other, in the bucket of just that size."""
        self._number += 1
        some = self.syndromes[at : at + windows]
        request = Request(1, KIND, FAR, some, self._answer_bytes)
        return Job(self._number, KIND, windows, 1, (request,))

    def run(self, windows: int, at: int = 0) -> int:
        """ns from a batch's submission to its answers."""
        job = self.job(at % (len(self.syndromes) - windows + 1), windows)
        started = time.perf_counter_ns()
        self.executor.submit(0, job)
        finished = wait(self.executor)
        took = time.perf_counter_ns() - started
        if any(one is None for done in finished for one in done.answers):
            raise DeviceError(DeviceFault.ERROR, "a decoder failed")
        return took


def wait(executor: Executor) -> Sequence[Completion]:
    """Spin until something is done.

    Raises:
        DeviceError: nothing is for too long.
    """
    give_up = time.monotonic() + _HANG_S
    while not (done := executor.completions()):
        if time.monotonic() > give_up:
            raise DeviceError(DeviceFault.HUNG, f"nothing came back for {_HANG_S:g} s")
    return done


class Counting:
    """An executor that counts what it is given.

    Attributes:
        runs: how many times each bucket ran.
    """

    def __init__(self, executor: Executor) -> None:
        """Wrap it."""
        self._executor = executor
        self.runs: dict[int, int] = {}

    @property
    def streams(self) -> Sequence[StreamTerms]:
        """Its table."""
        return self._executor.streams

    def submit(self, stream: int, job: Job) -> None:
        """Count and pass on."""
        self.runs[job.bucket] = self.runs.get(job.bucket, 0) + job.passes
        self._executor.submit(stream, job)

    def completions(self) -> Sequence[Completion]:
        """Its."""
        return self._executor.completions()

    def fileno(self) -> int | None:
        """Its."""
        return self._executor.fileno()
