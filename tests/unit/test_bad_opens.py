"""Requests to open or resume that are refused: why, with which code, and at no cost to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from helpers.circuits import memory
from helpers.lanes import KEY, Lane, Stream, code_of, config
from helpers.recordings import bystander, recording
from qdec.bus.cursor import Cursor, seal, unseal
from qdec.bus.wire import MAX_CURSOR_BYTES, VERSION, Error, Opened, Type
from qdec.config import StreamConfig
from qdec.errors import WireCode

CIRCUIT = recording("endless").text
GOOD_DEM = "".join(
    f"detector(0, 0, {r}) D{r}\nerror(0.1) D{r} L0\n" + (f"error(0.1) D{r - 1} D{r}\n" if r else "")
    for r in range(8)
)


def request(fields: object, *parts: bytes, kind: int = Type.OPEN) -> tuple[bytes, ...]:
    return (msgpack.packb([VERSION, kind, 7, fields]), *parts)


def refused(lane: Lane, parts: tuple[bytes, ...], code: WireCode) -> str:
    """One ERROR for the request, counted, and nothing open that was not before."""
    before, errors = lane.core.sessions, lane.stats["errors"]
    ((reply, _),) = lane.tell(b"peer", *parts)
    code_of(code, reply)
    assert isinstance(reply, Error)
    assert (reply.handle, reply.epoch) == (0, 0)
    assert lane.core.sessions == before
    assert lane.stats["errors"] == errors + 1
    assert "\n" not in reply.message
    return reply.message


GUEST = {"stream": "s", "code": "circuit"}
FIELDS: dict[str, tuple[dict[Any, Any], WireCode]] = {
    "no name": ({"code": "circuit"}, WireCode.BAD_OPTION),
    "empty name": ({**GUEST, "stream": ""}, WireCode.BAD_OPTION),
    "name too long": ({**GUEST, "stream": "x" * 65}, WireCode.BAD_OPTION),
    "name with a slash": ({**GUEST, "stream": "../x"}, WireCode.BAD_OPTION),
    "name with a newline": ({**GUEST, "stream": "x\n"}, WireCode.BAD_OPTION),
    "name in bytes": ({**GUEST, "stream": b"s"}, WireCode.BAD_OPTION),
    "name beyond ASCII": ({**GUEST, "stream": "pätch"}, WireCode.BAD_OPTION),
    "unknown field": ({**GUEST, "priority": 1}, WireCode.BAD_OPTION),
    "unknown kind of code": ({**GUEST, "code": "qasm"}, WireCode.BAD_OPTION),
    "raw as a number": ({**GUEST, "raw": 1}, WireCode.BAD_OPTION),
    "endless as text": ({**GUEST, "endless": "yes"}, WireCode.BAD_OPTION),
    "windows as a list": ({**GUEST, "windows": [6, 3]}, WireCode.BAD_OPTION),
    "windows that are none": ({**GUEST, "windows": "six,three"}, WireCode.BAD_OPTION),
    "windows of zero rounds": ({**GUEST, "windows": "0,0"}, WireCode.BAD_OPTION),
    "negative windows": ({**GUEST, "windows": "6,-3"}, WireCode.BAD_OPTION),
    "windows that commit more than they see": ({**GUEST, "windows": "3,6"}, WireCode.BAD_OPTION),
    "windows without a buffer": ({**GUEST, "windows": "6,6"}, WireCode.BAD_OPTION),
    "huge windows": ({**GUEST, "windows": "99999999999,3"}, WireCode.BAD_OPTION),
    "text beyond its bound": ({**GUEST, "windows": "6" * 33}, WireCode.BAD_OPTION),
    "whole and endless": ({**GUEST, "windows": "whole", "endless": True}, WireCode.BAD_OPTION),
    "unknown tier": ({**GUEST, "tier": "oracle"}, WireCode.BAD_OPTION),
    "deadline of zero": ({**GUEST, "deadline_us": 0}, WireCode.BAD_OPTION),
    "negative deadline": ({**GUEST, "deadline_us": -5}, WireCode.BAD_OPTION),
    "huge deadline": ({**GUEST, "deadline_us": 2**63}, WireCode.BAD_OPTION),
    "deadline as a float": ({**GUEST, "deadline_us": 5.0}, WireCode.BAD_OPTION),
    "cursor in OPEN": ({**GUEST, "cursor": b"x"}, WireCode.BAD_OPTION),
    "cursor as text": ({**GUEST, "cursor": "x"}, WireCode.BAD_OPTION),
    "cursor too long": ({**GUEST, "cursor": b"x" * (MAX_CURSOR_BYTES + 1)}, WireCode.BAD_OPTION),
    "a key that is bytes": ({**GUEST, b"raw": True}, WireCode.BAD_OPTION),
    "a key that is a number": ({**GUEST, 5: True}, WireCode.BAD_FRAME),
}


@pytest.mark.parametrize("name", FIELDS)
def test_bad_fields(name: str) -> None:
    fields, code = FIELDS[name]
    lane = Lane()
    with bystander(lane):
        refused(lane, request(fields, CIRCUIT.encode()), code)


@pytest.mark.parametrize("fields", [None, 5, "s", [], ["stream", "s"]])
def test_fields_that_are_no_map(fields: object) -> None:
    refused(Lane(), request(fields, CIRCUIT.encode()), WireCode.BAD_FRAME)


@pytest.mark.parametrize("number", [-1, 2**62, None, "7", 7.0])
def test_bad_request_number(number: object) -> None:
    header = msgpack.packb([VERSION, Type.OPEN, number, GUEST])
    refused(Lane(), (header, CIRCUIT.encode()), WireCode.BAD_FRAME)


# A code's text, and what is wrong with it. The bounds themselves are tested with `qdec.codes`.
DEMS: dict[str, tuple[str | bytes, WireCode, str]] = {
    "nothing": ("", WireCode.BAD_CODE, "second part"),
    "empty": ("\n", WireCode.BAD_CODE, "empty"),
    "not a DEM": ("H 0\nM 0\n", WireCode.BAD_CODE, "not a detector error model"),
    "not UTF-8": (b"error(0.1) D0 \xff", WireCode.BAD_CODE, "UTF-8"),
    "NUL": (GOOD_DEM + "\0", WireCode.BAD_CODE, "NUL"),
    "no observables": (GOOD_DEM.replace(" L0", ""), WireCode.BAD_CODE, "observables"),
    "no coordinates": (GOOD_DEM.replace("detector(", "#"), WireCode.BAD_CODE, "round"),
    "undecomposed hyperedge": (
        GOOD_DEM + "error(0.1) D0 D1 D2",
        WireCode.BAD_CODE,
        "decompose",
    ),
    "p above 1": (GOOD_DEM + "error(1.5) D0", WireCode.BAD_CODE, ""),
    "huge index": (GOOD_DEM + "error(0.1) D9999999999", WireCode.CODE_TOO_LARGE, "detectors"),
    "huge observable": (GOOD_DEM + "error(0.1) D0 L4000000000", WireCode.CODE_TOO_LARGE, ""),
    "huge repeat count": (
        GOOD_DEM + "repeat 1000000000000 {\nerror(0.1) D0\nshift_detectors 1\n}",
        WireCode.CODE_TOO_LARGE,
        "",
    ),
    "deep nesting": ("repeat 2 {\n" * 1000 + "}" * 1000, WireCode.CODE_TOO_LARGE, "nesting"),
    "counts that wrap around": (
        "repeat 4294967296 {\nrepeat 4294967296 {\nshift_detectors 1\nerror(0.1) D0\n}\n}",
        WireCode.CODE_TOO_LARGE,
        "",
    ),
}


@pytest.mark.parametrize("name", DEMS)
def test_bad_models(name: str) -> None:
    text, code, says = DEMS[name]
    part = text if isinstance(text, bytes) else text.encode()
    lane = Lane()
    with bystander(lane):
        message = refused(lane, request({"stream": "s", "code": "dem"}, part), code)
    assert says in message


CIRCUITS: dict[str, tuple[str, WireCode]] = {
    "not a circuit": ("error(0.1) D0", WireCode.BAD_CODE),
    "no detectors": ("H 0\nM 0\nOBSERVABLE_INCLUDE(0) rec[-1]", WireCode.BAD_CODE),
    "huge repeat count": (
        CIRCUIT.replace("REPEAT 7", "REPEAT 1000000000000"),
        WireCode.CODE_TOO_LARGE,
    ),
    "huge qubit": ("M 16000000\n" + CIRCUIT, WireCode.CODE_TOO_LARGE),
    "a detector that is not deterministic": (
        CIRCUIT + "\nH 1\nM 1\nDETECTOR(0, 0, 9) rec[-1]",
        WireCode.BAD_CODE,
    ),
    "cut off": (CIRCUIT[: len(CIRCUIT) // 2], WireCode.BAD_CODE),
}


@pytest.mark.parametrize("name", CIRCUITS)
def test_bad_circuits(name: str) -> None:
    text, code = CIRCUITS[name]
    lane = Lane()
    with bystander(lane):
        refused(lane, request(GUEST, text.encode()), code)


ROUNDS = np.arange(8, dtype="<u4")
MAPS: dict[str, tuple[bytes, WireCode]] = {
    "not whole numbers": (ROUNDS.tobytes()[:-1], WireCode.BAD_CODE),
    "too short": (ROUNDS[:-1].tobytes(), WireCode.BAD_CODE),
    "too long": (np.arange(9, dtype="<u4").tobytes(), WireCode.BAD_CODE),
    "with a hole": ((ROUNDS + (ROUNDS > 3)).tobytes(), WireCode.BAD_CODE),
    "huge": ((ROUNDS + np.uint32(2**32 - 9)).tobytes(), WireCode.BAD_CODE),
    "a fourth part": (b"", WireCode.BAD_FRAME),
}


@pytest.mark.parametrize("name", MAPS)
def test_bad_round_maps(name: str) -> None:
    part, code = MAPS[name]
    parts = [GOOD_DEM.encode(), part]
    if name == "a fourth part":
        parts = [GOOD_DEM.encode(), ROUNDS.tobytes(), b""]
    refused(Lane(), request({"stream": "s", "code": "dem"}, *parts), code)


def test_a_round_map_replaces_coordinates() -> None:
    bare = GOOD_DEM.replace("detector(", "#").encode()
    stream = Stream(Lane(), code=(bare, ROUNDS.tobytes())).open(code="dem")
    assert stream.info is not None
    assert stream.info.shot_rounds == 8


def test_a_configured_streams_round_map_replaces_coordinates(tmp_path: Path) -> None:
    (tmp_path / "bare.dem").write_text(GOOD_DEM.replace("detector(", "#"))
    (tmp_path / "rounds").write_text("\n".join(map(str, ROUNDS.tolist())))
    one = StreamConfig(name="s", code=tmp_path / "bare.dem", map=tmp_path / "rounds")
    stream = Stream(Lane(config(one))).open()
    assert stream.info is not None
    assert stream.info.shot_rounds == 8


def test_measurements_of_a_model_are_refused() -> None:
    fields = {"stream": "s", "code": "dem", "raw": True}
    message = refused(Lane(), request(fields, GOOD_DEM.encode()), WireCode.BAD_OPTION)
    assert "circuit" in message


def test_endless_needs_something_that_repeats() -> None:
    two = CIRCUIT.replace("REPEAT 7", "REPEAT 1")
    fields = {**GUEST, "endless": True, "windows": "6,3"}
    message = refused(Lane(), request(fields, two.encode()), WireCode.BAD_OPTION)
    assert "repeating round" in message


def test_correlated_needs_mechanisms_less_likely_than_not() -> None:
    fields = {"stream": "s", "code": "dem", "tier": "correlated"}
    likely = GOOD_DEM + "error(0.75) D0"
    refused(Lane(), request(fields, likely.encode()), WireCode.BAD_OPTION)


def test_guests_where_there_are_none() -> None:
    lane = Lane(config(guests=False))
    message = refused(lane, request(GUEST, CIRCUIT.encode()), WireCode.UNKNOWN_STREAM)
    assert "guests" in message


def test_a_name_nobody_configured() -> None:
    refused(Lane(), request({"stream": "s"}), WireCode.UNKNOWN_STREAM)


def test_memory_beyond_the_bound() -> None:
    lane = Lane(config(max_stream_bytes=4096))
    fields = {**GUEST, "windows": "4000,2000", "endless": True}
    refused(lane, request(fields, CIRCUIT.encode()), WireCode.LIMIT)


# -- cursors -----------------------------------------------------------------------------------


def with_cursor() -> Stream:
    """A stream with a commit behind it, on a lane of its own."""
    rec = recording("endless")
    stream = rec.open(Lane())
    assert stream.send(0, rec.records[:12]) is None
    assert len(stream.collect()) == 3
    return stream


def resume(of: Stream, cursor: bytes, lane: Lane | None = None, **changed: object) -> Any:
    again = Stream(lane or Lane(), b"peer", of.code)
    options: dict[str, Any] = {**recording("endless").options, "code": "circuit", **changed}
    return again.ask(cursor=cursor, **options)


def test_a_forged_cursor() -> None:
    stream = with_cursor()
    for bit in range(0, 8 * len(stream.cursor), 5):
        forged = bytearray(stream.cursor)
        forged[bit // 8] ^= 1 << bit % 8
        code_of(WireCode.BAD_CURSOR, resume(stream, bytes(forged)))


def test_a_truncated_cursor() -> None:
    stream = with_cursor()
    for n in range(1, len(stream.cursor)):
        code_of(WireCode.BAD_CURSOR, resume(stream, stream.cursor[:n]))
    code_of(WireCode.BAD_CURSOR, resume(stream, stream.cursor + b"\0"))


def test_a_cursor_of_another_service() -> None:
    stream = with_cursor()
    code_of(WireCode.BAD_CURSOR, resume(stream, stream.cursor, Lane(key=b"another key" * 2)))


def test_a_cursor_of_another_stream() -> None:
    stream = with_cursor()
    code_of(WireCode.BAD_CURSOR, resume(stream, stream.cursor, stream="other"))


@pytest.mark.parametrize("changed", [{"raw": True}, {"endless": False}], ids=str)
def test_a_cursor_for_another_kind_of_rounds(changed: dict[str, Any]) -> None:
    stream = with_cursor()
    code_of(WireCode.BAD_CURSOR, resume(stream, stream.cursor, **changed))


def test_a_cursor_of_another_code() -> None:
    """Faults may have got likelier; what the bits mean may not have changed."""
    stream = with_cursor()
    stream.code = (CIRCUIT.replace("0.008", "0.007").encode(),)
    assert isinstance(resume(stream, stream.cursor), Opened)
    stream.code = (str(memory(rounds=9, p=0.008)).encode(),)
    code_of(WireCode.BAD_CURSOR, resume(stream, stream.cursor))


@pytest.mark.parametrize(
    "change",
    [
        {"tier": 77},
        {"frame": b""},
        {"frame": b"\0\0"},
        {"seam": b"\0\0\0"},
        {"history": b"\0"},
        {"sweep": b"\0"},
        {"lost": b"\1"},
        {"window_rounds": 3, "commit_rounds": 3},
        {"window_rounds": 0, "commit_rounds": 0},
        {"window_rounds": 6, "commit_rounds": 0},
    ],
    ids=str,
)
def test_a_cursor_that_an_older_service_sealed_otherwise(change: dict[str, Any]) -> None:
    """Authentic, and still not believed where it does not fit."""
    stream = with_cursor()
    good = unseal(stream.cursor, "s", KEY)
    fields = {name: getattr(good, name) for name in Cursor.__slots__}
    odd = seal(Cursor(**{**fields, **change}), KEY)
    lane = Lane()
    with bystander(lane):
        code_of(WireCode.BAD_CURSOR, resume(stream, odd, lane))


def test_a_cursor_past_its_shots_end() -> None:
    rec = recording("shots, windows")
    stream = rec.open(Lane())
    assert stream.send(0, rec.records[:12]) is None
    stream.collect()
    good = unseal(stream.cursor, "s", KEY)
    fields = {name: getattr(good, name) for name in Cursor.__slots__}
    odd = seal(Cursor(**{**fields, "start": 21}), KEY)
    again = Stream(Lane(), b"peer", rec.code)
    code_of(WireCode.BAD_CURSOR, again.ask(cursor=odd, code="circuit", **rec.options))


def test_a_resume_without_a_cursor() -> None:
    parts = request(GUEST, CIRCUIT.encode(), kind=Type.RESUME)
    refused(Lane(), parts, WireCode.BAD_OPTION)


def test_a_refused_resume_leaves_the_holder_alone() -> None:
    stream = with_cursor()
    other = Stream(stream.lane, b"thief", stream.code)
    reply = other.ask(cursor=stream.cursor[:-1] + b"?", code="circuit", endless=True)
    code_of(WireCode.BAD_CURSOR, reply)
    records = recording("endless").records
    assert stream.send(12, records[12:15]) is None
    assert len(stream.collect()) == 1
