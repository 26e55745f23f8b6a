"""Attacks on an API, each a function, in a process of its own: `python -m bench.attackers '{"attack": …, …}'`.

It prints one line of JSON when the attack is over. docs/security.md says what bounds each.
"""

import asyncio
import json
import resource
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import uvloop
from redis.asyncio import Redis

from plugins import entries, keys
from plugins.declaration import Declaration
from tests.support import backlog
from tests.support.connections import Connection, connection, statuses
from tests.support.waiting import until

MIB: Final = 1_048_576

# Connections that are opened, or asked on, at the same time.
AT_ONCE: Final = 16

HEAD: Final = b" HTTP/1.1\r\nHost: localhost\r\n"


class Target(msgspec.Struct, frozen=True):
    """The attack, and where: the API, its Redis, and the live task of another client. An attack that has no end of its
    own takes `seconds`; `share` of its usual amount is sent.
    """

    attack: str
    url: str
    redis_url: str
    task_id: str
    seconds: float = 5
    share: float = 1


class Sent(msgspec.Struct):
    """All that the attacker has sent, and how many answers it got, by status."""

    connections: int = 0
    requests: int = 0
    size: int = 0
    answers: dict[int, int] = {}


class Attacker:
    """Sends, and counts what it has sent."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.sent = Sent()
        self._answers: Counter[int] = Counter()

    def timer(self) -> Callable[[], bool]:
        """A function that says whether the attack goes on: for its seconds from now."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.target.seconds
        return lambda: loop.time() < end

    def some(self, many: int) -> int:
        """As many of these as the attack is to send, and one at least."""
        return max(1, int(many * self.target.share))

    @contextmanager
    def broken_off(self) -> Iterator[None]:
        """The API may hang up."""
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            yield

    async def send(self, to: Connection, data: bytes, requests: int = 0) -> None:
        """Send these bytes, in which so many requests begin."""
        self.sent.requests += requests
        await to.send(data)
        self.sent.size += len(data)

    async def flood(self, beginning: bytes, piece: bytes, size: int) -> None:
        """Send so many bytes: the beginning and then the piece again and again, on another connection after each
        refusal.
        """

        async def one() -> None:
            while self.sent.size < size:
                async with connection(self.target.url) as to:
                    self.sent.connections += 1
                    with self.broken_off():
                        await self.send(to, beginning, 1)
                        while self.sent.size < size:
                            await self.send(to, piece)
                        continue
                    self.count(await to.until_end())

        await together(AT_ONCE, one)

    async def ask(self, request: bytes, clients: int, most: int | None = None) -> None:
        """Ask this on so many connections, answer by answer: so many times in all, or for the time of the attack."""
        address = urlsplit(self.target.url)
        in_time, before = self.timer(), self.sent.requests

        def goes_on() -> bool:
            return in_time() if most is None else self.sent.requests < before + most

        async def one() -> None:
            while goes_on():
                with self.broken_off():
                    reader, writer = await asyncio.open_connection(address.hostname, address.port)
                    self.sent.connections += 1
                    try:
                        while goes_on():
                            self.sent.requests += 1
                            self.sent.size += len(request)
                            writer.write(request)
                            self._answers[await answered(reader)] += 1
                    finally:
                        writer.close()

        await together(clients, one)

    def count(self, received: bytes) -> None:
        """Count the answers among these bytes."""
        self._answers.update(statuses(received))

    async def start(self, function: str, given: dict[str, Any]) -> str:
        """Start a task; its id."""
        async with connection(self.target.url) as to:
            await self.send(to, post(function, given), 1)
            await to.until(b'"chunks_url"')
            self.count(to.received)
            body: Any = msgspec.json.decode(to.received.partition(b"\r\n\r\n")[2])
            return str(body["task_id"])

    def result(self) -> Sent:
        """The sums."""
        self.sent.answers = dict(sorted(self._answers.items()))
        return self.sent


