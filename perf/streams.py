"""What many streams on one lane cost: memory of each, and CPU time per round.

The same code on every stream, so what is compiled is shared; a stream's own state is its ring of
rounds and a few objects. Every stream gets the same number of rounds, in messages of 100.
"""

from __future__ import annotations

import argparse
import gc

import numpy as np
from common import cpu_ns, lane_processes, show

from qdec.client import CodeText, open_stream, service_status
from qdec.codes import Code
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import running_service

FRAME = 100


def measure(d: int, p: float, counts: list[int], rounds: int) -> list[dict[str, object]]:
    """Open more and more streams of one service."""
    text = str(memory(d, 2 * d + 4, p))
    code = Code.parse("circuit", text)
    sampler = EndlessSampler(code, 1, track=False)
    records = np.concatenate([sampler.next(FRAME).copy() for _ in range(rounds // FRAME)])
    rows: list[dict[str, object]] = []
    streams = []
    with running_service(transport="tcp") as service:
        lane = lane_processes(service.pid)[0]
        start = 0
        for count in counts:
            while len(streams) < count:
                streams.append(
                    open_stream(
                        service.endpoint,
                        f"s{len(streams)}",
                        code=CodeText("circuit", text),
                        endless=True,
                    )
                )
            sent = [s.sent_until for s in streams]
            before = cpu_ns(lane.pid)
            windows = service_status(service.endpoint)["windows"]
            for at in range(0, len(records), FRAME):
                for s in streams:
                    s.send(records[at : at + FRAME])
                    s.poll()
            window = streams[0].info.window
            for s, base in zip(streams, sent, strict=True):
                while s.committed < base + len(records) - window:
                    s.poll(0.01)
            cpu = (cpu_ns(lane.pid) - before) / 1e3 / (count * len(records))
            gc.collect()
            rss = lane.memory_info().rss
            first = rows[0]["lane MB"] if rows else 0.0
            assert isinstance(first, float)
            start = start or count
            status = service_status(service.endpoint)
            rows.append(
                {
                    "d": d,
                    "streams": count,
                    "lane us/round": cpu,
                    "windows": status["windows"] - windows,
                    "lane MB": rss / 1e6,
                    "KB/stream, grown": (rss / 1e6 - first) * 1e3 / (count - start)
                    if count > start
                    else float("nan"),
                    "KB/stream, rings": status["streams"][0]["bytes"] / 1e3,
                }
            )
        for s in streams:
            s.close(wait=False)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distance", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--streams", default="1,4,16,64,256")
    parser.add_argument("--rounds", type=int, default=20_000, help="per stream and step")
    parser.add_argument("--save", action="store_true", help="to results/streams.json")
    o = parser.parse_args()
    counts = [int(n) for n in o.streams.split(",")]
    rows = measure(o.distance, o.noise, counts, o.rounds)
    show(
        "many streams on one lane",
        rows,
        save="streams" if o.save else "",
        noise=o.noise,
        rounds=o.rounds,
        frame=FRAME,
    )


if __name__ == "__main__":
    main()
