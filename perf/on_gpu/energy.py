"""Section `energy`: what a million windows take, by the GPU's own count (NVML), at full load.

Batches of 64 one behind the other on two streams, with nothing for the processor to do but to hand
over the next: what a network and the kernels around it take. *idle W* is the card's before that.
"""

from __future__ import annotations

import time

import numpy as np

from on_gpu.cases import ACCURATE, FAST, SPEED, Case, compile_case
from on_gpu.figures import Budget
from on_gpu.lab import pages
from on_gpu.nvml import Meter
from on_gpu.section import Given
from qdec.accelerator.gpu_frame import Frame, StreamKind
from qdec.errors import EngineError
from qdec.neural import driver

CASES = (Case(FAST, 13, 104), Case(FAST, 13, 13), Case(ACCURATE, 13, 104), Case(SPEED, 13, 13))
_LOAD_S = 3.0


def run(given: Given, meter: Meter | None = None) -> None:
    """See the module."""
    try:
        meter = meter or Meter(driver.devices()[0].bus)
    except EngineError as error:
        given.emit({"note": str(error)})
        return
    before, started = meter.joules(), time.monotonic()
    time.sleep(given.setting("idle_s", 2.0))
    idle = (meter.joules() - before) / (time.monotonic() - started)
    for case, budget in given.each(CASES):
        given.tried(
            case,
            lambda case=case, budget=budget: measure(given, case, budget, meter, idle),
        )


def measure(given: Given, case: Case, budget: Budget, meter: Meter, idle: float) -> None:
    """One case."""
    lab, runtime = given.lab, given.lab.runtime
    compiled = compile_case(case, given.models, lab.program)
    size = lab.batches[-1]
    windows, _ = compiled.sample(size)
    memory = pages(windows.nbytes)
    memory[: windows.nbytes] = windows.reshape(-1)
    arena = runtime.register(memory)
    frames = []
    for _ in range(2):
        stream = runtime.stream(urgent=True)
        frames.append((stream, Frame(StreamKind(runtime, stream, compiled.kind), arena, size)))
    at = np.arange(size, dtype=np.int64) * windows.shape[1]
    for stream, frame in frames:
        frame.launch(at)
        runtime.wait(stream)
    count, started, before = 0, time.monotonic(), meter.joules()
    until = started + min(given.setting("load_s", _LOAD_S), max(0.2, budget.left))
    while time.monotonic() < until:
        for _, frame in frames:
            frame.launch(at)
        for stream, _ in frames:
            runtime.wait(stream)
        count += 2 * size
    seconds, joules = time.monotonic() - started, meter.joules() - before
    given.emit(
        {
            **case.columns,
            "by": lab.ran[compiled.content, compiled.size],
            "batch": size,
            "windows/s": count / seconds,
            "W": joules / seconds,
            "idle W": idle,
            "J per million": joules / count * 1e6,
            "without idle": (joules - idle * seconds) / count * 1e6,
        }
    )
