"""docs/protocol.md shows what the code does: dumps, tables of numbers, and the conversation.

The page's dumps come from the messages below. After a change of either::

    python tests/unit/test_protocol_page.py --write
"""

from __future__ import annotations

import difflib
import math
import re
import struct
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pytest
import stim

from helpers.lanes import Lane, Stream
from qdec.bus import wire
from qdec.bus.records import commit_dtype, read_records
from qdec.bus.wire import (
    Close,
    Closed,
    Commit,
    Credit,
    Error,
    Open,
    OpenBody,
    Opened,
    OpenedBody,
    Pause,
    PauseReason,
    Ping,
    Proceed,
    Redirect,
    Rounds,
    RoundsFlag,
    Status,
    StatusReply,
    Type,
)
from qdec.codes import Code
from qdec.commit import Flag
from qdec.config import Config, LaneConfig
from qdec.errors import WireCode
from qdec.match import Tier

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
FENCE = re.compile(r"^`([\w.-]+)`\n+```hexdump\n(.*?)^```$", re.MULTILINE | re.DOTALL)

CURSOR = b"(cursor, opaque)"
EPOCH = 1_760_000_000_000_000_000
T_SEND = 5_000_000_000
OPTIONS = {"code": "circuit", "endless": True, "windows": "6,3", "deadline_us": 1000}
ROUNDS = bytes([0x00, 0x02, 0x40, 0x40, 0x00, 0x00])
MADE_BY = 0x0123456789ABCDEF
COMMITTED = struct.pack("<QQQIIfHBxQ", 0, 0, T_SEND, 41_500, 3, math.nan, 0, 1, MADE_BY)
COMMITTED += bytes([0x01, 0x40]) + bytes(6)
OPENED = OpenedBody(
    stream="patch0",
    next_round=0,
    next_window=0,
    credit_until=16384,
    record_bytes=1,
    shot_rounds=0,
    frame_bytes=1,
    seam_bytes=1,
    observables=1,
    window=6,
    commit=3,
    tier="matching",
    deadline_us=1000,
    ring_rounds=16384,
    tail_in_one_frame=2,
    code_sha256="0123456789abcdef" * 4,
    identity=f"{MADE_BY:016x}",
    cursor=CURSOR,
    notes=[],
    part=0,
    parts=[],
)
STATUS = {"version": "0.1.0", "draining": False, "streams": [], "windows": 1}

# Name on the page -> message, and its body where it has one that is shown.
MESSAGES: dict[str, tuple[wire.FromClient | wire.FromLane, bytes | None]] = {
    "open": (Open(1, OpenBody(stream="patch0", **OPTIONS), False), None),
    "open-configured": (Open(1, OpenBody(stream="patch0"), False), None),
    "resume": (Open(2, OpenBody(stream="patch0", cursor=CURSOR, **OPTIONS), True), None),
    "rounds": (Rounds(1, EPOCH, 0, 0, 6, 0, T_SEND), ROUNDS),
    "rounds-lost-last": (
        Rounds(1, EPOCH, 1, 6, 2, RoundsFlag.LAST | RoundsFlag.LOST, T_SEND + 2000),
        bytes([0x00, 0x00, 0x08, 0x00]),
    ),
    "close": (Close(1, EPOCH), None),
    "ping": (Ping(1, EPOCH), None),
    "status": (Status(1), None),
    "opened": (Opened(1, 1, EPOCH, OPENED), None),
    "redirect": (Redirect(1, "tcp://127.0.0.1:7601"), None),
    "commit": (Commit(1, EPOCH, 1, 16387, 3, CURSOR), COMMITTED),
    "credit": (Credit(1, EPOCH, 16387, 6, 1), None),
    "pause": (Pause(1, EPOCH, PauseReason.DRAINING), None),
    "proceed": (Proceed(1, EPOCH), None),
    "closed": (Closed(1, EPOCH), None),
    "status-reply": (StatusReply(1, STATUS), None),
    "error": (Error(1, EPOCH, 3, WireCode.GAP, "round 6 is missing: send again from it", 6), None),
}

