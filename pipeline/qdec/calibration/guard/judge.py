"""The rules, in their order: those that block first, then those that ask a person.

`frozen`, `undeclared`, `number`, `unit`, `clock`, `unknown`, `stale`, `bounds`, `step`, `per_hour`
and `dependency` block. `confidence`, `history` and `anomaly` ask.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from functools import partial

from qdec.calibration.guard.policy import Guarded, Policy
from qdec.calibration.guard.record import Approval, Decision, Proposal, Ruling
from qdec.calibration.guard.state import HOUR_S, Applied, State
from qdec.calibration.units import convert
from qdec.errors import UnitError

# An approval is good for so long: the device drifts on.
APPROVAL_S = 3600.0
# `from` must be what is set now, to within rounding.
_SAME = 1e-9
# Sums of many floats: a limit is met a little early rather than a little late.
_ROUNDING = 1 - 1e-12


def judge(
    policy: Policy,
    state: State,
    proposal: Proposal,
    now: float,
    approval: Approval | None = None,
) -> Decision:
    """Judge one proposal.

    Args:
        now: seconds since the epoch.
        approval: an operator's word for exactly this proposal, if there is one.
    """
    decided = partial(_decision, policy, proposal, now, approval)
    passed: list[str] = []

    def blocked(rule: str, detail: str) -> Decision:
        return decided(Ruling.BLOCKED, rule, detail, None, passed)

    if policy.frozen:
        return blocked("frozen", "the device is frozen: nothing is changed")
    passed.append("frozen")
    rules = policy.parameters.get(proposal.parameter)
    if rules is None:
        return blocked("undeclared", f"{proposal.parameter[:64]!r} is not declared")
    passed.append("undeclared")
    told = (proposal.to, now, proposal.confidence, proposal.from_ or 0.0)
    if not all(map(math.isfinite, told)):
        return blocked("number", "a value, the confidence or the time is not a finite number")
    passed.append("number")
    try:
        to = convert(proposal.to, proposal.unit, rules.unit)
        said = (
            None if proposal.from_ is None else convert(proposal.from_, proposal.unit, rules.unit)
        )
    except UnitError as error:
        return blocked("unit", str(error))
    passed.append("unit")
    for rule, detail in _hard(policy, rules, state, proposal.parameter, said, to, now):
        if detail:
            return decided(Ruling.BLOCKED, rule, detail, to, passed)
        passed.append(rule)
    asked = [(r, d) for r, d in _soft(rules, state, proposal, to) if d]
    approved = approval is not None and _good(approval, proposal, now)
    if asked and not approved:
        rule = asked[0][0]
        return decided(Ruling.NEEDS_APPROVAL, rule, "; ".join(d for _, d in asked), to, passed)
    return decided(Ruling.ALLOWED, "", "; ".join(d for _, d in asked), to, passed)


def judge_all(
    policy: Policy,
    state: State,
    proposals: Iterable[Proposal],
    now: float,
    approvals: Iterable[Approval] = (),
) -> tuple[tuple[Decision, ...], State]:
    """Judge proposals one after another, each as if what was allowed before had been applied.

    Returns:
        the decisions, and the state after those that are to be applied.
    """
    words = {a.fingerprint: a for a in approvals}
    decisions = []
    for proposal in proposals:
        decision = judge(policy, state, proposal, now, words.get(proposal.fingerprint))
        decisions.append(decision)
        if decision.apply and decision.to is not None:
            state = state.applied(proposal.parameter, decision.to, now)
    return tuple(decisions), state


def _hard(
    policy: Policy,
    rules: Guarded,
    state: State,
    parameter: str,
    said: float | None,
    to: float,
    now: float,
) -> Iterator[tuple[str, str]]:
    """Each rule that blocks, with its complaint or nothing."""
    changes = state.changes.get(parameter, ())
    yield "clock", "the clock is behind the last change" if changes and changes[-1].at > now else ""
    current = state.values.get(parameter, math.nan)
    yield "unknown", "" if math.isfinite(current) else "what is set now is not known"
    stale = said is not None and not math.isclose(
        said, current, rel_tol=_SAME, abs_tol=_SAME * rules.step
    )
    yield "stale", f"it is {current:g} {rules.unit} now, not {said:g}" if stale else ""
    low, high = rules.bounds.low, rules.bounds.high
    outside = not low <= to <= high
    yield "bounds", f"{to:g} is outside of {low:g} … {high:g} {rules.unit}" if outside else ""
    size = abs(to - current)
    far = size > rules.step
    yield "step", f"a step of {size:g} {rules.unit}; {rules.step:g} is allowed" if far else ""
    moved = size + sum(abs(c.to - c.from_) for c in changes if c.at > now - HOUR_S)
    fast = moved > rules.per_hour * _ROUNDING
    words = f"{moved:g} {rules.unit} within an hour; {rules.per_hour:g} are allowed"
    yield "per_hour", words if fast else ""
    yield "dependency", "; ".join(_unhealthy(policy, state, rules, now))


def _unhealthy(policy: Policy, state: State, rules: Guarded, now: float) -> Iterator[str]:
    """What this one depends on, directly or not, and must be mended first."""
    seen: set[str] = set()
    ahead = list(rules.depends_on)
    while ahead:
        name = ahead.pop(0)
        if name in seen:
            continue
        seen.add(name)
        health = state.health.get(name)
        if health is None:
            yield f"{name} was never calibrated"
        elif not health.good:
            yield f"{name} is failing"
        elif not 0 <= now - health.at <= policy.parameters[name].fresh_s:
            yield f"{name} is out of date"
        ahead += policy.parameters[name].depends_on


def _soft(rules: Guarded, state: State, proposal: Proposal, to: float) -> Iterator[tuple[str, str]]:
    """Each rule that asks a person, with its reason or nothing."""
    unsure = not rules.least_confidence <= proposal.confidence <= 1
    yield "confidence", f"a confidence of {proposal.confidence:.2g}" if unsure else ""
    changes = state.changes.get(proposal.parameter, ())
    few = len(changes) < rules.least_history
    yield "history", f"only {len(changes)} changes on record" if few else ""
    size = to - state.values[proposal.parameter]
    z = 0.0 if few or abs(size) <= rules.floor else robust_z(size, changes)
    odd = abs(z) > rules.anomaly
    yield "anomaly", f"unlike the changes before (robust z-score {z:.1f})" if odd else ""


def robust_z(size: float, changes: tuple[Applied, ...]) -> float:
    """Distance of a change from the median of those before, in robust standard deviations (MAD)."""
    sizes = [c.to - c.from_ for c in changes]
    if not sizes:
        return 0.0
    middle = statistics.median(sizes)
    spread = 1.4826 * statistics.median(abs(s - middle) for s in sizes)
    if spread == 0:
        return 0.0 if size == middle else math.copysign(math.inf, size - middle)
    return (size - middle) / spread


def _good(approval: Approval, proposal: Proposal, now: float) -> bool:
    """Is it for this proposal, of somebody, for a reason, and not too old?"""
    told = approval.operator.strip() and approval.reason.strip()
    return bool(
        told
        and approval.fingerprint == proposal.fingerprint
        and 0 <= now - approval.at <= APPROVAL_S
    )


def _decision(
    policy: Policy,
    proposal: Proposal,
    now: float,
    approval: Approval | None,
    ruling: Ruling,
    rule: str,
    detail: str,
    to: float | None,
    passed: list[str],
) -> Decision:
    apply = ruling is Ruling.ALLOWED and not policy.dry_run
    return Decision(proposal, ruling, rule, detail, now, to, apply, tuple(passed), approval)
