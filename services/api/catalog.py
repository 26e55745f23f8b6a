"""The functions that workers have announced, and which are paused.

What cannot be read is skipped, and logged once: another program has written it, or a worker of another release. It must
not take the other functions with it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from plugins import keys
from plugins.declaration import Broken, Declaration
from services.api.http import validation
from services.api.http.problems import problem
from services.api.redis_client import run_script

# It may run when Redis is full: a function that misbehaves may have filled it.
PAUSE: Final = "#!lua flags=allow-oom\nreturn redis.call('SADD', KEYS[1], ARGV[1])"

logger = structlog.get_logger()

_decoder = msgspec.json.Decoder(Declaration)


class Function(Declaration, frozen=True, kw_only=True):
    """A function as announced, and whether it is paused."""

    paused: bool = False


async def declaration_of(redis: Redis, name: str) -> Declaration:
    """Return the announcement of a function.

    Raises:
        ProblemDetailsException: 404, with the names that are known.
    """
    announced, now = await _with_time(redis, lambda pipeline: pipeline.hget(keys.FUNCTIONS, name))
    declaration = _decoded(name.encode(), announced) if announced is not None else None
    if declaration is None or not _kept(declaration, now):
        known = [other.name for other in await declarations(redis)]
        names = ", ".join(known) or "none: no worker has announced a function yet"
        detail = f"There is no function {name!r:.100}. Known: {names}."
        raise problem(404, "unknown-function", "Unknown function", detail, known=known)
    return declaration


async def declarations(redis: Redis) -> list[Declaration]:
    """Return the announcements of all functions, ordered by name."""
    announced, now = await _with_time(redis, lambda pipeline: pipeline.hgetall(keys.FUNCTIONS))
    decoded = [_decoded(name, announced[name]) for name in sorted(announced)]
    return [declaration for declaration in decoded if declaration is not None and _kept(declaration, now)]


def _decoded(name: bytes, announced: bytes) -> Declaration | None:
    """Return the declaration in this field of the hash, or None if it is none by which inputs can be validated."""
    try:
        declaration = _decoder.decode(announced)
        if declaration.name.encode() != name:
            raise ValueError(f"it is of {declaration.name!r:.100}")
        validation.validator_of(msgspec.json.encode(declaration.input))
    except (ValueError, RecursionError) as error:
        _log_once("announcement not readable", name, str(error))
        return None
    return declaration


@lru_cache(maxsize=1_024)
def _log_once(event: str, field: bytes, error: str) -> None:
    logger.error(event, field=field.decode(errors="replace"), error=error)


def _kept(declaration: Declaration, now: int) -> bool:
    """Return whether a worker has announced it within a week. The hash lives as long as any function is announced."""
    at = declaration.announced_at
    return at is None or at > now - keys.FUNCTIONS_TTL_S * 1_000


async def _with_time(redis: Redis, read: Callable[[Pipeline], object]) -> tuple[Any, int]:
    """Return the answer of this command, and the server's time (ms): workers announce by that clock."""
    async with redis.pipeline(transaction=False) as pipeline:
        read(pipeline)
        pipeline.time()
        answer, (seconds, microseconds) = await pipeline.execute()
    return answer, seconds * 1_000 + microseconds // 1_000


async def broken(redis: Redis) -> list[Broken]:
    """Return what workers could not load, as announced within `BROKEN_TTL_S`, ordered by source."""
    announced, now = await _with_time(redis, lambda pipeline: pipeline.hgetall(keys.BROKEN))
    since = now - keys.BROKEN_TTL_S * 1_000
    decoded = [_decoded_broken(source, announced[source]) for source in sorted(announced)]
    return [broken for broken in decoded if broken is not None and broken.at > since]


def _decoded_broken(source: bytes, announced: bytes) -> Broken | None:
    try:
        return msgspec.json.decode(announced, type=Broken)
    except (ValueError, RecursionError) as error:
        _log_once("announcement of a broken source not readable", source, str(error))
        return None


async def functions(redis: Redis) -> list[Function]:
    """Return all functions, ordered by name."""
    announced = await declarations(redis)
    paused: Any = await redis.smembers(keys.PAUSED)
    return [Function(**msgspec.structs.asdict(known), paused=known.name.encode() in paused) for known in announced]


async def function_of(redis: Redis, name: str) -> Function:
    """Return a function.

    Raises:
        ProblemDetailsException: 404, with the names that are known.
    """
    declaration = await declaration_of(redis, name)
    paused = bool(await redis.sismember(keys.PAUSED, name))
    return Function(**msgspec.structs.asdict(declaration), paused=paused)


async def pause(redis: Redis, name: str) -> None:
    """Pause a function: workers start it no more as soon as they receive the change. `keys.PAUSED` is the only state:
    workers park the tasks of a paused function when they read their messages, so a crash leaves nothing half done.
    """
    if await run_script(redis, PAUSE, [keys.PAUSED], [name]):
        logger.warning("function paused", function=name)
    await redis.publish(keys.FUNCTIONS_CHANGED, name)


async def resume(redis: Redis, name: str) -> None:
    """Resume a function: workers unpark its tasks."""
    if await redis.srem(keys.PAUSED, name):
        logger.warning("function resumed", function=name)
    await redis.publish(keys.FUNCTIONS_CHANGED, name)
