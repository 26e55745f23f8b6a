"""GET /functions: what can be run, as the workers announced it."""

from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.params import PathParameter
from litestar.plugins.problem_details import ProblemDetailsException
from redis.asyncio import Redis

from plugins import entries, keys
from plugins.declaration import Broken, Declaration
from services.api.problems import problem

_decoder = msgspec.json.Decoder(Declaration)


Name = Annotated[str, PathParameter(description="As in GET /functions.")]


class Function(Declaration, frozen=True, kw_only=True):
    """What is announced of a function, and whether it is paused."""

    paused: bool = False


class Functions(msgspec.Struct, frozen=True):
    """All functions, by name; and what some worker could not load, by source."""

    functions: list[Function]
    broken: list[Broken]


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


@get("/functions", summary="What can be run", tags=["functions"])
async def list_functions(redis: Redis) -> Functions:
    """Every announced function with the JSON Schema of its input, and what could not be loaded, with the error."""
    announced = await declarations(redis)
    paused: Any = await redis.smembers(keys.PAUSED)
    functions = [_function(each, paused=each.name.encode() in paused) for each in announced]
    return Functions(functions, await broken(redis))


def _function(declaration: Declaration, *, paused: bool) -> Function:
    return Function(**msgspec.structs.asdict(declaration), paused=paused)


async def function_of(redis: Redis, name: str) -> Function:
    """What is announced of a function, and whether it is paused.

    Raises:
        ProblemDetailsException: 404, with the names there are.
    """
    declaration = await declaration_of(redis, name)
    return _function(declaration, paused=bool(await redis.sismember(keys.PAUSED, name)))


@get("/functions/{name:str}", summary="One function", tags=["functions"])
async def get_function(name: Name, redis: Redis) -> Function:
    """What is announced of this function, and whether it is paused."""
    return await function_of(redis, name)
