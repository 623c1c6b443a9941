"""What runs batches on streams: the interface of engines, and one that is a function call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from qdec.accelerator.exchange import Request
from qdec.accelerator.latency import Buckets
from qdec.accelerator.work import Priority, StreamTerms
from qdec.bits import Bytes
from qdec.errors import DeviceError
from qdec.match import Answers, CompiledWindow

log = logging.getLogger("qdec.accelerator")


class Kind(NamedTuple):
    """A kind of window that was compiled.

    Attributes:
        decoder: answers it.
        fenced: its tier fails the code's fault-distance gate.
        warm: ns that a call took when it was warmed up, by the number of windows.
        priority: whose work it is.
    """

    decoder: CompiledWindow
    fenced: bool
    warm: Mapping[int, int] = {}
    priority: Priority = Priority.DECODING


class Job(NamedTuple):
    """A batch with its windows.

    Attributes:
        number: the batch's, never the same again.
        kind: of all its windows.
        bucket: the compiled size to run it in.
        passes: how many times that has to run: more than once only for a request that is larger
            than every bucket.
        requests: whose syndromes are views of the slots that lanes wrote; those stay as they are
            until the batch has been given back by `Executor.completions`.
    """

    number: int
    kind: int
    bucket: int
    passes: int
    requests: tuple[Request, ...]


class Completion(NamedTuple):
    """A batch that is done.

    Attributes:
        number: the batch's.
        took: ns that the engine worked at it.
        answers: to each of its requests; None where there is none. They are checked before they
            are believed.
    """

    number: int
    took: int
    answers: tuple[Answers | None, ...]


class Executor(Protocol):
    """Runs batches on streams: in order on each, streams side by side.

    Whoever cannot go on at all raises `qdec.errors.DeviceError`, from either method: the process
    then ends with the exit status of its kind, and lanes answer by themselves until the next one
    serves. What fails for a batch alone is an answer that is None.
    """

    @property
    def streams(self) -> Sequence[StreamTerms]:
        """Its table of streams; constant."""

    def submit(self, stream: int, job: Job) -> None:
        """Run a batch behind what the stream has; no more than its `most` are out at a time.

        Raises:
            DeviceError: the device is lost.
        """

    def completions(self) -> Sequence[Completion]:
        """Batches that are done since this was last asked, in any order; does not wait.

        Raises:
            DeviceError: the device is lost.
        """

    def fileno(self) -> int | None:
        """A descriptor that is readable while there may be completions; None if there is none.

        An eventfd, say, that a device's callback writes and `completions` reads. Without one,
        whatever was submitted is done when `submit` returns.
        """


class CallingExecutor:
    """One stream on which a decoder is called, and nothing else happens meanwhile.

    A call that never ends blocks the process's loop; the supervisor notices that by its beats
    (`stall_s`) and kills it.
    """

    def __init__(
        self,
        kinds: Mapping[int, Kind],
        batch: int,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Nothing is done yet.

        Args:
            kinds: by the numbers that requests give.
            batch: most windows of different requests per call.
            clock: ns.
        """
        self.streams = (StreamTerms(Buckets.doubling(batch)),)
        self._kinds = kinds
        self._clock = clock
        self._done: list[Completion] = []

    def submit(self, stream: int, job: Job) -> None:
        """Call the decoder; if it fails for several requests together, for each of them.

        Raises:
            DeviceError: its device cannot go on.
        """
        decoder, requests = self._kinds[job.kind].decoder, job.requests
        started = self._clock()
        together = _call(decoder, requests)
        took = self._clock() - started
        answers: tuple[Answers | None, ...]
        if together is not None:
            answers = together
        elif len(requests) == 1:
            answers = (None,)
        else:  # one of them may be to blame
            single = [_call(decoder, (one,)) for one in requests]
            answers = tuple(None if one is None else one[0] for one in single)
        self._done.append(Completion(job.number, took, answers))

    def completions(self) -> Sequence[Completion]:
        """What was submitted since this was last asked."""
        done, self._done = self._done, []
        return done

    def fileno(self) -> None:
        """There is never anything to wait for."""
        return


def _call(decoder: CompiledWindow, requests: Sequence[Request]) -> tuple[Answers, ...] | None:
    """`answered` by a decoder; None, too, if the requests' windows differ in size."""
    each = [one.syndromes for one in requests]
    if len({one.shape[1] for one in each}) > 1:
        log.error("%d requests of one kind have windows of different sizes", len(each))
        return None
    return answered(decoder.decode, each[0] if len(each) == 1 else np.concatenate(each), requests)


def answered(
    decode: Callable[[Bytes], Answers], syndromes: Bytes, requests: Sequence[Request]
) -> tuple[Answers, ...] | None:
    """Answers to requests whose syndromes lie one behind the other; None if that fails.

    Raises:
        DeviceError: the decoder's device cannot go on.
    """
    try:
        answers = decode(syndromes)
        if len(requests) == 1 or len(answers.bits) != len(syndromes):
            return (answers,) * len(requests)  # what is of the wrong size is refused by who checks
        parts, at = [], 0
        for one in requests:
            parts.append(answers.part(at, at + len(one.syndromes)))
            at += len(one.syndromes)
        return tuple(parts)
    except DeviceError:
        raise
    except Exception:
        log.exception("a decoder failed on %d requests", len(requests))
        return None
