"""Training data from all cores: blocks made by other processes, in order, as fast as they are read.

What is in a block depends on its number alone, and worker w of n makes the blocks w, w + n, … So
the data is the same for any number of workers, and a run that goes on from block k sees what it
would have seen.

Each worker has a few slots of one shared segment to write its blocks into, and a pipe: it says when
a block lies there, and hears when its slot is free again. With all slots full it waits, so nothing
piles up. Arrays are never pickled, and copied once. When a worker dies its pipe closes, and the
reader learns it where it waits for that worker's next block; when the reader dies, the workers
learn it the same way, and go.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from qdec.errors import ConfigError, FeedError, QdecError

ALIGN = 64  # bytes: arrays in a slot begin at a cache line
_MAX_WORKERS = 256
_MAX_SEGMENT = 1 << 36
_LEAVE_S = 2.0
_FREE = b"free"
Bytes = NDArray[np.uint8]


class Blocks(Protocol):
    """Makes blocks of training data."""

    def block(self, number: int) -> Sequence[NDArray[Any]]:
        """The arrays of block `number`, the same whenever and wherever it is asked for.

        They may be overwritten by the next call.
        """


@dataclass(frozen=True, slots=True)
class Block:
    """One block.

    Attributes:
        number: its place in the run.
        arrays: as `Blocks.block` made them. They lie in shared memory and are overwritten once the
            next block has been asked for: copy what should last.
    """

    number: int
    arrays: tuple[NDArray[Any], ...]


def block_rng(seed: int, number: int, stream: int = 0) -> np.random.Generator:
    """The generator that block `number` of a run is drawn with.

    Args:
        seed: of the run.
        number: of the block.
        stream: 0 for training, others for data that training must not see.
    """
    return np.random.default_rng([seed, stream, number])


class Feed:
    """Iterates over blocks, without end; a context manager that takes its workers with it.

    Attributes:
        processes: the workers.
    """

    def __init__(
        self,
        make: Callable[[], Blocks],
        *,
        workers: int,
        slot_bytes: int,
        slots: int = 2,
        first: int = 0,
    ) -> None:
        """Start the workers.

        Args:
            make: makes what makes the blocks, in each worker: a function of a module, or a
                `functools.partial` of one and small arguments. Modules that call this must be
                importable without running (``if __name__ == "__main__"``).
            workers: processes; with 0 blocks are made by the caller, in `__next__`.
            slot_bytes: the largest block.
            slots: blocks that each worker may be ahead.
            first: number of the first block.

        Raises:
            ConfigError: a number is out of bounds.
        """
        for name, value, most in (
            ("workers", workers, _MAX_WORKERS),
            ("slots", slots, 1024),
            ("slot_bytes", slot_bytes, _MAX_SEGMENT),
            ("first", first, 1 << 62),
        ):
            least = 1 if name in ("slots", "slot_bytes") else 0
            if not least <= value <= most:
                raise ConfigError(f"{name} = {value:,}: write {least} to {most:,}")
        width = -(-slot_bytes // ALIGN) * ALIGN
        if workers * slots * width > _MAX_SEGMENT:
            raise ConfigError(
                f"{workers} workers with {slots} slots of {slot_bytes:,} bytes are more than "
                f"{_MAX_SEGMENT:,} bytes: write fewer, or smaller blocks"
            )
        self._next = first
        self._first = first
        self._taken: Connection | None = None  # of the worker whose slot the caller still has
        self._local = None if workers else make()
        self._width = width
        self._slots = slots
        self._pipes: list[Connection] = []
        self.processes: list[BaseProcess] = []
        if workers:
            self._start(make, workers)

    def _start(self, make: Callable[[], Blocks], workers: int) -> None:
        # Spawned: a fork of a process with threads of Stim's, Torch's or CUDA's may hang.
        context = multiprocessing.get_context("spawn")
        # A mapping that is inherited and has no name: it goes with the last process that has it.
        segment = context.RawArray("B", workers * self._slots * self._width)
        self._memory: Bytes = np.frombuffer(segment, dtype=np.uint8)
        share = self._slots * self._width
        # A terminal's Ctrl-C reaches the whole group, but it is the reader who decides when to end:
        # workers inherit that they do not hear it. (Starting the tracker would undo that.)
        resource_tracker.ensure_running()
        heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for worker in range(workers):
                ours, theirs = context.Pipe()
                self._pipes.append(ours)
                arguments = (
                    make,
                    segment,
                    range(worker * share, (worker + 1) * share, self._width),
                    self._width,
                    theirs,
                    range(self._first + worker, 1 << 63, workers),
                )
                process = context.Process(
                    target=_work, args=arguments, name=f"data-{worker}", daemon=True
                )
                with theirs:  # or its end would not close when the worker dies
                    process.start()
                self.processes.append(process)
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)  # a Ctrl-C meanwhile comes here
        except BaseException:
            self.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)

    def __iter__(self) -> Iterator[Block]:
        """Itself."""
        return self

    def __next__(self) -> Block:
        """The next block, waiting until it is there; the last one's arrays are gone.

        Raises:
            FeedError: the worker that should make it has failed or died, or the feed is closed.
        """
        number = self._next
        if self._local is not None:
            arrays = tuple(self._local.block(number))
        elif self._pipes:
            arrays = self._receive(number - self._first)
        else:
            raise FeedError("the feed is closed")
        self._next += 1
        return Block(number, arrays)

    def _receive(self, index: int) -> tuple[NDArray[Any], ...]:
        if self._taken is not None:
            with contextlib.suppress(OSError):  # dead: noticed when its turn comes
                self._taken.send_bytes(_FREE)
            self._taken = None
        turn, worker = divmod(index, len(self._pipes))
        pipe = self._pipes[worker]
        try:
            message = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            raise self._death(worker) from None
        if "error" in message:
            raise FeedError(f"data worker {worker} failed: {message['error']}")
        self._taken = pipe
        at = (worker * self._slots + turn % self._slots) * self._width
        arrays = []
        for dtype, shape in message["arrays"]:
            array: NDArray[Any] = np.ndarray(shape, dtype, self._memory.data, at)
            arrays.append(array)
            at += -(-array.nbytes // ALIGN) * ALIGN
        return tuple(arrays)

    def _death(self, worker: int) -> FeedError:
        process = self.processes[worker]
        process.join(_LEAVE_S)
        code = process.exitcode
        if code is None or code >= 0:
            how = f"ended with status {code}"
        else:
            how = f"was killed by {signal.Signals(-code).name}"
        hint = " (out of memory? dmesg says)" if code == -signal.SIGKILL else ""
        return FeedError(f"data worker {worker} {how}{hint}: go on from the last checkpoint")

    def close(self) -> None:
        """End the workers. Blocks' arrays must not be used any more."""
        self._taken = self._local = None
        for pipe in self._pipes:
            pipe.close()  # whoever waits for a slot leaves now, the others after their block
        self._pipes = []
        for process in self.processes:
            process.join(_LEAVE_S)
            for end in (process.terminate, process.kill):
                if process.is_alive():
                    end()
                    process.join(_LEAVE_S)
            process.close()
        self.processes = []

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """`close`, whatever happened, Ctrl-C included."""
        self.close()


