"""What a module's functions need and is made once per process: a model, a pool.

A module says how in an async context manager that it calls `lifespan` and that says what it yields:

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Model]: ...

Functions of that module get it for the parameter of that type.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any, NamedTuple, get_args


class Lifespan(NamedTuple):
    """One module's: `make()` is entered once per process; `kind` is the type of what that gives."""

    name: str
    make: Callable[[], AbstractAsyncContextManager[Any]]
    kind: Any


def lifespan_of(module: ModuleType | None) -> Lifespan | None:
    """The module's lifespan, or None where it has none.

    Raises:
        TypeError: it has one, which cannot be used: the message says what would be right.
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
