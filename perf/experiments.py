"""Synthetic calibration experiments with known truths, for judging the fit engine.

It shares nothing with the fits but the physics: populations through a readout with errors, counted
in shots (binomial), or amplified voltages with Gaussian noise; now and then a wild point. Each
experiment is one of three sorts: `signal` (the sweep shows what it is meant to), `none` (it shows
nothing) and `odd` (something is there that makes the obvious reading wrong).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from qdec.calibration import Kind, Request
from qdec.calibration.response import Estimate

SORTS = ("signal", "none", "odd")
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Made:
    """A request and what is true: name → value, in SI (or the estimate's own) units."""

    request: Request
    truth: dict[str, float]
    sort: str
    oddity: str = ""


def make(kind: Kind, sort: str, seed: int) -> Made:
    """One seeded experiment."""
    rng = np.random.default_rng([seed, list(Kind).index(kind), SORTS.index(sort)])
    observations, truth, axis, known, oddity = _MAKERS[kind](rng, sort)
    request = {
        "experiment_id": f"{kind.value}-{sort}-{seed}",
        "operator": "perf",
        "device_id": "synthetic",
        "hardware_rev": "1",
        "request_ts": 1.7e9 + seed,
        "reason": "statistics of the fit engine",
        "experiment": {"kind": kind, "target": "q0", **axis},
        "observations": observations,
        "current_params": {f"q0.{k}": {"value": v, "unit": u} for k, (v, u) in known.items()},
    }
    return Made(Request.model_validate(request), truth, sort, oddity)


def holds(estimate: Estimate, truth: float, widened: float = 1.0) -> bool:
    """Does its interval, widened so many times about the value, hold the truth?"""
    low = -np.inf if estimate.low is None else estimate.low
    high = np.inf if estimate.high is None else estimate.high
    down, up = (estimate.value - low) * widened, (high - estimate.value) * widened
    return bool(estimate.value - down <= truth <= estimate.value + up)


def _observe(rng: np.random.Generator, p: Floats, wild: bool = True) -> dict[str, Any]:
    """A population as the electronics report it: counted shots, or a voltage with noise."""
    if rng.random() < 0.6:
        shots = int(rng.choice([200, 500, 1000, 2000]))
        e0, e1 = rng.uniform(0.005, 0.06), rng.uniform(0.02, 0.12)
        y = rng.binomial(shots, e0 + (1 - e0 - e1) * np.clip(p, 0, 1)) / shots
        more = {"y_unit": "1", "shots": shots}
    else:
        volts = rng.uniform(0.5, 5) * rng.choice([-1, 1])
        y = rng.uniform(-3, 3) + volts * (p + rng.normal(0, rng.uniform(0.01, 0.08), len(p)))
        more = {"y_unit": "mV"}
    if wild and rng.random() < 0.1:
        y = y.copy()
        low, high = y.min(), y.max()
        y[rng.integers(len(y))] = rng.uniform(low, high)
    return {"y": tuple(y.tolist()), **more}


def _trace(rng: np.random.Generator, x: Floats, p: Floats, **more: Any) -> dict[str, Any]:
    wild = bool(np.ptp(p) > 0)
    return {"x": tuple(x.tolist()), **_observe(rng, p, wild), **more}


def _flat(rng: np.random.Generator, x: Floats) -> Floats:
    return np.full(len(x), rng.uniform(0.02, 0.98))


def _axis(name: str, unit: str) -> dict[str, Any]:
    return {"axis": {"name": name, "unit": unit}}


def _rabi_amplitude(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.integers(31, 121))
    x = np.linspace(0, rng.uniform(0.3, 1.0), n)
    if rng.random() < 0.3 and sort == "signal":
        x = np.sort(rng.uniform(0, x[-1], n))
    span = x[-1]
    periods = rng.uniform(0.9, min(6, n / 8))
    oddity = ""
    if sort == "odd":
        oddity = str(rng.choice(["long", "folded"]))
        periods = rng.uniform(0.1, 0.35) if oddity == "long" else rng.uniform(0.6, 0.95) * (n - 1)
    pi = span / periods / 2
    p = np.sin(np.pi * x / (2 * pi)) ** 2
    p = _flat(rng, x) if sort == "none" else p
    known = {"pi_amplitude": (float(pi * rng.uniform(0.9, 1.1)), "1")}
    truth = {"pi_amplitude": float(pi)}
    return {"traces": (_trace(rng, x, p),)}, truth, _axis("amplitude", "1"), known, oddity


def _rabi_time(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.integers(41, 151))
    span = rng.uniform(100, 1000)
    x = np.linspace(0, span, n)
    periods = rng.uniform(1.2, min(10, n / 8))
    oddity = ""
    if sort == "odd":
        oddity = str(rng.choice(["long", "folded"]))
        periods = rng.uniform(0.1, 0.35) if oddity == "long" else rng.uniform(0.6, 0.95) * (n - 1)
    pi = span / periods / 2
    tau = span * rng.uniform(0.4, 3)
    rise = rng.uniform(0, 0.05) * pi
    p = 0.5 - 0.5 * np.exp(-x / tau) * np.cos(np.pi * (x - rise) / pi)
    p = _flat(rng, x) if sort == "none" else p
    known = {"pi_time": (float(pi * rng.uniform(0.9, 1.1)), "ns")}
    truth = {"pi_time": float(pi)}
    return {"traces": (_trace(rng, x, p),)}, truth, _axis("length", "ns"), known, oddity


def _ramsey(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.integers(61, 161))
    span = rng.uniform(5, 80)
    x = np.linspace(0, span, n)
    t2 = span * rng.uniform(0.2, 0.9)
    rate = (n - 1) / span
    set_at = rng.uniform(4, min(12, n / 8)) / span
    detuning = rng.uniform(-0.6, 0.6) * set_at
    beat, oddity = 0.0, ""
    if sort == "odd":
        oddity = str(rng.choice(["folded", "two", "far"]))
        if oddity == "folded":
            set_at = rng.uniform(0.7, 0.9) * rate
            detuning = rng.uniform(-0.05, 0.05) * rate
        elif oddity == "two":
            beat = rng.uniform(2.5, 4) / span
            t2 = span * rng.uniform(0.4, 0.9)
        else:
            t2 = span * rng.uniform(8, 50)
    traces = []
    for at in (set_at, 1.3 * set_at):
        fringe = np.cos(2 * np.pi * (detuning + at) * x + rng.normal(0, 0.05))
        if beat:
            fringe = 0.5 * (fringe + np.cos(2 * np.pi * (detuning + beat + at) * x))
        p = 0.5 + 0.5 * np.exp(-x / t2) * fringe
        p = _flat(rng, x) if sort == "none" else p
        setting = {"artificial_detuning": {"value": float(at * 1e6), "unit": "Hz"}}
        traces.append(_trace(rng, x, p, settings=setting))
    known = {"qubit_frequency": (5.1e9, "Hz")}
    truth = {"detuning": float(detuning * 1e6), "t2_star": float(t2)}
    return {"traces": tuple(traces)}, truth, _axis("delay", "us"), known, oddity


def _decay(name: str, start: float, end: float) -> Any:
    def made(rng: np.random.Generator, sort: str) -> Any:
        n = int(rng.integers(31, 101))
        span = rng.uniform(50, 500)
        x = np.linspace(0, span, n)
        if rng.random() < 0.4:
            x = np.geomspace(span / 100, span, n)
        t = span * rng.uniform(0.1, 0.6)
        oddity = ""
        if sort == "odd":
            oddity = str(rng.choice(["far", "swings"]))
            t = span * (rng.uniform(3, 30) if oddity == "far" else rng.uniform(0.3, 0.6))
        p = end + (start - end) * np.exp(-x / t)
        if oddity == "swings":
            wave = np.cos(2 * np.pi * rng.uniform(3, 6) * x / span)
            p = end + (p - end) * (0.75 + 0.25 * wave)
        p = _flat(rng, x) if sort == "none" else p
        known = {name: (float(t * rng.uniform(0.8, 1.2)), "us")}
        return (
            {"traces": (_trace(rng, x, p),)},
            {name: float(t)},
            _axis("delay", "us"),
            known,
            oddity,
        )

    return made


def _resonator(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.integers(81, 201))
    span = rng.uniform(4, 20)
    x = 7000 + rng.uniform(-300, 300) + np.linspace(-span / 2, span / 2, n)
    kappa = span * rng.uniform(0.05, 0.2)
    f0 = x.mean() + rng.uniform(-0.3, 0.3) * span
    oddity = ""
    if sort == "odd":
        oddity = str(rng.choice(["outside", "two"]))
        if oddity == "outside":
            f0 = x.mean() + rng.choice([-1, 1]) * rng.uniform(0.6, 0.9) * span
    share, turn = rng.uniform(0.3, 0.95), rng.uniform(-0.4, 0.4)

    def hanger(at: float) -> Any:
        z = 1 + 2j * (x - at) / kappa
        return 1 - share * np.exp(1j * turn) / np.cos(turn) / z

    s21 = hanger(f0)
    if oddity == "two":
        s21 = s21 * hanger(f0 + rng.choice([-1, 1]) * rng.uniform(1.5, 3) * kappa)
    power = np.abs(s21) ** 2 * (1 + 0.05 * rng.normal() * (x - x.mean()) / span)
    power = np.ones(n) if sort == "none" else power
    power = rng.uniform(0.1, 2) * (power + rng.normal(0, rng.uniform(0.01, 0.06), n))
    trace = {"x": tuple(x.tolist()), "y": tuple(power.tolist()), "y_unit": "1"}
    known = {"resonator_frequency": (7000.0, "MHz")}
    truth = {"resonator_frequency": float(f0), "linewidth": float(kappa)}
    return {"traces": (trace,)}, truth, _axis("frequency", "MHz"), known, oddity


def _qubit(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.integers(61, 201))
    span = rng.uniform(10, 100)
    x = 5000 + rng.uniform(-300, 300) + np.linspace(-span / 2, span / 2, n)
    width = span * rng.uniform(0.05, 0.2)
    f0 = x.mean() + rng.uniform(-0.35, 0.35) * span
    oddity = ""
    if sort == "odd":
        oddity = str(rng.choice(["outside", "two"]))
        if oddity == "outside":
            f0 = x.mean() + rng.choice([-1, 1]) * rng.uniform(0.6, 0.9) * span
    height = rng.uniform(0.25, 0.5)
    p = height / (1 + (2 * (x - f0) / width) ** 2)
    if oddity == "two":
        other = f0 + rng.choice([-1, 1]) * rng.uniform(1.5, 3) * width
        p = p + height * rng.uniform(0.6, 1) / (1 + (2 * (x - other) / width) ** 2)
    p = _flat(rng, x) if sort == "none" else p
    known = {"qubit_frequency": (5000.0, "MHz")}
    truth = {"qubit_frequency": float(f0), "linewidth": float(width)}
    return {"traces": (_trace(rng, x, p),)}, truth, _axis("frequency", "MHz"), known, oddity


def _readout(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.choice([500, 1000, 2000, 4000]))
    at = rng.uniform(-3, 3, 2)
    direction = rng.uniform(-np.pi, np.pi)
    apart = rng.uniform(2, 5) if sort != "none" else 0.0
    size = rng.uniform(0.2, 2)
    step = apart * size * np.array([np.cos(direction), np.sin(direction)])
    warm, fall = rng.uniform(0, 0.04), rng.uniform(0, 0.1)
    clip = np.inf
    oddity = ""
    if sort == "odd":
        oddity = "saturated"
    clouds = []
    for state in (0, 1):
        excited = rng.random(n) < (warm if state == 0 else 1 - warm)
        # Where it decays while it is read, the signal stops part of the way.
        share = np.where(rng.random(n) < fall, rng.random(n), 1.0)
        mean = at + (excited * share)[:, None] * step
        clouds.append(mean + size * rng.normal(size=(n, 2)))
    if oddity:
        clip = float(np.quantile(np.abs(np.concatenate(clouds)), 0.8))
        clouds = [np.clip(c, -clip, clip) for c in clouds]
    iq = tuple(
        {"prepared": s, "i": tuple(c[:, 0].tolist()), "q": tuple(c[:, 1].tolist()), "unit": "mV"}
        for s, c in enumerate(clouds)
    )
    # `assignment`: what the truth is of depends on the axis and threshold that come back.
    truth = {"at": at.tolist(), "step": step.tolist(), "size": size, "warm": warm, "fall": fall}
    return {"iq": iq}, truth, {}, {}, oddity


def true_fidelity(truth: dict[str, Any], angle: float, threshold: float) -> float:
    """The assignment fidelity that an axis and a threshold have, by integration."""
    axis = np.array([np.cos(angle), np.sin(angle)])
    low, step = float(axis @ truth["at"]), float(axis @ truth["step"])
    shares = (np.arange(2000) + 0.5) / 2000

    def above(mean: Any) -> Any:
        return ndtr((mean - threshold) / truth["size"])

    ground = above(low)
    fallen = float(np.mean(above(low + shares * step)))
    excited = (1 - truth["fall"]) * above(low + step) + truth["fall"] * fallen
    ones = [w * excited + (1 - w) * ground for w in (truth["warm"], 1 - truth["warm"])]
    return float(1 - (ones[0] + 1 - ones[1]) / 2)


def _drag(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.integers(21, 61))
    x = np.linspace(-1, 1, n) * rng.uniform(0.5, 3) + rng.uniform(-0.5, 0.5)
    span = x[-1] - x[0]
    k = rng.uniform(0.5, 2.5) / span
    best = x.mean() + rng.uniform(-0.35, 0.35) * span
    oddity = ""
    if sort == "odd":
        oddity = str(rng.choice(["outside", "many"]))
        if oddity == "outside":
            k = rng.uniform(0.5, 2.0) / span  # no other crossing within
            best = x.mean() + rng.choice([-1, 1]) * rng.uniform(0.6, 0.9) * span
        else:
            k = rng.uniform(7, 8.5) / span
    swing = 0.5 * np.sin(k * (x - best))
    if sort == "none":
        swing = np.zeros(n)
    shots = int(rng.choice([500, 1000, 2000]))
    traces = tuple(
        {
            "x": tuple(x.tolist()),
            "y": tuple((rng.binomial(shots, 0.05 + 0.87 * (0.5 + s * swing)) / shots).tolist()),
            "label": label,
            "shots": shots,
        }
        for s, label in ((1, "xy"), (-1, "yx"))
    )
    known = {"drag_coefficient": (0.0, "1")}
    return {"traces": traces}, {"drag_coefficient": float(best)}, _axis("beta", "1"), known, oddity


def _cz(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.integers(17, 49))
    x = np.linspace(0, 2 * np.pi, n)
    first = rng.uniform(-np.pi, np.pi)
    turn = rng.choice([np.pi, rng.uniform(-np.pi, np.pi)]) + rng.normal(0, 0.1)
    contrast = rng.uniform(0.6, 0.95)
    oddity = ""
    seconds = contrast
    if sort == "odd":
        oddity = "leaks"
        seconds = 0.3 * contrast
    traces = []
    for label, phase, c in (("control_0", first, contrast), ("control_1", first + turn, seconds)):
        p = 0.5 + 0.5 * c * np.cos(x - phase)
        p = _flat(rng, x) if sort == "none" else p
        shots = int(rng.choice([200, 500, 1000]))
        y = rng.binomial(shots, 0.03 + 0.9 * p) / shots
        traces.append({"x": tuple(x.tolist()), "y": tuple(y.tolist()), "label": label})
        traces[-1]["shots"] = shots
    truth = {"conditional_phase": float(turn)}
    return {"traces": tuple(traces)}, truth, _axis("phase", "rad"), {}, oddity


def _arch(rng: np.random.Generator, sort: str) -> Any:
    n = int(rng.integers(25, 81))
    x = np.linspace(-0.5, 0.5, n)
    period = rng.uniform(1.05, 2)
    spot = rng.uniform(-0.2, 0.2)
    oddity = ""
    if sort == "odd":
        oddity = "outside"
        period = rng.uniform(3.5, 5)
        spot = rng.choice([-1, 1]) * rng.uniform(0.6, 0.8)
    top, ec = rng.uniform(4e3, 6e3), rng.uniform(180, 320)
    f = (top + ec) * np.sqrt(np.abs(np.cos(np.pi * (x - spot) / period))) - ec
    f = np.full(n, top) if sort == "none" else f
    # Nobody follows the qubit far down: it leaves the band and loses its coherence.
    seen = f > 0.45 * top
    x, f = x[seen], f[seen]
    n = len(x)
    y = f + rng.normal(0, rng.uniform(0.3, 8), n)
    # Points where another line was picked: usual in spectra over flux.
    if sort != "none":
        wild = rng.random(n) < rng.uniform(0, 0.08)
        y = np.where(wild, y + rng.choice([-1, 1], n) * rng.uniform(100, 800, n), y)
    trace = {"x": tuple(x.tolist()), "y": tuple(y.tolist()), "y_unit": "MHz"}
    truth = {"sweet_spot": float(spot), "f_max": float(top)}
    return {"traces": (trace,)}, truth, _axis("bias", "V"), {"sweet_spot": (0.0, "V")}, oddity


_MAKERS = {
    Kind.RABI_AMPLITUDE: _rabi_amplitude,
    Kind.RABI_TIME: _rabi_time,
    Kind.RAMSEY: _ramsey,
    Kind.T1: _decay("t1", 1.0, 0.0),
    Kind.ECHO: _decay("t2_echo", 1.0, 0.5),
    Kind.RESONATOR_SPECTROSCOPY: _resonator,
    Kind.QUBIT_SPECTROSCOPY: _qubit,
    Kind.READOUT: _readout,
    Kind.DRAG: _drag,
    Kind.CZ_PHASE: _cz,
    Kind.FLUX_ARCH: _arch,
}
