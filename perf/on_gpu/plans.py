"""Section `plans`: TensorRT's plans of all that the others run, built ahead and kept.

What is built stays in the plan cache, so a second run begins where the first had no time left.
Networks without a plan run in PyTorch, and rows say so.
"""

from __future__ import annotations

import time

from on_gpu.cases import SPEED, Case, Compiled, Size, compile_case, latency_cases
from on_gpu.lab import recipe
from on_gpu.section import Given
from qdec.cuda.runtime import Program
from qdec.errors import EngineError
from qdec.neural.engine import why_not
from qdec.neural.ising.network import to_onnx


def content_of(given: Given, case: Case) -> tuple[bytes, Size]:
    """A case's network, and its size; a stack's do not depend on the code."""
    if case.model == SPEED:
        compiled: Compiled = compile_case(case, given.models, nothing)
        return compiled.content, compiled.size
    size = (case.rounds + 1, case.distance, case.distance)
    return to_onnx(given.models.weights(case.model)), size


def nothing(_content: bytes, _size: Size) -> Program:
    """For windows of which only the tables are wanted."""
    raise EngineError("nothing is run here")


def run(given: Given) -> None:
    """See the module."""
    if given.lab.engine != "tensorrt":
        why = why_not("tensorrt") or "another engine was asked for"
        given.emit({"note": f"nothing to build: {why}"})
        return
    from qdec.neural.tensorrt.cache import default_folder
    from qdec.neural.tensorrt.runner import load

    distances = [int(d) for d in (13, 7, 21, 31)]
    for case, _ in given.each(latency_cases(distances)):

        def build(case: Case = case) -> None:
            content, size = content_of(given, case)
            started = time.monotonic()
            program = load(
                recipe(content, size, given.lab.batches), default_folder(), may_build=True
            )
            took = time.monotonic() - started
            batches = ",".join(map(str, program.batches))
            given.emit({**case.columns, "batches": batches, "s": took})

        given.tried(case, build)