def _work(
    make: Callable[[], Blocks],
    segment: Any,
    slots: range,
    width: int,
    pipe: Connection,
    numbers: range,
) -> None:
    """What a worker does until its pipe closes."""
    memory: Bytes = np.frombuffer(segment, dtype=np.uint8)
    with contextlib.suppress(EOFError, OSError):  # nobody reads any more
        try:
            blocks = make()
            for turn, number in enumerate(numbers):
                arrays = blocks.block(number)
                if turn >= len(slots):
                    pipe.recv_bytes()
                at = slots[turn % len(slots)]
                pipe.send_bytes(_write(arrays, memory, at, at + width, number))
        except QdecError as error:
            pipe.send_bytes(json.dumps({"error": str(error)}).encode())


def _write(arrays: Sequence[NDArray[Any]], memory: Bytes, at: int, end: int, number: int) -> bytes:
    """Put arrays into a slot; returns the message that says so."""
    described = []
    total = sum(-(-array.nbytes // ALIGN) * ALIGN for array in arrays)
    if total > end - at:
        raise FeedError(f"block {number} takes {total:,} bytes, its slot has {end - at:,}")
    for array in arrays:
        np.copyto(np.ndarray(array.shape, array.dtype, memory.data, at), array)
        at += -(-array.nbytes // ALIGN) * ALIGN
        described.append((array.dtype.str, array.shape))
    return json.dumps({"arrays": described}).encode()
