"""A client and a lane that repeats itself, forgets, goes silent, vanishes in mid-sentence."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from helpers.scripted import COMMIT, RECORD_BYTES, ScriptedLane, in_background, opened, polls
from qdec.bus.wire import Closed, Credit, Error, Open, Ping
from qdec.client import Patience, open_stream
from qdec.errors import Refused, ServiceUnavailable, WireCode

FRAME = np.zeros((COMMIT, RECORD_BYTES), np.uint8)


def test_a_commit_that_comes_again_takes_the_cursor_nowhere() -> None:
    """Rounds before the newest cursor have been let go of: an older one could not be resumed."""
    with ScriptedLane() as lane, opened(lane) as stream:
        for _ in range(3):
            stream.send(FRAME)
        assert lane.hears_rounds() == [0, 10, 20]
        lane.commits(0, 1)
        lane.commits(1, 2)
        lane.commits(0, 1)
        assert polls(stream) == [0, 1, 2]
        lane.says(Closed(1, lane.epoch))

        def resume() -> None:
            message = lane.hears()
            while not isinstance(message, Open):
                message = lane.hears()
            assert message.body.cursor == b"30"
            lane.agrees(message.request, next_round=30)

        with in_background(resume):
            assert polls(stream, 0.3) == []
        assert stream.resumes == 1


def test_what_the_lane_has_is_not_sent_again() -> None:
    """A repeated frame is answered DUPLICATE, and the frames behind it are under way."""
    with ScriptedLane() as lane, opened(lane) as stream:
        for _ in range(5):
            stream.send(FRAME)
        lane.hears_rounds()
        lane.says(Error(1, lane.epoch, 1, WireCode.DUPLICATE, "again", 20))
        polls(stream)
        assert lane.hears_rounds() == []


def test_the_rest_of_a_frame_whose_beginning_the_lane_has_is_sent_again() -> None:
    """Credit cuts frames elsewhere each time, and a lane takes no part of one that overlaps."""
    with ScriptedLane() as lane, opened(lane) as stream:
        for _ in range(3):
            stream.send(FRAME)
        lane.hears_rounds()
        lane.says(Error(1, lane.epoch, 1, WireCode.DUPLICATE, "again", 15))
        polls(stream)
        assert lane.hears_rounds() == [15, 20]


def test_what_the_lane_has_already_is_passed_over() -> None:
    with ScriptedLane() as lane, opened(lane) as stream:
        stream.send(FRAME)
        lane.hears_rounds()
        lane.says(Error(1, lane.epoch, 0, WireCode.GAP, "missing", 0))
        polls(stream)
        assert lane.hears_rounds() == [0]
        stream.send(FRAME)
        lane.hears_rounds()
        lane.says(Error(1, lane.epoch, 1, WireCode.DUPLICATE, "again", 20))
        stream.send(FRAME)
        polls(stream)
        assert lane.hears_rounds() == [20]


def test_a_last_frame_that_never_came_is_sent_again() -> None:
    """No later frame makes the lane notice; its answer to a question says what it has."""
    with ScriptedLane() as lane, opened(lane) as stream:
        stream.send(FRAME)
        stream.send(FRAME)
        lane.hears_rounds()

        def answer() -> None:
            message = lane.hears()
            while not isinstance(message, Ping):
                message = lane.hears()
            lane.says(Credit(1, lane.epoch, 10_000, 10, 0))

        with in_background(answer):
            polls(stream, 0.3)
        assert 10 in lane.hears_rounds()
        assert stream.resumes == 0


def test_an_attempt_ends_with_its_connection() -> None:
    """A lane that hangs is killed at last: who waited for its answer asks the next one at once."""
    first = ScriptedLane()
    port = int(first.endpoint.rpartition(":")[2])

    def hang_then_serve() -> None:
        with first:
            assert isinstance(first.hears(), Open)
        with ScriptedLane(port) as second:
            message = second.hears(10)
            assert isinstance(message, Open)
            second.agrees(message.request)
            done.wait(10)

    done = threading.Event()
    patience = Patience(answer_s=15.0, open_s=30.0)
    with in_background(hang_then_serve):
        began = time.monotonic()
        open_stream(first.endpoint, "s", patience=patience).close(wait=False)
        took = time.monotonic() - began
        done.set()
    assert took < 10, "it did not wait for an answer that could not come"


def test_a_stream_that_was_given_up_can_be_polled_again() -> None:
    """The service was away for longer than the client's patience: nothing is lost."""
    hasty = Patience(answer_s=0.1, silence_s=0.02, dead_s=0.1, open_s=5.0, give_up_s=0.3)
    with ScriptedLane() as lane, opened(lane, hasty) as stream:
        stream.send(FRAME)
        with pytest.raises(ServiceUnavailable):
            polls(stream, 5.0)
        stream.send(FRAME)
        while lane.hears(0.2) is not None:
            pass

        def resume() -> None:
            message = lane.hears()
            while not isinstance(message, Open):
                message = lane.hears()
            lane.agrees(message.request)

        with in_background(resume), suppress(ServiceUnavailable):
            stream.poll(0.01)
        assert lane.hears_rounds() == [0, 10]


@pytest.mark.parametrize("waits", [True, False])
def test_ones_own_earlier_attempt_is_not_taken_for_another_client(waits: bool) -> None:
    """A lane that was stopped takes up the first attempt, whose client has gone on to a second."""
    patience = Patience(answer_s=0.3, open_s=10.0)
    with ScriptedLane() as lane:

        def busy() -> None:
            if waits:
                assert isinstance(lane.hears(), Open)  # and says nothing
            message = lane.hears()
            assert isinstance(message, Open)
            lane.says(Error(0, 0, message.request, WireCode.STREAM_BUSY, "open", 0))
            if waits:
                message = lane.hears()
                assert isinstance(message, Open)
                lane.agrees(message.request)

        with in_background(busy):
            if waits:
                open_stream(lane.endpoint, "s", patience=patience).close(wait=False)
            else:
                with pytest.raises(Refused):
                    open_stream(lane.endpoint, "s", patience=patience)
