"""Answers to what never becomes a request: problem documents, written to the connection before it is closed."""

from collections.abc import Iterable
from enum import Enum
from http import HTTPStatus
from typing import Final

import msgspec

from services.api.http.headers import ENCODED
from services.api.http.problems import Problem

# Bytes of the URL and the headers of a request; and what each header counts more than it has (RFC 9113, 6.5.2): many
# small ones take more memory than a large one.
MAX_HEAD: Final = 32_768
FIELD_BYTES: Final = 32

# Bytes behind the head of a request, in whatever encoding. No call takes a body of nearly that length.
MAX_MESSAGE: Final = 1_048_576

# Requests of a connection that wait for the answer to the one before them.
MAX_PIPELINED: Final = 100

# Seconds until a connection that was refused is worth another try.
RETRY_AFTER_S: Final = 5


class Refusal(Enum):
    """All of them: each is a problem, and the header fields that it needs beside those of every problem.

    The OpenAPI document lists their statuses for every call.
    """

    NOT_HTTP = (
        HTTPStatus.BAD_REQUEST,
        "not-http",
        "Not HTTP",
        "This is no request of HTTP/1.1. GET /schema says what there is.",
    )
    NO_HOST = (
        HTTPStatus.BAD_REQUEST,
        "missing-header",
        "Missing header",
        "A request must have the header Host.",
    )
    TWO_HOSTS = (
        HTTPStatus.BAD_REQUEST,
        "repeated-header",
        "Repeated header",
        "The header Host is there several times.",
    )
    URL_TOO_LONG = (
        HTTPStatus.REQUEST_URI_TOO_LONG,
        "url-too-long",
        "URL too long",
        f"The URL and the headers of a request may have {MAX_HEAD:,} bytes.",
    )
    HEAD_TOO_LARGE = (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "head-too-large",
        "Headers too large",
        f"The URL and the headers of a request may have {MAX_HEAD:,} bytes; each header counts {FIELD_BYTES} more.",
    )
    BODY_TOO_LARGE = (
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-large",
        "Body too large",
        "The body is longer than 64,000 bytes. Give the function a reference to large data instead.",
    )
    TOO_LATE = (
        HTTPStatus.REQUEST_TIMEOUT,
        "too-late",
        "Request incomplete",
        "The rest of the request did not come in time. Send the whole request again.",
    )
    TOO_MANY_PIPELINED = (
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-pipelined",
        "Too many waiting requests",
        f"{MAX_PIPELINED} requests of this connection wait for the answer to the one before them. Read some answers "
        "first.",
    )
    FULL = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "full",
        "Too many connections",
        "This process has as many connections as it takes. Ask again shortly, or close some.",
        ((b"retry-after", b"%d" % RETRY_AFTER_S),),
    )

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        title: str,
        detail: str,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = headers

    def encoded(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the whole answer as bytes of HTTP/1.1, with these fields of the server."""
        body = msgspec.json.encode(Problem(self.status, f"urn:tailrace:problem:{self.kind}", self.title, self.detail))
        fields = [
            *headers,
            *ENCODED,
            *self.headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 %d %b" % (self.status, self.status.phrase.encode())]
        lines += [b"%b: %b" % field for field in fields]
        return b"\r\n".join([*lines, b"", body])
