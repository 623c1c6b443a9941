"""Requests that are well-formed and still must not take a lane down, or hold it for long."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.lanes import Lane
from qdec.bus.wire import Error, Open, OpenBody, Opened, encode
from qdec.commit import StreamDecoder
from qdec.errors import WireCode
from qdec_tools.circuits import memory

HIDDEN = "error(0.1) D0 ^ L0\ndetector(0, 0, 0) D0\n"
ISOLATED = "error(0.1) D0 L0\ndetector(0, 0, 0) D0\ndetector(0, 0, 1) D1\n"
PEER = b"hostile"


def ask(lane: Lane, text: str, kind: str = "dem", **options: Any) -> object:
    body = OpenBody(stream="s", code=kind, **options)
    return lane.tell(PEER, encode(Open(1, body, False)), text.encode())[0][0]


@pytest.mark.parametrize("text", [HIDDEN, ISOLATED])
@pytest.mark.parametrize("windows", ["whole", "1,1", "2,1"])
@pytest.mark.parametrize("tier", ["matching", "correlated"])
def test_odd_models_are_opened_or_refused_in_words(text: str, windows: str, tier: str) -> None:
    answer = ask(Lane(), text, windows=windows, tier=tier)
    if isinstance(answer, Error):
        assert answer.code != WireCode.INTERNAL
    else:
        assert isinstance(answer, Opened)


def test_windows_too_large_to_compile_while_serving_are_refused() -> None:
    circuit = str(memory(3, 8, 0.003))
    answer = ask(Lane(), circuit, "circuit", endless=True, windows="60000,59990")
    assert isinstance(answer, Error)
    assert answer.code == WireCode.LIMIT


def test_what_breaks_inside_is_answered_and_harms_no_other_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = Lane()
    circuit = str(memory(3, 8, 0.003))
    opened = ask(lane, circuit, "circuit", endless=True)
    assert isinstance(opened, Opened)

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("qdec.lane.opening.Doorkeeper.admit", broken)
        (answer, _), *_rest = lane.tell(
            b"other", encode(Open(2, OpenBody(stream="t", code="circuit"), False)), b"M 0"
        )
        assert isinstance(answer, Error)
        assert answer.code == WireCode.INTERNAL
        assert "a bug" not in answer.message  # its log says how, its clients need not know
    assert lane.core.sessions == 1


def test_a_decoder_that_fails_flags_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    from qdec.codes import Code
    from qdec.commit import Flag, WindowBank, run_jobs
    from qdec.match import Tier
    from qdec.windows import Geometry

    code = Code.parse("circuit", str(memory(3, 8, 0.003)))
    decoder = StreamDecoder(
        WindowBank(code, Tier.MATCHING, Geometry(6, 3)), length=None, ring_rounds=64
    )
    quiet = np.zeros((9, code.layout.record_bytes), dtype=np.uint8)
    decoder.push(quiet, t_recv=0, t_send=0)
    (job,) = decoder.jobs()

    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(job.decoder, "decode", broken)
        run_jobs([job], 1)
    run_jobs(decoder.jobs(), 1)
    flags = [c.flags for c in decoder.commits()]
    assert flags == [Flag.INFEASIBLE, Flag(0)]
