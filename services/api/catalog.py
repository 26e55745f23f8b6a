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


class Functions(msgspec.Struct, frozen=True):
    """All functions, by name; and what some worker could not load, by source."""

    functions: list[Declaration]
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
    """
    announced = await redis.hget(keys.FUNCTIONS, name)
    if announced is None:
        raise unknown(name, await names(redis))
    return _decoder.decode(announced)


async def names(redis: Redis) -> list[str]:
    """The names of all announced functions, sorted."""
    announced: Any = await redis.hkeys(keys.FUNCTIONS)
    return sorted(name.decode() for name in announced)


async def broken(redis: Redis) -> list[Broken]:
    """What workers have said of late that they could not load."""
    said: Any = await redis.hgetall(keys.BROKEN)
    since = entries.now_ms() - keys.BROKEN_TTL_S * 1_000
    each = [msgspec.json.decode(said[source], type=Broken) for source in sorted(said)]
    return [broken for broken in each if broken.at > since]


@get("/functions", summary="What can be run", tags=["functions"])
async def list_functions(redis: Redis) -> Functions:
    """Every announced function with the JSON Schema of its input, and what could not be loaded, with the error."""
    announced: Any = await redis.hgetall(keys.FUNCTIONS)
    return Functions([_decoder.decode(announced[name]) for name in sorted(announced)], await broken(redis))


@get("/functions/{name:str}", summary="One function", tags=["functions"])
async def get_function(
    name: Annotated[str, PathParameter(description="As in GET /functions.")], redis: Redis
) -> Declaration:
    """What is announced of this function."""
    return await declaration_of(redis, name)
