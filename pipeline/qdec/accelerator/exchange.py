"""The slots of one lane as they lie in shared memory, and what is in them.

::

    requested   u64 × SLOTS   the ticket that the lane last handed over with each slot
    answered    u64 × SLOTS   the ticket that the accelerator last acknowledged with each slot
    (to a page)
    slot 0 …    SLOT_BYTES each: the request's head, the answer's head, syndromes, answers

Each word has one writer. A slot is out while its two words differ, so there is no queue that could
overflow, no entry that could be lost or read twice, and a scan of a lane's slots is one comparison.
Slots are as large as the largest window may be: pages that nobody touched cost nothing.

Publication: a slot's contents are written first, then its word, then the other side's doorbell is
rung; readers read the doorbell first. On x86 stores are seen in the order in which they were made,
and that would do by itself. Elsewhere plain stores carry no such promise, so the service offers no
accelerator there. The answer's checksum covers its ticket and all that was said.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np

from qdec.bits import Bytes
from qdec.errors import ArenaError
from qdec.match import Answers

_Memory: TypeAlias = "mmap.mmap | bytearray | memoryview"
SLOTS = 64
SLOT_BYTES = 1 << 15
_BOARDS_BYTES = 4096
EXCHANGE_BYTES = _BOARDS_BYTES + SLOTS * SLOT_BYTES

# Generation, kind, give up (ns), windows, bytes of a syndrome, bytes of an answer.
_REQUEST = struct.Struct("<QQqIII4x")
# Status, fenced, took (ns), checksum.
_ANSWER = struct.Struct("<IIQI4x")
_SEALED = struct.Struct("<QIIQ")
_ANSWER_AT = 64
_ROOM_AT = 128
# Beside each answer's bits: whether there is one (u8), what answered (u8, 0: who was asked), the
# confidence (f32). Answers begin at a multiple of 8 bytes.
_BESIDE_BYTES = 1 + 1 + 4
_NOTHING = np.zeros(0, dtype=np.uint8)


class Status(IntEnum):
    """What became of a request."""

    ANSWERED = 1
    SKIPPED = 2  # too late for its deadline before it was begun
    UNKNOWN = 3  # no such kind of window was compiled
    FAILED = 4  # the decoder did


@dataclass(frozen=True, slots=True)
class Request:
    """Windows of one kind that are to be decoded together.

    Attributes:
        generation: of the accelerator that they are for.
        kind: see `qdec.accelerator.kinds`.
        give_up: ns of CLOCK_MONOTONIC from which on the answer is of no use.
        syndromes: ``(n, bytes)`` uint8, seams XORed in.
        answer_bytes: of each window's answer.
    """

    generation: int
    kind: int
    give_up: int
    syndromes: Bytes
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What the accelerator says.

    Attributes:
        status: what became of the request.
        answers: to its windows, if they were answered; the confidence is NaN where it is unknown.
        fenced: the tier fails the code's fault-distance gate.
        took: ns of the decoder's call, divided by the windows of its batch.
    """

    status: Status
    answers: Answers | None = None
    fenced: bool = False
    took: int = 0


def most_windows(syndrome_bytes: int, answer_bytes: int) -> int:
    """How many windows of a kind a slot holds; 0 if it cannot hold one."""
    return (SLOT_BYTES - _ROOM_AT - 8) // (syndrome_bytes + answer_bytes + _BESIDE_BYTES)


