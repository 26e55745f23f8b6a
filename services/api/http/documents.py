"""Documents that many clients ask for and that seldom change: made once per change, and not sent to a client that has
the current one (RFC 9110, 13.1.2).
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response

# The opaque part of each entity tag of a list.
TAG: Final = re.compile(r'"([^"]*)"')


class Document(msgspec.Struct, frozen=True):
    """A document as JSON. `tag` is the opaque part of its entity tag: equal documents have the same one."""

    body: bytes
    tag: str


class Latest:
    """The latest version of a document, and the state that it was made of."""

    def __init__(self) -> None:
        self._state: Any = None
        self._document: Document | None = None
        self._making = asyncio.Lock()

    async def of(self, state: Any, make: Callable[[], Awaitable[Document]]) -> Document:
        """Return the document of this state. `make` is called only if the state is not that of the call before. It may
        let other requests run: those that want the document wait for it.
        """
        async with self._making:
            if self._document is None or state != self._state:
                self._document, self._state = await make(), state
            return self._document


class Documents:
    """The documents of a process."""

    def __init__(self) -> None:
        self.functions: Final = Latest()
        self.schema: Final = Latest()


def document_of(value: Any, significant: Any = None) -> Document:
    """Return the document that is this value as JSON. It equals another one if `significant`, by default all, does."""
    body = msgspec.json.encode(value)
    of = body if significant is None else msgspec.json.encode(significant)
    return Document(body, hashlib.sha256(of).hexdigest()[:32])


def answer(request: Request[Any, Any, Any], document: Document) -> Response[Any]:
    """Answer with the document; or 304, if `If-None-Match` says that the client has it."""
    # Weak, as two bodies of one tag may differ in what is of no significance.
    headers = {"ETag": f'W/"{document.tag}"', "Cache-Control": "no-cache"}
    given = ",".join(request.headers.getall("if-none-match", []))
    if given.strip() == "*" or document.tag in TAG.findall(given):
        return Response(None, status_code=304, headers=headers)
    return Response(document.body, media_type=MediaType.JSON, headers=headers)
