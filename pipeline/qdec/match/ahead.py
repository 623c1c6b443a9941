"""What was worked out elsewhere before a window is decoded here.

A GPU runs a network on the windows of a batch. What it found is put here, and the decoder that is
then called with those very windows takes it instead of running the network itself. Whatever lies
around the decoder (confidence, asking a stronger tier) does not notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, runtime_checkable

from qdec.bits import Bytes
from qdec.match.tier import CompiledWindow

Found = TypeVar("Found")


class Ahead(Generic[Found]):
    """What a network finds in windows: put in advance, or worked out here."""

    def __init__(self, here: Callable[[Bytes], Found]) -> None:
        """Nothing is put.

        Args:
            here: works it out.
        """
        self._here = here
        self._put: tuple[Bytes, Found] | None = None

    def put(self, syndromes: Bytes, found: Found) -> None:
        """What was found in these windows: for the next call, if it is about this very array."""
        self._put = syndromes, found

    def __call__(self, syndromes: Bytes) -> Found:
        """What was put for these windows, once; else what is found here."""
        put, self._put = self._put, None
        if put is not None and put[0] is syndromes:
            return put[1]
        return self._here(syndromes)


@runtime_checkable
class Wrapping(Protocol):
    """A window that asks another one about every syndrome, and then does more."""

    @property
    def asked_first(self) -> CompiledWindow:
        """Which is called with the very array that this one was."""
        ...


def innermost(window: CompiledWindow) -> CompiledWindow:
    """The window that is asked first of all."""
    while isinstance(window, Wrapping):
        window = window.asked_first
    return window
