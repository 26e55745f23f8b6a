"""Documents that many clients ask for and that seldom change: made once per change, and not sent to a client that has
the current one (RFC 9110, 13.1.2).

Callers with different rights have different views of a document. Each view is made of what its callers may know, and is
kept apart.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, NamedTuple

import msgspec
from litestar import MediaType, Request, Response

# The opaque part of each entity tag of a list.
TAG: Final = re.compile(r'"([^"]*)"')

# Views of a document that are kept, and their bytes. The latest is, however large it is.
MAX_VIEWS: Final = 16
MAX_BYTES: Final = 16_777_216


class Document(msgspec.Struct, frozen=True):
    """A document as JSON. `tag` is the opaque part of its entity tag: equal documents have the same one."""

    body: bytes
    tag: str


class Made(NamedTuple):
    """A document, and the state that it was made of."""

    document: Document
    state: Any


class Views:
    """The latest version of each view of a document; of the views of the last requests, if there are many."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Made] = {}  # by view, in the order of their last requests
        self._making = asyncio.Lock()

    async def of(self, view: Hashable, state: Any, make: Callable[[], Awaitable[Document]]) -> Document:
        """Return the document of this state. `make` is called only if the state is not that of the call before for this
        view. It may let other requests run: those that want a document that is not made yet wait for it.

        The view decides only which document is kept: one of another state is never returned.
        """
        made = self._made.get(view)
        if made is None or state != made.state:
            async with self._making:
                made = self._made.get(view)
                if made is None or state != made.state:
                    made = self._made[view] = Made(await make(), state)
        self._keep(view, made)
        return made.document

    def _keep(self, view: Hashable, made: Made) -> None:
        self._made.pop(view, None)
        self._made[view] = made
        while len(self._made) > MAX_VIEWS or (len(self._made) > 1 and self._bytes() > MAX_BYTES):
            del self._made[next(iter(self._made))]

    def _bytes(self) -> int:
        return sum(len(made.document.body) for made in self._made.values())


class Documents:
    """The documents of a process."""

    def __init__(self) -> None:
        self.functions: Final = Views()
        self.schema: Final = Views()


def document_of(value: Any, significant: Any = None) -> Document:
    """Return the document that is this value as JSON. It equals another one if `significant`, by default all, does."""
    body = msgspec.json.encode(value)
    of = body if significant is None else msgspec.json.encode(significant)
    return Document(body, hashlib.sha256(of).hexdigest()[:32])


def answer(request: Request[Any, Any, Any], document: Document) -> Response[Any]:
    """Answer with the document; or 304, if `If-None-Match` says that the client has it."""
    # Weak, as two bodies of one tag may differ in what is of no significance. Private, as callers have different views.
    headers = {"ETag": f'W/"{document.tag}"', "Cache-Control": "private, no-cache"}
    given = ",".join(request.headers.getall("if-none-match", []))
    if given.strip() == "*" or document.tag in TAG.findall(given):
        return Response(None, status_code=304, headers=headers)
    return Response(document.body, media_type=MediaType.JSON, headers=headers)
