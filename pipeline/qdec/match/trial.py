"""Was a window answered rightly? Windows drawn from their model, with what follows them.

The last window of a shot is right if its update of the frame is. (Whole shots: exactly.)

In mid-stream a commit is half of a story: of a chain of errors that crosses the end of the commit
region, or that the buffer has yet to see, it may commit another part than happened, and the next
windows make up for it. So a window is *right* if its commit costs nothing: the rounds behind it are
decoded twice, from the seam that was committed and from the seam that a perfect decoder would have
committed, and both ways lead to the same frame. A wrong window is thus one to which a logical
failure can be put down, not one that inherits it.

The referee that decodes those rounds is plain matching, over the buffer and as many rounds again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.codes import Code, Part
from qdec.match.drawing import WindowSampler
from qdec.match.matching import MatchingWindow
from qdec.match.tier import Answers
from qdec.windows.cut import Problem, cut, restrict
from qdec.windows.geometry import Window


@dataclass(frozen=True, slots=True)
class Drawn:
    """Windows drawn at random.

    Attributes:
        syndromes: ``(B, rounds * record_bytes)`` uint8: what a decoder is given.
        behind: ``(B, ...)`` uint8: round records from the end of the commit region on.
        truth: ``(B, frame_bytes + seam_bytes)`` uint8: the answers of a perfect decoder.
        frames: ``(B, frame_bytes)`` uint8: the frame that those lead to.
    """

    syndromes: Bytes
    behind: Bytes
    truth: Bytes
    frames: Bytes

    def rows(self, which: NDArray[np.int64]) -> Drawn:
        """Some of the windows."""
        return Drawn(
            self.syndromes[which], self.behind[which], self.truth[which], self.frames[which]
        )


class WindowTrial:
    """Draws windows of one kind and judges their answers.

    Attributes:
        load: see `WindowSampler.load`.
    """

    def __init__(
        self, code: Code, window: Window, part: Part | None = None, *, heat: float = 1.0
    ) -> None:
        """Prepare to draw a code's windows, with the events and observables of a part of it.

        Args:
            code: the code.
            window: the kind of window.
            part: the part of the code whose events and observables count; all of it if None.
            heat: how many times likelier errors are than the model says (up to p = 1/2).

        Raises:
            GeometryError: the window's buffer is too short for the code.
        """
        space = code.spacetime
        row = space.layout.record_bytes
        buffer = window.end - window.start - window.commit
        end = window.end
        if not window.closes:
            end += max(buffer, space.span) + space.span
            if window.length is not None:
                end = min(end, window.length)

        def problem(which: Window) -> Problem:
            found = cut(space, which)
            if part is None:
                return found
            return restrict(found, part.nodes(which.start, which.end, which.length))

        whole = problem(Window(window.start, end, window.commit, window.length))
        if heat != 1.0:
            hot = np.minimum(heat * whole.p, np.maximum(whole.p, 0.5))
            self._sampler = WindowSampler(replace(whole, p=hot))
        else:
            self._sampler = WindowSampler(whole)
        self.load = self._sampler.load
        self._frame_bytes = whole.frame_bytes
        self._width = (window.end - window.start) * row
        self._committed = window.commit * row
        self._referee = None
        if not window.closes:
            first = window.start + window.commit
            reach = end - first if end == window.length else end - first - space.span
            self._referee = MatchingWindow(problem(Window(first, end, reach, window.length)))

    def draw(self, windows: int, rng: np.random.Generator) -> Drawn:
        """Draw windows."""
        records, truth = self._sampler.draw(windows, rng)
        behind = records[:, self._committed :]
        return Drawn(
            np.ascontiguousarray(records[:, : self._width]),
            behind,
            truth,
            self._settled(behind, truth),
        )

    def right(self, drawn: Drawn, answers: Answers) -> NDArray[np.bool_]:
        """``(B,)`` whether the answers to drawn windows are right; what is infeasible is not."""
        right = np.ones(len(answers.bits), dtype=np.bool_)
        rows = np.flatnonzero((answers.bits != drawn.truth).any(axis=1))
        if len(rows):
            frames = self._settled(drawn.behind[rows], answers.bits[rows])
            right[rows] = (frames == drawn.frames[rows]).all(axis=1)
        return np.asarray(right & answers.feasible)

    def _settled(self, behind: Bytes, bits: Bytes) -> Bytes:
        """The frame that answers lead to."""
        frame, seam = bits[:, : self._frame_bytes], bits[:, self._frame_bytes :]
        if self._referee is None:
            return frame
        behind = behind.copy()
        behind[:, : seam.shape[1]] ^= seam
        return np.asarray(frame ^ self._referee.decode(behind).bits[:, : self._frame_bytes])
