"""A million hostile messages at a service that decodes: nothing may break, grow or be disturbed.

Three kinds of attackers beside one honest, paced stream, each in a process of its own:

insider   has a key, and sends the parser whatever comes to mind: noise, torn and mutated headers,
          wrong handles, impossible sizes, opens and resumes of all kinds, rounds on a stream of its
          own, hundreds of parts, parts of a megabyte, and frames larger than any may be
stranger  speaks CURVE with a key that nobody authorised, or no CURVE at all; a connection gets as
          far as one handshake, so those are counted, one for twenty of the insider's messages
vandal    opens raw TCP connections and writes noise behind a ZMTP greeting, or half of one, for as
          long as the service keeps the connection

What was sent is held against what the lane says that it has seen: the insider's messages, and what
became of them by the code of each reply, and the strangers' handshakes. The honest stream's answers
are compared with those of an undisturbed run, and the lane is looked at: the same process, its
memory, its descriptors. Exit status 1 if anything is amiss, or did not get where it should.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import psutil
import zmq
from common import show
from curve import keys_in

from qdec.bus.wire import Error, Open, OpenBody, Opened, decode_from_lane, encode
from qdec.client import ClientKeys, CodeText, open_stream, service_status
from qdec.codes import Code
from qdec.commit import StreamDecoder, WindowBank, run_jobs
from qdec.errors import WireCode
from qdec.match import Tier
from qdec.security.keys import new_pair
from qdec.windows import Geometry
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import running_service

GEOMETRY = Geometry(20, 10)
TEXT = str(memory(3, 8, 0.003))
CYCLE_US, FRAME = 50.0, 20
PER_CONNECTION = 1000
_GROWTH_MIB = 8.0
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"


def dealer(endpoint: str, keys: ClientKeys | None, *, once: bool = False) -> zmq.Socket[bytes]:
    sock: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    sock.linger = 0
    sock.sndhwm = 2000
    if once:
        sock.reconnect_ivl = -1
    if keys is not None:
        keys.secure(sock)
    sock.connect(endpoint)
    return sock


def invented(rng: random.Random, mine: Opened | None) -> list[bytes]:
    """A message that no client sends; `mine` is a stream that the sender has open."""
    kind = rng.choice((1, 2, 3, 3, 3, 4, 5, 6, 64, 99, -1))

    def number() -> int:
        return rng.choice((0, 1, -1, 7, 2**31, 2**62, 2**63, 2**64 - 1))

    match rng.randrange(8):
        case 0:
            return [rng.randbytes(rng.randrange(64)) for _ in range(rng.randrange(1, 5))]
        case 1:
            return [msgpack.packb([1, kind, *(number() for _ in range(rng.randrange(9)))])]
        case 2:
            body = {"stream": rng.choice(("honest", "x", "../x", "\n")), "code": "circuit"}
            body["windows"] = rng.choice(("auto", "0,0", "9" * 32, "whole"))
            text = rng.choice((TEXT[:200], "REPEAT 9999999 {\nM 0\n}", "\xff", "detector D9"))
            return [msgpack.packb([1, 1, 3, body]), text.encode()]
        case 3:
            header = bytearray(msgpack.packb([1, 3, number(), number(), 0, number(), 9, 0, 0]))
            header[rng.randrange(len(header))] ^= 1 << rng.randrange(8)
            return [bytes(header), rng.randbytes(rng.randrange(200))]
        case 4:
            body = {"stream": "honest", "code": "circuit", "endless": True}
            cursor = bytearray(rng.randbytes(rng.choice((1, 180, 6144, 6200))))
            if mine is not None and rng.random() < 0.5:
                cursor = bytearray(mine.body.cursor)
                cursor[rng.randrange(len(cursor))] ^= 1 << rng.randrange(8)
            return [msgpack.packb([1, 2, 3, {**body, "cursor": bytes(cursor)}]), TEXT.encode()]
        case 5 if mine is not None:
            first, count = rng.choice((0, 0, 1, 2**40)), rng.choice((1, 2, 0, 2**31))
            records = rng.randbytes(rng.choice((0, 1, mine.body.record_bytes)))
            return [
                msgpack.packb([1, 3, mine.handle, mine.epoch, 1, first, count, number() & 7, 0]),
                records,
            ]
        case 6 if rng.random() < 0.02:
            if rng.random() < 0.5:
                return [b"\x93"] * rng.randrange(4, 1000)
            return [rng.randbytes(100), bytes(1 << 20)]
        case _:
            return [msgpack.packb([number()] * rng.randrange(2000))]


def own_stream(sock: zmq.Socket[bytes], name: str) -> Opened | None:
    body = OpenBody(stream=name, code="circuit", endless=True, windows=str(GEOMETRY))
    sock.send_multipart([encode(Open(1, body, False)), TEXT.encode()])
    if not sock.poll(5000):
        return None
    reply = decode_from_lane(sock.recv_multipart()[0])
    return reply if isinstance(reply, Opened) else None


def insider(endpoint: str, keys: ClientKeys, messages: int, sent: Any, told: Any) -> None:
    rng, done = random.Random(1), 0
    replies: Counter[str] = Counter()

    def take(parts: list[bytes]) -> None:
        reply = decode_from_lane(parts[0])
        name = WireCode(reply.code).name if isinstance(reply, Error) else type(reply).__name__
        replies[name] += 1

    while done < messages:
        sock = dealer(endpoint, keys)
        mine = own_stream(sock, f"mine{done}")
        done += 1
        for _ in range(min(20 * PER_CONNECTION, messages - done)):
            sock.send_multipart(invented(rng, mine))
            done += 1
            with suppress(zmq.Again):
                while True:
                    take(sock.recv_multipart(zmq.NOBLOCK))
        give_up = time.monotonic() + 20
        quiet = 0
        while quiet < 4 and time.monotonic() < give_up:  # until everything was looked at
            if sock.poll(50):
                quiet = 0
                take(sock.recv_multipart())
            else:
                quiet += 1
        sock.send(bytes(18 << 20))  # at which libzmq ends the connection
        sock.poll(200)
        sock.close()
        sent.value = done
    told.put(dict(replies))


def stranger(endpoint: str, server: str, handshakes: int, sent: Any) -> None:
    rng = random.Random(2)
    message = msgpack.packb([1, 6, 1])
    while sent.value < handshakes:
        socks = []
        for _ in range(20):
            keys = ClientKeys(new_pair("stranger"), server) if rng.random() < 0.5 else None
            socks.append(dealer(endpoint, keys, once=True))
            with suppress(zmq.Again):
                socks[-1].send(message, zmq.NOBLOCK)
        time.sleep(0.1)
        for sock in socks:
            if sock.poll(0):
                raise SystemExit("a stranger was answered")
            sock.close()
        sent.value += len(socks)


def vandal(endpoint: str, messages: int, sent: Any) -> None:
    rng = random.Random(3)
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    while sent.value < messages:
        with suppress(OSError), socket.create_connection((host, int(port)), 2) as sock:
            sock.settimeout(0.2)
            greeting = GREETING + rng.choice((b"NULL", b"CURVE", b"PLAIN")).ljust(52, b"\0")
            sock.sendall(greeting[: rng.choice((0, 5, 64, 64, 64))])
            for _ in range(PER_CONNECTION):
                size = rng.randrange(250)
                sock.sendall(bytes([rng.choice((0, 1, 4)), size]) + rng.randbytes(size))
                sent.value += 1


def undisturbed(records: np.ndarray) -> np.ndarray:
    decoder = StreamDecoder(
        WindowBank(Code.parse("circuit", TEXT), Tier.MATCHING, GEOMETRY),
        length=None,
        ring_rounds=len(records),
    )
    decoder.push(records, t_recv=0, t_send=0, last=True)
    frames = []
    while jobs := decoder.jobs():
        run_jobs(jobs, 1)
        frames += [commit.frame for commit in decoder.commits()]
    return np.array(frames)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--messages", type=int, default=1_000_000, help="with a key; as many without"
    )
    parser.add_argument("--save", action="store_true", help="into results/hostile.json")
    o = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    told = spawn.SimpleQueue()
    counters = [spawn.Value("q", 0, lock=False) for _ in range(3)]
    with tempfile.TemporaryDirectory() as name:
        friend, table = keys_in(Path(name))
        with running_service(transport="tcp", tables=table, keys=friend) as service:
            (lane,) = [
                child
                for child in psutil.Process(service.pid).children()
                if "qdec.lane.process" in child.cmdline()
            ]
            handshakes, half = o.messages // 20, o.messages // 2
            attackers = [
                spawn.Process(
                    target=insider, args=(service.endpoint, friend, o.messages, counters[0], told)
                ),
                spawn.Process(
                    target=stranger, args=(service.endpoint, friend.server, handshakes, counters[1])
                ),
                spawn.Process(target=vandal, args=(service.endpoint, half, counters[2])),
            ]
            guest = CodeText("circuit", TEXT)
            sampler = EndlessSampler(Code.parse("circuit", TEXT), 1)
            records: list[np.ndarray] = []
            rows: list[np.ndarray] = []
            memory_at: list[int] = []
            with open_stream(
                service.endpoint,
                "honest",
                code=guest,
                endless=True,
                windows=str(GEOMETRY),
                keys=friend,
            ) as stream:
                stream.on_event = lambda line: print(f"honest stream: {line}", file=sys.stderr)
                for one in attackers:
                    one.start()
                begin = time.monotonic()
                next_look = begin
                while any(one.is_alive() for one in attackers):
                    now = time.monotonic()
                    if now >= next_look:
                        next_look = now + 1
                        memory_at.append(lane.memory_info().rss)
                    if now >= begin + len(records) * FRAME * CYCLE_US * 1e-6:
                        records.append(sampler.next(FRAME))
                        stream.send(records[-1])
                    rows += stream.poll(0.0005)
                seconds = time.monotonic() - begin
                records.append(sampler.close(FRAME * (len(records) + 1)))
                stream.send(records[-1], last=True)
                rows += stream.drain()
                resumes = stream.resumes
            time.sleep(1)
            stats = service_status(service.endpoint, 2.0, keys=friend)
            answers = np.concatenate(rows)
            expected = undisturbed(np.concatenate(records))
            same = len(answers) == len(expected) and (answers["frame"] == expected).all()
            # Medians of the first and the last third of what comes behind the first fifth.
            settled = np.array(memory_at[len(memory_at) // 5 :]) / 2**20
            third = max(1, len(settled) // 3)
            before, after = np.median(settled[:third]), np.median(settled[-third:])
            reached = (
                stats["messages"] - len(records) >= counters[0].value
                and stats["auth_failures"] >= counters[1].value
            )
            replies = {} if told.empty() else told.get()
            result = {
                "insider messages": counters[0].value,
                "stranger handshakes": counters[1].value,
                "vandal frames": counters[2].value,
                "lane messages": stats["messages"],
                "errors": stats["errors"],
                "auth failures": stats["auth_failures"],
                "honest windows": len(answers),
                "wrong": 0
                if same
                else int((answers["frame"] != expected[: len(answers)]).any(1).sum()),
                "late": int(np.count_nonzero(answers["flags"] & 2)),
                "resumes": resumes,
                "MiB before": float(before),
                "MiB after": float(after),
                "descriptors": lane.num_fds(),
                "log KiB": service.log.stat().st_size / 1024,
                **{f"insider told {name}": n for name, n in sorted(replies.items())},
            }
            alive = lane.is_running() and all(one.exitcode == 0 for one in attackers)
    show(
        f"hostile messages: {seconds:.0f} s",
        [{"what": key, "value": value} for key, value in result.items()],
        save="hostile" if o.save else "",
        seconds=seconds,
    )
    return int(not (alive and same and reached and after - before < _GROWTH_MIB and resumes == 0))


if __name__ == "__main__":
    sys.exit(main())
