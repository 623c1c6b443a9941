"""With which status the accelerator's process exits, and what that says: one table."""

from __future__ import annotations

from qdec.errors import DeviceFault

# None of a shell's, of a signal's, of sysexits.h, or of every other child's (0, 1, 2).
STATUSES = {
    DeviceFault.START: 10,
    DeviceFault.ERROR: 11,
    DeviceFault.LOST: 12,
    DeviceFault.MEMORY: 13,
    DeviceFault.HUNG: 14,
}
_WORDS = {
    2: "it cannot serve this configuration",
    **{status: fault.value for fault, status in STATUSES.items()},
}


def in_words(status: int) -> str:
    """What an exit status of the accelerator means; empty if that is not known."""
    return _WORDS.get(status, "")
