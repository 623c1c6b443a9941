"""qdec: a real-time decoder service for quantum error correction.

The package is laid out as the way of a syndrome::

    codes     what a code is: a Stim circuit or DEM as rounds of detectors
    windows   rounds assembled into sliding windows, seams carried between them
    match     the decoders that answer a window
    bus       what travels over sockets
    lane      the process that owns streams from socket to answer
    supervisor  the process that keeps lanes alive
    client    the other end of the socket
    doctor    what the machine has for all this

No module imports from a later stage: codes and windows know nothing of sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sinter

__version__ = "0.1.0"


def sinter_decoders() -> dict[str, sinter.Decoder]:
    """The window decoders by name, for ``sinter collect --custom_decoders_module_function``.

    Needs the extra `bench`. See `qdec.match.sinter.decoders` for the names.
    """
    from qdec.match.sinter import decoders

    return decoders()
