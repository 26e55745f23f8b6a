"""`chat` against a real server on a real socket, which sends whatever bytes a test gives it."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final, cast

import msgspec
import pydantic
import pytest

from functions.chat import ChatError, Message, chat

pytestmark = pytest.mark.anyio

KEY: Final = "sk-Zx81-never-to-be-seen"
DEADLINE: Final = 4.0  # below the 5 seconds that httpx would wait if chat did not set its time-out
ASKED: Final = [Message("user", "Hi")]

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
TO_THE_END: Final = OK + b"Connection: close\r\n\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
DONE: Final = b"data: [DONE]\n\n"
STOP: Final = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'

Script = Callable[["Upstream", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Received(msgspec.Struct):
    """A request as it came in."""

    line: str
    headers: dict[str, str]
    body: dict[str, Any]


class Upstream:
    """The server. It reads a request, plays the test's script, and says in `gone` that the client hung up."""

    def __init__(self) -> None:
        self.script: Script = saying()
        self.received: list[Received] = []
        self.asked = asyncio.Event()
        self.go = asyncio.Event()  # a test lets its script go on
        self.gone = asyncio.Event()
        self.handlers: set[asyncio.Task[None]] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, in a task that the fixture looks after."""
        self.handlers.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            headers = {name.lower(): value for name, value in (header.split(": ", 1) for header in fields)}
            body = msgspec.json.decode(await reader.readexactly(int(headers["content-length"])))
            self.received.append(Received(line, headers, body))
            self.asked.set()
            await self.script(self, reader, writer)
        except ConnectionError:  # hung up before it had read all: TCP tells that by a reset
            self.gone.set()
        finally:
            writer.close()

    async def until_gone(self, reader: asyncio.StreamReader) -> None:
        """Say nothing more, until the client hangs up."""
        assert await reader.read() == b""
        self.gone.set()


def saying(*parts: bytes, stays: bool = False) -> Script:
    """A script that sends these bytes and closes the connection, or leaves that to the client."""

    async def script(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))
        await writer.drain()
        if stays:
            await upstream.until_gone(reader)

    return script


def halting(first: bytes, then: Script) -> Script:
    """A script that sends these bytes in one write and goes on when the test says so."""

    async def script(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await upstream.go.wait()
        await then(upstream, reader, writer)

    return script


async def reset(_upstream: Upstream, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close the connection with a TCP reset instead of an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def delta(content: str | None, finish_reason: str | None = None) -> bytes:
    """An event as OpenAI sends it."""
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": finish_reason}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def http(status: str, body: bytes, kind: str = "application/json") -> bytes:
    """A whole response."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def asking(**arguments: Any) -> AsyncGenerator[str, None]:
    """A call of `chat`, which is a generator and so can be closed."""
    return cast(AsyncGenerator[str, None], chat(**{"messages": ASKED, **arguments}))


async def answer(**arguments: Any) -> list[str]:
    """All the pieces of an answer that ends well, and in time."""
    async with asyncio.timeout(DEADLINE):
        return [piece async for piece in asking(**arguments)]


async def failure(upstream: Upstream | None = None, **arguments: Any) -> tuple[list[str], str]:
    """The pieces that came, and the error's text. The first piece lets the script go on."""
    pieces = []

    async def read() -> None:
        async for piece in asking(**arguments):
            pieces.append(piece)
            if upstream:
                upstream.go.set()

    with pytest.raises(ChatError) as caught:
        await asyncio.wait_for(read(), DEADLINE)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)
    return pieces, str(caught.value)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The loop that the worker has."""
    return "asyncio"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's environment, whatever the developer's own holds."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("CHAT_TIMEOUT", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_MODEL", "model-of-the-worker")


@pytest.fixture
async def upstream(environment: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    """The server that the environment names. Afterwards no connection to it is left and no script has failed."""
    playing = Upstream()
    server = await asyncio.start_server(playing.connected, "127.0.0.1", 0)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    yield playing
    server.close()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*playing.handlers)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken but not listened to, so that it refuses for as long as the test lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# The answer


async def test_each_delta_is_a_piece(upstream: Upstream) -> None:
    """The server's pieces arrive one by one, in order."""
    upstream.script = saying(TO_THE_END, delta("Hel"), delta("lo"), delta("!"), STOP, DONE)
    assert await answer() == ["Hel", "lo", "!"]


