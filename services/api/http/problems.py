"""Errors as RFC 9457 problem details: a stable `type`, what is wrong, and what would be right."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from litestar import Response
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.plugins.problem_details import ProblemDetailsConfig, ProblemDetailsException, ProblemDetailsPlugin
from redis.exceptions import OutOfMemoryError, RedisError

from plugins.transient import is_transient
from services.api import foreign
from services.api.foreign import UnreadableError
from services.api.http.headers import COMMON, complete
from services.api.http.methods import allow
from services.api.http.quotas import QuotaError

# Answers that Litestar gives by itself, in this product's words.
EXPLANATIONS: Final = {
    405: (
        "method-not-allowed",
        "This address takes other methods: the header Allow names them; GET /schema has them all.",
    ),
    413: ("too-large", "The body is longer than 64,000 bytes. Give the function a reference to large data instead."),
}

# What the answers of this status mean, for the OpenAPI document.
MEANINGS: Final = {
    400: "The request is malformed: `type` says in what, `errors` where.",
    401: "The API does not know the caller: the request has no credential, or one that is not valid. `detail` says "
    "what is wrong.",
    403: "A browser sent the request from another site, or asked by a host that is not allowed. Or the caller "
    "lacks a scope that the call needs: `scope` names it.",
    404: "There is no such task or function, or its record cannot be read.",
    410: "The log is not kept any more.",
    413: "The body is longer than 64,000 bytes.",
    422: "The Idempotency-Key belongs to another request.",
    429: "The owner has all that one owner may have; `limit` says how much, `Retry-After` when to repeat the request. "
    "Or a hundred requests of the connection wait for their answers.",
    501: "This API makes no tickets.",
    503: "Redis cannot be reached or refuses, all owners have their quota, the process has no room for another "
    "connection, or a token cannot be verified yet; `Retry-After` says when to repeat it.",
}

logger = structlog.get_logger()

# Seconds until a retry makes sense if Redis is unreachable: it restarts, or fails over, in about that time.
RETRY_AFTER_S: Final = 2

# The same if Redis is full: it has room when logs expire, or when its operator has acted.
FULL_RETRY_AFTER_S: Final = 30
# Every call may be sent an unknown parameter, by a foreign host, or too often. Health checks are open to every client.
OF_EVERY_CALL: Final = (400, 403, 429)


class Fault(msgspec.Struct, frozen=True):
    """A fault of a body: a JSON pointer to the place, and what is wrong there."""

    pointer: str
    message: str


class Problem(msgspec.Struct, frozen=True):
    """The members of an error, as the OpenAPI document describes them. `known` are names of functions, or of
    parameters; `more` is how many errors are not in `errors`, or names not in `known`; `limit` is a quota that is used
    up, and `setting` the variable that sets it, or the member of the caller's key in the file of the API keys; `scope`
    is one that the caller lacks.
    """

    status: int
    type: str
    title: str
    detail: str
    errors: list[Fault] | msgspec.UnsetType = msgspec.UNSET
    more: int | msgspec.UnsetType = msgspec.UNSET
    known: list[str] | msgspec.UnsetType = msgspec.UNSET
    limit: int | msgspec.UnsetType = msgspec.UNSET
    setting: str | msgspec.UnsetType = msgspec.UNSET
    scope: str | msgspec.UnsetType = msgspec.UNSET


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the errors that an operation answers with, for the OpenAPI document: these, and those of every call."""
    return described(*statuses, *OF_EVERY_CALL)


def described(*statuses: int) -> dict[int, ResponseSpec]:
    """Return these errors, for the OpenAPI document."""
    return {
        status: ResponseSpec(
            Problem, description=MEANINGS[status], media_type="application/problem+json", generate_examples=False
        )
        for status in sorted(set(statuses))
    }


