"""Two owners at one API: how long the quiet one's requests take, alone, and beside one that sends far more than it may.

`python -m bench.neighbours '{"url": …, "key": …, …}'` is one owner: it prints `sends` when its first answer is there,
and at the end one line of JSON.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench import machine
from bench.peers.keyed import Keyed
from bench.peers.tailrace import Tailrace
from bench.results import Figure
from services.api.http.quotas import NO_OWN, Limits
from tests.support.processes import Process

# Requests per second: of the quiet owner; that the noisy one may send; that it sends.
QUIET: Final = 50
ALLOWED: Final = 5
NOISE: Final = 100 * ALLOWED

# Seconds of the quiet owner's requests that are not measured: the API is new.
WARM_UP_S: Final = 2


class Owner(msgspec.Struct, frozen=True):
    """Requests at a pace: each is sent when its time has come, over one of several connections."""

    url: str
    key: str
    rate: int
    seconds: float
    connections: int


class Guarded(Keyed):
    """With an owner without limits, and one that may send few requests."""

    name: ClassVar = Tailrace.name

    owners = MappingProxyType({"quiet": NO_OWN, "noisy": Limits(requests=ALLOWED, burst=ALLOWED)})


async def neighbours(system: Guarded, seconds: float = 10) -> list[Figure]:
    """The quiet owner alone, and beside the other one."""
    quiet = Owner(system.url, system.keys["quiet"], QUIET, seconds, connections=10)
    noisy = Owner(system.url, system.keys["noisy"], NOISE, seconds + 3, connections=50)
    async with AsyncExitStack() as stack:
        await _ended(await _begun(stack, msgspec.structs.replace(quiet, seconds=WARM_UP_S)))
        alone = await _ended(await _begun(stack, quiet))
        noise = await _begun(stack, noisy)
        beside = await _ended(await _begun(stack, quiet))
        refused = await _ended(noise)
    work = f"{QUIET} requests/s beside an owner at {NOISE // ALLOWED} × its limit"
    ages = [
        Figure(work, name, f"p{percent} ms", seen[f"p{percent}_ms"], less=True)
        for percent in (50, 99)
        for name, seen in ((system.name, beside), (f"{system.name}, no other owner", alone))
    ]
    return [
        *ages,
        Figure(work, system.name, "answered", beside["statuses"]["200"] / (QUIET * seconds)),
        Figure(work, system.name, "refused of the other's", refused["statuses"]["429"] / (noisy.seconds * NOISE)),
    ]


async def _begun(stack: AsyncExitStack, owner: Owner) -> Process:
    command = machine.python("-m", "bench.neighbours", msgspec.json.encode(owner).decode())
    process = machine.start(stack, machine.pinned(machine.READERS, command))
    await asyncio.to_thread(process.wait_for, "sends\n")
    return process


async def _ended(process: Process) -> dict[str, Any]:
    await asyncio.to_thread(process.wait, 60)
    seen: dict[str, Any] = json.loads(process.lines[-1])
    return seen


async def send(owner: Owner) -> dict[str, Any]:
    """Send all requests; how many answers had which status, and how old requests were when their answers came. One that
    waits for its connection ages as well.
    """
    url = urlsplit(owner.url)
    head = f"GET /tasks?limit=1 HTTP/1.1\r\nHost: {url.netloc}\r\nX-API-Key: {owner.key}\r\n\r\n".encode()
    statuses: Counter[str] = Counter()
    ages: list[float] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(head)
        said = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(said.partition("content-length: ")[2].partition("\r\n")[0]))
        return said.split(" ", 2)[1]

    opened = [await asyncio.open_connection(url.hostname, url.port) for _ in range(owner.connections)]
    await answer(*opened[0])
    print("sends", flush=True)
    started = time.perf_counter()

    async def some(first: int) -> None:
        for number in range(first, int(owner.rate * owner.seconds), owner.connections):
            due = started + number / owner.rate
            await asyncio.sleep(max(0, due - time.perf_counter()))
            statuses[await answer(*opened[first])] += 1
            ages.append(time.perf_counter() - due)

    await asyncio.gather(*(some(first) for first in range(owner.connections)))
    for _, writer in opened:
        writer.close()
    ages.sort()
    return {
        "statuses": statuses,
        "p50_ms": ages[len(ages) // 2] * 1e3,
        "p99_ms": ages[len(ages) * 99 // 100] * 1e3,
    }


def main() -> None:
    """Do what the only argument says."""
    owner = msgspec.json.decode(sys.argv[1], type=Owner)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(send(owner))), flush=True)


if __name__ == "__main__":
    main()