SWEPT = """
R 0 1 2
CX sweep[0] 0 sweep[1] 1
X_ERROR(0.01) 0 1
M 0 1 2
DETECTOR(0, 0, 0) rec[-3]
X_ERROR(0.01) 0 1
M 0 1 2
DETECTOR(0, 0, 1) rec[-3] rec[-6]
OBSERVABLE_INCLUDE(0) rec[-3]
"""


def circuit() -> str:
    """The circuit of the page's examples."""
    noise = 0.001
    return str(
        stim.Circuit.generated(
            "surface_code:rotated_memory_z",
            distance=3,
            rounds=12,
            after_clifford_depolarization=noise,
            before_round_data_depolarization=noise,
            before_measure_flip_probability=noise,
            after_reset_flip_probability=noise,
        )
    )


def dump(*parts: bytes) -> str:
    """Parts of a message as the page shows them."""
    lines = []
    for number, part in enumerate(parts, 1):
        lines.append(f"part {number}, {len(part)} bytes")
        for at in range(0, len(part), 16):
            row = part[at : at + 16]
            text = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
            lines.append(f"  {at:04x}  {row.hex(' '):<47}  |{text}|")
    return "\n".join(lines) + "\n"


def record_of(code: Code, *detectors: int) -> bytes:
    """A whole shot's records in which these detectors fired."""
    shot = np.zeros(code.layout.num_detectors, dtype=np.uint8)
    shot[list(detectors)] = 1
    packed = np.packbits(shot, bitorder="little")[None]
    return code.layout.to_records(packed).tobytes()


def swept_records() -> bytes:
    """Two raw rounds of `SWEPT`: measurements 1 0 1, then 1 0 0; sweep bits 1 0."""
    code = Code.parse("circuit", SWEPT)
    assert code.measurements is not None
    shot = np.packbits([1, 0, 1, 1, 0, 0], bitorder="little")[None]
    return code.measurements.to_records(shot, np.array([[0b01]], dtype=np.uint8)).tobytes()


def dumps() -> dict[str, str]:
    """Every dump of the page by its name."""
    out = {}
    for name, (message, body) in MESSAGES.items():
        parts = [wire.encode(message)] + ([] if body is None else [body])
        out[name] = dump(*parts)
    out["records-d3"] = dump(record_of(Code.parse("circuit", circuit()), 5, 18, 26)[:6])
    out["records-sweep"] = dump(swept_records())
    return out


def rewritten(page: str) -> str:
    """The page with its dumps as they should be."""
    fresh = dumps()

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return f"`{name}`\n\n```hexdump\n{fresh.get(name, match[2])}```"

    return FENCE.sub(replace, page)


def test_every_dump_is_what_the_code_encodes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    shown = dict(FENCE.findall(page))
    assert page.count("```hexdump") == len(shown), "a dump has no name, or one name occurs twice"
    assert shown.keys() == dumps().keys()
    changes = difflib.unified_diff(page.splitlines(), rewritten(page).splitlines(), lineterm="")
    assert not list(changes), "run python tests/unit/test_protocol_page.py --write"


def parts_of(text: str) -> list[bytes]:
    """Inverse of `dump`."""
    parts: list[bytes] = []
    for line in text.splitlines():
        if line.startswith("part"):
            parts.append(b"")
        else:
            parts[-1] += bytes.fromhex(line[8:55])
    return parts


@pytest.mark.parametrize("name", MESSAGES)
def test_every_dump_decodes_to_its_message(name: str) -> None:
    message, body = MESSAGES[name]
    shown = dict(FENCE.findall(PAGE.read_text(encoding="utf-8")))
    header, *rest = parts_of(shown[name])
    from_client = isinstance(message, wire.FromClient)
    decode = wire.decode_from_client if from_client else wire.decode_from_lane
    assert decode(header) == message
    assert rest == ([] if body is None else [body])


def test_every_message_type_is_shown() -> None:
    shown = dict(FENCE.findall(PAGE.read_text(encoding="utf-8")))
    # Byte 0 is the list, byte 1 the version, byte 2 the type: all are below 128.
    assert {parts_of(shown[name])[0][2] for name in MESSAGES} == set(Type)