def problem(
    status: int, kind: str, title: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> ProblemDetailsException:
    """Return an error of this status. `kind` names it for programs and never changes; `more` are further members."""
    return ProblemDetailsException(
        detail=detail,
        status_code=status,
        type_=f"urn:tailrace:problem:{kind}",
        title=title,
        headers=COMMON | (headers or {}),
        extra=more,
    )


def redis_full() -> ProblemDetailsException:
    """503: Redis has no room for a new task."""
    return problem(
        503,
        "redis-full",
        "No room for new tasks",
        "The store is nearly full, so no task is started. Running tasks and their streams go on, and tasks may be "
        "cancelled and purged. There is room again when logs expire.",
        headers={"Retry-After": str(FULL_RETRY_AFTER_S)},
    )


def unavailable(error: BaseException) -> ProblemDetailsException:
    """Log that Redis cannot serve a request now, and return the error 503."""
    logger.warning("redis unavailable", error=str(error))
    if isinstance(error, OutOfMemoryError):
        return redis_full()
    return problem(
        503,
        "unavailable",
        "Temporarily unavailable",
        "The store cannot be reached or cannot take this now. Ask again shortly.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _of_redis(error: RedisError) -> ProblemDetailsException:
    # A key of another type that many requests need, as the index: an operator must mend it.
    return unavailable(error) if is_transient(error) or foreign.is_wrong_type(error) else _of_anything(error)


def _of_unreadable(error: UnreadableError) -> ProblemDetailsException:
    """404, as for a task that there is not: to ask again does not help."""
    foreign.log_once("task not readable", error.task_id, error)
    return problem(
        404,
        "unreadable-task",
        "Task not readable",
        f"The record of the task cannot be read: another program, or another release, has written it. {error}.",
    )


def _of_quota(error: QuotaError) -> ProblemDetailsException:
    retry_after_s = max(1, math.ceil(error.retry_after_s))
    return problem(
        error.status,
        error.kind,
        error.title,
        error.detail,
        headers={"Retry-After": str(retry_after_s)},
        limit=error.quota.most,
        setting=error.quota.setting,
    )


def _of_anything(error: Exception) -> ProblemDetailsException:
    logger.error("request failed", exc_info=error)
    return problem(500, "internal", "Internal error", "This is a fault of the server. It has been logged.")


def _of_validation(error: ValidationException) -> ProblemDetailsException:
    errors = [_described(extra) for extra in error.extra or [] if isinstance(extra, Mapping)]
    return problem(400, "invalid-request", "Invalid request", "The request is not of the right form.", errors=errors)


def _described(extra: Mapping[str, Any]) -> dict[str, str]:
    # Litestar calls the body "data" and names a place in it as "a.b" or "data.a.b".
    path = str(extra.get("key", "")).split(".")
    if path[0] == "data":
        path = path[1:]
    message = str(extra.get("message", ""))
    if message == "'data'":  # Litestar's word for an empty body
        message = "the body is required: a JSON object"
    return {"pointer": "".join(f"/{part}" for part in path), "message": message}


def _of_http(error: HTTPException) -> ProblemDetailsException:
    kind, detail = EXPLANATIONS.get(error.status_code, ("invalid-request", error.detail))
    headers = dict(error.headers or {})
    if "allow" in headers:
        headers["allow"] = allow(set(headers["allow"].split(", ")))
    return problem(error.status_code, kind, HTTPStatus(error.status_code).phrase, detail, headers=headers)


async def instead_of_html(response: Response[Any]) -> Response[Any]:
    """Runs after what Litestar itself serves, in the place of `complete`: its 404 is a page.

    Raises:
        NotFoundException: in its place.
    """
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundException
    return await complete(response)


def _of_unknown_path(_: NotFoundException) -> ProblemDetailsException:
    return problem(404, "not-found", "Not found", "There is nothing at this address. GET /schema says what there is.")


plugin: Final = ProblemDetailsPlugin(
    ProblemDetailsConfig(
        exception_to_problem_detail_map={
            RedisError: _of_redis,
            QuotaError: _of_quota,
            UnreadableError: _of_unreadable,
            ValidationException: _of_validation,
            NotFoundException: _of_unknown_path,
            HTTPException: _of_http,
            Exception: _of_anything,
        }
    )
)
