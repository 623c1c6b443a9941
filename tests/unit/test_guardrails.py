"""Guardrails: nothing crosses a limit, whoever suggests it and whoever approves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.calibration.guard import (
    Approval,
    Bounds,
    Guarded,
    Policy,
    Proposal,
    Ruling,
    State,
    judge,
    judge_all,
)
from qdec.calibration.guard.state import HOUR_S
from qdec.errors import ConfigError

NOW = 1.7e9
AMP, FREQ = "q0.pi_amplitude", "q0.qubit_frequency"
POLICY = Policy(
    {
        FREQ: Guarded("MHz", Bounds(4000, 6000), step=20, per_hour=50),
        AMP: Guarded("1", Bounds(0, 1), step=0.1, per_hour=0.25, depends_on=(FREQ,)),
    }
)


def healthy(**values: float) -> State:
    """A device that was set well a minute ago, with a history of small changes."""
    state = State({AMP: 0.5, FREQ: 5000.0})
    for i in range(10):
        at = NOW - 20_000 + 600 * i
        state = state.applied(AMP, 0.5 + 0.01 * (-1) ** i, at)
        state = state.applied(FREQ, 5000 + (-1.0) ** i, at)
    for name in (AMP, FREQ):
        state = state.checked(name, True, NOW - 60)
    return replace(state, values={AMP: 0.5, FREQ: 5000.0, **values})


def proposal(parameter: str = AMP, to: float = 0.51, **more: Any) -> Proposal:
    told: dict[str, Any] = {"from_": None, "confidence": 0.99}
    told["unit"] = "1" if parameter == AMP else "MHz"
    return Proposal(parameter, to=to, source="e-1", **{**told, **more})


def approval(of: Proposal, at: float = NOW) -> Approval:
    return Approval(of.fingerprint, "mo", "looked at it", at)


def test_an_ordinary_change_passes_every_rule() -> None:
    decision = judge(POLICY, healthy(), proposal(), NOW)
    assert decision.ruling is Ruling.ALLOWED
    assert decision.apply
    assert decision.passed[-1] == "dependency"
    in_hz = judge(POLICY, healthy(), proposal(FREQ, 5.001e9, unit="Hz"), NOW)
    assert in_hz.to == pytest.approx(5001)


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (proposal("q9.voltage", 10_000.0), "undeclared"),
        (proposal(to=math.nan), "number"),
        (proposal(to=math.inf), "number"),
        (proposal(confidence=math.nan), "number"),
        (proposal(unit="kV"), "unit"),
        (proposal(unit="smoots"), "unit"),
        (proposal(from_=0.4), "stale"),
        (proposal(to=-0.01), "bounds"),
        (proposal(to=0.65), "step"),
    ],
)
def test_what_breaks_a_rule_is_blocked_by_its_name(made: Proposal, rule: str) -> None:
    for word in (None, approval(made)):
        decision = judge(POLICY, healthy(), made, NOW, word)
        assert (decision.ruling, decision.rule) == (Ruling.BLOCKED, rule)
        assert not decision.apply
        assert decision.detail


def test_small_steps_do_not_add_up_to_a_large_one() -> None:
    state = healthy()
    for i in range(20):
        made = proposal(to=state.values[AMP] + 0.09 * (-1) ** i)
        (decision,), state = judge_all(POLICY, state, [made], NOW + i, [approval(made, NOW + i)])
        if decision.rule == "per_hour":
            break
    assert i == 2
    made = proposal(to=state.values[AMP] + 0.01)
    later = NOW + HOUR_S + i
    state = state.checked(FREQ, True, later)
    assert judge(POLICY, state, made, later, approval(made, later)).apply


@pytest.mark.parametrize(("good", "age"), [(False, 0.0), (True, 90_000.0), (True, -5.0)])
def test_nothing_is_touched_before_what_it_depends_on(good: bool, age: float) -> None:
    state = healthy().checked(FREQ, good, NOW - age)
    decision = judge(POLICY, state, proposal(), NOW)
    assert (decision.ruling, decision.rule) == (Ruling.BLOCKED, "dependency")
    assert judge(POLICY, state, proposal(FREQ, 5001.0), NOW).apply


@pytest.mark.parametrize(
    ("made", "rule"),
    [(proposal(confidence=0.5), "confidence"), (proposal(to=0.59), "anomaly")],
)
def test_what_is_risky_waits_for_a_person(made: Proposal, rule: str) -> None:
    state = healthy()
    if rule == "anomaly":
        state = replace(
            state, changes={AMP: tuple(replace(c, to=c.from_ + 1e-3) for c in state.changes[AMP])}
        )
    waiting = judge(POLICY, state, made, NOW)
    assert (waiting.ruling, waiting.rule) == (Ruling.NEEDS_APPROVAL, rule)
    assert not waiting.apply
    assert judge(POLICY, state, made, NOW, approval(made)).apply
    other = approval(proposal(to=0.52))
    old = approval(made, NOW - 4000)
    silent = replace(approval(made), reason=" ")
    for word in (other, old, silent):
        assert judge(POLICY, state, made, NOW, word).ruling is Ruling.NEEDS_APPROVAL


def test_a_first_change_waits_and_a_dry_run_applies_nothing() -> None:
    state = State({AMP: 0.5}).checked(FREQ, True, NOW)
    assert judge(POLICY, state, proposal(), NOW).rule == "history"
    (decision,), after = judge_all(replace(POLICY, dry_run=True), healthy(), [proposal()], NOW)
    assert decision.ruling is Ruling.ALLOWED
    assert not decision.apply
    assert after.values == healthy().values


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="low first"):
        Bounds(1, 0)
    rules = POLICY.parameters[FREQ]
    with pytest.raises(ConfigError, match="not declared"):
        Policy({AMP: replace(rules, depends_on=("q0.t",))})
    with pytest.raises(ConfigError, match="round"):
        Policy({AMP: replace(rules, depends_on=(FREQ,)), FREQ: replace(rules, depends_on=(AMP,))})
    with pytest.raises(ConfigError, match="positive"):
        replace(rules, step=math.inf)


hostile = st.builds(
    Proposal,
    parameter=st.sampled_from([AMP, FREQ, "q0.flux"]),
    from_=st.none() | st.floats(),
    to=st.floats() | st.floats(0, 1) | st.floats(3900, 6100),
    unit=st.sampled_from(["1", "MHz", "Hz", "GHz", "V", "%", ""]),
    confidence=st.floats() | st.just(1.0),
    source=st.just("eve"),
)


@given(hostile, st.booleans(), st.booleans())
def test_frozen_means_that_nothing_passes(made: Proposal, dry: bool, approved: bool) -> None:
    policy = replace(POLICY, frozen=True, dry_run=dry)
    decision = judge(policy, healthy(), made, NOW, approval(made) if approved else None)
    assert (decision.ruling, decision.rule, decision.apply) == (Ruling.BLOCKED, "frozen", False)


@given(hostile)
def test_approval_never_overrides_a_rule_that_blocks(made: Proposal) -> None:
    without = judge(POLICY, healthy(), made, NOW)
    with_it = judge(POLICY, healthy(), made, NOW, approval(made))
    if without.ruling is Ruling.BLOCKED:
        assert (with_it.ruling, with_it.rule) == (Ruling.BLOCKED, without.rule)
    if with_it.apply:
        rules = POLICY.parameters[made.parameter]
        assert with_it.to is not None
        assert rules.bounds.low <= with_it.to <= rules.bounds.high


def test_ten_thousand_adversarial_suggestions_cross_nothing() -> None:
    """All approved, many just inside or outside of a limit; the trail is judged from outside."""
    rng = np.random.default_rng(7)
    state, now = healthy(), NOW
    trail: dict[str, list[tuple[float, float]]] = {n: [(NOW, state.values[n])] for n in (AMP, FREQ)}
    applied = 0
    for _ in range(10_000):
        now += float(rng.choice([0.0, 1.0, 30.0, 600.0, -100.0], p=[0.2, 0.3, 0.3, 0.19, 0.01]))
        state = state.checked(FREQ, bool(rng.random() < 0.95), now)
        name = (AMP, FREQ)[rng.integers(2)]
        rules, here = POLICY.parameters[name], state.values[name]
        near = [rules.bounds.low, rules.bounds.high, here + rules.step, here - rules.step, here]
        to = float(rng.choice(near)) + float(rng.choice([0, 1e-9, -1e-9, 0.01, -0.01])) * rules.step
        to = float(rng.choice([to, here + rng.normal() * rules.step, math.inf, 1e4 * rng.normal()]))
        made = proposal(name, to)
        (decision,), state = judge_all(POLICY, state, [made], now, [approval(made, now)])
        if decision.apply:
            applied += 1
            trail[name].append((now, state.values[name]))
    assert applied > 100
    for name, points in trail.items():
        rules = POLICY.parameters[name]
        at, values = np.array(points).T
        assert np.all((values >= rules.bounds.low) & (values <= rules.bounds.high))
        assert np.all(np.abs(np.diff(values)) <= rules.step)
        assert np.all(np.diff(at) >= 0)
        for i in range(1, len(at)):
            recent = (at > at[i] - HOUR_S) & (np.arange(len(at)) <= i) & (np.arange(len(at)) > 0)
            moved = np.abs(np.diff(values))[recent[1:]].sum()
            assert moved <= rules.per_hour
