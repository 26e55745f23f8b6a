"""The connection under a response, as far as the server lets one have it.

ASGI has no word for a client that takes nothing: ending a response, or the process, would wait for it as long as the
kernel does. In uvicorn `receive` is a method of what holds the transport. Under another server nothing is done here.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from litestar.types import Receive


class Connection:
    """What can be done with the connection that a request came on."""

    def __init__(self, receive: Receive) -> None:
        self._transport: asyncio.Transport | None = getattr(getattr(receive, "__self__", None), "transport", None)

    def abort(self) -> None:
        """Close it at once, whatever the client has not taken yet."""
        if self._transport is not None:
            self._transport.abort()

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Within it, a send first waits until the kernel has all that was sent before.

        Otherwise the server takes the last pieces of a response into a buffer of its own, and nobody waits for them.
        """
        self._limit(0)
        try:
            yield
        finally:
            self._limit(None)

    def _limit(self, high: int | None) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high)
