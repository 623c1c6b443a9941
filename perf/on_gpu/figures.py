"""Arithmetic of the GPU's benchmark: percentiles, times of requests, searches, rooflines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdec.accelerator.gpu_kinds import GpuKind
from qdec.cuda.plan import ResidualPlan, UnpackPlan
from qdec.neural.ising.network import Architecture


@dataclass
class Budget:
    """Time that a section has.

    Attributes:
        seconds: of it.
        clock: seconds.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin."""
        self.started = self.clock()

    @property
    def left(self) -> float:
        """Seconds; negative once it is overdrawn."""
        return self.started + self.seconds - self.clock()

    def share(self, of: int) -> Budget:
        """An equal part of what is left, for one of so many."""
        return Budget(max(0.0, self.left) / max(1, of), self.clock)


def quantiles(name: str, taken: Sequence[float]) -> dict[str, float | None]:
    """p50 and p99 of times, as columns of a row; None where nothing was timed."""
    if not len(taken):
        return {f"{name} p50": None, f"{name} p99": None}
    p50, p99 = np.quantile(np.asarray(taken, dtype=np.float64), [0.5, 0.99])
    return {f"{name} p50": float(p50), f"{name} p99": float(p99)}


def arrivals(rate: float, seconds: float, seed: int | None = None) -> NDArray[np.int64]:
    """When requests come: ns from the beginning, ascending.

    Args:
        rate: per second.
        seconds: for how long.
        seed: of a Poisson process; None: one comes every 1/rate.
    """
    count = int(rate * seconds)
    if seed is None:
        return (np.arange(count) * (1e9 / rate)).astype(np.int64)
    gaps = np.random.default_rng(seed).exponential(1e9 / rate, count)
    return np.cumsum(gaps).astype(np.int64)


def highest_rate(
    holds: Callable[[float], bool],
    start: float,
    *,
    growth: float = 1.6,
    steps: int = 3,
    most: int = 14,
    left: Callable[[], bool] = lambda: True,
) -> float:
    """The highest rate at which something holds: grown until it breaks, then halved in between.

    Args:
        holds: tries a rate.
        start: a rate at which it should hold; lower ones are tried if it does not.
        growth: from try to try.
        steps: bisections, of the logarithm, at the end.
        most: tries before that.
        left: whether there is time for another try.

    Returns:
        0 if it held nowhere.
    """
    good, bad, rate = 0.0, 0.0, start
    for _ in range(most):
        if not left() or (good and bad):
            break
        if holds(rate):
            good, rate = rate, rate * growth
        else:
            bad, rate = rate, rate / growth
    for _ in range(steps if good and bad else 0):
        if not left():
            break
        middle = (good * bad) ** 0.5
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that a launch cannot do without.

    Attributes:
        device: read and written in the device's memory.
        host: likewise in the host's.
    """

    device: int
    host: int

    def floor_us(self, device_rate: float, host_rate: float) -> float:
        """µs at rates in bytes per second; both kinds can go on at once."""
        return 1e6 * max(self.device / device_rate, self.host / host_rate)


def unpack_traffic(plan: UnpackPlan, windows: int, itemsize: int) -> Traffic:
    """Tables once, the network's input; the windows."""
    tables = sum(one.nbytes for one in plan.tables)
    return Traffic(tables + windows * plan.elements * itemsize, windows * plan.window_bytes)


def then_traffic(kind: GpuKind, windows: int, itemsize: int) -> Traffic:
    """Tables once, the network's output; the records, and of a residual the windows.

    Records of a kind that is settled on the device stay there.
    """
    plan = kind.then
    device = sum(one.nbytes for one in plan.tables) + windows * plan.elements * itemsize
    again = plan.record.window_bytes if isinstance(plan, ResidualPlan) else 0
    records = windows * plan.record.size
    if kind.settle is not None:
        return Traffic(device + records, 0)
    return Traffic(device, records + windows * again)


def settle_traffic(kind: GpuKind, windows: int, left: int) -> Traffic:
    """Tables, log-odds and windows once; what is said of each, and the log-odds of `left`."""
    if kind.settle is None:
        return Traffic(0, 0)
    record = kind.settle.record
    device = sum(one.nbytes for one in kind.settle.tables) + windows * kind.then.record.size
    each = kind.unpack.window_bytes + record.short
    return Traffic(device, windows * each + left * (record.size - record.short))


@dataclass(frozen=True, slots=True)
class Load:
    """What a network does for a batch.

    Attributes:
        macs: multiplications with addition.
        bytes: weights, input and output once each: what a perfect fusion moves.
        layered: likewise where every layer's activations go through memory.
    """

    macs: int
    bytes: int
    layered: int

    def roofline_us(self, macs_rate: float, bytes_rate: float) -> float:
        """µs at rates per second, whichever bounds it."""
        return 1e6 * max(self.macs / macs_rate, self.bytes / bytes_rate)


def stack_load(architecture: Architecture, cells: int, windows: int, itemsize: int) -> Load:
    """Of a plain stack of convolutions on so many (rounds x rows x columns) cells per window."""
    weights = sum(int(np.prod(shape)) for shape in architecture.shapes)
    edges = [architecture.shapes[0][1], *architecture.filters]
    ends = edges[0] + edges[-1]
    layers = sum(a + b for a, b in pairwise(edges))
    each = windows * cells * itemsize
    parameters = weights * itemsize
    return Load(weights * cells * windows, parameters + ends * each, parameters + layers * each)


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b; None where either is missing or b is 0."""
    return None if a is None or not b else a / b


def told_once(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows without the columns that say the same in all of several, and those."""
    if len(rows) < 2:
        return list(rows), {}
    names = [name for name in rows[0] if all(row.get(name) == rows[0][name] for row in rows)]
    same = {name: rows[0][name] for name in names if name not in ("network", "d", "T", "note")}
    return [{n: v for n, v in row.items() if n not in same} for row in rows], same


def same_columns(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with all columns of all of them, in the order of first appearance; '' where missing."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]
