"""Section `agreement`: TensorRT, PyTorch and OpenVINO on the same windows.

The share of outputs whose sign is OpenVINO's (fp32), on real syndromes; where no file is given, a
stack's weights are random, and here such as correct anything. And failures on the same shots: of
the shipped network's tier, how many shots each engine fails in, and how many only one of the two
does.
"""

from __future__ import annotations

import time

import numpy as np

from on_gpu.cases import FAST, SPEED, Case, Compiled, compile_case
from on_gpu.figures import Budget
from on_gpu.plans import nothing
from on_gpu.section import Given
from qdec.errors import EngineError
from qdec.neural.engine import CompiledNetwork, Floats

SIGNS = (Case(FAST, 7, 7), Case(FAST, 13, 13), Case(SPEED, 7, 7, 0.005))
FAILURES = Case(SPEED, 7, 7, 0.006)
ENGINES = ("tensorrt", "torch")
_WINDOWS = 64
_SHOTS = 4000


def run(given: Given) -> None:
    """See the module."""
    cases = [Case(c.model, int(given.setting("distance", c.distance)), c.rounds) for c in SIGNS]
    for case, _ in given.each(dict.fromkeys(cases)):
        given.tried(case, lambda case=case: signs(given, case))
    failing = Case(SPEED, int(given.setting("distance", FAILURES.distance)), 7, FAILURES.noise)
    given.tried(failing, lambda: failures(given, failing, Budget(max(1.0, given.budget.left))))


def signs(given: Given, case: Case) -> None:
    """A row for each engine beside the processor's."""
    compiled = compile_case(case, given.models, nothing, quiet=False)
    windows, _ = compiled.sample(_WINDOWS)
    seen = Seen(given.lab.network(compiled.content, "openvino"))
    compiled.put(seen)
    compiled.decoder.decode(windows)  # what the network is shown, and says
    x, exact = seen.shown, seen.said
    for engine in ENGINES:
        row = {**case.columns, "what": "signs", "engine": f"{engine} fp16"}
        try:
            found = given.lab.network(compiled.content, engine)(x)
        except EngineError as error:
            given.emit({**row, "note": str(error)[:200]})
            continue
        same = float(((found >= 0) == (exact >= 0)).mean())
        given.emit({**row, "of": exact.size, "same": same, "goal": 0.999, "met": same >= 0.999})


class Seen:
    """A network that remembers its last call."""

    def __init__(self, network: CompiledNetwork) -> None:
        """Wrap it."""
        self._network = network
        self.channels = network.channels
        self.shown: Floats
        self.said: Floats

    def __call__(self, *inputs: Floats) -> Floats:
        """Run it."""
        (self.shown,) = inputs
        self.said = self._network(*inputs)
        return np.array(self.said)


def failures(given: Given, case: Case, budget: Budget) -> None:
    """A row for each engine, on shots that the processor decodes as well."""
    compiled = compile_case(case, given.models, nothing)
    shots = int(given.setting("shots", _SHOTS))
    windows, truth = compiled.sample(shots, seed=11)
    compiled.put(given.lab.network(compiled.content, "openvino"))
    shots = _as_many_as_fit(compiled, shots, budget.left / (1 + len(ENGINES)))
    windows, truth = windows[:shots], truth[:shots]
    exact = failed(compiled, windows, truth)
    for engine in ENGINES:
        row = {**case.columns, "what": "failures", "engine": f"{engine} fp16"}
        try:
            compiled.put(given.lab.network(compiled.content, engine))
        except EngineError as error:
            given.emit({**row, "note": str(error)[:200]})
            continue
        found = failed(compiled, windows, truth)
        given.emit(
            {
                **row,
                "of": shots,
                "fails": int(found.sum()),
                "openvino fails": int(exact.sum()),
                "only this": int((found & ~exact).sum()),
                "only openvino": int((exact & ~found).sum()),
            }
        )


def failed(compiled: Compiled, windows: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``(B,)`` bool: whether the frame is not the observables'."""
    parts = []
    for at in range(0, len(windows), _WINDOWS):
        bits = compiled.decoder.decode(np.ascontiguousarray(windows[at : at + _WINDOWS])).bits
        parts.append((bits[:, : truth.shape[1]] != truth[at : at + _WINDOWS]).any(axis=1))
    return np.concatenate(parts)


def _as_many_as_fit(compiled: Compiled, shots: int, seconds: float) -> int:
    """Shots that the processor decodes in the time, in whole batches."""
    some, _ = compiled.sample(_WINDOWS)
    compiled.decoder.decode(some)
    started = time.monotonic()
    compiled.decoder.decode(some)
    each = (time.monotonic() - started) / _WINDOWS
    fit = int(seconds / max(each, 1e-9)) // _WINDOWS * _WINDOWS
    return max(_WINDOWS, min(shots, fit))
