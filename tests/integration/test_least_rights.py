"""Each service reaches Redis as a user of its own, which may do what the service needs: deploy/redis.acl.

Every server of the tests has these users, and the services of the tests are they. So a command that the file lacks
fails the test that leads to it. These tests are about what the file must not allow, and about the oldest Redis.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ResponseError

from plugins import keys
from tests.support import redis_acl
from tests.support.client import client_of, follow, pause, resume, start, until_ready
from tests.support.documents import blocks
from tests.support.programs import program
from tests.support.redis_servers import DURABLE, EmbeddedRedis, version
from tests.support.system import system

pytestmark = pytest.mark.anyio

TASK: Final = "0" * 32

# By these a client reads what is not its own, changes the server, or runs code that stays there.
DANGEROUS: Final = [
    "ACL LIST",
    "ACL SETUSER api nopass",
    "BGREWRITEAOF",
    "CLIENT KILL TYPE normal",
    "CLIENT LIST",
    "CONFIG GET requirepass",
    "CONFIG SET dir /",
    "DEBUG SLEEP 1",
    "EVALSHA 0 0",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION LOAD x",
    "KEYS *",
    "MIGRATE host 6379 key 0 1000",
    "MODULE LOAD x",
    "MONITOR",
    "PSUBSCRIBE *",
    "RANDOMKEY",
    "REPLICAOF host 6379",
    "SAVE",
    "SCAN 0",
    "SCRIPT FLUSH",
    "SHUTDOWN",
    "SWAPDB 0 1",
]

# The user, and a command on a name that is not for it.
FOREIGN: Final = [
    # A function cannot make or read another client's reservation, nor list an owner's tasks.
    ("worker", f"EXISTS {keys.idempotency('a', 'key')}"),
    ("worker", f"ZRANGE {keys.by_owner('a')} 0 -1"),
    # The kill switch is the operator's.
    ("worker", f"SADD {keys.PAUSED} count"),
    ("worker", f"EVAL x 1 {keys.PAUSED}"),
    # The hub of an API takes what comes here for the proof that it hears.
    ("worker", f"PUBLISH {keys.hub('x')} x"),
    # Only workers say which functions there are.
    ("api", f"HSET {keys.FUNCTIONS} count {{}}"),
    ("api", f"HSET {keys.BROKEN} x {{}}"),
    ("api", f"XREADGROUP GROUP {keys.QUEUE_GROUP} x STREAMS {keys.QUEUE} >"),
    # Whatever else is in this Redis.
    ("api", "GET session:1"),
    ("worker", "HGETALL session:1"),
    ("api", "SUBSCRIBE news"),
    ("worker", "PUBLISH news x"),
]

ALLOWED: Final = [
    ("api", f"GET {keys.idempotency('a', 'key')}"),
    ("api", f"SADD {keys.PAUSED} count"),
    ("api", f"HGETALL {keys.FUNCTIONS}"),
    ("worker", f"SMEMBERS {keys.PAUSED}"),
    ("worker", f"HSET {keys.FUNCTIONS} count {{}}"),
    ("api", f"SUBSCRIBE {keys.channel(TASK)}"),
    ("worker", f"PUBLISH {keys.channel(TASK)} x"),
]


async def verdict(redis: Redis, user: str, command: str) -> str:
    """`OK`, or why the server would refuse this user the command."""
    try:
        answer = await redis.execute_command("ACL", "DRYRUN", user, *command.split())  # type: ignore[no-untyped-call]  # redis-py has it so
    except ResponseError as error:
        return str(error)
    return str(answer.decode())


@pytest.mark.parametrize("user", ["api", "worker"])
@pytest.mark.parametrize("command", DANGEROUS)
async def test_a_command_that_no_service_needs(redis: Redis, user: str, command: str) -> None:
    """A service that is taken over does not become the master of the server."""
    assert "no permissions to run" in await verdict(redis, user, command)


@pytest.mark.parametrize(("user", "command"), FOREIGN)
async def test_a_name_that_is_not_for_this_service(redis: Redis, user: str, command: str) -> None:
    """One service cannot act as the other where a difference protects users."""
    assert "no permissions to" in await verdict(redis, user, command)


@pytest.mark.parametrize(("user", "command"), ALLOWED)
async def test_a_name_that_is_for_this_service(redis: Redis, user: str, command: str) -> None:
    """The same questions, where the answer is yes."""
    assert await verdict(redis, user, command) == "OK"


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis with the file as an operator would have it: the tests have no rights of their own there."""
    operator = ["on", f">{redis_acl.PASSWORD}", "~*", "&*", "+@all"]
    users = redis_acl.for_tests() | {"default": redis_acl.rules()["default"], "operator": operator}
    file = tmp_path / "shipped.acl"
    file.write_text(redis_acl.written(users))
    with EmbeddedRedis("--aclfile", str(file), *DURABLE, program=program("redis-server")) as server:
        yield server


