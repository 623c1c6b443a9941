"""Batches on a GPU: windows are read from the lanes' slots, and what comes back is matched here.

What a graph leaves is a record for each window (`qdec.cuda.record`). The rest of the tier, matching
and all that follows it, is the decoder's, which is told what the network found
(`qdec.match.ahead`). Kinds without a network are decoded when they are submitted.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.accelerator.exchange import Request
from qdec.accelerator.executor import CallingExecutor, Completion, Each, Job, Kind, answered, apart
from qdec.accelerator.gpu_frame import Frame, StreamKind
from qdec.accelerator.gpu_kinds import GpuKind
from qdec.accelerator.latency import Buckets
from qdec.accelerator.work import StreamTerms
from qdec.bits import Bytes
from qdec.cuda.runtime import Mark, Runtime

# Batches that a stream may have: one runs, the next one is there when it ends.
_DEEP = 2


@dataclass(slots=True, eq=False)
class _Run:
    """A batch that is out: its windows, how far it is, and what it has so far."""

    job: Job
    stream: int
    syndromes: Bytes
    offsets: NDArray[np.int64]
    records: Bytes
    started: int
    at: int = 0
    frame: Frame | None = None
    mark: Mark | None = None


class GpuExecutor:
    """See `qdec.accelerator.executor.Executor`."""

    def __init__(
        self,
        runtime: Runtime,
        kinds: Mapping[int, Kind],
        on_gpu: Mapping[int, GpuKind],
        memory: Bytes,
        buckets: tuple[int, ...],
        *,
        streams: int = 2,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take all memory and capture all graphs.

        Args:
            runtime: the device.
            kinds: all kinds of windows, by number.
            on_gpu: those whose network runs there.
            memory: in which all slots lie, from a page's beginning on.
            buckets: sizes of batches, ascending: those the networks were built for.
            streams: how many, all alike.
            clock: ns.

        Raises:
            DeviceError: the device fails, or has not enough memory.
            EngineError: a network cannot be had for it.
        """
        self._runtime, self._kinds, self._clock = runtime, on_gpu, clock
        self.streams = (StreamTerms(Buckets(buckets), most=_DEEP),) * streams
        self._host = CallingExecutor(kinds, buckets[-1], clock)
        self._memory = memory
        self._start = int(memory.ctypes.data)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        arena = runtime.register(memory)
        self._free: dict[tuple[int, int, int], list[Frame]] = {}
        self._streams = []
        for index in range(streams):
            stream = runtime.stream(urgent=True)
            self._streams.append(stream)
            for number, kind in on_gpu.items():
                on = StreamKind(runtime, stream, kind)
                for size in buckets:
                    self._free[index, number, size] = [Frame(on, arena, size) for _ in range(_DEEP)]
        self._runs: list[deque[_Run]] = [deque() for _ in range(streams)]

    def submit(self, stream: int, job: Job) -> None:
        """See `Executor.submit`."""
        kind = self._kinds.get(job.kind)
        if kind is None:
            self._host.submit(0, job)
            self._ring()
            return
        each = [one.syndromes for one in job.requests]
        syndromes = each[0] if len(each) == 1 else np.concatenate(each)
        offsets = np.concatenate([self._offsets(one) for one in each])
        records = np.empty((len(syndromes), kind.record.size), dtype=np.uint8)
        run = _Run(job, stream, syndromes, offsets, records, self._clock())
        self._runs[stream].append(run)
        self._launch(run)

    def _offsets(self, syndromes: Bytes) -> NDArray[np.int64]:
        """Of windows that lie behind each other in a slot."""
        start = int(syndromes.ctypes.data) - self._start
        found: NDArray[np.int64] = start + np.arange(len(syndromes)) * syndromes.shape[1]
        return found

    def _launch(self, run: _Run) -> None:
        """Send as many of a batch's windows as its bucket holds."""
        frame = self._free[run.stream, run.job.kind, run.job.bucket].pop()
        frame.launch(run.offsets[run.at : run.at + frame.size])
        stream = self._streams[run.stream]
        run.frame, run.mark = frame, self._runtime.mark(stream)
        self._runtime.then(stream, self._ring)

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def completions(self) -> Sequence[Completion]:
        """See `Executor.completions`."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        done = list(self._host.completions())
        for runs in self._runs:
            for run in list(runs):
                if run.mark is None or not run.mark.done:
                    continue  # of several passes, perhaps: its next one is behind others
                if self._took(run):
                    runs.remove(run)
                    done.append(self._complete(run))
        return done

    def _took(self, run: _Run) -> bool:
        """Take a frame's records; whether that was the last of the batch."""
        frame = run.frame
        assert frame is not None
        windows = min(frame.size, len(run.offsets) - run.at)
        record = self._kinds[run.job.kind].record
        record.copy(frame.records(windows), run.records[run.at : run.at + windows])
        self._free[run.stream, run.job.kind, run.job.bucket].append(frame)
        run.at += windows
        run.frame = run.mark = None
        if run.at < len(run.offsets):
            self._launch(run)
            return False
        return True

    def _complete(self, run: _Run) -> Completion:
        kind, job = self._kinds[run.job.kind], run.job

        def decode(start: int, end: int, requests: Sequence[Request]) -> Each | None:
            syndromes = run.syndromes[start:end]
            kind.hand_over(syndromes, run.records[start:end])
            return answered(kind.decoder.decode, syndromes, requests)

        answers = apart(decode, job.requests)
        return Completion(job.number, self._clock() - run.started, answers)

    def fileno(self) -> int:
        """Readable when something is done: the driver's thread writes it."""
        return self._bell
