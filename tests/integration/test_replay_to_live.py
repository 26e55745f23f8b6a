"""The seam between replay and live, forced at each instant at which an entry could fall between.

The tail and the hub run here, in the test's own loop, against the real Redis; the client they read with does something
of ours before or after one of its commands.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from plugins import entries, keys
from services.api.redis_client import subscriber_pool_of
from services.api.settings import Settings
from services.api.streams.formats import NDJSON
from services.api.streams.hub import Hub
from services.api.streams.page_budget import PageBudget
from services.api.streams.pages import MAX_ENTRIES as PAGE
from services.api.streams.pages import PageSemaphore
from services.api.streams.reader import Reader
from services.api.streams.tail import WINDOW_ENTRIES
from tests.support.log_writer import Writer, queued
from tests.support.settings import NEVER_S
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

Hook = Callable[[], Awaitable[Any]]


async def nothing() -> None:
    """The hook that does nothing."""


class Intercepted(Redis):
    """A client that runs a hook before or after each read of the log by a tail."""

    before: Hook = staticmethod(nothing)
    after: Hook = staticmethod(nothing)

    def hold(self) -> tuple[asyncio.Event, asyncio.Event]:
        """Hold reads back from now on. Return the event that one is asked for, and the one that lets them go."""
        asked, go = asyncio.Event(), asyncio.Event()

        async def before() -> None:
            asked.set()
            await go.wait()

        self.before = before
        return asked, go

    async def llen(self, name: Any) -> int:
        """The tail's first look."""
        await self.before()
        return int(await super().llen(name))

    async def lrange(self, name: Any, start: int, end: int) -> Any:
        """The tail's and the readers' reads."""
        await self.before()
        lines = await super().lrange(name, start, end)
        await self.after()
        return lines


@pytest.fixture
async def writer(redis: Redis) -> Writer:
    """A log of its own."""
    return Writer(redis)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Intercepted]:
    """The client that the tail reads with."""
    async with Intercepted.from_url(redis_url) as client:
        assert isinstance(client, Intercepted)
        yield client


async def cancelled(owner: asyncio.Task[None]) -> None:
    """Cancel it until it ends: in Python 3.11 a cancel may be swallowed while the connection is made."""
    while not owner.done():
        owner.cancel()
        await asyncio.wait([owner], timeout=0.1)


@asynccontextmanager
async def reading(
    client: Redis,
    url: str,
    writer: Writer,
    cursor: int = 0,
    heartbeat_s: float = NEVER_S,
    connects: Hook = nothing,
    closed: bool = False,
    attempt: int = 1,
) -> AsyncIterator[Reader]:
    """A reader of the log, and the hub it lives on, which connects after this. The log of a task that has ended is
    closed; no worker has claimed a task with the attempt 0.
    """
    hub = Hub(client, Settings(redis_url=url, heartbeat_s=heartbeat_s, probe_s=5), subscriber_pool_of(url))

    async def run() -> None:
        await connects()
        await hub.run()

    owner = asyncio.create_task(run())
    task = replace(queued(writer.task_id), attempt=attempt)
    if closed:
        last = writer.lines[-1]
        task = replace(task, length=len(writer.lines), end_line=last, end=entries.decode(last))
    reader = hub.open(task, NDJSON, cursor, lambda: None)
    try:
        yield reader
    finally:
        hub.close(reader)
        await cancelled(owner)


async def read(reader: Reader, count: int) -> list[bytes]:
    """The next so many lines, and no more than that may come in one piece."""
    lines: list[bytes] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(lines) < count:
            lines += (await reader.read()).splitlines()
    return lines


async def to_the_end(reader: Reader) -> list[bytes]:
    """All lines from here on."""
    lines: list[bytes] = []
    async with asyncio.timeout(DEADLINE_S):
        while not reader.ended:
            lines += filter(None, (await reader.read()).splitlines())
    return lines


async def until_subscribed(writer: Writer, times: int) -> None:
    """Wait until its channel has so many subscriptions."""

    async def are() -> bool:
        ((_, count),) = await writer.redis.pubsub_numsub(keys.channel(writer.task_id))
        return bool(count == times)

    await until(are, f"{times} subscriptions")


async def test_what_stands_there_does_not_wait_for_the_subscription(
    client: Intercepted, redis_url: str, writer: Writer
) -> None:
    """A late reader gets the log at once, and the entries appended meanwhile once the channel is subscribed."""
    await writer.write(3)
    connect = asyncio.Event()
    async with reading(client, redis_url, writer, connects=connect.wait) as reader:
        assert await read(reader, 3) == writer.lines
        await writer.write(2)
        connect.set()
        assert await read(reader, 2) == writer.lines[3:]
        await writer.write()
        assert await read(reader, 1) == writer.lines[5:]


