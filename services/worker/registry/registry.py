"""The functions of this worker: loaded from its sources and ready to run, or refused with the reason."""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import structlog

from plugins import declaration
from plugins.calls import Chunks, chunks_of
from plugins.context import Context
from plugins.declaration import Declaration
from plugins.function import Policy
from plugins.lifespan import lifespan_of
from services.worker.registry.docstrings import docs_of
from services.worker.registry.lifespan import Resource
from services.worker.registry.output import output_of
from services.worker.registry.reasons import DECLARED, Reasons, place_of, printable, reason_of
from services.worker.registry.signature import Input, input_of
from services.worker.registry.sources import Source, import_timeout, sources

logger = structlog.get_logger()


class RefusedFunctionError(Exception):
    """A marked function cannot be run: the message names the file, the line and the reason."""


class Plugin(msgspec.Struct, frozen=True):
    """A function that can be run. `call` returns its chunks; `declaration` is announced to the API.

    `context` is the name of the parameter that gets the `Context`, or None. `made` has the parameters that get the
    value of a lifespan.
    """

    call: Chunks
    policy: Policy
    input: Input
    context: str | None
    made: dict[str, Resource]
    declaration: Declaration

    def arguments(self, task_input: bytes, context: Context) -> dict[str, Any]:
        """Return keyword arguments from a task's input (JSON), with the context if a parameter takes it.

        Raises:
            InvalidInputError: the input is not what the signature asks for.
            Exception: whatever a validator or a default of the author's raises.
        """
        arguments = self.input.read(task_input)
        arguments |= {parameter: resource.value for parameter, resource in self.made.items()}
        if self.context is not None:
            arguments[self.context] = context
        return arguments


class Registry:
    """The functions that were loaded, by name; and why others were not, by source, as `reasons` puts it into words."""

    def __init__(self, reasons: Reasons = DECLARED) -> None:
        self.reasons: Final = reasons
        self.plugins: Final[dict[str, Plugin]] = {}
        self.broken: Final[dict[str, str]] = {}
        self._origins: dict[str, str] = {}
        self._resources: dict[str, Resource | None] = {}

    @property
    def resources(self) -> list[Resource]:
        """The resources of the functions, each once."""
        return list({id(each): each for plugin in self.plugins.values() for each in plugin.made.values()}.values())

    def load(self, source: Source, import_s: float) -> None:
        """Import a source and take its functions. What fails is logged and noted."""
        try:
            with import_timeout(import_s):
                for candidate, attached in source.load():
                    self._load(source, candidate, attached)
        # It runs its author's code: nothing is known of what it may raise, sys.exit() included.
        except BaseException as error:
            told = self.reasons.told(error)
            logger.exception("functions not loaded", source=source.name, file=str(source.file), **told.fields)
            self.refuse(source.name, reason_of(error, told, source.file))

    def _load(self, source: Source, candidate: Callable[..., Any], attached: Policy) -> None:
        try:
            self._take(source, plugin_of(candidate, attached, self._resource_of(candidate), self.reasons))
        except RefusedFunctionError as error:
            logger.exception("function not loaded", source=source.name, file=str(source.file))
            self.refuse(source.name, str(error))

    def refuse(self, source: str, reason: str) -> None:
        """Note why a function of this source, or all of it, was not loaded."""
        source = printable(source)
        self.broken[source] = "\n".join(filter(None, [self.broken.get(source), printable(reason)]))

    def drop(self, resource: Resource, reason: str) -> None:
        """Remove the functions that need this resource, and note the reason."""
        for name, plugin in list(self.plugins.items()):
            if resource in plugin.made.values():
                del self.plugins[name]
                self.refuse(self._origins[name], f"`{name}` is refused: {reason}")

    def _take(self, source: Source, plugin: Plugin) -> None:
        name = plugin.policy.name
        if name in self._origins:
            raise RefusedFunctionError(
                f"two functions are called {name!r}: that of {self._origins[name]} stays, that of {source.name} not"
            )
        self._origins[name] = source.name
        self.plugins[name] = plugin

    def _resource_of(self, candidate: Callable[..., Any]) -> Resource | None:
        module = getattr(candidate, "__module__", "")
        if module not in self._resources:
            try:
                lifespan = lifespan_of(sys.modules.get(module))
                self._resources[module] = Resource(lifespan) if lifespan else None
            # Annotations are the author's code, too: whatever evaluating them raises is a reason.
            except BaseException as error:
                raise refused(candidate, _said(error, self.reasons)) from error
        return self._resources[module]


