"""Compiled windows of one (code, tier, geometry, part): each distinct window once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from qdec.codes import Code, Part
from qdec.match import CompiledWindow, Tier, compile_window
from qdec.match.assess import Assessor
from qdec.match.escalate import NO_SWITCHING, Switching
from qdec.match.models import Model
from qdec.windows.cut import Erasure
from qdec.windows.geometry import Geometry, Window, window_at

WindowKey = tuple[int, int, int, int]
# Windows that end an endless stream come in many lengths; only so many are kept.
_KEPT = 256


class WindowBank:
    """Looks windows up by what they have in common; compiles what is new.

    Streams of the same code share a bank, so their windows can be decoded in one batch.
    """

    def __init__(
        self,
        code: Code,
        tier: Tier,
        geometry: Geometry,
        part: Part | None = None,
        model: Model | None = None,
        switching: Switching = NO_SWITCHING,
        *,
        effort: float = 1.0,
    ) -> None:
        """Start empty; see `prepare`.

        Args:
            code, tier, geometry: of every window.
            part: the part of the code that its windows answer for; all of it if None.
            model: the network of a tier that needs one.
            switching: whether they say how sure they are, and who is asked where they are not.
            effort: spent on finding out what that means; see `Assessor`.
        """
        self.code = code
        self.tier = tier
        self.geometry = geometry
        self.part = part
        self.model = model
        self._compiled: OrderedDict[WindowKey, CompiledWindow] = OrderedDict()
        space = code.spacetime
        self.settled, self._period = space.settled, max(1, space.period)
        self._steady: dict[tuple[int, int], CompiledWindow] = {}
        self.switching = switching
        self._assessor = None
        if switching:
            self._assessor = Assessor(
                code, tier, geometry, part, switching, model=model, effort=effort
            )
        self._preparing = False

    def prepare(self, length: int | None) -> None:
        """Compile every window that shots of `length` rounds (None: endless) will need.

        Raises:
            GeometryError: a window cannot be compiled.
        """
        self._preparing = True
        try:
            for window in self.needed(length):
                self.get(window)
        finally:
            self._preparing = False

    def needed(self, length: int | None) -> Iterator[Window]:
        """Windows of every kind that shots of `length` rounds (None: endless) will need."""
        yield from self._larger(length)
        space = self.code.spacetime
        start = 0
        steady: set[WindowKey] = set()
        while True:
            window = window_at(self.geometry, start, length)
            key = self.key(window)
            in_steady_state = start >= space.head and key[2] < 0
            if in_steady_state and key in steady and length is None:
                return
            yield window
            if window.closes:
                return
            if in_steady_state and key in steady and length is not None:
                start = self._last_stretch(start, length)
                continue
            steady.add(key)
            start += window.commit

    def _larger(self, length: int | None) -> Iterator[Window]:
        """What streams that are behind will need, one of each for each phase."""
        buffer, step = self.geometry.window - self.geometry.commit, self.geometry.commit
        for commit in self.geometry.larger_commits:
            start = (self.settled // step + 1) * step
            for first in range(start, start + step * self._period, step):
                end = first + commit + buffer
                if length is None or end <= length - self.code.spacetime.tail:
                    yield Window(first, end, commit, None)

    def _last_stretch(self, start: int, length: int) -> int:
        """Skip ahead over windows already compiled, to the last whole period before the tail."""
        space, commit = self.code.spacetime, self.geometry.commit
        step = commit * max(1, space.period)
        room = length - space.tail - self.geometry.window - start
        return start + max(1, room // step) * step if room >= step else start + commit

    def get(self, window: Window, erasures: tuple[Erasure, ...] = ()) -> CompiledWindow:
        """The decoder for a window; with erasures, one compiled for this occasion (slow)."""
        if window.length is None and not erasures and window.start > self.settled:
            # The windows of an endless stream: few kinds, one for each round of its period.
            kind = (window.start - self.settled) % self._period, window.commit
            steady = self._steady.get(kind)
            if steady is None:
                steady = self._steady[kind] = self._look_up(window)
            return steady
        if erasures:
            return self._compile(window, erasures)
        return self._look_up(window)

    def _look_up(self, window: Window) -> CompiledWindow:
        key = self.key(window)
        found = self._compiled.get(key)
        if found is None:
            found = self._compile(window)
            self._compiled[key] = found
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(key)
        return found

    def _compile(self, window: Window, erasures: tuple[Erasure, ...] = ()) -> CompiledWindow:
        if self._assessor is not None:
            return self._assessor.compile(window, erasures, calibrate=self._preparing)
        return compile_window(
            self.code, self.tier, self.geometry, window, erasures, self.part, self.model
        )

    def key(self, window: Window) -> WindowKey:
        """What windows that are answered by the same decoder have in common."""
        class_, rounds, to_end = self.code.spacetime.window_key(
            window.start, window.end, window.length
        )
        return class_, rounds, to_end, window.commit

    @property
    def num_compiled(self) -> int:
        """Distinct windows compiled and kept."""
        return len(self._compiled)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the compiled windows want a person to know, without repetition."""
        seen = dict.fromkeys(note for one in self._compiled.values() for note in one.notes)
        return tuple(seen)
