"""Chat with a model, on any server that streams OpenAI's chat completions.

The worker's environment names the server. It is read at each call:

- `OPENAI_BASE_URL`: the API's address, what stands before `/chat/completions`. Default: https://api.openai.com/v1
- `OPENAI_API_KEY`: sent as the bearer token. Without it no token is sent, as local servers like it.
- `OPENAI_MODEL`: the model for a call that names none.
- `CHAT_TIMEOUT`: seconds the server may take to accept the connection and may then stay silent. Default: 60
"""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import cache
from typing import Literal

import httpx
import msgspec
from httpx_sse import aconnect_sse
from pydantic.dataclasses import dataclass

from plugins import Failure, function

# Reading the certificates takes the event loop some 20 ms. All calls share what was read.
_certificates = cache(httpx.create_ssl_context)


class ChatError(Failure):
    """There is no answer, or not all of it. The message says what is wrong and what would be right."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Message:
    """One message of the conversation: the role that says it, and the text."""

    role: Literal["system", "user", "assistant"]
    content: str


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None  # comes with the last delta; some servers send "" with the others


class _Problem(msgspec.Struct):
    message: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    error: _Problem | str | None = None


class _Server(msgspec.Struct, frozen=True):
    url: httpx.URL
    key: str
    timeout: float

    def __str__(self) -> str:  # leaves out what an address can hold of passwords and tokens
        return f"{self.url.scheme}://{self.url.netloc.decode()}{self.url.path}"

    def quote(self, words: object) -> str:  # a server may repeat the key that it complains about
        return (str(words).replace(self.key, "***") if self.key else str(words))[:500]


@function(max_chunks=100_000)  # a long answer has some ten thousand pieces of a few bytes
async def chat(
    messages: list[Message], model: str | None = None, temperature: float | None = None, max_tokens: int | None = None
) -> AsyncIterator[str]:
    """Let a model answer a conversation, piece by piece. The pieces joined are the answer.

    Args:
        messages: the conversation so far, oldest message first.
        model: the model's name as its server knows it; the worker's `OPENAI_MODEL` unless given.
        temperature: how freely the model chooses its words; the server's default unless given.
        max_tokens: the answer's greatest length in tokens, where it ends even in mid-sentence.

    Raises:
        ChatError: there is no answer, or not all of it.
    """
    server = _configured()
    asked = {"model": model or _setting("OPENAI_MODEL"), "temperature": temperature, "max_tokens": max_tokens}
    if not asked["model"]:
        raise ChatError("no model: the call must name one in `model`, or the worker's environment in OPENAI_MODEL")
    given = {name: value for name, value in asked.items() if value is not None}
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {server.key}"} if server.key else {})
    body = msgspec.json.encode({"messages": messages, "stream": True, **given})
    try:
        async with (
            httpx.AsyncClient(timeout=server.timeout, verify=_certificates()) as client,
            aconnect_sse(client, "POST", str(server.url), headers=headers, content=body) as source,
            aclosing(source.aiter_sse()) as events,
        ):
            await _check(source.response, server)
            async for event in events:
                if event.data == "[DONE]":
                    return
                for choice in _choices(event.data, server):
                    if choice.delta and choice.delta.content:
                        yield choice.delta.content
                    if choice.finish_reason == "content_filter":
                        raise ChatError(f"{server} stopped the answer: its content filter objected")
                    if choice.finish_reason:
                        return
    except httpx.HTTPError as error:
        raise ChatError(_trouble(error, server)) from error
    raise ChatError(f"{server} closed the connection before the answer was complete: no finish_reason, no [DONE]")


def _setting(name: str, default: str = "") -> str:
    # Empty counts as not set: that is how Compose passes on a variable it does not have.
    return os.environ.get(name, "").strip() or default


def _configured() -> _Server:
    key, seconds = _setting("OPENAI_API_KEY"), _setting("CHAT_TIMEOUT", "60")
    if not (key.isascii() and key.isprintable()):  # httpx would refuse the header, with the key in its message
        raise ChatError("OPENAI_API_KEY must be one line of ASCII characters")
    try:
        timeout = float(seconds)
    except ValueError:
        timeout = 0
    if not timeout > 0:
        raise ChatError(f"CHAT_TIMEOUT must be a number of seconds above 0, not {seconds!r}")
    try:
        base = httpx.URL(_setting("OPENAI_BASE_URL", "https://api.openai.com/v1"))
    except httpx.InvalidURL:
        base = httpx.URL()
    if base.scheme not in ("http", "https") or not base.host or (base.port or 0) > 65_535:
        raise ChatError("OPENAI_BASE_URL must be an address like https://api.openai.com/v1")
    return _Server(base.copy_with(path=base.path.rstrip("/") + "/chat/completions"), key, timeout)


async def _check(response: httpx.Response, server: _Server) -> None:
    response.encoding = "utf-8"  # as SSE has it, whatever charset the header claims
    status, kind = response.status_code, response.headers.get("content-type", "no content-type")
    if status == 200 and "text/event-stream" in kind.partition(";")[0]:
        return
    wrong = f"answered HTTP {status}"
    if status == 200:
        wrong = f"answered with {server.quote(kind)}, not text/event-stream: OPENAI_BASE_URL must be that of an API"
    elif status == 401:
        wrong += ": OPENAI_API_KEY must be " + ("one that it accepts" if server.key else "set")
    raise ChatError(f"{server} {wrong}{await _reason(response, server)}")


async def _reason(response: httpx.Response, server: _Server) -> str:
    body = b""
    try:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > 65_536:  # a reason is short, and a wrong address may serve anything, without an end
                break
        return _said(msgspec.json.decode(body, type=_Event), server)
    except (httpx.HTTPError, ValueError, RecursionError):
        return ""


def _said(event: _Event, server: _Server) -> str:
    words = event.error.message if isinstance(event.error, _Problem) else event.error
    return f" ({server.quote(words)})" if words else ""


def _choices(data: str, server: _Server) -> list[_Choice]:
    try:
        event = msgspec.json.decode(data or "{}", type=_Event)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ChatError(f"{server} sent no chat completion but {server.quote(data)!r}: {error}") from error
    if event.error is not None:
        raise ChatError(f"{server} broke off the answer with an error{_said(event, server)}")
    return event.choices or []


def _trouble(error: httpx.HTTPError, server: _Server) -> str:
    reason = server.quote(error) or type(error).__name__
    match error:
        case httpx.ConnectTimeout():
            return f"{server} took no connection within {server.timeout:g} seconds (CHAT_TIMEOUT)"
        case httpx.TimeoutException():
            return f"{server} was silent for more than {server.timeout:g} seconds (CHAT_TIMEOUT)"
        case httpx.ConnectError():
            return f"no connection to {server} ({reason}): it must run, and OPENAI_BASE_URL must be its address"
        case _:
            return f"the connection to {server} broke before the answer was complete ({reason})"
