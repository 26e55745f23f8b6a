"""What can be run, as the workers announced it, and what is paused."""

from typing import Any, Final

import msgspec
import structlog
from litestar.plugins.problem_details import ProblemDetailsException
from redis.asyncio import Redis

from plugins import entries, keys
from plugins.declaration import Broken, Declaration
from services.api.http.problems import problem
from services.api.redis_client import run_script

# Also where Redis is full: a function that misbehaves may have filled it.
PAUSE: Final = "#!lua flags=allow-oom\nreturn redis.call('SADD', KEYS[1], ARGV[1])"

logger = structlog.get_logger()

_decoder = msgspec.json.Decoder(Declaration)


class Function(Declaration, frozen=True, kw_only=True):
    """What is announced of a function, and whether it is paused."""

    paused: bool = False


def unknown(name: str, known: list[str]) -> ProblemDetailsException:
    """404: no worker has announced this function."""
    names = ", ".join(known) if known else "none: no worker has announced a function yet"
    return problem(
        404, "unknown-function", "Unknown function", f"There is no function {name!r:.100}. Known: {names}.", known=known
    )


async def declaration_of(redis: Redis, name: str) -> Declaration:
    """What is announced of a function.

    Raises:
        ProblemDetailsException: 404, with the names there are.
        redis.exceptions.RedisError: Redis does not answer.
    """
    announced = await redis.hget(keys.FUNCTIONS, name)
    declaration = _decoder.decode(announced) if announced is not None else None
    if declaration is None or not _kept(declaration):
        raise unknown(name, [each.name for each in await declarations(redis)])
    return declaration


async def declarations(redis: Redis) -> list[Declaration]:
    """What is announced of all functions, by name."""
    announced: Any = await redis.hgetall(keys.FUNCTIONS)
    each = [_decoder.decode(announced[name]) for name in sorted(announced)]
    return [declaration for declaration in each if _kept(declaration)]


def _kept(declaration: Declaration) -> bool:
    """Whether some worker has had it within the week. Redis keeps them together, for as long as any is announced."""
    at = declaration.announced_at
    return at is None or at > entries.now_ms() - keys.FUNCTIONS_TTL_S * 1_000


async def broken(redis: Redis) -> list[Broken]:
    """What workers have said of late that they could not load."""
    said: Any = await redis.hgetall(keys.BROKEN)
    since = entries.now_ms() - keys.BROKEN_TTL_S * 1_000
    each = [msgspec.json.decode(said[source], type=Broken) for source in sorted(said)]
    return [broken for broken in each if broken.at > since]


async def functions(redis: Redis) -> list[Function]:
    """What is announced of all functions, by name, and which are paused."""
    announced = await declarations(redis)
    paused: Any = await redis.smembers(keys.PAUSED)
    return [_function(each, paused=each.name.encode() in paused) for each in announced]


def _function(declaration: Declaration, *, paused: bool) -> Function:
    return Function(**msgspec.structs.asdict(declaration), paused=paused)


async def function_of(redis: Redis, name: str) -> Function:
    """What is announced of a function, and whether it is paused.

    Raises:
        ProblemDetailsException: 404, with the names there are.
    """
    declaration = await declaration_of(redis, name)
    return _function(declaration, paused=bool(await redis.sismember(keys.PAUSED, name)))


async def pause(redis: Redis, name: str) -> None:
    """Let workers start this function no more, from the moment they hear of it. The mark in `keys.PAUSED` is all there
    is to it: workers hold the tasks that they meet of a paused function, so nothing here can be left half done.
    """
    if await run_script(redis, PAUSE, [keys.PAUSED], [name]):
        logger.warning("function paused", function=name)
    await redis.publish(keys.FUNCTIONS_CHANGED, name)


async def resume(redis: Redis, name: str) -> None:
    """Take the mark away: workers take up the tasks that they have held."""
    if await redis.srem(keys.PAUSED, name):
        logger.warning("function resumed", function=name)
    await redis.publish(keys.FUNCTIONS_CHANGED, name)
