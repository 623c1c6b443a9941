"""From the last byte of a window in the lane to its commit, and from client to client.

A real service over TCP, an endless stream paced with room to spare. The lane tells how long its
windows were in it, how long the decoder's call took, and the difference: its *overhead*. Goals for
that: 40 µs at the median and 120 µs at p99. Client to client stands beside a bare ZeroMQ echo of
the same sizes at the same pace: a ROUTER in a process of its own that does nothing but answer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import zmq
from common import cpu_ns, lane_processes, show

from qdec.client import CodeText, open_stream, service_status
from qdec.client.stream import wait_readable
from qdec.codes import Code
from qdec.lane.stats import dense, quantile
from qdec_tools.circuits import memory
from qdec_tools.qpu import Qpu
from qdec_tools.service import running_service
from qdec_tools.sources import EndlessSource

# distance: µs per round, about twice what the machine sustains
PLAN = {3: 4.0, 5: 4.0, 7: 8.0, 9: 20.0}
HEADER_BYTES = 40


def quantiles(values: dict[str, int]) -> tuple[float, float]:
    """p50 and p99 in µs of a histogram out of STATUS_REPLY."""
    counts = dense(values)
    return quantile(counts, 0.5) / 1e3, quantile(counts, 0.99) / 1e3


def answer(port: multiprocessing.Queue[int], size: int) -> None:
    """Answer every message with `size` bytes, for ever."""
    sock = zmq.Context().socket(zmq.ROUTER)
    port.put(sock.bind_to_random_port("tcp://127.0.0.1"))
    reply = bytes(size)
    while True:
        peer, header, _ = sock.recv_multipart()
        sock.send_multipart([peer, header, reply])


@contextmanager
def echo(size: int) -> Iterator[zmq.Socket[bytes]]:
    """A DEALER whose messages come back."""
    spawn = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue[int] = spawn.Queue()
    process = spawn.Process(target=answer, args=(port, size), daemon=True)
    process.start()
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.linger = 0
        sock.connect(f"tcp://127.0.0.1:{port.get(timeout=20)}")
        yield sock
    process.kill()
    process.join()


def round_trips(
    frame_bytes: int, commit_bytes: int, every_us: float, seconds: float
) -> list[float]:
    """µs there and back, one message at a time."""
    header, body = bytes(HEADER_BYTES), bytes(frame_bytes)
    found = []
    with echo(commit_bytes) as sock:
        due = time.monotonic_ns()
        end = due + int(seconds * 1e9)
        while due < end:
            due += int(every_us * 1e3)
            while (left := due - time.monotonic_ns()) > 0:
                time.sleep(left * 1e-9)
            sent = time.monotonic_ns()
            sock.send_multipart([header, body])
            while not sock.get(zmq.EVENTS) & zmq.POLLIN:
                wait_readable(0.1, sock)
            sock.recv_multipart()
            found.append((time.monotonic_ns() - sent) / 1e3)
    return found[len(found) // 10 :]


def measure(d: int, p: float, cycle_us: float, seconds: float) -> dict[str, object]:
    """One distance at one pace; a message holds the rounds of one commit region."""
    text = str(memory(d, 2 * d + 4, p))
    code = Code.parse("circuit", text)
    with (
        running_service(transport="tcp") as service,
        open_stream(
            service.endpoint, "bench", code=CodeText("circuit", text), endless=True
        ) as stream,
    ):
        pid = lane_processes(service.pid)[0].pid
        info = stream.info
        before = cpu_ns(pid)
        report = Qpu(stream, EndlessSource(code, 1), lambda _r: None).run(
            cycle_us, seconds, info.commit
        )
        cpu = (cpu_ns(pid) - before) / 1e3 / report.windows
        status = service_status(service.endpoint)
        commit_bytes = 40 + info.frame_bytes + info.seam_bytes + 200
        echoed = round_trips(
            info.commit * info.record_bytes, commit_bytes, cycle_us * info.commit, seconds / 3
        )
    decode, overhead = quantiles(status["decode"]), quantiles(status["overhead"])
    return {
        "d": d,
        "W,C": f"{info.window},{info.commit}",
        "us/round": cycle_us,
        "windows": report.windows,
        "late": report.late,
        "decode p50 us": decode[0],
        "decode p99": decode[1],
        "overhead p50 us": overhead[0],
        "overhead p99": overhead[1],
        "lane CPU us/window": cpu,
        "client p50 us": report.client_us["p50"],
        "client p99": report.client_us["p99"],
        "echo p50 us": float(np.quantile(echoed, 0.5)),
        "echo p99": float(np.quantile(echoed, 0.99)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distances", default="3,5,7,9")
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--save", action="store_true", help="to results/latency.json")
    o = parser.parse_args()
    rows = [
        measure(d, o.noise, PLAN.get(d, 4.0 * d), o.seconds)
        for d in map(int, o.distances.split(","))
    ]
    show(
        "latency in the lane and from client to client",
        rows,
        save="latency" if o.save else "",
        noise=o.noise,
        seconds=o.seconds,
        transport="tcp",
    )


if __name__ == "__main__":
    main()
