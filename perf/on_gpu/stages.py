"""Section `stages`: what each part of a batch's way takes, by CUDA events, and what it must.

Every part is captured up to twenty times in one graph, so that launching it is not in its time.
*floor*: the bytes that a kernel cannot do without, over the measured rates of a copy on the device
and of one from the host's memory. *host*: what the processor does with a batch's records: matching,
mostly. *settled*: the share of windows of which that is only to take the device's answer.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from on_gpu.cases import ACCURATE, FAST, SPEED, Case, compile_case
from on_gpu.figures import Budget, ratio, settle_traffic, then_traffic, unpack_traffic
from on_gpu.lab import pages
from on_gpu.section import Given
from qdec.accelerator.gpu_frame import Frame, StreamKind
from qdec.accelerator.gpu_kinds import GpuKind
from qdec.bits import Bytes

CASES = (Case(FAST, 13, 104), Case(FAST, 13, 13), Case(SPEED, 13, 13), Case(ACCURATE, 13, 104))


def run(given: Given) -> None:
    """See the module."""
    device_rate, host_rate = given.lab.rates()
    for case, budget in given.each(CASES):
        given.tried(
            case,
            lambda case=case, budget=budget: _case(given, case, budget, device_rate, host_rate),
        )


def _case(given: Given, case: Case, budget: Budget, device_rate: float, host_rate: float) -> None:
    lab, runtime = given.lab, given.lab.runtime
    compiled = compile_case(case, given.models, lab.program)
    kind = compiled.kind
    stream = runtime.stream(urgent=True)
    on = StreamKind(runtime, stream, kind)
    windows, _ = compiled.sample(lab.batches[-1])
    memory = pages(windows.nbytes)
    memory[: windows.nbytes] = windows.reshape(-1)
    arena = runtime.register(memory)
    width = windows.shape[1]
    for size in (lab.batches[0], lab.batches[-1]):
        frame = Frame(on, arena, size)
        frame.launch(np.arange(size, dtype=np.int64) * width)
        runtime.wait(stream)
        taken = {
            name: statistics.median(lab.timed(stream, stage))
            for name, stage in frame.stages.items()
        }

        def whole(frame: Frame = frame) -> None:
            for stage in frame.stages.values():
                stage()

        whole_us = statistics.median(lab.timed(stream, whole))
        x, y = (on.program.dtypes[name].itemsize for name in (on.input, on.output))
        unpack = unpack_traffic(kind.unpack, size, x).floor_us(device_rate, host_rate)
        then = then_traffic(kind, size, y).floor_us(device_rate, host_rate)
        records = np.array(frame.records(size))
        settled: dict[str, float | None] = {}
        if kind.settle is not None:
            left = int((kind.settle.record.read(records)[1]["settled"] == 0).sum())
            floor = settle_traffic(kind, size, left).floor_us(device_rate, host_rate)
            settled = {
                "settled": 1 - left / size,
                "settle us": taken["settle"],
                "floor of settle": floor,
                "of that floor": ratio(taken["settle"], floor),
            }
        some = np.ascontiguousarray(windows[:size])
        host = _host(kind, some, records, min(2.0, budget.left / 4))
        given.emit(
            {
                **case.columns,
                "weights": given.models.said(case.model),
                "by": lab.ran[compiled.content, compiled.size],
                "batch": size,
                "unpack us": taken["unpack"],
                "floor": unpack,
                "of floor": ratio(taken["unpack"], unpack),
                "network us": taken["network"],
                "residual us": taken["then"],
                "its floor": then,
                "of its floor": ratio(taken["then"], then),
                **settled,
                "graph us": whole_us,
                "network/graph": ratio(taken["network"], whole_us),
                "host us": host,
                "copy GB/s": device_rate / 1e9,
                "from host GB/s": host_rate / 1e9,
            }
        )


def _host(kind: GpuKind, syndromes: Bytes, records: Bytes, seconds: float) -> float:
    """Median µs of the processor's part of a batch."""
    taken: list[int] = []
    until = time.monotonic() + seconds
    while len(taken) < 3 or (time.monotonic() < until and len(taken) < 200):
        started = time.perf_counter_ns()
        kind.hand_over(syndromes, records)
        kind.decoder.decode(syndromes)
        taken.append(time.perf_counter_ns() - started)
    return statistics.median(taken) / 1e3
