"""Section `latency`: one batch at a time, from its submission to its answers; what stands beside.

*window*: through the executor: offsets, graph, records, matching. *bare*: the engine's own graph
launched and waited for, input and output on the device, as `trtexec` does. *torch*: likewise in
PyTorch on the same weights (fp16, channels last). *cpu*: the whole decoder with OpenVINO. *own*: at
the median, what is neither bare engine nor matching.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from on_gpu.cases import Case, Compiled, compile_case, latency_cases
from on_gpu.desk import Desk
from on_gpu.figures import Budget, quantiles
from on_gpu.lab import Lab
from on_gpu.section import Given
from qdec.cuda.runtime import Program
from qdec.errors import EngineError

_WARM, _LEAST, _MOST = 5, 10, 1500
_WINDOWS = 256
_CPU_S = 1.5  # what a call may take for it to be called again


def run(given: Given) -> None:
    """See the module."""
    distances = [int(given.setting("distance", d)) for d in (13, 7, 21, 31)]
    cases = list(dict.fromkeys(latency_cases(distances)))
    for case, budget in given.each(cases):
        given.tried(case, lambda case=case, budget=budget: measure(given, case, budget))


def measure(given: Given, case: Case, budget: Budget) -> None:
    """One case, a row for each batch."""
    lab = given.lab
    compiled = compile_case(case, given.models, lab.program)
    desk = Desk(lab, compiled, max(_WINDOWS, lab.batches[-1]))
    shape, outputs = compiled.kind.shape, compiled.kind.outputs
    bare = Bare(lab, compiled.kind.program(), shape, outputs)
    said = lab.ran[compiled.content, compiled.size]
    beside = None if said.startswith("torch") else lab.torch(compiled.content, compiled.size)
    torch = Bare(lab, beside, shape, outputs) if beside is not None else None
    try:
        processor, has_cpu = compiled.on_processor(), True
    except EngineError as error:
        processor, has_cpu = str(error)[:60], False
    for i, batch in enumerate(lab.batches):
        part = budget.share(len(lab.batches) - i)
        desk.host.taken.clear()
        window = sampled(lambda batch=batch: desk.run(batch), part.seconds * 0.35)
        host = [ns / 1e3 for ns in desk.host.taken[_WARM:]]
        engine = sampled(bare.prepared(batch), part.seconds * 0.2)
        other = sampled(torch.prepared(batch), part.seconds * 0.2) if torch else []
        matching = float(np.median(host)) if host else 0.0
        given.emit(
            {
                **case.columns,
                "by": said,
                "batch": batch,
                **quantiles("window us", window),
                **quantiles("bare us", engine),
                "host us p50": matching,
                "own us p50": float(np.median(window) - np.median(engine)) - matching,
                **quantiles("torch us", other),
                **quantiles("cpu us", _cpu(compiled, desk, batch, part) if has_cpu else []),
                "cpu": processor,
                "times": len(window),
            }
        )


def _cpu(compiled: Compiled, desk: Desk, batch: int, budget: Budget) -> list[float]:
    """µs of the processor's decoder; nothing where one window alone takes too long."""
    some = np.array(desk.syndromes[:1])
    compiled.decoder.decode(some)
    started = time.monotonic()
    compiled.decoder.decode(some)
    took = time.monotonic() - started
    if took * batch > _CPU_S:
        return []
    several = np.array(desk.syndromes[:batch])

    def once() -> int:
        started = time.perf_counter_ns()
        compiled.decoder.decode(several)
        return time.perf_counter_ns() - started

    return sampled(once, budget.seconds * 0.2, least=2, warm=1)


class Bare:
    """A network alone: its own graph, on memory of its own.

    Attributes:
        stream: on which it runs.
    """

    def __init__(self, lab: Lab, program: Program, shape: tuple[int, ...], outputs: int) -> None:
        """Take the memory: for inputs of a shape, and so many outputs, per window."""
        runtime = lab.runtime
        self._runtime, self._program = runtime, program
        self.stream = runtime.stream(urgent=True)
        (output,) = program.outputs
        (name,) = (one for one in program.dtypes if one != output)
        most = program.batches[-1]
        program.prepare({name: shape}, runtime.handle(self.stream))
        x = runtime.zeros((most, *shape), program.dtypes[name])
        y = runtime.zeros((most, outputs), program.dtypes[output])
        self._held = x, y
        self._addresses = {name: runtime.address(x), output: runtime.address(y)}

    def enqueue(self, batch: int) -> None:
        """Put one run on the stream."""
        bucket = self._program.batches.index(batch)
        handle = self._runtime.handle(self.stream)
        self._program.enqueue(bucket, self._addresses, handle)

    def prepared(self, batch: int) -> Callable[[], int]:
        """What runs it once and waits: ns."""
        runtime, stream = self._runtime, self.stream
        self.enqueue(batch)
        runtime.wait(stream)
        graph = runtime.capture(stream, lambda: self.enqueue(batch))

        def once() -> int:
            started = time.perf_counter_ns()
            graph.launch(stream)
            runtime.wait(stream)
            return time.perf_counter_ns() - started

        return once


def sampled(
    once: Callable[[], int], seconds: float, *, least: int = _LEAST, warm: int = _WARM
) -> list[float]:
    """µs of calls that say how many ns they took, for so long, `least` at least."""
    for _ in range(warm):
        once()
    until = time.monotonic() + seconds
    taken: list[Any] = []
    while len(taken) < least or (len(taken) < _MOST and time.monotonic() < until):
        taken.append(once() / 1e3)
    return taken
