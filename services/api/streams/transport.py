"""The connection under a response, as far as the server gives access to it.

ASGI has no message for a client that does not read: the end of a response, or of the process, would wait for it as long
as the kernel does. Nor has it one for a response that breaks off. In uvicorn `receive` is a method of the object that
has the transport. Under another server this module does nothing.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from litestar.types import Receive


class Connection:
    """The connection on which a request arrived."""

    def __init__(self, receive: Receive) -> None:
        self._transport: asyncio.Transport | None = getattr(getattr(receive, "__self__", None), "transport", None)

    @property
    def reachable(self) -> bool:
        """Whether the server gives access to it."""
        return self._transport is not None

    def close(self) -> None:
        """Close it when the kernel has everything that was sent. A response without its last chunk is not complete."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once, and discard what the client has not read yet."""
        if self._transport is not None:
            self._transport.abort()

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Within this context, a send first waits until the kernel has everything that was sent before.

        Otherwise the server would keep the last pieces of a response in a buffer of its own, and not wait for them.
        """
        self._limit(0)
        try:
            yield
        finally:
            self._limit(None)

    def _limit(self, high: int | None) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high)