async def test_a_piece_does_not_wait_for_the_next(upstream: Upstream) -> None:
    """A reader sees a piece as soon as the server has sent it."""
    upstream.script = halting(CHUNKED + chunk(delta("now")), saying(chunk(delta("later") + STOP), b"0\r\n\r\n"))
    async with asyncio.timeout(DEADLINE), aclosing(asking()) as pieces:
        assert await anext(pieces) == "now"
        upstream.go.set()
        assert [piece async for piece in pieces] == ["later"]


async def test_whitespace_is_kept(upstream: Upstream) -> None:
    """The pieces joined are the answer to the last blank: code stays indented, lists stay lists."""
    spoken = ["  ", "\n", "\n\n- a", " b ", "\t", "\r\n", "\u2028", "data: x\n\ndata: y"]
    upstream.script = saying(TO_THE_END, *map(delta, spoken), STOP, DONE)
    assert await answer() == spoken


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", "; charset=ISO-8859-1"])
async def test_a_character_may_arrive_in_halves(upstream: Upstream, charset: str) -> None:
    """A character whose bytes come in two packets stays one, and a wrong charset in the header does no harm."""
    first, second = delta("a🙂é").split(b"\x9f")
    head = TO_THE_END.replace(b"text/event-stream", b"text/event-stream" + charset.encode())
    upstream.script = halting(head + delta("x") + first, saying(b"\x9f" + second, STOP))
    async with asyncio.timeout(DEADLINE), aclosing(asking()) as pieces:
        assert await anext(pieces) == "x"  # so the first half has been read: it came in the same packet
        upstream.go.set()
        assert [piece async for piece in pieces] == ["a🙂é"]


async def test_any_line_end_and_comments(upstream: Upstream) -> None:
    """CRLF as a line end, comments that keep the connection open, ids and other fields are all fine."""
    between = b": keep-alive\n\nevent: ping\ndata:\n\nid: 7\nretry: 10\n"
    events = delta("a") + between + delta("b") + b"id: 8\n\n" + STOP
    upstream.script = saying(TO_THE_END, events.replace(b"\n", b"\r\n"))
    assert await answer() == ["a", "b"]


async def test_what_is_not_text_is_no_piece(upstream: Upstream) -> None:
    """A role, an empty text, a count of tokens or a field yet to be invented gives the reader no piece."""
    upstream.script = saying(
        TO_THE_END,
        b'data: {"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": null}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": null}}], "error": null}\n\n',
        b'data: {"choices": [{"index": 0, "delta": null}]}\n\n',
        delta(""),
        delta("a", finish_reason=""),
        b'data: {"choices": [{"delta": {"content": "b", "mood": ["?"]}, "new": {}}], "usage": null, "new": 1}\n\n',
        b'data: {"choices": [], "usage": {"total_tokens": 9}}\n\n',
        b'data: {"choices": null}\n\ndata: {}\n\n',
        DONE,
    )
    assert await answer() == ["a", "b"]


@pytest.mark.parametrize("end", [delta("z", "stop"), delta("z", "length"), delta("z") + DONE])
async def test_the_end_of_the_answer_is_the_end(upstream: Upstream, end: bytes) -> None:
    """A finish_reason ends the answer, also where `max_tokens` cut it, and so does [DONE].

    The last text counts, and a server that keeps the connection open does not delay the end.
    """
    upstream.script = saying(CHUNKED, chunk(delta("a") + end), stays=True)
    assert await answer() == ["a", "z"]
    assert await asyncio.wait_for(upstream.gone.wait(), DEADLINE)


# The request


async def test_the_request(upstream: Upstream) -> None:
    """The server gets the conversation, the wish to stream, the worker's model and key, and nothing unasked for."""
    upstream.script = saying(TO_THE_END, STOP)
    await answer(messages=[Message("system", "Be brief."), Message("user", "Hé\n"), Message("assistant", "?")])
    (request,) = upstream.received
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "text/event-stream"
    assert request.body == {
        "model": "model-of-the-worker",
        "stream": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hé\n"},
            {"role": "assistant", "content": "?"},
        ],
    }


async def test_what_the_call_gives_is_sent(upstream: Upstream) -> None:
    """The call's model is preferred to the worker's, and a temperature of 0 is not taken for none."""
    upstream.script = saying(TO_THE_END, STOP)
    await answer(model="other", temperature=0.0, max_tokens=5)
    sent = upstream.received[0].body
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("other", 0.0, 5)


