"""What a client may say about itself: timeouts, and a code of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits for what.

    Attributes:
        answer_s: for an answer to an open, before asking again.
        silence_s: without any message while something is outstanding, before asking whether the
            lane is still there.
        dead_s: the same in all, the question included, before resuming elsewhere; doubled after
            every such resume that brought no commit.
        open_s: without success at opening, before `ServiceUnavailable`.
        give_up_s: the same for resuming what was open.
        frame_rounds: most rounds per message.
    """

    answer_s: float = 2.0
    silence_s: float = 0.1
    dead_s: float = 0.5
    open_s: float = 5.0
    give_up_s: float = 30.0
    frame_rounds: int = 4096


@dataclass(frozen=True, slots=True)
class CodeText:
    """A guest's code, sent along when its stream is opened.

    Attributes:
        kind: ``circuit`` or ``dem``.
        text: Stim's text format.
        round_map: round of each detector, for codes without time coordinates.
    """

    kind: Literal["circuit", "dem"]
    text: str
    round_map: Sequence[int] | None = None
