"""Guardrails: between any suggestion and any hardware. Pure: judges, applies nothing."""

from qdec.calibration.guard.judge import judge, judge_all
from qdec.calibration.guard.policy import Bounds, Guarded, Policy
from qdec.calibration.guard.record import Approval, Decision, Proposal, Ruling
from qdec.calibration.guard.state import Applied, Health, State

__all__ = [
    "Applied",
    "Approval",
    "Bounds",
    "Decision",
    "Guarded",
    "Health",
    "Policy",
    "Proposal",
    "Ruling",
    "State",
    "judge",
    "judge_all",
]
