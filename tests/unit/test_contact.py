"""Since when the API is in contact with Redis, by the server's clock."""

import asyncio
from types import SimpleNamespace
from typing import Any, Final

import pytest

from services.api.tasks import contact as contact_module
from services.api.tasks.contact import Contact

pytestmark = pytest.mark.anyio

LEASE_S: Final = 15


class Server:
    """A server whose clock goes with this machine's, and may be set. Some of its answers may be slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000
        self.ahead = 0
        self.answers: list[asyncio.Event] = []
        monkeypatch.setattr(contact_module, "time", SimpleNamespace(monotonic=lambda: float(self.now)))

    async def time(self) -> tuple[int, int]:
        """TIME, executed when it is sent, and answered when the test says so."""
        executed = self.now + self.ahead
        if self.answers:
            await self.answers.pop(0).wait()
        return executed, 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """One whose clock stands."""
    return Server(monkeypatch)


@pytest.fixture
def contact(server: Server) -> Contact:
    """That of an API with this server."""
    client: Any = server
    return Contact(client, LEASE_S)


async def look_for(contact: Contact, server: Server, seconds: int) -> None:
    """Look each second."""
    for _ in range(seconds):
        server.now += 1
        await contact.look()


async def test_a_lease_of_contact(contact: Contact, server: Server) -> None:
    """It counts from the first look on."""
    await look_for(contact, server, LEASE_S)
    assert not contact.lasts(LEASE_S)
    await look_for(contact, server, 1)
    assert contact.lasts(LEASE_S)


@pytest.mark.parametrize("seconds", [3_600, -3_600, 7, -1])
async def test_a_clock_that_is_set(contact: Contact, server: Server, seconds: int) -> None:
    """It looks like a pause of everything, and may have been one."""
    await look_for(contact, server, LEASE_S + 1)
    server.ahead = seconds - 1
    await look_for(contact, server, 1)
    assert not contact.lasts(LEASE_S)
    await look_for(contact, server, LEASE_S)
    assert contact.lasts(LEASE_S)


async def test_a_look_that_is_overtaken(contact: Contact, server: Server) -> None:
    """Recovery looks while the regular look is on its way, and is answered first: that is no pause."""
    await look_for(contact, server, LEASE_S + 1)
    slow, quick = asyncio.Event(), asyncio.Event()
    server.answers = [slow, quick]
    server.now += 1
    first = asyncio.create_task(contact.look())
    await asyncio.sleep(0)
    server.now += 1
    second = asyncio.create_task(contact.look())
    await asyncio.sleep(0)
    quick.set()
    await asyncio.sleep(0)
    slow.set()
    await asyncio.gather(first, second)
    assert contact.lasts(LEASE_S)
