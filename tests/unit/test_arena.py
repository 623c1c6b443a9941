"""One segment, many processes: who may write what, and that nobody loses a count."""

from __future__ import annotations

import fcntl
import mmap
import os
import subprocess
import sys

import pytest

from qdec.arena import SLOTS, Arena
from qdec.config import MAX_LANES
from qdec.errors import ArenaError
from qdec.gateway.reading import Reader
from qdec.supervisor.slots import Slots


def test_what_one_writes_another_reads() -> None:
    arena = Arena.create()
    reader = Reader(Arena(arena.reader()))
    assert reader.read().lanes == {}
    slots = Slots(arena.write_head())
    index = slots.take(3, child=1)
    assert index is not None
    slot = arena.write_slot(index)
    slot.lane.rounds += 2
    slot.stream("patch0").rounds += 1
    reading = reader.read()
    assert reading.lanes.keys() == {3}
    assert reading.lanes[3].rounds == 2
    assert reading.streams["patch0"].rounds == 1
    slot.lane.rounds += 1
    assert reader.read().lanes[3].rounds == 3
    assert reading.lanes[3].rounds == 2, "a reading is of its moment"


def test_readers_cannot_write() -> None:
    arena = Arena.create()
    fd = arena.reader()
    with pytest.raises(PermissionError):
        mmap.mmap(fd, mmap.PAGESIZE)
    with pytest.raises(TypeError):
        Arena(fd).read_slot(0)[0] = 1
    with pytest.raises(PermissionError):
        Arena(fd).write_slot(0)


def test_exchanges_do_not_overlap_and_are_not_for_readers() -> None:
    arena = Arena.create()
    exchanges = [arena.share_exchange(slot) for slot in (0, 1, SLOTS - 1)]
    again = [Arena(arena.fd).share_exchange(slot) for slot in (0, 1, SLOTS - 1)]
    arena.share_accelerator().windows = 5
    for number, (one, other) in enumerate(zip(exchanges, again, strict=True)):
        assert not any(other.requested)
        for slot in range(len(one.requested)):
            one.requested[slot] = one.answered[slot] = number + 1
        assert set(other.requested) == set(other.answered) == {number + 1}
    assert Arena(arena.reader()).accelerator.windows == 5
    with pytest.raises(PermissionError):
        Arena(arena.reader()).share_exchange(0)
    with pytest.raises(PermissionError):
        Arena(arena.reader()).share_accelerator()
    with pytest.raises(ArenaError):
        arena.share_exchange(SLOTS)


def test_its_size_is_sealed_and_it_is_not_inherited_by_accident() -> None:
    arena = Arena.create()
    with pytest.raises(PermissionError):
        os.ftruncate(arena.fd, 0)
    assert fcntl.fcntl(arena.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert fcntl.fcntl(arena.reader(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_untouched_pages_cost_nothing() -> None:
    arena = Arena.create()
    arena.write_slot(SLOTS - 1).lane.rounds += 1
    status = os.fstat(arena.fd)
    assert status.st_size > 100 << 20
    assert status.st_blocks * 512 < 1 << 20


def test_another_versions_segment_is_refused() -> None:
    arena = Arena.create()
    arena.write_head().layout += 1
    with pytest.raises(ArenaError, match="another version"):
        Arena(arena.reader())
    fd = os.memfd_create("other")
    with pytest.raises(ArenaError):
        Arena(fd)


def test_of_two_slots_of_a_lane_the_window_that_is_due_first_counts() -> None:
    arena = Arena.create()
    slots, reader = Slots(arena.write_head()), Reader(arena)
    old, new = slots.take(0, child=1), slots.take(0, child=2)
    assert old is not None
    assert new is not None
    draining, serving = arena.write_slot(old).lane, arena.write_slot(new).lane
    serving.oldest_due_ns = 7_000
    assert reader.read().lanes[0].oldest_due_ns == 7_000
    draining.oldest_due_ns = 5_000
    assert reader.read().lanes[0].oldest_due_ns == 5_000
    slots.release(1)
    assert reader.read().lanes[0].oldest_due_ns == 7_000, "the dead owe nothing"
    assert arena.write_slot(old).lane.oldest_due_ns == 0


def test_there_are_only_so_many_slots() -> None:
    arena = Arena.create()
    for index in (-1, SLOTS):
        with pytest.raises(ArenaError):
            arena.write_slot(index)


WRITER = """
import os, signal, sys
from qdec.arena import Arena
slot = Arena(int(sys.argv[1])).write_slot(int(sys.argv[2]))
for _ in range(1000):
    slot.lane.rounds += 1
    slot.lane.decode.add(5000)
    slot.stream("patch0").rounds += 1
slot.lane.open_streams = 1
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_counts_survive_kill_9_and_the_next_writer_goes_on() -> None:
    arena = Arena.create()
    head = arena.write_head()
    slots, reader = Slots(head), Reader(arena)
    used = []
    for child in range(2):
        slot = slots.take(0, child)
        used.append(slot)
        command = [sys.executable, "-c", WRITER, str(arena.fd), str(slot)]
        assert subprocess.run(command, pass_fds=[arena.fd], check=False).returncode == -9
        assert reader.read().lanes[0].open_streams == 1
        slots.release(child)
        assert reader.read().lanes[0].open_streams == 0, "a dead process has none open"
    assert used[0] == used[1]
    reading = reader.read()
    assert reading.lanes[0].rounds == reading.lanes[0].decode.count == 2000
    assert reading.streams["patch0"].rounds == 2000


def test_a_lane_that_drains_while_another_takes_over_has_two_slots_that_add_up() -> None:
    arena = Arena.create()
    slots, reader = Slots(arena.write_head()), Reader(arena)
    old, new = slots.take(0, child=1), slots.take(0, child=2)
    other = slots.take(1, child=3)
    assert len({old, new, other}) == 3
    for index, rounds in ((old, 5), (new, 7), (other, 11)):
        assert index is not None
        slot = arena.write_slot(index)
        slot.lane.rounds += rounds
        slot.lane.backlog_rounds = rounds
        slot.stream("patch0").rounds += rounds
    reading = reader.read()
    assert (reading.lanes[0].rounds, reading.lanes[0].backlog_rounds) == (12, 12)
    assert reading.lanes[1].rounds == 11
    assert reading.streams["patch0"].rounds == 23
    slots.release(1)
    reading = reader.read()
    assert (reading.lanes[0].rounds, reading.lanes[0].backlog_rounds) == (12, 7)
    assert slots.take(0, child=4) == old


def test_every_lane_can_be_replaced_while_it_drains_and_then_slots_run_out() -> None:
    slots = Slots(Arena.create().write_head())
    taken = {slots.take(lane, 2 * lane + i) for lane in range(MAX_LANES) for i in range(2)}
    assert taken == set(range(SLOTS))
    assert slots.take(0, child=9999) is None
    slots.release(9999)
    slots.release(0)
    assert slots.take(0, child=10_000) is not None
