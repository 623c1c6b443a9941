"""One shared segment: what processes count, where others can read it.

The supervisor makes it; its children inherit the descriptor, so it needs no name, and it goes with
the last process that has it. Its size is sealed, and pages that nobody touched cost nothing::

    head                      written by the supervisor: which lanes are up, whose slot is whose
    slot 0 … SLOTS-1          one lane process each (`qdec.lane.stats.Slot`), its only writer

A slot belongs to a lane for good. A lane that is replaced while it still drains has two for a
while, because two writers would lose counts; what a lane has counted is the sum of its slots.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import mmap
import os
import time

from qdec.config import MAX_LANES
from qdec.errors import ArenaError
from qdec.lane.stats import LaneStats, Slot, StreamStats

# Twice as many as lanes: each may be drained and replaced at the same time.
SLOTS = 2 * MAX_LANES
_WORD = ctypes.c_uint64
_MAGIC = int.from_bytes(b"qdecaren", "little")
_PAGE = 1 << 16  # a multiple of every page size in use


class Head(ctypes.Structure):
    """What the supervisor says.

    Attributes:
        magic, layout: what this is, and which version of it.
        started_ns: ns since 1970, when the service started.
        gateway_restarts: gateways that died while serving.
        restarts: likewise of each lane.
        up: 1 for each lane that is served.
        up_since_ns: ns since 1970, when that began.
        slot_lane: 1 + the lane whose slot it is; 0 if it is nobody's.
        slot_live: 1 while its writer runs.
    """

    magic: int
    layout: int
    started_ns: int
    gateway_restarts: int
    restarts: ctypes.Array[ctypes.c_uint64]
    up: ctypes.Array[ctypes.c_uint64]
    up_since_ns: ctypes.Array[ctypes.c_uint64]
    slot_lane: ctypes.Array[ctypes.c_uint64]
    slot_live: ctypes.Array[ctypes.c_uint64]

    _fields_ = (
        *((name, _WORD) for name in ("magic", "layout", "started_ns", "gateway_restarts")),
        *((name, _WORD * MAX_LANES) for name in ("restarts", "up", "up_since_ns")),
        *((name, _WORD * SLOTS) for name in ("slot_lane", "slot_live")),
    )


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _layout() -> int:
    """A number that is another one as soon as any word lies elsewhere."""
    described = [
        (one.__name__, name, getattr(one, name).offset, getattr(one, name).size)
        for one in (Head, LaneStats, StreamStats)
        for name, *_ in one._fields_
    ]
    digest = hashlib.sha256(repr((SLOTS, Slot.BYTES, described)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


LAYOUT = _layout()
_HEAD_BYTES = _pages(ctypes.sizeof(Head))
_SLOT_BYTES = _pages(Slot.BYTES)
_BYTES = _HEAD_BYTES + SLOTS * _SLOT_BYTES


class Arena:
    """A process's view of the segment, through a descriptor of it.

    Attributes:
        fd: the descriptor, open as long as the arena is used.
    """

    def __init__(self, fd: int) -> None:
        """Look at a segment that `create` has made.

        Raises:
            ArenaError: it is none, or one of another version of qdec.
        """
        self.fd = fd
        if os.fstat(fd).st_size != _BYTES:
            raise ArenaError("the shared segment is of another version: restart the service")
        head = self.head
        if (head.magic, head.layout) != (_MAGIC, LAYOUT):
            raise ArenaError("the shared segment is of another version: restart the service")

    @classmethod
    def create(cls) -> Arena:
        """Make a segment of zeros."""
        fd = os.memfd_create("qdec-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, _BYTES)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        head = Head.from_buffer(mmap.mmap(fd, _HEAD_BYTES))
        head.layout, head.started_ns, head.magic = LAYOUT, time.time_ns(), _MAGIC
        return cls(fd)

    def reader(self) -> int:
        """Another descriptor of the segment, through which nothing can be written."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def head(self) -> Head:
        """The supervisor's words as they are now; a copy."""
        with mmap.mmap(self.fd, _HEAD_BYTES, prot=mmap.PROT_READ) as memory:
            return Head.from_buffer_copy(memory)

    def write_head(self) -> Head:
        """The supervisor's words themselves. The supervisor's alone to call."""
        return Head.from_buffer(mmap.mmap(self.fd, _HEAD_BYTES))

    def write_slot(self, index: int) -> Slot:
        """A slot to count in; nothing else of the arena is mapped with it."""
        return Slot(mmap.mmap(self.fd, _SLOT_BYTES, offset=self._at(index)))

    def read_slot(self, index: int) -> memoryview:
        """A slot's 64-bit words, not writable; each is read whole."""
        memory = mmap.mmap(self.fd, _SLOT_BYTES, prot=mmap.PROT_READ, offset=self._at(index))
        return memoryview(memory).cast("Q")

    @staticmethod
    def _at(index: int) -> int:
        if not 0 <= index < SLOTS:
            raise ArenaError(f"there is no slot {index}")
        return _HEAD_BYTES + index * _SLOT_BYTES
