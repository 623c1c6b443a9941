"""Where windows start, how long they are, how much of each is committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from qdec.codes import Code
from qdec.errors import GeometryError

# Commit regions of 20 d, where matching is fast: the buffer of d rounds is then decoded twice for
# 5 % of the rounds, and what a window costs besides is spread over 100 rounds at d=5.
_AUTO_COMMIT_DISTANCES = 20
_AUTO_COMMIT_AT_9 = 90
# Where matching is cheap, what a window costs besides counts: it is spread over as many rounds.
_AUTO_COMMIT_LEAST = 100
# Assumed of a code whose distance nobody knows.
UNKNOWN_DISTANCE = 5
# Shots up to this many auto windows long are answered whole: one window, no seam.
_MAX_ROUNDS_PER_WINDOW = 1 << 20
# Some 5 GB while it is compiled.
_MAX_COMPONENTS = 20_000_000


@dataclass(frozen=True, slots=True)
class Geometry:
    """Window length and commit length in rounds; (0, 0) means whole shots.

    Attributes:
        window: W, rounds decoded together.
        commit: C, leading rounds of a window whose corrections are final. W - C is the buffer.
        most: M: where a stream is behind, its next window may commit 2 C, 4 C, ...
            up to M rounds at once, with the same buffer. 0: all windows are alike, so that answers
            do not depend on when they were decoded.
    """

    window: int
    commit: int
    most: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether each shot is one window."""
        return self.window == 0

    @property
    def longest(self) -> int:
        """Rounds of the longest window; 0 for whole shots."""
        return max(self.most, self.commit) + self.window - self.commit

    @property
    def larger_commits(self) -> tuple[int, ...]:
        """Rounds that windows of a stream that is behind may commit, the largest first."""
        found = []
        commit = 2 * self.commit
        while 0 < commit <= self.most:
            found.append(commit)
            commit *= 2
        return tuple(reversed(found))

    def __str__(self) -> str:
        """``whole``, ``W,C`` or ``W,C,M``: the form that `parse_geometry` reads."""
        if self.is_whole:
            return "whole"
        return f"{self.window},{self.commit}" + (f",{self.most}" if self.most else "")


WHOLE = Geometry(0, 0)


class Window(NamedTuple):
    """One window of a shot. (A tuple: one is made for every window answered.)

    Attributes:
        start: first round, within the shot.
        end: one past the last round.
        commit: rounds committed; all of them in a shot's last window.
        length: rounds of the shot if its end is known (needed where the window sees it).
    """

    start: int
    end: int
    commit: int
    length: int | None

    @property
    def closes(self) -> bool:
        """Whether this is its shot's last window."""
        return self.end == self.length


def window_end(geometry: Geometry, start: int, length: int | None) -> int:
    """One past the last round of the window that starts at round `start` of a shot."""
    if geometry.is_whole:
        if length is None:
            raise GeometryError("an endless stream cannot be decoded as whole shots")
        return length
    end = start + geometry.window
    return end if length is None or end < length else length


def window_at(geometry: Geometry, start: int, length: int | None) -> Window:
    """The window that starts at round `start` of a shot of `length` rounds (None: endless)."""
    end = window_end(geometry, start, length)
    closes = end == length
    return Window(start, end, end - start if closes else geometry.commit, length)


def parse_geometry(text: str) -> Geometry | Literal["auto"]:
    """Read ``auto``, ``whole``, ``W,C`` or ``W,C,M``.

    Raises:
        GeometryError: it is none of these.
    """
    word = text.strip().lower()
    if word == "auto":
        return "auto"
    if word == "whole":
        return WHOLE
    try:
        window, commit, *more = (int(part) for part in word.split(","))
        if window < 1 or len(more) > 1:  # Geometry(0, …) is how whole shots are told
            raise ValueError
    except ValueError:
        raise GeometryError(
            f"windows '{text}': give auto, whole, W,C (two numbers of rounds, like 10,5), or W,C,M "
            "(like 10,5,80: up to M rounds at once where the stream is behind)"
        ) from None
    return Geometry(window, commit, *more)


def _auto_commit(d: int) -> int:
    """Rounds that an automatic window commits.

    Matching a round takes time that grows like d^4, and a window should take well below the usual
    deadline of 2 ms: some 0.4 ms at d = 9, and 1 ms at d = 13.
    """
    long = max(_AUTO_COMMIT_DISTANCES * d, _AUTO_COMMIT_LEAST)
    quick = round(_AUTO_COMMIT_AT_9 * (9 / d) ** 2)
    return max(2 * d, min(long, quick))


def choose_geometry(
    wanted: Geometry | Literal["auto"],
    code: Code,
    *,
    endless: bool,
    distance: int | None = None,
    short: bool = False,
) -> Geometry:
    """Check a geometry against its code, or choose one.

    ``auto`` commits C rounds (100 up to d = 5, 140 at d = 7, then fewer: 90 at d = 9, 43 at d =
    13), with a buffer of d, or of the code's longest mechanism if that is longer; it takes the
    whole shot where that is no longer.

    Args:
        wanted: what the config or client asked for.
        code: the code.
        endless: whether the stream has no fixed length.
        distance: the code distance, if the caller knows it; searched for otherwise.
        short: for networks, whose time goes with a window's length and which were trained on short
            ones: ``auto`` then commits d rounds with a buffer of d + 2, and takes shots of up to
            2d + 2 rounds whole.

    Raises:
        GeometryError: W - C is shorter than the longest mechanism (a truncated edge would commit),
            a length is out of range, or an endless stream asks for whole shots, or its code has no
            repeating round.
    """
    space = code.spacetime
    if endless and space.period == 0:
        if code.detector_spacetime.period:
            raise GeometryError(
                "the rounds of the code repeat, but not how they are measured (does the circuit "
                "run one patch after the other?), so measurements cannot be streamed endlessly: "
                "stream detectors, or measure all of a round before the next one"
            )
        raise GeometryError(
            f"no repeating round was found among the {space.rounds} rounds of the code, so it "
            "cannot be stretched into an endless stream: give a circuit of more rounds"
        )
    if wanted == "auto":
        d = distance or code.distance or UNKNOWN_DISTANCE
        buffer = max(d + 2 if short else d, space.span, 1)
        commit = d if short else _auto_commit(d)
        if not endless and space.rounds <= commit + buffer:
            return WHOLE
        return Geometry(commit + buffer, commit)
    if wanted.is_whole:
        if endless:
            raise GeometryError("an endless stream cannot be decoded as whole shots: give W,C")
        return wanted
    if not 1 <= wanted.commit <= wanted.window <= _MAX_ROUNDS_PER_WINDOW:
        raise GeometryError(
            f"windows {wanted}: need 1 <= C <= W <= {_MAX_ROUNDS_PER_WINDOW}, in rounds"
        )
    if wanted.most and (wanted.most < wanted.commit or wanted.longest > _MAX_ROUNDS_PER_WINDOW):
        raise GeometryError(
            f"windows {wanted}: M, the most rounds that one window may commit, must be at least C "
            f"and windows no longer than {_MAX_ROUNDS_PER_WINDOW} rounds"
        )
    components = wanted.longest * space.components_per_round
    if components > _MAX_COMPONENTS:
        raise GeometryError(
            f"windows {wanted}: a window would hold {components:,} mechanisms; the limit is "
            f"{_MAX_COMPONENTS:,}"
        )
    if wanted.window - wanted.commit < space.span:
        raise GeometryError(
            f"windows {wanted}: the buffer W - C must cover the longest mechanism, "
            f"{space.span} rounds; otherwise a mechanism cut off by the window's end would commit"
        )
    return wanted
