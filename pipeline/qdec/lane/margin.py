"""How early a lane must stop waiting for the accelerator, because it is late itself: learned."""

from __future__ import annotations

_FALL = 64


class Margin:
    """What to keep free before a deadline beside the time that matching takes, ns.

    A lane that waits until the last moment is late by whatever the operating system, and what it
    was doing just then, take from it. So it remembers how late it was, at once and in full, and
    forgets slowly: about one in a hundred may be worse.

    Attributes:
        least: what is kept free in any case.
    """

    def __init__(self, least: int) -> None:
        """Nothing is known."""
        self.least = least
        self._late = 0.0

    def of(self, deadline: int) -> int:
        """What to keep free for a window with so many ns from its arrival to its deadline."""
        return min(self.least + int(self._late), deadline // 2)

    def learn(self, late: int) -> None:
        """Something ended so many ns later than was planned."""
        if late > self._late:
            self._late = float(late)
        else:
            self._late -= (self._late - max(0, late)) / _FALL