def load(folders: Iterable[Path], import_s: float = 30, reasons: Reasons = DECLARED) -> Registry:
    """Load the functions of these folders and of installed packages. An import may take `import_s` seconds."""
    registry = Registry(reasons)
    for source in sources(folders):
        registry.load(source, import_s)
    return registry


def plugin_of(
    candidate: Callable[..., Any], attached: Policy, resource: Resource | None, reasons: Reasons = DECLARED
) -> Plugin:
    """Return a function as a plug-in: its signature is the input's schema, its docstring the description.

    Raises:
        RefusedFunctionError: it is no function, or its signature cannot be an input's schema.
    """
    call = chunks_of(candidate)
    if call is None:
        raise refused(candidate, "it must be a function: `def` or `async def`, with or without `yield`")
    try:
        parameters = inspect.signature(candidate, eval_str=True).parameters.values()
        contexts = [parameter.name for parameter in parameters if parameter.annotation is Context]
        if any(Context in get_args(parameter.annotation) for parameter in parameters):
            raise TypeError("a Context is always given, and is nothing else: annotate it `Context`")
        made = {each.name: resource for each in parameters if resource and each.annotation is resource.kind}
        given = {*contexts, *made}
        docs = docs_of(candidate)
        taken = input_of(
            [each for each in parameters if each.name not in given], attached.name, docs, candidate.__module__
        )
        output = output_of(candidate, docs)
    # Annotations are the author's code, too: whatever evaluating them raises is a reason.
    except BaseException as error:
        raise refused(candidate, f"its signature cannot be a schema: {_said(error, reasons)}") from error
    if len(contexts) > 1:
        raise refused(candidate, f"only one parameter can be the Context, not {' and '.join(contexts)}")
    if attached.resumable and not contexts:
        raise refused(candidate, "to be resumable it needs a parameter of type `plugins.Context`: where to go on from")
    key = attached.concurrency_key
    if key is not None and key not in taken.schema["properties"]:
        raise refused(candidate, f"its concurrency_key must be one of its parameters, not {key!r}")
    declared = Declaration(
        name=attached.name,
        description=docs.function,
        version=version_of(candidate),
        input=taken.schema,
        output=output,
        timeout=attached.timeout,
        retries=attached.retries,
        resumable=attached.resumable,
        concurrency=attached.concurrency,
        concurrency_key=key,
        rate=attached.rate,
    )
    size = declaration.size_of(declared)
    if size > declaration.MAX_BYTES:
        raise refused(
            candidate,
            f"its description and its schemas have {size:,} bytes, and every listing of functions has them: at most "
            f"{declaration.MAX_BYTES:,} are announced",
        )
    return Plugin(
        call=call,
        policy=attached,
        input=taken,
        context=contexts[0] if contexts else None,
        made=made,
        declaration=declared,
    )


def _said(error: BaseException, reasons: Reasons) -> str:
    """Return the message of a TypeError, which says what is wrong with a signature; any other error in words."""
    return str(error) if type(error) is TypeError and str(error) else reasons.told(error).words


def version_of(candidate: Callable[..., Any]) -> str:
    """Return a hash of the module's source, because a function may use all of it.

    Raises:
        RefusedFunctionError: there is no source to be read.
    """
    try:
        source = inspect.getsource(inspect.getmodule(candidate) or candidate)
    except (OSError, TypeError) as error:
        raise refused(candidate, f"its source cannot be read: {error}") from error
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def refused(candidate: Callable[..., Any], reason: str) -> RefusedFunctionError:
    """Return the error with the function's file and line, and the reason."""
    called = getattr(candidate, "__name__", repr(candidate))
    try:
        place = place_of(f"{inspect.getsourcefile(candidate)}", inspect.getsourcelines(candidate)[1])
    except (OSError, TypeError):  # an object, or nothing of Python's
        place = f"{getattr(candidate, '__module__', None)}"
    return RefusedFunctionError(f"{place}: `{called}` is refused: {reason}")