class Exchange:
    """One lane's slots.

    Attributes:
        requested, answered: the boards themselves, `SLOTS` words each.
    """

    def __init__(self, memory: _Memory) -> None:
        """Look at the first `EXCHANGE_BYTES` of writable memory."""
        self._memory = memory
        board = memoryview(memory)[: 2 * SLOTS * 8].cast("Q")
        self.requested, self.answered = board[:SLOTS], board[SLOTS:]
        self._bytes = np.frombuffer(memory, dtype=np.uint8, count=EXCHANGE_BYTES)

    @property
    def generations(self) -> list[int]:
        """Of the accelerators to which the slots were last handed."""
        first = struct.Struct("<Q")
        return [first.unpack_from(self._memory, _slot_at(slot))[0] for slot in range(SLOTS)]

    # -- the lane's side -------------------------------------------------------------------------

    def hand_over(self, slot: int, ticket: int, request: Request) -> None:
        """Write a request that fits (`most_windows`), then publish it."""
        n, width = request.syndromes.shape
        at = _slot_at(slot)
        _REQUEST.pack_into(
            self._memory,
            at,
            request.generation,
            request.kind,
            request.give_up,
            n,
            width,
            request.answer_bytes,
        )
        start = at + _ROOM_AT
        self._bytes[start : start + n * width] = request.syndromes.reshape(-1)
        self.requested[slot] = ticket

    def reply(self, slot: int, ticket: int, windows: int, answer_bytes: int) -> Reply | None:
        """What was answered to a request of so many windows; None if it is not sound."""
        at = _slot_at(slot)
        *_, n, width, each = _REQUEST.unpack_from(self._memory, at)
        status, fenced, took, checksum = _ANSWER.unpack_from(self._memory, at + _ANSWER_AT)
        if (n, each) != (windows, answer_bytes):
            return None
        if status != Status.ANSWERED:
            sound = checksum == _checksum(ticket, status, fenced, took, _NOTHING)
            return Reply(Status(status)) if sound and status in set(Status) else None
        start = at + _ROOM_AT + _padded(n * width)
        said = self._bytes[start : start + n * (each + _BESIDE_BYTES)].copy()
        if checksum != _checksum(ticket, status, fenced, took, said):
            return None
        bits = said[: n * each].reshape(n, each)
        feasible = said[n * each : n * (each + 1)].astype(np.bool_)
        tiers = said[n * (each + 1) : n * (each + 2)]
        confidence = said[n * (each + 2) :].view(np.float32)
        answers = Answers(bits, feasible, confidence, tiers if tiers.any() else None)
        return Reply(Status.ANSWERED, answers, bool(fenced), took)

    # -- the accelerator's side ------------------------------------------------------------------

    def request(self, slot: int) -> Request:
        """What was handed over; a view of the slot.

        Raises:
            ArenaError: it is not possible.
        """
        at = _slot_at(slot)
        generation, kind, give_up, n, width, each = _REQUEST.unpack_from(self._memory, at)
        if not 0 < n <= most_windows(width, each):
            raise ArenaError(f"slot {slot} cannot hold {n} windows of {width} bytes")
        start = at + _ROOM_AT
        syndromes = self._bytes[start : start + n * width].reshape(n, width)
        return Request(generation, kind, give_up, syndromes, each)

    def acknowledge(self, slot: int, ticket: int, reply: Reply) -> None:
        """Write a reply, then publish it: the slot is the lane's again."""
        at = _slot_at(slot)
        said = _NOTHING
        answers = reply.answers
        if answers is not None:
            *_, n, width, _each = _REQUEST.unpack_from(self._memory, at)
            confidence = answers.confidence
            if confidence is None:
                confidence = np.full(n, np.nan, dtype=np.float32)
            parts = (
                answers.bits.reshape(-1),
                answers.feasible.view(np.uint8),
                np.zeros(n, np.uint8) if answers.tiers is None else answers.tiers,
                np.ascontiguousarray(confidence, dtype=np.float32).view(np.uint8),
            )
            said = np.concatenate(parts)
            start = at + _ROOM_AT + _padded(n * width)
            self._bytes[start : start + len(said)] = said
        seal = _checksum(ticket, reply.status, reply.fenced, reply.took, said)
        _ANSWER.pack_into(
            self._memory, at + _ANSWER_AT, reply.status, reply.fenced, reply.took, seal
        )
        self.answered[slot] = ticket


def _slot_at(slot: int) -> int:
    return _BOARDS_BYTES + slot * SLOT_BYTES


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def _checksum(ticket: int, status: int, fenced: int, took: int, said: Bytes) -> int:
    return zlib.crc32(said.data, zlib.crc32(_SEALED.pack(ticket, status, fenced, took)))