@pytest.mark.parametrize("key", [None, "", " "])
async def test_no_key_no_header(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    """A local server needs no key. Then none is sent, not even an empty one."""
    monkeypatch.delenv("OPENAI_API_KEY") if key is None else monkeypatch.setenv("OPENAI_API_KEY", key)
    upstream.script = saying(TO_THE_END, delta("a"), STOP)
    assert await answer() == ["a"]
    assert "authorization" not in upstream.received[0].headers


async def test_a_key_with_its_line_end(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was read from a file, with the file's last line end, works."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    upstream.script = saying(TO_THE_END, STOP)
    await answer()
    assert upstream.received[0].headers["authorization"] == f"Bearer {KEY}"


async def test_an_address_with_a_slash_or_a_query(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base address may end in a slash, and a query that it has stays one."""
    monkeypatch.setenv("OPENAI_BASE_URL", os.environ["OPENAI_BASE_URL"] + "/?api-version=3")
    upstream.script = saying(TO_THE_END, STOP)
    await answer()
    assert upstream.received[0].line == "POST /v1/chat/completions?api-version=3 HTTP/1.1"


def test_the_input_of_a_call() -> None:
    """A role that does not exist, or a field that would be dropped without a word, is refused as input."""
    message = pydantic.TypeAdapter(Message)
    with pytest.raises(pydantic.ValidationError, match="'system', 'user' or 'assistant'"):
        message.validate_python({"role": "robot", "content": ""})
    with pytest.raises(pydantic.ValidationError, match="image\n"):
        message.validate_python({"role": "user", "content": "", "image": ""})


# The worker's environment


@pytest.mark.parametrize("model", [None, ""])
async def test_no_model(monkeypatch: pytest.MonkeyPatch, model: str | None) -> None:
    """Without any model the error names the two places for one."""
    monkeypatch.delenv("OPENAI_MODEL") if model is None else monkeypatch.setenv("OPENAI_MODEL", model)
    _, text = await failure()
    assert "`model`" in text
    assert "OPENAI_MODEL" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHAT_TIMEOUT", "soon"),
        ("CHAT_TIMEOUT", "0"),
        ("CHAT_TIMEOUT", "nan"),
        ("OPENAI_BASE_URL", "localhost:8080/v1"),
        ("OPENAI_BASE_URL", "/v1"),
        ("OPENAI_BASE_URL", "ftp://localhost/v1"),
        ("OPENAI_BASE_URL", "http:///v1"),
        ("OPENAI_BASE_URL", "http://localhost:http/v1"),
        ("OPENAI_BASE_URL", "http://localhost:99999/v1"),
        ("OPENAI_API_KEY", f"{KEY}\nOTHER=1"),
        ("OPENAI_API_KEY", f"{KEY}é"),
    ],
)
async def test_a_setting_that_cannot_be(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The error names the variable that is wrong and what it must be."""
    monkeypatch.setenv(name, value)
    _, text = await failure()
    assert text.startswith(f"{name} must be ")


# The server cannot be reached


async def test_connection_refused(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """Where no server runs, the error tells the address and the variable that names it."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://user:{KEY}@127.0.0.1:{closed_port}/v1")
    _, text = await failure()
    assert text.startswith(f"no connection to http://127.0.0.1:{closed_port}/v1/chat/completions (")
    assert "OPENAI_BASE_URL" in text


async def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose name is unknown is told from a server that does not run."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://nowhere.invalid/v1")
    _, text = await failure()
    assert text.startswith("no connection to http://nowhere.invalid/v1/chat/completions (")
    assert "Name or service not known" in text


async def test_connect_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes forever to accept is given up after CHAT_TIMEOUT, and the error says how long that was."""
    with socket.create_server(("127.0.0.1", 0)) as mute:  # the kernel accepts; no server answers the TLS handshake
        monkeypatch.setenv("OPENAI_BASE_URL", f"https://127.0.0.1:{mute.getsockname()[1]}/v1")
        monkeypatch.setenv("CHAT_TIMEOUT", "0.25")
        _, text = await failure()
    assert "took no connection within 0.25 seconds (CHAT_TIMEOUT)" in text


@pytest.mark.parametrize(("sent", "pieces"), [(b"", []), (TO_THE_END + delta("a"), ["a"])])
async def test_silence(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, sent: bytes, pieces: list[str]) -> None:
    """A server that falls silent, before its answer or in the middle, is given up after CHAT_TIMEOUT."""
    monkeypatch.setenv("CHAT_TIMEOUT", "0.25")
    upstream.script = saying(sent, stays=True)
    came, text = await failure()
    assert came == pieces
    assert "was silent for more than 0.25 seconds (CHAT_TIMEOUT)" in text
    assert await asyncio.wait_for(upstream.gone.wait(), DEADLINE)


# The server refuses


async def test_401_without_a_key(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server wants a key and there is none, the error names the variable to set."""
    monkeypatch.delenv("OPENAI_API_KEY")
    upstream.script = saying(http("401 Unauthorized", b'{"error": {"message": "You did not provide a key."}}'))
    _, text = await failure()
    assert "answered HTTP 401: OPENAI_API_KEY must be set (You did not provide a key.)" in text


async def test_401_with_a_key(upstream: Upstream) -> None:
    """Where the server refuses the key, the error says so, without the key that the server repeats."""
    said = f'{{"error": {{"message": "Incorrect API key provided: {KEY}.", "code": "invalid_api_key"}}}}'
    upstream.script = saying(http("401 Unauthorized", said.encode()))
    _, text = await failure()
    assert "answered HTTP 401: OPENAI_API_KEY must be one that it accepts (Incorrect API key provided: ***.)" in text


@pytest.mark.parametrize("status", ["201 Created", "302 Found", "400 Bad Request", "503 Service Unavailable"])
@pytest.mark.parametrize("body", ['{"error": {"message": "Not now.", "code": 7}, "a": 1}', '{"error": "Not now."}'])
async def test_the_reason_of_a_refusal(upstream: Upstream, status: str, body: str) -> None:
    """A refusal tells its status and the server's own reason."""
    upstream.script = saying(http(status, body.encode()))
    _, text = await failure()
    assert text.endswith(f"answered HTTP {status[:3]} (Not now.)")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<h1>Bad Gateway</h1>",
        b'{"error": "\xff"}',
        b"[1]",
        b'{"error": 5}',
        b'{"error": {"message": null}}',
        b'{"a": ' + b"[" * 60_000,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_refusal_without_a_reason(upstream: Upstream, body: bytes) -> None:
    """A refusal whose body is anything else still tells its status, and no more."""
    upstream.script = saying(http("502 Bad Gateway", body), stays=True)
    _, text = await failure()
    assert text.endswith("/v1/chat/completions answered HTTP 502")


async def test_a_refusal_in_the_guise_of_a_stream(upstream: Upstream) -> None:
    """The status counts: a refusal that calls itself a stream of events is no answer."""
    upstream.script = saying(http("503 Service Unavailable", delta("a") + STOP, "text/event-stream"))
    pieces, text = await failure()
    assert pieces == []
    assert text.endswith("answered HTTP 503")


async def test_a_refusal_that_breaks_off(upstream: Upstream) -> None:
    """A refusal whose body never comes in full still tells its status."""
    upstream.script = saying(http("502 Bad Gateway", b'{"error": "x"}')[:-3])
    _, text = await failure()
    assert text.endswith("answered HTTP 502")


async def test_a_refusal_without_an_end(upstream: Upstream) -> None:
    """A refusal whose body goes on and on is not read to an end that never comes."""
    head = b"HTTP/1.1 404 Not Found\r\nContent-Type: audio/mpeg\r\n\r\n"
    upstream.script = saying(head + b"x" * 70_000, stays=True)
    _, text = await failure()
    assert text.endswith("answered HTTP 404")


async def test_a_long_reason_is_cut(upstream: Upstream) -> None:
    """A reason of any length stays readable, and the cut leaves no part of the key."""
    said = "x" * (500 - len(KEY) // 2) + KEY + "x" * 5_000
    upstream.script = saying(http("400 Bad Request", msgspec.json.encode({"error": {"message": said}})))
    _, text = await failure()
    assert len(text) < 700
    assert KEY[:6] not in text


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b'{"choices": [{"message": {"content": "Hi"}}]}', "application/json"), (b"<html>", "text/html; charset=utf-8")],
)
async def test_an_answer_that_does_not_stream(upstream: Upstream, body: bytes, kind: str) -> None:
    """A whole document instead of a stream (a proxy's page, a server that cannot) is not taken for an empty answer."""
    upstream.script = saying(http("200 OK", body, kind))
    _, text = await failure()
    assert f"answered with {kind}, not text/event-stream: OPENAI_BASE_URL must be" in text


async def test_an_answer_of_no_type(upstream: Upstream) -> None:
    """A 200 that does not even say what it is gives the same error, with the server's reason where it has one."""
    upstream.script = saying(b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"error": "Oops"}')
    _, text = await failure()
    assert "answered with no content-type, not text/event-stream" in text
    assert text.endswith(" (Oops)")


# The answer breaks off


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ('{"message": "Overloaded, KEY", "code": 502}', "with an error (Overloaded, ***)"),
        ('"Overloaded"', "with an error (Overloaded)"),
        ("{}", "with an error"),
    ],
)
async def test_an_error_in_the_stream(upstream: Upstream, error: str, reason: str) -> None:
    """An error that the server reports in the middle ends the answer as failed, with its reason."""
    event = f'event: error\ndata: {{"error": {error.replace("KEY", KEY)}, "choices": []}}\n\n'
    upstream.script = saying(TO_THE_END, delta("a"), event.encode(), DONE)
    pieces, text = await failure()
    assert pieces == ["a"]
    assert text.endswith(f"broke off the answer {reason}")


@pytest.mark.parametrize(
    "data",
    [
        '{"choices": [{"delta"',
        "upstream died, KEY",
        "[]",
        '{"choices": [{"delta": {"content": 5}}]}',
        '{"a": ' + "[" * 60_000,
    ],
    ids=lambda data: data[:20],
)
async def test_an_event_that_is_no_event(upstream: Upstream, data: str) -> None:
    """An event that is not JSON, or not of that form, fails and is quoted in short. None is skipped in silence."""
    upstream.script = saying(TO_THE_END, delta("a"), f"data: {data.replace('KEY', KEY)}\n\n".encode(), STOP)
    pieces, text = await failure()
    assert pieces == ["a"]
    assert f"sent no chat completion but {data.replace('KEY', '***')[:500]!r}: " in text
    assert len(text) < 1_000


async def test_a_chunked_body_that_breaks_off(upstream: Upstream) -> None:
    """A connection that closes in the middle of a chunked body is no end of an answer."""
    upstream.script = saying(CHUNKED, chunk(delta("a")), b"ff\r\ndata: ")
    pieces, text = await failure()
    assert pieces == ["a"]
    assert "broke before the answer was complete (peer closed connection" in text


@pytest.mark.parametrize(
    "sent",
    [
        TO_THE_END + delta("a"),
        TO_THE_END + delta("a") + delta("b", "stop")[:-2],
        CHUNKED + chunk(delta("a")) + b"0\r\n\r\n",
    ],
    ids=["closed", "closed in an event", "ended in good form"],
)
async def test_a_silent_end(upstream: Upstream, sent: bytes) -> None:
    """An end that HTTP finds in order is still none of an answer without a finish_reason and without [DONE]."""
    upstream.script = saying(sent)
    pieces, text = await failure()
    assert pieces == ["a"]
    assert "closed the connection before the answer was complete" in text


async def test_a_reset(upstream: Upstream) -> None:
    """A connection that is torn down in the middle is an error that says so, though the system gives it no text."""
    upstream.script = halting(TO_THE_END + delta("a"), reset)
    pieces, text = await failure(upstream)
    assert pieces == ["a"]
    assert text.endswith("broke before the answer was complete (ReadError)")


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_no_http(upstream: Upstream, said: bytes) -> None:
    """A server that hangs up without a word, or speaks something else, is an error of the same form."""
    upstream.script = saying(said)
    _, text = await failure()
    assert "broke before the answer was complete (" in text


async def test_the_content_filter(upstream: Upstream) -> None:
    """An answer that the server's content filter stopped is failed, not finished. Earlier pieces have arrived."""
    upstream.script = saying(TO_THE_END, delta("a"), delta("b", "content_filter"), DONE)
    pieces, text = await failure()
    assert pieces == ["a", "b"]
    assert text.endswith("stopped the answer: its content filter objected")


# The reader stops


@pytest.mark.parametrize("sent", [b"", TO_THE_END + delta("a")], ids=["before the answer", "in the answer"])
async def test_cancel_hangs_up(upstream: Upstream, sent: bytes) -> None:
    """A cancelled task closes its connection, at whatever point: the server stops, and stops charging."""
    upstream.script = saying(sent, stays=True)
    piece = asyncio.Event()
    call = asking()  # held here, so that no garbage collection closes it

    async def read() -> None:
        async for _ in call:
            piece.set()

    reading = asyncio.create_task(read())
    async with asyncio.timeout(DEADLINE):
        await (piece if sent else upstream.asked).wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await upstream.gone.wait()


async def test_aclose_hangs_up(upstream: Upstream) -> None:
    """A reader that stops reading closes the connection, though the server has more to say."""
    upstream.script = saying(TO_THE_END, delta("a"), delta("b"), stays=True)
    call = asking()
    async with asyncio.timeout(DEADLINE):
        assert await anext(call) == "a"
        await call.aclose()
        await upstream.gone.wait()