async def test_an_operators_passwords(tmp_path: Path) -> None:
    """The commands of docs/deploy.md make a file that lets in the services by their passwords, and no other client."""
    (block,) = (block for block in blocks("docs/deploy.md") if block.text.startswith("hash() {"))
    (tmp_path / "deploy").symlink_to(redis_acl.FILE.parent)
    env = {**os.environ, "API_PASSWORD": "of/the api", "WORKER_PASSWORD": "of the worker"}
    subprocess.run(["bash", "-ec", block.text], cwd=tmp_path, env=env, check=True)  # noqa: ASYNC221  # nothing else runs
    with EmbeddedRedis("--aclfile", str(tmp_path / "users.acl")) as server:
        for url in ("api:of%2Fthe%20api", "worker:of%20the%20worker"):
            async with Redis.from_url(server.url.replace("//", f"//{url}@")) as redis:
                assert await redis.ping()
        async with Redis.from_url(server.url.replace("//", "//worker:of%2Fthe%20api@")) as redis:
            with pytest.raises(AuthenticationError):
                await redis.ping()


@pytest.mark.program
async def test_a_client_without_a_password(shipped: EmbeddedRedis) -> None:
    """It may do nothing."""
    async with Redis.from_url(shipped.url) as redis:
        for command in (*DANGEROUS, "PING", "INFO", "GET x", f"LRANGE {keys.log(TASK)} 0 -1", "EVAL x 0"):
            with pytest.raises(AuthenticationError):
                await redis.execute_command(*command.split())  # type: ignore[no-untyped-call]  # redis-py has it so


@pytest.mark.program
async def test_a_restart_under_least_rights(shipped: EmbeddedRedis) -> None:
    """It forgets nothing. Redis reads its file of writes as the user `default`, whose rights must be all there are.

    Redis 7 and 8 would drop each step of a task that changes several keys; they report that as an error of a client.
    """
    async with system(shipped.url) as (_, _, client):
        task_id = await start(client, "count", to=3)
        before = await follow(client, task_id)
        shipped.kill()
        shipped.start()
        await until_ready(client)
        assert await follow(client, task_id) == before == ([1, 2, 3], "done", {"chunks": 3})
        assert [each["task_id"] for each in (await client.get("/tasks")).json()["tasks"]] == [task_id]
    async with Redis.from_url(redis_acl.url_of("operator", shipped.url)) as redis:
        assert list(redis_acl.refusals(await redis.acl_log())) == []


async def test_a_service_without_its_password(redis_url: str) -> None:
    """The file has no passwords. Until an operator adds them, no client gets in as a service."""
    words = [word for user in ("api", "worker") for word in redis_acl.rules()[user]]
    assert not any(word.startswith((">", "#", "nopass")) for word in words)
    async with Redis.from_url(redis_acl.url_of("api", redis_url).replace(redis_acl.PASSWORD, "guess")) as redis:
        with pytest.raises(AuthenticationError):
            await redis.ping()


@pytest.mark.program
async def test_the_oldest_redis_under_least_rights() -> None:
    """Redis 7.0 reads the file, and a whole life of a task works there: it refuses the services nothing."""
    with EmbeddedRedis(program=program("redis-server")) as server:
        print(version(server.url))
        async with system(server.url) as (worker, api, client), Redis.from_url(server.url) as redis:
            task_id = await start(client, "count", to=3)
            assert await follow(client, task_id) == ([1, 2, 3], "done", {"chunks": 3})
            again = {"Idempotency-Key": "once"}
            assert await start(client, "count", again, to=1) == await start(client, "count", again, to=1)
            silent = await start(client, "count", to=2, every=60)
            assert (await client.delete(f"/tasks/{silent}")).status_code == 202
            await pause(client, "words", heard_by=[worker])
            await resume(client, "words")
            assert (await client.get("/tasks")).status_code == 200
            assert (await client.get("/functions")).status_code == 200
            async with client_of(api) as other:
                assert (await other.get("/health/ready")).status_code == 200
            assert list(redis_acl.refusals(await redis.acl_log())) == []
