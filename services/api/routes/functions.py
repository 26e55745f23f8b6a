"""Functions: GET says what can be run; PUT …/paused keeps one from being started, until DELETE lets it again."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, put
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from msgspec.structs import replace

from plugins.declaration import Broken
from services.api.catalog import Catalog, Function
from services.api.http import problems
from services.api.http.documents import Document, Documents, answer, document_of
from services.api.http.parameters import FunctionName
from services.api.identity.authentication import ANY, NEEDS
from services.api.identity.caller import ADMIN, Caller

CHANGED: Final = problems.documented(404, 503)


class Functions(msgspec.Struct, frozen=True):
    """The functions that the caller may start, by name; for an admin all, and what some worker could not load, by
    source.
    """

    functions: list[Function]
    broken: list[Broken]


@get(
    "/functions",
    summary="List functions",
    tags=["functions"],
    opt={NEEDS: ANY},
    responses={
        304: ResponseSpec(None, description="`If-None-Match` has the `ETag` of this list: it has not changed."),
        **problems.documented(503),
    },
)
async def list_functions(
    request: Request[Any, Any, Any],
    caller: NamedDependency[Caller],
    catalog: NamedDependency[Catalog],
    documents: NamedDependency[Documents],
) -> Response[Functions]:
    """Every function that you may start, with the JSON Schema of its input. For an admin: every function that is
    announced, and what could not be loaded, with the error.
    """
    listed = Functions(await catalog.functions(caller), await catalog.broken() if caller.is_admin else [])
    view = tuple(each.name for each in listed.functions), caller.is_admin

    async def make() -> Document:
        return document_of(listed, _without_times(listed))

    return answer(request, await documents.functions.of(view, listed, make))


def _without_times(listed: Functions) -> Functions:
    """Return the list without what changes whenever a worker announces the same once more."""
    return Functions(
        [replace(each, announced_at=None) for each in listed.functions], [replace(each, at=0) for each in listed.broken]
    )


@get(
    "/functions/{name:str}",
    summary="Get a function",
    tags=["functions"],
    opt={NEEDS: ANY},
    responses=problems.documented(404, 503),
)
async def get_function(
    name: FunctionName, caller: NamedDependency[Caller], catalog: NamedDependency[Catalog]
) -> Function:
    """What is announced of this function, and whether it is paused."""
    return await catalog.function_of(name, caller)


@put(
    "/functions/{name:str}/paused",
    summary="Pause a function",
    tags=["functions"],
    opt={NEEDS: ADMIN},
    responses=CHANGED,
)
async def pause(name: FunctionName, caller: NamedDependency[Caller], catalog: NamedDependency[Catalog]) -> Function:
    """Workers start it no more, from the moment they hear of it. Its tasks wait, those that are submitted later too;
    what runs goes on.
    """
    await catalog.function_of(name, caller)
    await catalog.pause(name)
    return await catalog.function_of(name, caller)


@delete(
    "/functions/{name:str}/paused",
    summary="Resume a function",
    status_code=200,
    tags=["functions"],
    opt={NEEDS: ADMIN},
    responses=CHANGED,
)
async def resume(name: FunctionName, caller: NamedDependency[Caller], catalog: NamedDependency[Catalog]) -> Function:
    """What has waited starts, in order."""
    # One that is not announced any more, too: its mark would stay for ever.
    await catalog.resume(name)
    return await catalog.function_of(name, caller)
