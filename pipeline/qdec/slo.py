"""What a stream is promised, and when its controller is asked to pause: the ``[stream.slo]`` table.

Each objective allows a share of the windows to break it: its *budget*. The *burn rate* is how many
times faster than that the budget is spent; 1 would just use it up. It is taken over a short and a
long window, because a rate counts as high only where both are: the long one shows that it matters,
the short one that it still goes on (Beyer et al., *The Site Reliability Workbook*, chapter 5).
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Objective = Literal["latency", "deadline", "confidence", "fallback"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
LATENCY, DEADLINE, CONFIDENCE, FALLBACK = range(len(OBJECTIVES))
# The windows that burn rates are taken over: name, seconds. Short, then long.
WINDOWS = (("1m", 60), ("10m", 600))
_Share = Annotated[float, Field(gt=0, le=1)]
_Burn = Annotated[float, Field(gt=0, le=1e6)]
_Seconds = Annotated[float, Field(ge=1, le=3600)]


class Slo(BaseModel):
    """Objectives of one stream.

    Attributes:
        latency_us: from a window's last byte in the lane to its commit; half of the deadline if
            left out.
        percentile: of the windows that must be as quick as that.
        deadline_misses: share of windows that may miss the deadline, for whatever reason.
        min_confidence: what a window's confidence should be at least; windows of which it is not
            known are not counted against it.
        low_confidence: share of windows that may be below.
        fallbacks: share of an accelerated stream's windows that its lane may have to answer.
        pause_on: objectives for whose sake the controller is asked to pause.
        pause_burn: the burn rate that is too much, over either window.
        pause_hold_s: how long it must have been.
        resume_burn: the burn rate over the short window at which it may proceed.
        probation_s: how long to pause before it may try; doubled where that goes wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    latency_us: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    percentile: Annotated[float, Field(gt=0, lt=100)] = 99.0
    deadline_misses: _Share = 0.001
    min_confidence: Annotated[float, Field(ge=0, lt=1)] = 0.6
    low_confidence: _Share = 0.01
    fallbacks: _Share = 0.05
    pause_on: Annotated[tuple[Objective, ...], Field(strict=False)] = ()
    pause_burn: _Burn = 14.4
    pause_hold_s: _Seconds = 5.0
    resume_burn: _Burn = 1.0
    probation_s: _Seconds = 10.0

    @model_validator(mode="after")
    def _hysteresis(self) -> Slo:
        if self.resume_burn >= self.pause_burn:
            raise ValueError(
                f"resume_burn = {self.resume_burn:g} must be less than pause_burn = "
                f"{self.pause_burn:g}: between them, what was decided stands"
            )
        for name in self.pause_on:
            most = 1 / self.budgets[OBJECTIVES.index(name)]
            if most <= self.pause_burn:
                raise ValueError(
                    f'pause_on = ["{name}"] can never pause: if every window breaks it, the burn '
                    f"rate is {most:g}; make pause_burn less than that, or the share that is "
                    "allowed smaller"
                )
        return self

    @property
    def budgets(self) -> tuple[float, float, float, float]:
        """Share of windows that may break each of `OBJECTIVES`."""
        slow = round((100 - self.percentile) / 100, 12)
        return slow, self.deadline_misses, self.low_confidence, self.fallbacks
