"""How sure a window's answer is: a signal, and the calibration that makes it a probability.

A *signal* is a number that rises with how sure a decoder can be of a window: the complementary gap
(`qdec.match.gap`), a network's margin, or for want of either minus the number of detection events.
A *calibration* maps it to the probability that the answer is right. It is fitted on windows drawn
from the model that they are decoded with (`qdec.match.trial`), so it needs no table of codes and
noise, and it is as true as that model is.

The map is logistic, ``P(right) = 1 / (1 + exp(-(offset + slope * (signal - pivot))))`` with
``slope >= 0``: monotone, smooth, two parameters. A gap of g nats would give exactly that with
offset 0 and slope 1 if each class had one solution and errors were independent. A prior holds the
parameters where few windows, or none, were answered wrongly: at large distances a thousand windows
hold no failure, and what is said of a large gap is then an extrapolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.errors import DataError
from qdec.match.gap import GapMeter
from qdec.match.tier import Answers, CompiledWindow

Floats = NDArray[np.float64]
_NEWTON_STEPS = 60
_CLIP = 500.0


@dataclass(frozen=True, slots=True)
class SignalKind:
    """What a signal is, and what to expect of its calibration before any window was seen.

    Attributes:
        name: what it is called.
        at: signal at which `offset` is expected; None for the mean of the sample.
        offset, offset_sd: log-odds of a right answer there, and how well that is known.
        slope, slope_sd: log-odds per unit of signal, likewise.
    """

    name: str
    at: float | None
    offset: float
    offset_sd: float
    slope: float
    slope_sd: float


# Fits of matching and of correlated matching at d = 3 to 9, p = .001 to .006, whole shots and
# windows, lie well within.
GAP = SignalKind("gap", 0.0, 1.0, 1.5, 0.7, 0.25)
# A network's log-odds are as sure of themselves as its training left them.
SOFT_GAP = SignalKind("soft gap", 0.0, 0.7, 1.5, 0.5, 0.3)
EVENTS = SignalKind("events", None, 3.0, 5.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """From a signal to a probability.

    Attributes:
        signal: name of the signal.
        pivot, offset, slope: see the module's text.
        windows, wrong: what it was fitted on.
    """

    signal: str
    pivot: float
    offset: float
    slope: float
    windows: int
    wrong: int

    def apply(self, signals: Floats) -> NDArray[np.float32]:
        """``(B,)`` float32 probabilities of ``(B,)`` signals; NaN where the signal is NaN."""
        odds = self.offset + self.slope * (signals - self.pivot)
        return (1.0 / (1.0 + np.exp(-np.clip(odds, -_CLIP, _CLIP)))).astype(np.float32)

    def signal_at(self, confidence: float) -> float:
        """The signal that means a confidence in (0, 1); infinite where none does."""
        odds = float(np.log(confidence / (1 - confidence)))
        if self.slope == 0:
            return -np.inf if odds <= self.offset else np.inf
        return self.pivot + (odds - self.offset) / self.slope


def fit(kind: SignalKind, signals: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Fit a calibration: the most probable parameters, given the windows and the prior.

    Args:
        kind: what the signal is.
        signals: ``(N,)``; windows whose signal is NaN say nothing.
        right: ``(N,)`` bool: whether the answer was right.

    Raises:
        DataError: shapes differ.
    """
    if signals.shape != right.shape or signals.ndim != 1:
        raise DataError(f"{signals.shape} signals do not go with {right.shape} outcomes")
    known = ~np.isnan(signals)
    x, y = signals[known].astype(np.float64), right[known].astype(np.float64)
    pivot = kind.at if kind.at is not None else float(x.mean()) if len(x) else 0.0
    mean = np.array([kind.offset, kind.slope])
    weight = np.array([kind.offset_sd, kind.slope_sd]) ** -2.0
    design = np.stack([np.ones_like(x), x - pivot], axis=1)
    found = _most_probable(design, y, mean, weight)
    if found[1] < 0:  # worse answers with a better signal: it says nothing
        found = np.append(_most_probable(design[:, :1], y, mean[:1], weight[:1]), 0.0)
    return Calibration(
        kind.name, pivot, float(found[0]), float(found[1]), len(x), int(len(x) - y.sum())
    )


def _most_probable(x: Floats, y: Floats, mean: Floats, weight: Floats) -> Floats:
    """Logistic regression under a normal prior: Newton's method, halving steps that go too far."""

    def loss(b: Floats) -> float:
        odds = x @ b
        return float((np.logaddexp(0.0, odds) - y * odds).sum() + ((b - mean) ** 2 @ weight) / 2)

    b, at = mean.copy(), loss(mean)
    for _ in range(_NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ b, -_CLIP, _CLIP)))
        gradient = x.T @ (p - y) + weight * (b - mean)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(weight)
        step = np.linalg.solve(curvature, gradient)
        while (new := loss(b - step)) > at and np.abs(step).max() > 1e-12:
            step /= 2
        b, at, gained = b - step, new, at - new
        if gained < 1e-10:
            break
    return b


@runtime_checkable
class SignallingWindow(Protocol):
    """A compiled window whose answers come with a signal."""

    @property
    def notes(self) -> tuple[str, ...]:
        """See `CompiledWindow.notes`."""
        ...

    @property
    def signal(self) -> SignalKind:
        """What the signal is."""
        ...

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        ...

    def decode_signalled(self, syndromes: Bytes) -> tuple[Answers, Floats]:
        """The answers, and ``(B,)`` float64: the larger, the surer; NaN where it is not known."""
        ...


class MeasuredWindow:
    """A window of any tier with a signal that its syndrome alone gives."""

    def __init__(self, window: CompiledWindow, gap: GapMeter | None) -> None:
        """The signal is the gap, or minus the number of events where there is no gap."""
        self._window = window
        self._gap = gap
        self.signal = GAP if gap is not None else EVENTS
        self.notes = window.notes

    @property
    def asked_first(self) -> CompiledWindow:
        """See `qdec.match.ahead.Wrapping`."""
        return self._window

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        return self._window.decode(syndromes)

    def decode_signalled(self, syndromes: Bytes) -> tuple[Answers, Floats]:
        """See `SignallingWindow.decode_signalled`."""
        return self._window.decode(syndromes), self.measure(syndromes)

    def measure(self, syndromes: Bytes) -> Floats:
        """``(B,)`` the signal alone."""
        if self._gap is not None:
            return self._gap.measure(syndromes)
        return minus_events(syndromes)


def minus_events(syndromes: Bytes) -> Floats:
    """``(B,)`` float64: the signal `EVENTS`."""
    return np.asarray(-np.unpackbits(syndromes, axis=1).sum(axis=1, dtype=np.float64))


class ConfidentWindow:
    """A window whose answers say how sure they are."""

    def __init__(self, window: SignallingWindow, calibration: Calibration) -> None:
        """Compose a window with the calibration of its signal."""
        self._window = window
        self.calibration = calibration
        self.notes = window.notes

    @property
    def asked_first(self) -> CompiledWindow:
        """See `qdec.match.ahead.Wrapping`."""
        return self._window

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`. What nothing explains has no confidence."""
        answers, signals = self._window.decode_signalled(syndromes)
        confidence = self.calibration.apply(signals)
        confidence[~answers.feasible] = np.nan
        return Answers(answers.bits, answers.feasible, confidence, answers.tiers)
