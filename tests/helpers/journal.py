"""The journal's native protocol, read as its specification says; nothing of qdec's is used."""

from __future__ import annotations


def parse(datagram: bytes) -> dict[str, str]:
    """Fields of one entry: lines of ``NAME=value``, or a name, a length and so many bytes."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(datagram):
        end = datagram.index(b"\n", at)
        line = datagram[at:end]
        at = end + 1
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name, size = line, int.from_bytes(datagram[at : at + 8], "little")
            value = datagram[at + 8 : at + 8 + size]
            assert len(value) == size
            at += 8 + size
            assert datagram[at : at + 1] == b"\n"
            at += 1
        key = name.decode("ascii")
        assert key not in fields
        fields[key] = value.decode()
    return fields
