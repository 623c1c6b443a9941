"""What CURVE costs: the same streams through a plain service and one with keys, turn by turn.

Service and simulator are separate processes over loopback TCP. Each pair of runs is made one after
the other, so that a slow minute of the machine hits both; the median of the pairs' ratios counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from common import show

from qdec.security.keys import ClientKeys, new_pair, write_pair
from qdec_tools.service import running_service


def keys_in(folder: Path) -> tuple[ClientKeys, str]:
    """A service's key and a client's; the client's keys, and the configuration's table."""
    service, client = new_pair("service"), new_pair("client")
    for pair in (service, client):
        write_pair(pair, folder)
    authorised = folder / "authorised.toml"
    authorised.write_text(
        f'[[key]]\nname = "client"\npublic = "{client.public}"\nadmin = true\n'
        "messages_per_second = 10_000_000\nbytes_per_second = 10_000_000_000\n"
    )
    authorised.chmod(0o600)
    table = f'[security]\nserver_key = "{folder}/service.secret"\nauthorised = "{authorised}"\n'
    return ClientKeys(client, service.public), table


def run(endpoint: str, options: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "qdec", "qpu", "--json", "--endpoint", endpoint, *keys]
    for name, value in options.items():
        command += [name, str(value)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(out.stdout.strip().splitlines()[-1])
    return result


def figures(r: dict[str, Any]) -> dict[str, float]:
    return {
        "us/round": r["seconds"] / r["rounds"] * 1e6,
        "lane p50 us": r["lane_us"]["p50"],
        "lane p99 us": r["lane_us"]["p99"],
        "client p50 us": r["client_us"]["p50"],
        "client p99 us": r["client_us"]["p99"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distance", type=int, default=5)
    parser.add_argument("--cycles", default="0,10", help="µs per round; 0: as credits allow")
    parser.add_argument("--frames", default="10,200", help="rounds per message")
    parser.add_argument("--seconds", type=float, default=3.0, help="per run")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--save", action="store_true")
    o = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        client, table = keys_in(folder)
        files = ["--key", f"{folder}/client.secret", "--server-key", f"{folder}/service.public"]
        with (
            running_service(transport="tcp") as plain,
            running_service(transport="tcp", tables=table, keys=client) as locked,
        ):
            for cycle in map(float, o.cycles.split(",")):
                for frame in map(int, o.frames.split(",")):
                    options = {
                        "-d": o.distance,
                        "-c": f"{cycle:g}",
                        "-s": o.seconds,
                        "--frame-rounds": frame,
                    }
                    pairs = [
                        (
                            figures(run(plain.endpoint, options, [])),
                            figures(run(locked.endpoint, options, files)),
                        )
                        for _ in range(o.pairs)
                    ]
                    rows.append(_row(cycle, frame, pairs))
    show(
        "CURVE beside plain TCP",
        rows,
        save="curve" if o.save else "",
        distance=o.distance,
        seconds=o.seconds,
        pairs=o.pairs,
    )


def _row(
    cycle: float, frame: int, pairs: list[tuple[dict[str, float], dict[str, float]]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"cycle us": cycle, "rounds/message": frame}
    for name in pairs[0][0]:
        row[name] = median(plain[name] for plain, _ in pairs)
        row[f"{name}, ratio"] = median(curve[name] / plain[name] for plain, curve in pairs)
    return row


if __name__ == "__main__":
    main()
