"""A module's lifespan makes one value per process for the module's functions, such as a model or a pool.

The lifespan is an async context manager of that name, annotated with the type of the value:

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Model]: ...

A function of the module gets the value through a parameter of that type.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any, NamedTuple, get_args


class Lifespan(NamedTuple):
    """The lifespan of the module `name`. `make()` returns its context manager; `kind` is the type of its value."""

    name: str
    make: Callable[[], AbstractAsyncContextManager[Any]]
    kind: Any


def lifespan_of(module: ModuleType | None) -> Lifespan | None:
    """Return the module's lifespan, or None if it has none.

    Raises:
        TypeError: the module's `lifespan` cannot be used. The message says what would be right.
    """
    make = getattr(module, "lifespan", None)
    if make is None:
        return None
    signature = inspect.signature(make, eval_str=True)
    kinds = get_args(signature.return_annotation)
    if signature.parameters or not kinds or not inspect.isasyncgenfunction(inspect.unwrap(make)):
        raise TypeError(
            "`lifespan` must be an `@asynccontextmanager` without parameters that says what it yields: "
            "`async def lifespan() -> AsyncIterator[Model]`"
        )
    assert module is not None
    return Lifespan(module.__name__, make, kinds[0])
