"""A reader of one live stream, in a process of its own: how long it waited for the next chunk, at the longest.

`python -m bench.pauses URL` prints `open` with the first chunk, and after SIGTERM one line of JSON.
"""

import signal
import socket
import sys
import time
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.work import DIGITS, MARK


class Pauses(msgspec.Struct, frozen=True):
    """The reader's figures. `longest_ms` is its longest wait for a chunk, or for the end; `made_ms` is the longest time
    between two chunks where they are made. `whole` says that the stream was open to the end and no chunk is missing.
    """

    chunks: int
    longest_ms: float
    made_ms: float
    whole: bool


def follow(url: str) -> Pauses:
    """Read the stream until SIGTERM."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port))
    head = f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    connection.sendall(head.encode())
    stopped: list[int] = []

    def stop(number: int, _: Any) -> None:
        stopped.append(number)
        connection.shutdown(socket.SHUT_RD)

    signal.signal(signal.SIGTERM, stop)
    times: list[int] = []
    received = b""
    while piece := connection.recv(65_536):
        received += piece
        if MARK in piece:
            times.append(time.monotonic_ns())
            if len(times) == 1:
                print("open", flush=True)
    times.append(time.monotonic_ns())
    return pauses(received, times, stopped=bool(stopped))


def pauses(received: bytes, times: list[int], *, stopped: bool) -> Pauses:
    """The figures of these bytes, of which the chunks came at these times (ns)."""
    made = [int(piece[:DIGITS]) for piece in received.split(MARK)[1:]]
    ids = [int(line[4:]) for line in received.split(b"\n") if line.startswith(b"id: ")]
    return Pauses(
        chunks=len(made),
        longest_ms=_longest_ms(times),
        made_ms=_longest_ms(made),
        whole=stopped and ids == list(range(len(made))),
    )


def _longest_ms(times: list[int]) -> float:
    return max((after - before) / 1e6 for before, after in pairwise(times))


if __name__ == "__main__":
    print(msgspec.json.encode(follow(sys.argv[1])).decode(), flush=True)
