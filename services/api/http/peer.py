"""The peer of a connection, as the kernel knows it: a client cannot choose it.

uvicorn replaces it in the scope by an address of `X-Forwarded-For`.
"""

import asyncio
import socket
from typing import Any, Final

from services.api.proxies import UNIX

# In the scope of a request: its connection's peer. The guard notes it; under another protocol it is not there.
PEER: Final = "tailrace.peer"


def peer_of(transport: asyncio.BaseTransport) -> str:
    """Return the address of the peer, `UNIX` if the connection is to a Unix socket; empty if it is gone already."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        return UNIX
    name: Any = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""
