"""Functions: GET says what can be run; PUT …/paused keeps one from being started, until DELETE lets it again."""

from typing import Final

import msgspec
from litestar import delete, get, put
from litestar.di import NamedDependency
from redis.asyncio import Redis

from plugins.declaration import Broken
from services.api import catalog
from services.api.catalog import Function
from services.api.http import problems
from services.api.http.parameters import FunctionName

CHANGED: Final = problems.documented(404, 503)


class Functions(msgspec.Struct, frozen=True):
    """All functions, by name; and what some worker could not load, by source."""

    functions: list[Function]
    broken: list[Broken]


@get("/functions", summary="List functions", tags=["functions"], responses=problems.documented(503))
async def list_functions(redis: NamedDependency[Redis]) -> Functions:
    """Every announced function with the JSON Schema of its input, and what could not be loaded, with the error."""
    return Functions(await catalog.functions(redis), await catalog.broken(redis))


@get("/functions/{name:str}", summary="Get a function", tags=["functions"], responses=problems.documented(404, 503))
async def get_function(name: FunctionName, redis: NamedDependency[Redis]) -> Function:
    """What is announced of this function, and whether it is paused."""
    return await catalog.function_of(redis, name)


@put("/functions/{name:str}/paused", summary="Pause a function", tags=["functions"], responses=CHANGED)
async def pause(name: FunctionName, redis: NamedDependency[Redis]) -> Function:
    """Workers start it no more, from the moment they hear of it. Its tasks wait, those that are submitted later too;
    what runs goes on.
    """
    await catalog.function_of(redis, name)
    await catalog.pause(redis, name)
    return await catalog.function_of(redis, name)


@delete(
    "/functions/{name:str}/paused",
    summary="Resume a function",
    status_code=200,
    tags=["functions"],
    responses=CHANGED,
)
async def resume(name: FunctionName, redis: NamedDependency[Redis]) -> Function:
    """What has waited starts, in order."""
    # One that is not announced any more, too: its mark would stay for ever.
    await catalog.resume(redis, name)
    return await catalog.function_of(redis, name)