async def test_a_stream_that_begins_with_its_task(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """Its log is empty, and Redis is not asked for it before the channel is subscribed. Entries that are written until
    then are not missed.
    """
    reads, connect = 0, asyncio.Event()

    async def before() -> None:
        nonlocal reads
        reads += 1

    client.before = before
    async with reading(client, redis_url, writer, connects=connect.wait, attempt=0) as reader:
        await writer.write(2)
        assert not reads
        connect.set()
        assert await read(reader, 2) == writer.lines
        await writer.write()
        assert await read(reader, 1) == writer.lines[2:]


async def test_an_end_that_is_heard_before_the_first_read_is_answered(
    client: Intercepted, redis_url: str, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the first read fails, and the next misses a message of the channel, no reader waits for a heartbeat."""
    await writer.write(3)
    failing, missing, heard = iter([True]), iter([True]), asyncio.Event()

    async def before() -> None:
        if next(failing, False):
            raise RedisConnectionError("lost")

    async def after() -> None:
        if next(missing, False):
            await until_subscribed(writer, 1)
            await writer.write(event="done")
            await heard.wait()

    client.before, client.after = before, after
    async with reading(client, redis_url, writer) as reader:
        ring = reader.tail.on_published

        def listen(line: bytes) -> None:
            ring(line)
            heard.set()

        monkeypatch.setattr(reader.tail, "on_published", listen)
        assert await read(reader, 4) == writer.lines
        assert reader.ended


async def test_an_entry_before_the_first_read(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """An entry appended after the reader has come and before the list is read comes once."""
    await writer.write(3)
    once = iter([True])

    async def before() -> None:
        if next(once, False):
            await writer.write()

    client.before = before
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 4) == writer.lines
        await writer.write(2)
        assert await read(reader, 2) == writer.lines[4:]


async def test_an_entry_between_read_and_live(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """An entry appended after the list was read, and before the first entry is taken live, comes once."""
    await writer.write(3)
    once = iter([True])

    async def after() -> None:
        if next(once, False):
            await writer.write(2)

    client.after = after
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 5) == writer.lines


async def test_an_entry_that_is_heard_while_it_is_read(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """An entry that comes over the channel while the list is read, and with that read too, comes once."""
    await writer.write(3)
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 3) == writer.lines
        once = iter([True])

        async def before() -> None:
            if next(once, False):
                await writer.write()
                await until(lambda: reader.tail.next >= 4)

        client.before = before
        reader.tail.request_rescan()
        assert await read(reader, 1) == writer.lines[3:]
        await writer.write()
        assert await read(reader, 1) == writer.lines[4:]


async def test_entries_at_every_step_of_a_long_replay(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """A log that grows at every single read of it is read in order, once."""
    await writer.write(2 * PAGE + 7)
    left = iter(range(20))
    one_at_a_time = asyncio.Lock()  # the tail and its reader read at the same time

    async def step() -> None:
        async with one_at_a_time:
            if next(left, None) is not None:
                await writer.write()

    client.before = client.after = step
    async with reading(client, redis_url, writer) as reader:
        lines = await read(reader, 2 * PAGE + 7)
        lines += await read(reader, len(writer.lines) - len(lines))
        assert lines == writer.lines


async def test_a_lost_ring_is_noticed_by_the_next(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """An entry whose publish got lost comes with the next one, before it."""
    await writer.write()
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 1) == writer.lines
        await writer.write_silently()
        await writer.write()
        assert await read(reader, 2) == writer.lines[1:]


async def test_a_lost_last_ring_heals_at_the_heartbeat(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """When exactly the end's publish got lost, the stream ends at the next heartbeat, not never."""
    await writer.write()
    async with reading(client, redis_url, writer, heartbeat_s=0.2) as reader:
        assert await read(reader, 1) == writer.lines
        await writer.write_silently("done")
        assert await read(reader, 1) == writer.lines[1:]
        assert reader.ended


async def test_a_ring_that_comes_twice_is_heard_once(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """A publish that was repeated, or comes late, repeats nothing to the reader."""
    await writer.write(3)
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 3) == writer.lines
        for seq in (0, 2, 1, 2):
            await writer.ring(seq)
        await writer.write()
        assert await read(reader, 1) == writer.lines[3:]


async def test_entries_while_the_hub_is_cut_off(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """An entry published while the connection was down comes after the reconnect, without waiting for a heartbeat."""
    await writer.write()
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 1) == writer.lines
        await writer.redis.client_kill_filter(_type="pubsub")
        await writer.write(2 * PAGE + 3)
        assert await read(reader, 2 * PAGE + 3) == writer.lines[1:]


async def test_a_reader_behind_the_window_misses_nothing(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """A reader that is slower than the window is long goes on from the list, and catches up."""
    await writer.write()
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 1) == writer.lines
        await writer.write(2 * WINDOW_ENTRIES)
        async with asyncio.timeout(DEADLINE_S):
            while reader.tail.next < len(writer.lines):
                await reader.tail.waiters.changed()
        assert reader.tail.first > reader.cursor
        assert await read(reader, 2 * WINDOW_ENTRIES) == writer.lines[1:]


async def test_a_log_that_became_shorter_is_announced(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """A reader whose log was lost in part learns it, and gets what there is from the start: never silence."""
    await writer.write(5)
    async with reading(client, redis_url, writer, heartbeat_s=0.2) as reader:
        assert await read(reader, 5) == writer.lines
        await writer.redis.ltrim(keys.log(writer.task_id), 0, 1)
        assert await read(reader, 3) == [b'{"event":"gap","data":{"after":4,"length":2}}', *writer.lines[:2]]


async def test_a_log_that_lost_what_a_reader_has_and_grew_again(
    client: Intercepted, redis_url: str, writer: Writer
) -> None:
    """A loss that is covered by what came after it is noticed by its bytes, not by the log's length."""
    await writer.write(5)
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 5) == writer.lines
        await writer.redis.ltrim(keys.log(writer.task_id), 0, 3)
        del writer.lines[4:]
        await writer.write(event="failed")
        gap = b'{"event":"gap","data":{"after":4,"length":5}}'
        assert await read(reader, 6) == [gap, *writer.lines]
        assert reader.ended


async def test_a_reader_in_the_middle_of_a_log_that_vanishes(
    client: Intercepted, redis_url: str, writer: Writer
) -> None:
    """A reader that is still far behind when everything is lost is told, and let go: it hangs on nothing."""
    await writer.write(PAGE)
    async with reading(client, redis_url, writer) as reader:
        assert (await reader.read()).startswith(writer.lines[0])
        await writer.redis.delete(keys.log(writer.task_id))
        async with asyncio.timeout(DEADLINE_S):
            pieces = []
            while not reader.ended:
                pieces.append(await reader.read())
    assert any(b'"event":"gap"' in piece for piece in pieces)


async def test_an_entry_that_is_heard_before_the_log_is_compared(
    client: Intercepted, redis_url: str, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss is announced though the first entry that a new subscription brings is the one expected next."""
    await writer.write(10)
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 10) == writer.lines
        await until_subscribed(writer, 1)
        heard = asyncio.Event()
        ring = reader.tail.on_published

        def listen(line: bytes) -> None:
            ring(line)
            heard.set()

        monkeypatch.setattr(reader.tail, "on_published", listen)
        client.before = heard.wait  # the comparison
        await writer.redis.client_kill_filter(_type="pubsub")
        await writer.redis.ltrim(keys.log(writer.task_id), 0, 7)
        del writer.lines[8:]
        await writer.write_silently()
        await writer.write_silently()
        await until_subscribed(writer, 1)
        await writer.write()
        await heard.wait()
        await writer.write(event="done")
        gap = b'{"event":"gap","data":{"after":9,"length":11}}'
        assert await to_the_end(reader) in ([gap, *writer.lines], [gap.replace(b"11", b"12"), *writer.lines])


async def test_an_entry_that_is_lost_while_a_read_is_late(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """An entry that came over the channel after a read was sent, and was lost before that was executed, is announced
    as lost: the read is compared with it, too.
    """
    await writer.write(5)
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 5) == writer.lines
        await until_subscribed(writer, 1)
        sent, executed = client.hold()
        reader.tail.request_rescan()
        await sent.wait()
        await writer.write()
        assert await read(reader, 1) == writer.lines[5:]
        await writer.redis.ltrim(keys.log(writer.task_id), 0, 4)
        del writer.lines[5:]
        await writer.write_silently()
        await writer.write_silently()
        executed.set()
        await writer.write(event="done")
        gap, *lines = await to_the_end(reader)
        assert gap.startswith(b'{"event":"gap","data":{"after":5,')
        assert lines == writer.lines


async def test_a_page_of_a_log_that_is_shorter_for_a_moment(
    client: Intercepted, redis_url: str, writer: Writer
) -> None:
    """A reader whose page was empty, and came when the log had grown again to its end, gets the new log to its end."""
    await writer.write(40)
    async with reading(client, redis_url, writer, cursor=10) as reader:
        me = asyncio.current_task()

        async def lose() -> None:
            if asyncio.current_task() is me and len(writer.lines) == 40:
                await writer.redis.ltrim(keys.log(writer.task_id), 0, 4)
                del writer.lines[5:]

        async def grow() -> None:
            if asyncio.current_task() is me and len(writer.lines) == 5:
                await writer.write_silently()
                await writer.write(30)
                await writer.write(event="done")
                reader.tail.request_rescan()
                await until(lambda: reader.tail.ended)

        client.before, client.after = lose, grow
        gap, *lines = await to_the_end(reader)
        assert gap.startswith(b'{"event":"gap","data":{"after":9,')
        assert lines == writer.lines
        assert reader.complete


async def test_a_page_that_is_empty_once(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """A reader of a closed log asks a second time before it reports a loss: nothing else looks at that log."""
    await writer.write(40)
    await writer.write(event="done")
    log, once = keys.log(writer.task_id), iter([True, False])

    async def hide() -> None:
        if next(once, None):
            await writer.redis.rename(log, f"{log}:hidden")

    async def show() -> None:
        if next(once, None) is False:
            await writer.redis.rename(f"{log}:hidden", log)

    client.before, client.after = hide, show
    async with reading(client, redis_url, writer, closed=True) as reader:
        assert await to_the_end(reader) == writer.lines
        assert reader.complete


@pytest.mark.parametrize("remaining", [30, 7])
async def test_a_closed_log_that_changes_while_it_is_read(
    client: Intercepted, redis_url: str, writer: Writer, remaining: int
) -> None:
    """A reader never gets the beginning of one log and the rest of another: the loss of its end is announced."""
    await writer.write(2 * PAGE)
    await writer.write(event="done")
    async with reading(client, redis_url, writer, closed=True) as reader:
        read: list[bytes] = []
        while len(read) < 16:
            read += (await reader.read()).splitlines()
        assert read == writer.lines[: len(read)]
        assert len(read) < 30
        await writer.redis.ltrim(keys.log(writer.task_id), 0, remaining - 1)
        del writer.lines[remaining:]
        await writer.write_silently()
        await writer.write(2 * PAGE)
        lines = await to_the_end(reader)
        assert lines[-1].startswith(b'{"event":"gap","data":{"after":')
        assert not reader.complete


async def test_a_reader_of_a_log_that_has_lost_its_end(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """A reader that comes when the end is lost gets the log as it is, though another reader still has that end."""
    await writer.write(3)
    hub = Hub(client, Settings(redis_url=redis_url, heartbeat_s=NEVER_S, probe_s=5), subscriber_pool_of(redis_url))
    owner = asyncio.create_task(hub.run())
    one = hub.open(queued(writer.task_id), NDJSON, 0, lambda: None)
    await until_subscribed(writer, 1)
    await writer.write(event="done")
    before = list(writer.lines)
    assert await to_the_end(one) == before
    await writer.redis.ltrim(keys.log(writer.task_id), 0, 2)
    del writer.lines[3:]
    await writer.write()
    other = hub.open(queued(writer.task_id), NDJSON, 0, lambda: None)
    assert await read(other, 4) == writer.lines
    await writer.write(event="failed")
    assert await to_the_end(other) == writer.lines[4:]
    hub.close(one)
    hub.close(other)
    await until_subscribed(writer, 0)
    await cancelled(owner)


def heard_by(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return an event that is set whenever the tail of this reader has received a published message."""
    ring, heard = reader.tail.on_published, asyncio.Event()

    def listen(line: bytes) -> None:
        ring(line)
        heard.set()

    monkeypatch.setattr(reader.tail, "on_published", listen)
    return heard


async def test_an_end_that_is_heard_while_a_read_is_late(
    client: Intercepted, redis_url: str, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that comes over the channel counts when the log has it. If the log is lost before, its readers are told,
    and their responses are not complete.
    """
    await writer.write(5)
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 5) == writer.lines
        await until_subscribed(writer, 1)
        heard = heard_by(reader, monkeypatch)
        sent, executed = client.hold()
        reader.tail.request_rescan()
        async with asyncio.timeout(DEADLINE_S):
            await sent.wait()
            await writer.write(event="done")
            await heard.wait()
        await writer.redis.delete(keys.log(writer.task_id))
        executed.set()
        (lost,) = await to_the_end(reader)
        assert lost.startswith(b'{"event":"gap"')
        assert not reader.complete


async def test_a_forged_end(
    client: Intercepted, redis_url: str, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that another program publishes, and the log does not have, ends no stream. The API says so once, and the
    true entries follow.
    """
    await writer.write(3)
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 3) == writer.lines
        await until_subscribed(writer, 1)
        heard = heard_by(reader, monkeypatch)
        forged = entries.encode("done", 1, 3, 0, {"chunks": 3})
        with capture_logs() as said:
            for _ in range(2):
                heard.clear()
                sent, executed = client.hold()
                await writer.redis.publish(keys.channel(writer.task_id), forged)
                async with asyncio.timeout(DEADLINE_S):
                    await heard.wait()
                    await sent.wait()
                executed.set()
            await writer.write()
            await writer.write(event="done")
            assert await to_the_end(reader) == writer.lines[3:]
        assert reader.complete
        assert [each["event"] for each in said] == ["published end is not in the log"]


async def test_an_end_costs_one_read(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """The published chunks of a stream cost no read of its log. Its end costs one, which all its readers share."""
    reads: list[None] = []

    async def before() -> None:
        reads.append(None)

    client.before = before
    async with reading(client, redis_url, writer) as reader:
        other = Reader(reader.tail, 0, PageSemaphore(2, DEADLINE_S), PageBudget(67_108_864, DEADLINE_S))
        await until_subscribed(writer, 1)

        async def undisturbed() -> bool:
            earlier = len(reads)
            await writer.write()
            await read(reader, 1)
            return len(reads) == earlier

        await until(undisturbed, "an entry that no read has brought")
        earlier, start = len(reads), len(writer.lines)
        await writer.write(100)
        assert await read(reader, 100) == writer.lines[start:]
        assert len(reads) == earlier
        await writer.write(event="done")
        assert await to_the_end(reader) == writer.lines[-1:]
        assert await to_the_end(other) == writer.lines
        assert len(reads) == earlier + 1


async def test_a_tail_that_is_given_up_during_a_read(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """A reader that waits for a page while nothing follows its log any more is let go: nothing would wake it."""
    await writer.write(PAGE)
    async with reading(client, redis_url, writer) as reader:
        assert (await reader.read()).startswith(writer.lines[0])
        await writer.redis.delete(keys.log(writer.task_id))

        me = asyncio.current_task()

        async def given_up() -> None:
            if asyncio.current_task() is me:  # the reader's read, not the tail's
                reader.tail.request_rescan()
                await until(lambda: reader.tail.broken)

        client.after = given_up
        async with asyncio.timeout(DEADLINE_S):
            while not reader.ended:
                await reader.read()


async def test_garbage_on_the_channel(client: Intercepted, redis_url: str, writer: Writer) -> None:
    """A foreign message on a stream's channel harms no reader, of this stream or of another."""
    await writer.write()
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 1) == writer.lines
        await writer.redis.publish(keys.channel(writer.task_id), b"\xff not an entry")
        await writer.write()
        assert await read(reader, 1) == writer.lines[1:]


async def test_readers_at_different_places_get_each_their_own(
    client: Intercepted, redis_url: str, writer: Writer
) -> None:
    """Readers that share a window and stand at different entries of it get what comes after theirs."""
    await writer.write()
    async with reading(client, redis_url, writer) as reader:
        assert await read(reader, 1) == writer.lines
        await writer.write(4)
        async with asyncio.timeout(DEADLINE_S):
            while reader.tail.next < 5:
                await reader.tail.waiters.changed()
        others = [
            Reader(reader.tail, cursor, PageSemaphore(2, 2), PageBudget(67_108_864, 2)) for cursor in (3, 0, 4, 3)
        ]
        assert [await read(each, 5 - each.cursor) for each in [reader, *others]] == [
            writer.lines[cursor:] for cursor in (1, 3, 0, 4, 3)
        ]


async def test_readers_of_one_stream_share_one_subscription(
    client: Intercepted, redis_url: str, writer: Writer
) -> None:
    """A hundred readers of a stream cost one subscription, and the last one to leave takes it along."""
    channel = keys.channel(writer.task_id)
    hub = Hub(client, Settings(redis_url=redis_url, heartbeat_s=NEVER_S, probe_s=5), subscriber_pool_of(redis_url))
    owner = asyncio.create_task(hub.run())
    readers = [hub.open(queued(writer.task_id), NDJSON, 0, lambda: None) for _ in range(100)]
    await writer.write()
    for reader in readers:
        assert await read(reader, 1) == writer.lines
    await until_subscribed(writer, 1)
    await writer.write()
    for reader in readers:
        assert await read(reader, 1) == writer.lines[1:]
    assert await writer.redis.pubsub_numsub(channel) == [(channel.encode(), 1)]
    for reader in readers:
        hub.close(reader)
    await until_subscribed(writer, 0)
    await cancelled(owner)
