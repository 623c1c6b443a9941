"""One shot again, window by window, each by the tier that is on record for it.

Where tiers take turns, a window's answer depends on what answered those before it: their seams are
part of what it was asked. So an answer is right if it is what this gives for the recorded tiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qdec.bits import Bytes
from qdec.codes import Code, Part
from qdec.errors import DataError
from qdec.match.compile import compile_window
from qdec.match.models import Model
from qdec.match.tier import CompiledWindow, Tier
from qdec.windows.cut import answer_bytes, carry_seam
from qdec.windows.geometry import Geometry, Window, window_at


class Replayed(NamedTuple):
    """What a window answers.

    Attributes:
        frame: ``(frame_bytes,)`` uint8: observables flipped since the shot began.
        seam: ``(seam_bytes,)`` uint8: what is flipped in the rounds behind the commit region.
        feasible: False where nothing explains the syndrome.
    """

    frame: Bytes
    seam: Bytes
    feasible: bool


class Replay:
    """Decodes shots of one code again; windows that are alike are compiled once."""

    def __init__(
        self,
        code: Code,
        geometry: Geometry,
        models: Mapping[Tier, Model] | None = None,
        parts: Sequence[Part] = (),
    ) -> None:
        """Remember what to compile; nothing is compiled before it is needed.

        Args:
            code: the code.
            geometry: of the windows.
            models: networks of the tiers that need one to be named.
            parts: of the code, where several lanes answered for one each.
        """
        self._code = code
        self._geometry = geometry
        self._models = models or {}
        self._parts: Sequence[Part | None] = parts or (None,)
        self._compiled: dict[tuple[int, ...], CompiledWindow] = {}
        frame_bytes, seam_bytes = answer_bytes(code.spacetime)
        self.beginning = Replayed(
            np.zeros(frame_bytes, np.uint8), np.zeros(seam_bytes, np.uint8), True
        )

    def shot(
        self, records: Bytes, windows: Iterable[tuple[Tier | None, int]]
    ) -> Iterator[Replayed]:
        """What each window of a shot answers.

        Args:
            records: ``(rounds, record_bytes)`` uint8, the shot's detectors, all of them.
            windows: (what answered it, rounds it committed) of each, in order from the first; None
                where nothing did (UNCERTAIN; `qdec.commit.dense.answered_by` tells).

        Raises:
            DataError: no windows of this geometry commit so many rounds.
            GeometryError: the geometry does not suit the code or a tier.
        """
        start, before = 0, self.beginning
        for tier, count in windows:
            before = self.window(records, start, tier, count, before)
            yield before
            start += count

    def window(
        self, records: Bytes, start: int, tier: Tier | None, count: int, before: Replayed
    ) -> Replayed:
        """What one window answers behind another.

        Args:
            records: as of `shot`.
            start: the round of the shot at which it starts.
            tier: what answered it; None where it was passed over.
            count: rounds that it committed.
            before: what the window before it answered; `beginning` for a shot's first.

        Raises:
            DataError: no window of this geometry commits so many rounds there.
            GeometryError: the geometry does not suit the code or the tier.
        """
        window = self._window(start, count, len(records))
        syndrome = records[window.start : window.end].reshape(-1).copy()
        frame_bytes, reach = len(before.frame), min(len(before.seam), len(syndrome))
        syndrome[:reach] ^= before.seam[:reach]
        bits = np.zeros(frame_bytes + len(before.seam), np.uint8)
        feasible = True
        if tier is not None:
            for part in self._parts:
                answers = self._decoder(window, tier, part).decode(syndrome[None])
                bits ^= answers.bits[0]
                feasible &= bool(answers.feasible[0])
        seam = carry_seam(self._code.spacetime, window, before.seam, bits[frame_bytes:])
        return Replayed(before.frame ^ bits[:frame_bytes], seam, feasible)

    def _window(self, start: int, count: int, length: int) -> Window:
        if start >= length:
            raise DataError(f"the shot of {length} rounds has ended, and more windows are recorded")
        window = window_at(self._geometry, start, length)
        if window.commit != count and count in self._geometry.larger_commits:
            end = start + count + self._geometry.window - self._geometry.commit
            window = Window(start, end, count, length)
        if window.commit != count or window.end > length:
            raise DataError(f"no window of {self._geometry} at round {start} commits {count}")
        return window

    def _decoder(self, window: Window, tier: Tier, part: Part | None) -> CompiledWindow:
        place = self._code.spacetime.window_key(window.start, window.end, window.length)
        key = (tier, *place, window.commit, -1 if part is None else part.index)
        if key not in self._compiled:
            self._compiled[key] = self.compile(window, tier, part)
        return self._compiled[key]

    def compile(self, window: Window, tier: Tier, part: Part | None) -> CompiledWindow:
        """The decoder of a window, or of a part of it."""
        model = self._models.get(tier)
        return compile_window(self._code, tier, self._geometry, window, part=part, model=model)