async def together(clients: int, one: Callable[[], Awaitable[None]]) -> None:
    """So many of these at the same time."""
    await asyncio.gather(*(one() for _ in range(clients)))


async def answered(reader: asyncio.StreamReader) -> int:
    """Read one answer; its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, rest = head.lower().partition(b"\r\ncontent-length: ")
    await reader.readexactly(int(rest.partition(b"\r\n")[0] or 0))
    return statuses(head)[0]


def get(path: str) -> bytes:
    """A request for this path."""
    return b"GET " + path.encode() + HEAD + b"\r\n"


def post(function: str, given: Any) -> bytes:
    """A request to start this function."""
    body = json.dumps({"function": function, "input": given}, separators=(",", ":")).encode()
    return b"POST /tasks" + HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def nothing(it: Attacker) -> None:
    """No attack."""
    await asyncio.sleep(2 * it.target.seconds)


async def header_lines(it: Attacker) -> None:
    """64 MiB of header lines."""
    await it.flood(b"GET /" + HEAD, b"a:\r\n" * 2**14, it.some(64 * MIB))


async def one_header(it: Attacker) -> None:
    """128 MiB as one header."""
    await it.flood(b"GET /" + HEAD + b"a: ", b"a" * 2**16, it.some(128 * MIB))


async def long_url(it: Attacker) -> None:
    """128 MiB as a URL."""
    await it.flood(b"GET /", b"a" * 2**16, it.some(128 * MIB))


async def half_sent(it: Attacker) -> None:
    """Nothing, half a head, or half a body on thousands of connections."""
    body = b"POST /tasks" + HEAD + b"Content-Length: 9\r\n\r\n{"
    async with AsyncExitStack() as stack:
        silent = []
        for _ in range(it.some(2_000)):
            for sent in (b"", b"GET /" + HEAD + b"X", body):
                to = await stack.enter_async_context(connection(it.target.url))
                it.sent.connections += 1
                await it.send(to, sent, int(sent != b""))
                if sent is not body:
                    silent.append(to)
        for to in silent:
            it.count(await to.until_end())


async def wrong_inputs(it: Attacker) -> None:
    """Inputs of 63 KB with 21,000 faults each, from 8 clients."""
    await it.ask(post("dialogue", {"messages": [{}] * 21_000}), 8)


async def listings(it: Attacker) -> None:
    """`GET /tasks` of 100 tasks with a last chunk of 255,000 bytes, from 20 clients."""
    await it.ask(post("large", {"chunks": 1, "size": 255_000}), 1, it.some(100))
    await it.ask(get("/tasks?limit=100"), 20)


async def documents(it: Attacker) -> None:
    """`GET /schema` with 200 functions of 16 KiB, from 8 clients."""
    await announce(it.target.redis_url, it.some(200))
    await it.ask(get("/schema"), 8)


async def unknown_functions(it: Attacker) -> None:
    """Tasks of a function that there is not, beside 200 functions of 16 KiB, from 8 clients."""
    await announce(it.target.redis_url, it.some(200))
    await it.ask(post("nope", {}), 8)


async def announce(redis_url: str, functions: int) -> None:
    """Announce so many functions with a schema of 16 KiB."""
    schema = {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(600)}}
    async with Redis.from_url(redis_url) as redis:
        for number in range(functions):
            declared = Declaration(name=f"f{number}", description="", version="", input=schema, timeout=1)
            await redis.hset(keys.FUNCTIONS, declared.name, msgspec.json.encode(declared).decode())


async def long_polls(it: Attacker) -> None:
    """5,000 long-polls of a silent task, asked and left."""
    task_id = await it.start("silent", {})
    turns = asyncio.Semaphore(AT_ONCE)
    request = get(f"/tasks/{task_id}/chunks?wait=45")

    async def one() -> None:
        async with turns:
            with it.broken_off():
                async with connection(it.target.url) as to:
                    it.sent.connections += 1
                    await it.send(to, request, 1)

    await together(it.some(5_000), one)


async def slow_readers(it: Attacker) -> None:
    """200 readers of chunks of 255,000 bytes that take nothing."""
    task_id = await it.start("large", {"chunks": 40, "size": 255_000})
    address = urlsplit(it.target.url)
    request = get(f"/tasks/{task_id}/stream")
    readers = []
    for _ in range(it.some(200)):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        reader.connect((address.hostname, address.port))
        reader.sendall(request)
        readers.append(reader)
        it.sent.connections += 1
        it.sent.requests += 1
        it.sent.size += len(request)
    await asyncio.sleep(2 * it.target.seconds)
    for reader in readers:
        reader.close()


async def long_tasks(it: Attacker) -> None:
    """300 tasks that take a day: more than the worker has slots."""
    await it.ask(post("silent", {}), 8, it.some(300))
    await asyncio.sleep(it.target.seconds)


async def too_many_tasks(it: Attacker) -> None:
    """10,500 tasks, from 16 clients: more than an owner may have."""
    await it.ask(post("silent", {}), AT_ONCE, it.some(10_500))


async def dead_worker(it: Attacker) -> None:
    """20,000 queued tasks that are due for a look, and the lease of a worker that is dead, until its stream ends."""
    async with Redis.from_url(it.target.redis_url) as redis:
        it.sent.requests = it.some(20_000)
        await backlog.create(redis, it.sent.requests, function="silent")
        task_id = await backlog.lost(redis, function="silent")

        async def failed() -> bool:
            last: Any = await redis.lindex(keys.log(task_id), -1)
            return last is not None and entries.decode(last).ends

        await until(failed)


async def full_redis(it: Attacker) -> None:
    """Inputs of 63 KB, from 8 clients, until Redis has used 85 % of 256 MB, and after that."""
    await it.ask(post("silent", {"text": "x" * 63_000}), 8, it.some(4_200))


async def pipelined(it: Attacker) -> None:
    """A stream, and 99 requests or no HTTP behind it, on 224 connections that leave then."""
    stream = get(f"/tasks/{it.target.task_id}/stream")
    behind = (get("/tasks") * 99, b"\0" * 4_000)

    async def one() -> None:
        for number in range(it.some(14)):
            with it.broken_off():
                async with connection(it.target.url) as to:
                    it.sent.connections += 1
                    await it.send(to, stream + behind[number % 2], 1 + 99 * (number % 2 == 0))
                    await to.until(b"id: ")
                    it.count(to.received)

    await together(AT_ONCE, one)


async def forged_ends(it: Attacker) -> None:
    """A `done` that the log does not have, published to the stream again and again."""
    log, channel = keys.log(it.target.task_id), keys.channel(it.target.task_id)
    async with Redis.from_url(it.target.redis_url) as redis:
        goes_on = it.timer()
        while goes_on():
            length: int = await redis.llen(log)
            line = entries.encode("done", 1, length, entries.now_ms(), {"chunks": length})
            await redis.publish(channel, line.decode())
            it.sent.requests += 1
            it.sent.size += len(line)


ATTACKS: Final[tuple[Callable[[Attacker], Awaitable[None]], ...]] = (
    nothing,
    header_lines,
    one_header,
    long_url,
    half_sent,
    wrong_inputs,
    listings,
    documents,
    unknown_functions,
    long_polls,
    slow_readers,
    long_tasks,
    too_many_tasks,
    dead_worker,
    full_redis,
    pipelined,
    forged_ends,
)

BY_NAME: Final = {attack.__name__: attack for attack in ATTACKS}


async def attack(target: Target) -> Sent:
    """Do it."""
    attacker = Attacker(target)
    await BY_NAME[target.attack](attacker)
    return attacker.result()


def main() -> None:
    """Do what the only argument says."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    target = msgspec.json.decode(sys.argv[1], type=Target)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(attack(target))).decode(), flush=True)


if __name__ == "__main__":
    main()
