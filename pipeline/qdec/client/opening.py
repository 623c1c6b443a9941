"""Opening a stream: one lane's, or all lanes' that share it."""

from __future__ import annotations

from typing import Any

import zmq
from pydantic import ValidationError

from qdec.bus.wire import OpenBody
from qdec.client.door import Door
from qdec.client.interface import Stream
from qdec.client.options import CodeText, Patience
from qdec.client.split import SplitStream
from qdec.client.stream import LaneStream
from qdec.errors import Refused, WireCode
from qdec.security.keys import ClientKeys, client_keys


def open_stream(
    endpoint: str,
    stream: str,
    *,
    code: CodeText | None = None,
    raw: bool = False,
    endless: bool | None = None,
    windows: str | None = None,
    tier: str | None = None,
    deadline_us: int | None = None,
    patience: Patience | None = None,
    context: zmq.Context[zmq.Socket[bytes]] | None = None,
    keys: ClientKeys | None = None,
) -> Stream:
    """Open a stream; wait until its lane, or every lane that shares it, has agreed to it.

    Args:
        endpoint: of any lane of the service; it redirects to the right one.
        stream: a name from the service's configuration, or with `code` a name of your own.
        code: a guest's code; options below are for guests only.
        raw: rounds will carry measurements instead of detectors.
        endless: no fixed shot length.
        windows: ``auto``, ``whole`` or ``W,C``.
        tier: ``matching`` or ``correlated``.
        deadline_us: from a window's last byte in the lane to its commit.
        patience: timeouts.
        context: a ZeroMQ context to share.
        keys: for TCP; those that ``QDEC_KEY`` and ``QDEC_SERVER_KEY`` name if None.

    Raises:
        KeyFileError: keys that the environment names cannot be used.
        Refused: the service said no; `wire` says why.
        NotAdmitted: the keys do not fit.
        ServiceUnavailable: nobody answered.
    """
    options: dict[str, Any] = {
        "raw": raw,
        "endless": endless,
        "windows": windows,
        "tier": tier,
        "deadline_us": deadline_us,
        "part": None if code else 0,
    }
    given = {k: v for k, v in options.items() if v is not None and v is not False}
    try:
        body = OpenBody(stream=stream, code=code.kind if code else "", **given)
    except ValidationError as error:  # the service would say the same
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise Refused(WireCode.BAD_OPTION, f"{where}: {problem['msg']}") from None
    patience, context = patience or Patience(), context or zmq.Context.instance()
    keys = keys or client_keys()
    first = LaneStream(Door((endpoint,), body, code, patience, context, keys))
    first.connect()
    if not first.info.parts:
        return first
    opened = [first]
    try:
        for part, lane in enumerate(first.info.parts[1:], start=1):
            its = body.model_copy(update={"part": part})
            # A part's own lane first; the caller's knows where a part has moved to.
            door = Door((lane, endpoint), its, code, patience, context, keys)
            opened.append(LaneStream(door))
            opened[-1].connect()
        return SplitStream(opened, patience)
    except BaseException:
        for one in opened:
            one.close(wait=False)
        raise
