"""The password of Redis is in no log and in no answer, whatever is wrong with the connection."""

import sys
from collections.abc import Iterator
from typing import Final

import httpx
import pytest
from redis import Redis

from tests.support.canaries import CANARY
from tests.support.client import client_of
from tests.support.processes import Process, api_process
from tests.support.redis_servers import EmbeddedRedis
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SECRET: Final = CANARY


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a Redis with another password."""
    with EmbeddedRedis() as server:
        with Redis.from_url(server.url) as redis:
            redis.acl_setuser("default", enabled=True, reset_passwords=True, passwords="+another")
        yield server.port


# URLs that can be read, each with the words of the log that say what is wrong with it.
WRONG: Final = {
    "a wrong password": (f"redis://:{SECRET}@127.0.0.1:{{port}}/0", "invalid username-password pair|WRONGPASS"),
    "a wrong user": (f"redis://nobody:{SECRET}@127.0.0.1:{{port}}/0", "invalid username-password pair|WRONGPASS"),
    "a password as an option": (
        f"redis://default@127.0.0.1:{{port}}?password={SECRET}",
        "invalid username-password|WRONGPASS",
    ),
    "no server": (f"redis://:{SECRET}@127.0.0.1:1/0", "Connection refused|Connect call failed"),
    "no such host": (f"redis://:{SECRET}@redis.invalid/0", "redis.invalid:6379"),
    "no socket": (f"unix://:{SECRET}@/nowhere/redis.sock", "/nowhere/redis.sock"),
    "no TLS": (f"rediss://:{SECRET}@127.0.0.1:{{port}}/0", "127.0.0.1:|SSL|Connection"),
}


@pytest.mark.parametrize(("url", "words"), WRONG.values(), ids=WRONG)
async def test_an_api_that_cannot_connect(port: int, url: str, words: str) -> None:
    """Its log says why, and its answers say that the store is away; neither has the password."""
    with api_process(url.format(port=port)) as api:
        async with client_of(api) as client:
            answers: list[httpx.Response] = []

            async def logged() -> bool:
                answers.extend([await client.get("/health/ready"), await client.get("/tasks")])
                return "redis unavailable" in api.process.output or "request failed" in api.process.output

            await until(logged)
        api.process.wait_for(words)
        said = api.process.output + "".join(answer.text for answer in answers)
    assert [answer.status_code for answer in answers[:1]] == [503]
    assert SECRET not in said


@pytest.mark.parametrize(
    "url", [f"redis://:{SECRET}/x@127.0.0.1", f"redis://:a#{SECRET}@127.0.0.1", f"redis://:{SECRET}@h:p"]
)
@pytest.mark.parametrize(
    "service",
    [["uvicorn", "--factory", "services.api.app:create_app"], ["taskiq", "worker", "services.worker.app:broker"]],
)
def test_a_service_that_is_told_a_wrong_url(service: list[str], url: str) -> None:
    """It ends at once, and says what is wrong and how a password is written."""
    process = Process([sys.executable, "-m", *service], {"REDIS_URL": url})
    try:
        assert process.wait() != 0
    finally:
        process.kill()
    assert "REDIS_URL is wrong: " in process.output
    assert "/ should be %2F" in process.output
    assert "Traceback" not in process.output
    assert SECRET not in process.output
