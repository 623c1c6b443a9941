"""What is judged and what is decided: complete enough to be the record of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from qdec.calibration.response import Response


class Ruling(StrEnum):
    """What may happen to a proposal."""

    ALLOWED = "allowed"
    BLOCKED = "blocked"
    NEEDS_APPROVAL = "needs approval"


@dataclass(frozen=True)
class Proposal:
    """A change that somebody or something wants; nothing in it is trusted.

    Attributes:
        parameter, from_, to, unit: the change.
        confidence: of whoever proposes it.
        source: which answer it is of (experiment), or who wants it.
    """

    parameter: str
    from_: float | None
    to: float
    unit: str
    confidence: float
    source: str
    why: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the change: what an approval is good for."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def of(cls, response: Response) -> tuple[Proposal, ...]:
        """The suggestions of an answer."""
        return tuple(
            cls(
                a.parameter,
                a.from_,
                a.to,
                a.unit,
                response.confidence,
                response.experiment_id,
                a.why,
            )
            for a in response.suggested_actions
        )


@dataclass(frozen=True)
class Approval:
    """An operator's word for one proposal: who, why, when (s since the epoch).

    It answers what needs approval, and nothing else: no rule that blocks gives way to it.
    """

    fingerprint: str
    operator: str
    reason: str
    at: float


@dataclass(frozen=True)
class Decision:
    """A judgement, with all that it rests on.

    Attributes:
        rule: the first rule that did not let it through; empty where none.
        detail: in words.
        to: the value in the policy's unit, where it has one.
        apply: may it be sent to the hardware? Not in a dry run.
        passed: rules that it passed before, in order.
    """

    proposal: Proposal
    ruling: Ruling
    rule: str
    detail: str
    at: float
    to: float | None
    apply: bool
    passed: tuple[str, ...]
    approval: Approval | None = None
