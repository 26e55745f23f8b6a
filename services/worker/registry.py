"""The functions of this worker: every marked function in every file of the folders it was given."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import structlog

from plugins.context import Context
from plugins.declaration import Declaration
from plugins.function import Policy, policy
from services.worker.chunks import Chunks, chunks_of

logger = structlog.get_logger()


class RefusedFunctionError(Exception):
    """A marked function cannot be run: the message names the file, the line and the reason."""


class Plugin(msgspec.Struct, frozen=True):
    """A function that can be run: its chunks, its policy, the struct its input becomes, what is announced of it.

    `context` is the name of the parameter that gets the `Context`, if there is one.
    """

    call: Chunks
    policy: Policy
    input: type[msgspec.Struct]
    context: str | None
    declaration: Declaration

    def arguments(self, task_input: bytes, context: Context) -> dict[str, Any]:
        """Keyword arguments from a task's input (JSON), and the context where it is asked for.

        Raises:
            msgspec.ValidationError: the input is not what the signature asks for.
        """
        # The api has checked the types against the schema. What is left to convert is what JSON Schema takes for an
        # integer though msgspec does not: 3.0.
        converted = msgspec.convert(msgspec.json.decode(task_input), self.input, strict=False)
        arguments = {field: getattr(converted, field) for field in self.input.__struct_fields__}
        if self.context is not None:
            arguments[self.context] = context
        return arguments


def load(folders: Iterable[Path]) -> dict[str, Plugin]:
    """Import every file of the folders and collect its functions by name. What fails is logged, and the others load."""
    plugins: dict[str, Plugin] = {}
    for folder in folders:
        if not folder.is_dir():
            logger.error("no such folder of functions", folder=str(folder))
        for file in sorted(folder.glob("[!_]*.py")):
            for plugin in plugins_of(file):
                if plugins.setdefault(plugin.policy.name, plugin).call is not plugin.call:
                    logger.error("two functions of one name; the first stays", name=plugin.policy.name, file=str(file))
    return plugins


def plugins_of(file: Path) -> Iterator[Plugin]:
    """The functions of one file. One that is refused does not take the others along."""
    try:
        candidates = marked(module_of(file))
    # An import runs its author's code: nothing is known of what it may raise, sys.exit() included.
    except (Exception, SystemExit):
        logger.exception("functions not loaded", file=str(file))
        return
    for candidate in candidates:
        try:
            yield plugin_of(candidate)
        except RefusedFunctionError:
            logger.exception("function not loaded", file=str(file))


def module_of(file: Path) -> ModuleType:
    """Import one file, under a name that nothing else has, whatever its folder is called."""
    name = f"tailrace_functions.{file.parent.name}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and type hints look their module up
    spec.loader.exec_module(module)
    return module


def marked(module: ModuleType) -> list[Callable[..., Any]]:
    """The functions that carry a policy and are this module's own, not imported from another."""
    return [
        candidate
        for candidate in {id(value): value for value in vars(module).values()}.values()  # once each, whatever its names
        if policy(candidate) is not None and candidate.__module__ == module.__name__
    ]


def plugin_of(candidate: Callable[..., Any]) -> Plugin:
    """What is known of a marked function: its signature is the input's schema, its docstring the description.

    Raises:
        RefusedFunctionError: it is no function, or its signature cannot be an input's schema.
    """
    attached = policy(candidate)
    assert attached is not None
    call = chunks_of(candidate)
    if call is None:
        raise refused(candidate, "it must be a function: `def` or `async def`, with or without `yield`")
    try:
        parameters = inspect.signature(candidate, eval_str=True).parameters.values()
        contexts = [parameter.name for parameter in parameters if parameter.annotation is Context]
        if any(Context in get_args(parameter.annotation) for parameter in parameters):
            raise TypeError("a Context is always given, and is nothing else: annotate it `Context`")
        structure = input_struct([each for each in parameters if each.name not in contexts], attached.name)
        schema = msgspec.json.schema(structure)
    # Annotations are the author's code, too: whatever evaluating them raises is a reason.
    except Exception as error:
        raise refused(candidate, f"its parameters cannot be an input's schema: {error}") from error
    if len(contexts) > 1:
        raise refused(candidate, f"only one parameter can be the Context, not {' and '.join(contexts)}")
    if attached.resumable and not contexts:
        raise refused(candidate, "to be resumable it needs a parameter of type `plugins.Context`: where to go on from")
    return Plugin(
        call=call,
        policy=attached,
        input=structure,
        context=contexts[0] if contexts else None,
        declaration=Declaration(
            name=attached.name,
            description=inspect.getdoc(candidate) or "",
            version=hashlib.sha256(inspect.getsource(inspect.getmodule(candidate) or candidate).encode()).hexdigest()[
                :12
            ],
            input=schema,
            timeout=attached.timeout,
            retries=attached.retries,
            resumable=attached.resumable,
        ),
    )


def input_struct(parameters: Iterable[inspect.Parameter], name: str) -> type[msgspec.Struct]:
    """A struct with these parameters as fields.

    Raises:
        TypeError: a parameter has no type, or cannot be given by name.
    """
    fields: list[Any] = []
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"`{parameter}` cannot be given by name")
        if parameter.annotation is parameter.empty:
            raise TypeError(f"`{parameter.name}` has no type")
        field = (parameter.name, parameter.annotation)
        fields.append(field if parameter.default is parameter.empty else (*field, parameter.default))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def refused(candidate: Callable[..., Any], reason: str) -> RefusedFunctionError:
    """The error that says where and why."""
    file, (_, line) = inspect.getsourcefile(candidate), inspect.getsourcelines(candidate)
    return RefusedFunctionError(f"{file}:{line}: `{candidate.__name__}` is refused: {reason}")
