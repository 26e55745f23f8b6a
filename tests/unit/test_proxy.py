"""The network that lies leaves no connection behind, whenever that was opened."""

import asyncio
import socket
from urllib.parse import urlsplit

import pytest

from tests.support.proxy import Proxy
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def ended(client: socket.socket) -> bool:
    """Whether the other side has closed this connection, or reset it."""
    try:
        return client.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_comes_while_it_closes(turns: int) -> None:
    """The proxy drops it, however far the loop is with it: it waits to be accepted, has been, or is served."""
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as target:  # the kernel accepts
        async with Proxy(target.getsockname()[1]) as proxy:
            address = urlsplit(proxy.url)
            client = socket.create_connection((address.hostname, address.port))
            for _ in range(turns):
                await asyncio.sleep(0)
        with client:
            await until(lambda: ended(client), deadline_s=5)
            await until(lambda: asyncio.all_tasks() == before, deadline_s=5)
            assert not proxy.connections
