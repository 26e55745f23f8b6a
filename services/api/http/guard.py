"""The server's side of a connection, with bounds on what a client may send and on its time to send it.

uvicorn reads a head of any length, and waits for the rest of a request for ever. This class takes the place of its
protocol: `uvicorn --http services.api.http.guard:Guard`.
"""

import asyncio
import signal
from functools import cache
from typing import Any, Final, NamedTuple, NoReturn

import structlog
from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.api.http import cors
from services.api.http.capacity import MOST_REFUSED, Capacity
from services.api.http.peer import PEER, peer_of
from services.api.http.refusals import FIELD_BYTES, MAX_HEAD, MAX_MESSAGE, MAX_PIPELINED, Refusal
from services.api.settings import Settings

# Seconds, and bytes, for a client to stop sending after it was refused. A connection that is closed while data arrives
# is reset, and the client loses the answer (RFC 9112, 9.6).
LINGER_S: Final = 1
LINGER_BYTES: Final = 1_048_576

logger = structlog.get_logger()


@cache
def settings() -> Settings:
    """Return the settings of this process, as the application has them."""
    return Settings.read()


@cache
def capacity() -> Capacity:
    """Return the capacity of this process."""
    return Capacity(settings())


def prepare() -> bool:
    """Log how many connections this process takes; or that its server has no guard. Return whether it has.

    The lifespan begins before the server listens. By then uvicorn handles SIGTERM by a method of its server.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    protocol = getattr(getattr(server, "config", None), "http_protocol_class", object)
    guarded = issubclass(protocol, Guard)
    if guarded:
        capacity()
    else:
        logger.warning("requests not bounded", remedy=f"uvicorn --http {__name__}:{Guard.__name__}")
    return guarded


class Stage(NamedTuple):
    """The part of a request that a connection waits for. `request` is None if nothing has begun yet."""

    request: "Incoming | None"
    in_head: bool


class Incoming:
    """A request that is being received.

    `head_bytes` are those of its head, as `MAX_HEAD` counts. `received` are all bytes of its head or behind it, as they
    came, without the piece in which it began: that may have much of another request.
    """

    __slots__ = ("head_bytes", "in_head", "received")

    def __init__(self) -> None:
        self.head_bytes = 0
        self.in_head = True
        self.received = 0


class Guard(HttpToolsProtocol):
    """uvicorn's protocol. A request that exceeds a bound is refused: after the answers to the requests before it, and
    in the place of its own, unless that has begun. Then the connection is closed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incoming: Incoming | None = None
        self._answering: RequestResponseCycle | None = None
        self._fault: Refusal | None = None  # found within the parser
        self._last_words: bytes | None = None  # from here on nothing is read any more
        self._discarded = 0
        self._stage: Stage | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, if the process has room for it."""
        super().connection_made(transport)
        self._peer = peer_of(transport)
        if capacity().admit(len(self.connections)):
            self._time()
            return
        self.connections.discard(self)
        if len(capacity().refused) < MOST_REFUSED:
            capacity().refused.add(self)
            self._leave(Refusal.FULL)
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request that has no whole answer yet. uvicorn tells the last one only."""
        self._stop_timer()
        capacity().refused.discard(self)
        for cycle in (self._answering, *(queued for queued, _ in self.pipeline)):
            if cycle is not None:
                disconnect(cycle)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data in pieces, so that no more than a piece is read beyond a bound."""
        self._unset_keepalive_if_required()
        for start in range(0, len(data), MAX_HEAD):
            piece = data[start : start + MAX_HEAD]
            if self._last_words is not None:
                self._discard(len(piece))
            elif not self.transport.is_closing():
                self._parse(piece)
        if self._last_words is None:
            self._time()

    def _parse(self, piece: bytes) -> None:
        incoming = self._incoming
        if incoming is not None:
            if incoming.received > (MAX_HEAD if incoming.in_head else MAX_MESSAGE):
                self._refuse(Refusal.HEAD_TOO_LARGE if incoming.in_head else Refusal.BODY_TOO_LARGE)
                return
            incoming.received += len(piece)
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade:
            # There is no other protocol here: the request is answered (RFC 9110, 7.8), and the parser is at its end.
            self.cycle.keep_alive = False
        except HttpParserError:
            self._refuse(self._fault or Refusal.NOT_HTTP)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._incoming = Incoming()
        super().on_message_begin()
        scope: Any = self.scope
        scope[PEER] = self._peer

    def on_url(self, url: bytes) -> None:
        """Take a piece of the URL."""
        self._count(len(url), Refusal.URL_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. A trailer is none: the application, and proxies, have looked at the headers by then."""
        if self._incoming is not None and self._incoming.in_head:
            self._count(len(name) + len(value) + FIELD_BYTES, Refusal.HEAD_TOO_LARGE)
            super().on_header(name, value)

    def _count(self, size: int, refusal: Refusal) -> None:
        assert self._incoming is not None
        self._incoming.head_bytes += size
        if self._incoming.head_bytes > MAX_HEAD:
            self._stop_parser(refusal)

    def _stop_parser(self, refusal: Refusal) -> NoReturn:
        self._fault = refusal
        raise ValueError(refusal.title)

    def on_headers_complete(self) -> None:
        """Let the application answer."""
        assert self._incoming is not None
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1:
            self._stop_parser(Refusal.TWO_HOSTS)
        if hosts == 0 and self.parser.get_http_version() != "1.0":
            self._stop_parser(Refusal.NO_HOST)
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop_parser(Refusal.TOO_MANY_PIPELINED)
        super().on_headers_complete()
        self._incoming.in_head = False
        self._incoming.received = 0

    def on_message_complete(self) -> None:
        """Note that the client has sent the whole request."""
        self._incoming = None
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Begin the next answer. After the last one of a client that was refused, close the connection."""
        super().on_response_complete()
        if self._last_words is not None and not self._busy:
            self._part(self._last_words)

    @property
    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self._answering is not None and not self._answering.response_complete

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse the request that is being received."""
        logger.info("request refused", status=int(refusal.status), kind=refusal.kind, client=self.client)
        if self._incoming is None or self._incoming.in_head:
            self._leave(refusal)
        elif self.cycle.response_started:
            self._leave(None)
        elif self.cycle is self._answering:
            disconnect(self.cycle)
            self._answering = None
            self._leave(refusal)
        else:
            self.pipeline.popleft()
            self._leave(refusal)

    def _leave(self, refusal: Refusal | None) -> None:
        """Read nothing more, and close the connection after the answers that are due, and this one."""
        self._stop_timer()
        self._last_words = refusal.encoded(self._fields()) if refusal else b""
        if not self._busy:
            self._part(self._last_words)

    def _fields(self) -> list[tuple[bytes, bytes]]:
        """Return the fields of the server's answers, and those for the page whose request is being received."""
        headers = self.headers or []  # there are none yet on a connection that is refused as such
        return [*self.server_state.default_headers, *cors.fields_for(headers, settings().cors_origins)]

    def _part(self, last_words: bytes) -> None:
        """Say the last words, and give the client time to hear them."""
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        self.transport.write(last_words)
        if not self.transport.can_write_eof():  # TLS
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.transport.abort()

    def _time(self) -> None:
        """Give the client its time for what it has begun to send. A request that arrives whole needs no timer."""
        incoming = self._incoming
        stage = None if incoming is None and self._busy else Stage(incoming, incoming is None or incoming.in_head)
        if stage == self._stage:
            return
        self._stop_timer()
        self._stage = stage
        if stage is not None:
            self._timer = self.loop.call_later(
                settings().head_s if stage.in_head else settings().body_s, self._late, stage
            )

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self, stage: Stage) -> None:
        if stage.request is None:  # a client that has asked for nothing expects no answer
            self.transport.close()
        else:
            self._refuse(Refusal.TOO_LATE)


def disconnect(cycle: RequestResponseCycle) -> None:
    """Let the application know that its answer, or the rest of it, reaches no client."""
    if not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()