@pytest.mark.parametrize("numbers", [Type, WireCode, Tier, Flag, PauseReason, RoundsFlag])
def test_every_number_stands_in_a_table(numbers: type[Type]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for member in numbers:
        row = rf"^\| {int(member)} \| {member.name}\b"
        assert re.search(row, page, re.MULTILINE), f"{numbers.__name__}.{member.name}"


def test_the_worked_example_is_the_codes_layout() -> None:
    page = PAGE.read_text(encoding="utf-8")
    layout = Code.parse("circuit", circuit()).layout
    for round_ in range(4):
        members = [f"D{d}" for d in np.flatnonzero(layout.round_of == round_)]
        cells = [str(round_), *members, *["0"] * (8 - len(members))]
        assert f"| {' | '.join(cells)} |" in page


def test_errors_found_in_a_header_refer_to_nothing() -> None:
    lane = Lane()
    bad_option = wire.encode(Open(5, OpenBody.model_construct(stream="no blanks"), False))
    for header, code in (
        (b"\x93\x02\x06\x05", WireCode.BAD_VERSION),
        (b"\x92\x01\x63", WireCode.BAD_TYPE),
        (b"", WireCode.BAD_FRAME),
        (b"\xc1" * 8193, WireCode.TOO_LARGE),
        (bad_option, WireCode.BAD_OPTION),
    ):
        ((error, _),) = lane.tell(b"peer", header)
        assert isinstance(error, Error)
        assert (error.code, error.handle, error.epoch, error.reference) == (code, 0, 0, 0)


def test_the_record_layout_is_the_pages() -> None:
    page = PAGE.read_text(encoding="utf-8")
    dtype = commit_dtype(1, 1)
    assert dtype.fields is not None
    for name, (field, offset, *_) in dtype.fields.items():
        if name not in ("frame", "seam"):
            assert re.search(rf"^\| {offset} \| {field.itemsize}\b.*\| {name} \|", page, re.M), name
    (row,) = read_records(COMMITTED, 1, dtype)
    assert math.isnan(row["confidence"])
    assert (row["frame"].tolist(), row["seam"].tolist(), row["count"]) == ([0x01], [0x40], 3)


def test_the_conversation_is_what_a_lane_says() -> None:
    """The page's OPEN and ROUNDS, given to a lane, bring the page's OPENED, COMMIT and CREDIT."""
    lane = Lane(Config(lane=(LaneConfig(endpoints=("tcp://127.0.0.1:7600",)),)))
    stream = Stream(lane, code=(circuit().encode(),))
    stream.open(stream="patch0", request=1, **OPTIONS)
    assert stream.info is not None
    given = {"cursor", "code_sha256", "identity"}
    assert stream.info.model_dump(exclude=given) == OPENED.model_dump(exclude=given)
    records = np.frombuffer(ROUNDS, dtype=np.uint8).reshape(6, 1)
    assert record_of(Code.parse("circuit", circuit()), 5, 18, 26)[:6] == ROUNDS
    assert stream.send(0, records, t_send=T_SEND) is None
    lane.now += 41_500
    lane.work()
    ((commit, body),) = lane.hear(stream.peer)
    assert body[40:48] == int(stream.info.identity, 16).to_bytes(8, "little")
    assert body[:40] + body[48:] == COMMITTED[:40] + COMMITTED[48:]
    assert isinstance(commit, Commit)
    assert (commit.n, commit.credit_until, commit.retain_from) == (1, 16387, 3)
    ((credit, _),) = lane.tell(stream.peer, wire.encode(Ping(stream.handle, stream.epoch)))
    assert credit == Credit(stream.handle, stream.epoch, 16387, 6, 1)


def main() -> None:
    """Refresh the page's dumps."""
    if sys.argv[1:] != ["--write"]:
        raise SystemExit("usage: python tests/unit/test_protocol_page.py --write")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(rewritten(page), encoding="utf-8")


if __name__ == "__main__":
    main()
