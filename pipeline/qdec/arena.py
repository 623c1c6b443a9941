"""One shared segment: what processes count, where others can read it.

The supervisor makes it; its children inherit the descriptor, so it needs no name, and it goes with
the last process that has it. Its size is sealed, and pages that nobody touched cost nothing::

    head                      written by the supervisor: which lanes are up, whose slot is whose
    slot 0 … SLOTS-1          one lane process each (`qdec.lane.stats.Slot`), its only writer
    accelerator               what the accelerator counts (`qdec.accelerator.stats`)
    exchange 0 … SLOTS-1      windows on their way from a slot's lane to the accelerator and back
                              (`qdec.accelerator.exchange`)

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

import numpy as np

from qdec.accelerator.exchange import EXCHANGE_BYTES, SLOT_BYTES, Exchange
from qdec.accelerator.stats import AcceleratorStats
from qdec.bits import Bytes
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
        gateway_restarts, accelerator_restarts: processes that died while serving.
        rollbacks: changes that were taken back.
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
    accelerator_restarts: int
    rollbacks: int
    restarts: ctypes.Array[ctypes.c_uint64]
    up: ctypes.Array[ctypes.c_uint64]
    up_since_ns: ctypes.Array[ctypes.c_uint64]
    slot_lane: ctypes.Array[ctypes.c_uint64]
    slot_live: ctypes.Array[ctypes.c_uint64]

    _fields_ = (
        *((name, _WORD) for name in ("magic", "layout", "started_ns")),
        *((name, _WORD) for name in ("gateway_restarts", "accelerator_restarts", "rollbacks")),
        *((name, _WORD * MAX_LANES) for name in ("restarts", "up", "up_since_ns")),
        *((name, _WORD * SLOTS) for name in ("slot_lane", "slot_live")),
    )


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _layout() -> int:
    """A number that is another one as soon as any word lies elsewhere."""
    described = [
        (one.__name__, name, getattr(one, name).offset, getattr(one, name).size)
        for one in (Head, LaneStats, StreamStats, AcceleratorStats)
        for name, *_ in one._fields_
    ]
    sizes = SLOTS, Slot.BYTES, EXCHANGE_BYTES, SLOT_BYTES
    digest = hashlib.sha256(repr((sizes, described)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


LAYOUT = _layout()
_HEAD_BYTES = _pages(ctypes.sizeof(Head))
_SLOT_BYTES = _pages(Slot.BYTES)
_ACCELERATOR_AT = _HEAD_BYTES + SLOTS * _SLOT_BYTES
_ACCELERATOR_BYTES = _pages(ctypes.sizeof(AcceleratorStats))
_EXCHANGES_AT = _ACCELERATOR_AT + _ACCELERATOR_BYTES
_EXCHANGE_BYTES = _pages(EXCHANGE_BYTES)
_BYTES = _EXCHANGES_AT + SLOTS * _EXCHANGE_BYTES


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

    @property
    def accelerator(self) -> AcceleratorStats:
        """What the accelerator counts, as it is now; a copy."""
        with mmap.mmap(
            self.fd, _ACCELERATOR_BYTES, prot=mmap.PROT_READ, offset=_ACCELERATOR_AT
        ) as memory:
            return AcceleratorStats.from_buffer_copy(memory)

    def share_accelerator(self) -> AcceleratorStats:
        """The accelerator's words themselves; see there who writes which."""
        return AcceleratorStats.at(mmap.mmap(self.fd, _ACCELERATOR_BYTES, offset=_ACCELERATOR_AT))

    def share_exchange(self, index: int) -> Exchange:
        """What a slot's lane and the accelerator share."""
        _checked(index)
        at = _EXCHANGES_AT + index * _EXCHANGE_BYTES
        return Exchange(mmap.mmap(self.fd, _EXCHANGE_BYTES, offset=at))

    def share_exchanges(self, slots: int) -> tuple[Bytes, list[Exchange]]:
        """What the first slots' lanes and the accelerator share, in one piece of memory.

        Returns:
            The memory, uint8, whole pages; and each slot's part of it.
        """
        _checked(slots - 1)
        memory = mmap.mmap(self.fd, slots * _EXCHANGE_BYTES, offset=_EXCHANGES_AT)
        whole = memoryview(memory)
        parts = range(0, slots * _EXCHANGE_BYTES, _EXCHANGE_BYTES)
        exchanges = [Exchange(whole[at : at + _EXCHANGE_BYTES]) for at in parts]
        return np.frombuffer(memory, dtype=np.uint8), exchanges

    @staticmethod
    def _at(index: int) -> int:
        return _HEAD_BYTES + _checked(index) * _SLOT_BYTES


def _checked(slot: int) -> int:
    if not 0 <= slot < SLOTS:
        raise ArenaError(f"there is no slot {slot}")
    return slot
