"""The registry: every good file of a folder is loaded, and every bad one is named with its line and the reason."""

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import msgspec
import pytest

from services.worker.registry import registry
from services.worker.registry.invalid import InvalidInputError
from services.worker.registry.reasons import Reasons
from services.worker.registry.registry import Plugin, Registry
from tests.support.context import CONTEXT
from tests.support.processes import ROOT, Process

HEAD: Final = """\
from collections.abc import AsyncIterator
from plugins import Context, function
"""

GOOD: Final = """
@function()
async def {name}(x: int) -> AsyncIterator[int]:
    \"\"\"Say it once.\"\"\"
    yield x
"""

Files = Callable[..., Path]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that breaks no path in two."""
    monkeypatch.setenv("COLUMNS", "500")


@pytest.fixture
def folder(tmp_path: Path) -> Files:
    """Makes a folder of these files, each with the imports that all of them need (two lines)."""

    def make(name: str = "drop_in", **sources: str) -> Path:
        place = tmp_path / name
        place.mkdir(parents=True)
        for stem, source in sources.items():
            (place / f"{stem}.py").write_text(HEAD + dedent(source))
        return place

    return make


def registry_of(folders: list[Path], import_s: float = 30) -> Registry:
    """The functions of these folders, and why others are none, with the texts of exceptions."""
    return registry.load(folders, import_s, Reasons(always=True))


def load(folders: list[Path]) -> dict[str, Plugin]:
    """The functions of these folders."""
    return registry_of(folders).plugins


def only(place: Path) -> Plugin:
    """The one function of this folder."""
    (plugin,) = load([place]).values()
    return plugin


def schema(plugin: Plugin) -> Any:
    """The schema of the input object, without the dialect that it names."""
    return {word: value for word, value in plugin.declaration.input.items() if word != "$schema"}


def marked(definition: str, body: str = "yield 1") -> str:
    """A function that is marked, whatever it is."""
    return f"@function()\n{definition}:\n    {body}\n"


NO_FUNCTION: Final = "`f` .*must be a function"

# Sources, the line (they begin at the third) and the reason that the log must name.
BROKEN: Final = {
    "syntax error": ("def broken(:\n", 3, "SyntaxError"),
    "raises at import": ("\n\nraise OSError('no such model')\n", 5, "OSError: no such model"),
    "exits at import": ("import sys\nsys.exit(3)\n", 4, "SystemExit: 3"),
    "exits in silence": ("raise SystemExit\n", 3, "SystemExit"),
    "a missing package": ("import no_such_package\n", 3, "No module named 'no_such_package'"),
    "no time-out": (marked("async def f()").replace("()", "(timeout=0)", 1), 3, "timeout must"),
    "no retries": (marked("async def f()").replace("()", "(retries=-1)", 1), 3, "retries must .* not -1"),
    "half a retry": (marked("async def f()").replace("()", "(retries=.5)", 1), 3, "retries must .* not 0.5"),
    "no back-off": (marked("async def f()").replace("()", "(backoff=-1)", 1), 3, "backoff must"),
    "no chunks": (marked("async def f()").replace("()", "(max_chunks=0)", 1), 3, "max_chunks must"),
    "no bytes": (marked("async def f()").replace("()", "(max_bytes=0)", 1), 3, "max_bytes must"),
    "going on from nowhere": (
        marked("async def f(x: int)").replace("()", "(resumable=True)", 1),
        3,
        "`f` .*needs a parameter of type `plugins.Context`",
    ),
    "perhaps a context": (marked("async def f(a: Context | None = None)"), 3, "`f` .*annotate it `Context`"),
    "for ever": (marked("async def f()").replace("()", "(timeout=float('inf'))", 1), 3, "timeout must"),
    "two contexts": (
        marked("async def f(a: Context, b: Context)"),
        3,
        "`f` .*only one parameter can be the Context, not a and b",
    ),
    "no name": (marked("async def f()").replace("()", "(name='a b')", 1), 3, "'a b'"),
    "a name without its name": (marked("async def f()").replace("()", "('f')", 1), 3, r"by name, as in .* not 'f'"),
    "a class": (marked("class f", "pass"), 3, NO_FUNCTION),
    "a class, marked bare": (marked("class f", "pass").replace("()", "", 1), 3, NO_FUNCTION),
    "no type": (marked("async def f(x: int, y)"), 3, "`f` .*`y` has no type"),
    "args": (marked("async def f(*args: int)"), 3, r"`f` .*`\*args: int` cannot be given by name"),
    "kwargs": (marked("async def f(**all: int)"), 3, r"`f` .*`\*\*all: int` cannot be given by name"),
    "by place": (marked("async def f(x: int, /)"), 3, "`f` .*`x: int` cannot be given by name"),
    "no schema": (marked("async def f(x: slice)"), 3, "(?s)`f` .*`x`: .*slice"),
    "a struct": (
        f"import msgspec\nclass S(msgspec.Struct): ...\n{marked('async def f(x: S)')}",
        5,
        "`x`: S is a msgspec.Struct",
    ),
    "exits as a type": (
        f"class E(str):\n    def __get_pydantic_core_schema__(*_): raise SystemExit\n{marked('async def f(x: E)')}",
        5,
        "`x`: SystemExit",
    ),
    "no such type": (marked("async def f(x: 'itn')"), 3, "`f` .*'itn' is not defined"),
    "no type at all": (marked("async def f(x: '1 +')"), 3, "`f` .*syntax"),
}


@pytest.mark.parametrize(("source", "line", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_and_the_others_load(
    folder: Files, capsys: pytest.CaptureFixture[str], source: str, line: int, reason: str
) -> None:
    """Its author reads file, line and reason in the worker's log; the functions of other files run."""
    place = folder(a=GOOD.format(name="before"), m=source, z=GOOD.format(name="after"))
    assert set(load([place])) == {"before", "after"}

    logged = "".join(capsys.readouterr())
    assert re.search(rf'\bdrop_in/m\.py(:|\\?", line ){line}\b', logged), logged
    assert str(place / "m.py") in logged
    assert re.search(reason, logged), logged
    assert str(place / "a.py") not in logged
    assert str(place / "z.py") not in logged


def test_many_broken_files_are_all_named(folder: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """One look at the log finds them all."""
    sources = {f"broken_{number}": source for number, (source, _, _) in enumerate(BROKEN.values())}
    place = folder(good=GOOD.format(name="good"), **sources)
    assert set(load([place])) == {"good"}

    logged = "".join(capsys.readouterr())
    assert [stem for stem in sources if f"{stem}.py" not in logged] == []


def test_the_log_shows_the_line_and_not_the_values(folder: Files) -> None:
    """The log does not show the value of a variable, which may be a key from the environment."""
    place = folder(bad='key = "-".join(["tell", "no", "one"])\nraise OSError("no such model")\n')
    as_a_worker = (
        "import sys, pathlib, services.worker.app; from services.worker.registry import registry; "
        "registry.load([pathlib.Path(sys.argv[1])])"
    )
    process = Process([sys.executable, "-c", as_a_worker, str(place)])

    assert process.wait() == 0, process.output
    assert str(place / "bad.py") in process.output
    assert "tell-no-one" not in process.output


def test_two_functions_of_one_name(folder: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """The first stays, in the order of folders and files, and an error names both."""
    one = folder("one", a=GOOD.format(name="twin"), b=GOOD.format(name="twin").replace("once", "twice"))
    two = folder("two", a=GOOD.format(name="twin").replace("once", "thrice") + GOOD.format(name="other"))
    found = registry_of([one, two])
    loaded = found.plugins

    assert set(loaded) == {"twin", "other"}
    assert set(found.broken) == {"one/b.py", "two/a.py"}
    for source, error in found.broken.items():
        assert "'twin'" in error
        assert "one/a.py" in error
        assert source in error
    assert loaded["twin"].declaration.description == "Say it once."
    logged = "".join(capsys.readouterr())
    assert str(one / "b.py") in logged
    assert str(two / "a.py") in logged
    assert "twin" in logged


def test_the_name_that_counts_is_the_one_that_is_called(folder: Files) -> None:
    """`name=` replaces the function's own name: two files may both say `run`."""
    renamed = GOOD.replace("function()", "function(name='{called}', timeout=2.5)")
    place = folder(a=renamed.format(called="a.run", name="run"), b=renamed.format(called="b.run", name="run"))
    loaded = load([place])

    assert set(loaded) == {"a.run", "b.run"}
    assert {plugin.declaration.timeout for plugin in loaded.values()} == {2.5}
    assert loaded["a.run"].declaration.name == "a.run"


def test_only_marked_functions_of_the_file_itself_are_listed(folder: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """Clients cannot call helpers, imported functions, or functions of private files."""
    source = """
        from functions.count import count

        async def helper(x: int) -> AsyncIterator[int]:
            yield x

        def plain(anything):
            return anything

        class Thing:
            @function()
            async def method(self, x: int) -> AsyncIterator[int]:
                yield x
    """
    place = folder(a=dedent(source) + GOOD.format(name="mine"), _private=GOOD.format(name="hidden"))
    (place / "notes.txt").write_text("no Python")

    assert set(load([place])) == {"mine"}
    assert "".join(capsys.readouterr()) == ""


def test_what_is_announced(folder: Files) -> None:
    """The signature is the schema, the docstring the description: nothing is written down twice."""
    source = '''
        @function(timeout=7)
        async def greet(name: str, times: int = 1, *, loud: bool = False) -> AsyncIterator[str]:
            """Greet somebody.

            As often as you like.
            """
            yield name
    '''
    plugin = only(folder(a=source))

    assert plugin.declaration.name == "greet"
    assert plugin.declaration.description == "Greet somebody.\n\nAs often as you like."
    assert plugin.declaration.timeout == 7
    assert schema(plugin) == {
        "title": "greet",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "times": {"type": "integer", "default": 1},
            "loud": {"type": "boolean", "default": False},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def test_a_function_without_parameters_or_docstring(folder: Files) -> None:
    """Neither is needed."""
    plugin = only(folder(a="@function()\nasync def tick() -> AsyncIterator[int]:\n    yield 1\n"))

    assert plugin.declaration.description == ""
    assert plugin.arguments(b"{}", CONTEXT) == {}
    with pytest.raises(InvalidInputError):
        plugin.arguments(b'{"x":1}', CONTEXT)


TYPES: Final = """
import dataclasses
from typing import Annotated, Any, Literal, Optional

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0

class Size(TypedDict):
    width: int

class Colour(BaseModel):
    name: Literal["red", "green"]

@function()
async def draw(
    at: Point,
    size: Size,
    colour: Colour,
    style: Literal["solid", "dotted"] = "solid",
    label: Optional[str] = None,
    shade: int | None = None,
    more: list[Point] = [],
    level: Annotated[int, Field(ge=0)] = 0,
    extra: Any = None,
) -> AsyncIterator[int]:
    yield 1
"""

DRAWN: Final = {"at": {"x": 1}, "size": {"width": 2}, "colour": {"name": "red"}}


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"], ids=["", "future"])
def test_types_of_a_files_own(tmp_path: Path, future: str) -> None:
    """A parameter may be a dataclass, TypedDict, struct, literal or optional; the function gets the real thing.

    That holds for annotations that are only text, too.
    """
    (tmp_path / "a.py").write_text(future + HEAD + TYPES)
    plugin = only(tmp_path)
    given = plugin.arguments(
        msgspec.json.encode(
            {**DRAWN, "style": "dotted", "label": "L", "more": [{"x": 3, "y": 4}], "extra": {"a": [1]}}
        ),
        CONTEXT,
    )

    assert dataclasses.asdict(given["at"]) == {"x": 1.0, "y": 0.0}
    assert given["size"] == {"width": 2}
    assert (given["colour"].name, given["style"], given["label"], given["shade"]) == ("red", "dotted", "L", None)
    assert [type(point) for point in given["more"]] == [type(given["at"])]
    assert (given["level"], given["extra"]) == (0, {"a": [1]})
    assert sorted(schema(plugin)["required"]) == ["at", "colour", "size"]
    assert schema(plugin)["properties"]["style"] == {"type": "string", "enum": ["solid", "dotted"], "default": "solid"}


def test_a_default_is_not_shared_between_tasks(folder: Files) -> None:
    """A list that one task fills is empty for the next."""
    plugin = only(folder(a="@function()\nasync def fill(to: list[int] = []) -> AsyncIterator[int]:\n    yield 1\n"))
    plugin.arguments(b"{}", CONTEXT)["to"].append(1)
    assert plugin.arguments(b"{}", CONTEXT) == {"to": []}


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"at": {}}, "/at: "),
        ({"at": 1}, "/at: "),
        ({"size": {}}, "/size: "),
        ({"colour": {"name": "blue"}}, "/colour/name: "),
        ({"style": "dashed"}, "/style: "),
        ({"label": 1}, "/label: "),
        ({"more": [{"x": 1}, {"x": "one"}]}, "/more/1/x: "),
        ({"level": -1}, "/level: "),
        ({"nobody": 1}, "nobody"),
    ],
)
def test_an_input_that_does_not_fit(tmp_path: Path, changed: dict[str, Any], place: str) -> None:
    """The worker says which part of it is wrong, should one ever come past the api."""
    (tmp_path / "a.py").write_text(HEAD + TYPES)
    with pytest.raises(InvalidInputError, match=re.escape(place)):
        only(tmp_path).arguments(msgspec.json.encode({**DRAWN, **changed}), CONTEXT)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (b'{"to":3}', {"to": 3, "every": 0.5}),
        (b'{"to":3.0}', {"to": 3, "every": 0.5}),  # an integer, says JSON Schema
        (b'{"to":-0.0}', {"to": 0, "every": 0.5}),
        (b'{"to":3,"every":2}', {"to": 3, "every": 2.0}),
        (b'{"to":' + b"9" * 60 + b"}", {"to": 10**60 - 1, "every": 0.5}),
        (b'{"every":1e300,"to":9007199254740993}', {"to": 9007199254740993, "every": 1e300}),
    ],
)
def test_the_numbers_that_arrive(folder: Files, given: bytes, got: dict[str, Any]) -> None:
    """An `int` is an int, exactly, and a `float` a float, whatever JSON made of them."""
    place = folder(a="@function()\nasync def f(to: int, every: float = 0.5) -> AsyncIterator[int]:\n    yield 1\n")
    arguments = only(place).arguments(given, CONTEXT)

    assert arguments == got
    assert [type(value) for value in arguments.values()] == [int, float]


@pytest.mark.parametrize(
    "given", [b"{}", b'{"to":null}', b'{"to":3.5}', b'{"to":true}', b'{"to":"x"}', b"[3]", b"null"]
)
def test_the_numbers_that_do_not(folder: Files, given: bytes) -> None:
    """A value that is no integer is refused, not rounded."""
    plugin = only(folder(a="@function()\nasync def f(to: int) -> AsyncIterator[int]:\n    yield 1\n"))
    with pytest.raises(InvalidInputError):
        plugin.arguments(given, CONTEXT)


def test_a_mark_without_parentheses(folder: Files) -> None:
    """It is as good as one with them, the way decorators of other libraries are."""
    source = marked("async def f(x: int)")
    bare = only(folder("bare", m=source.replace("()", "", 1)))
    whole = only(folder("whole", m=source))
    assert bare.policy == whole.policy
    assert schema(bare) == schema(whole)


@pytest.mark.anyio
async def test_what_is_loaded_runs(folder: Files) -> None:
    """The function is called with its input's fields, as its author wrote it."""
    source = """
        @function()
        async def repeat(text: str, times: int = 2) -> AsyncIterator[str]:
            for _ in range(times):
                yield text
    """
    plugin = only(folder(a=source))
    assert [chunk async for chunk in plugin.call(**plugin.arguments(b'{"text":"a"}', CONTEXT))] == ["a", "a"]


def test_the_version_is_the_source(folder: Files) -> None:
    """The same source has the same version everywhere; any change of it, a comment too, is another."""
    source = GOOD.format(name="f")
    first, same = only(folder("first/drop_in", a=source)), only(folder("same/drop_in", a=source))
    changed = only(folder("changed/drop_in", a=source.replace("yield x", "yield x + 1")))
    commented = only(folder("commented/drop_in", a=source + "# once\n"))

    versions = [plugin.declaration.version for plugin in (first, same, changed, commented)]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3
    assert all(re.fullmatch(r"[0-9a-f]{12}", version) for version in versions)


def test_the_examples_load(capsys: pytest.CaptureFixture[str]) -> None:
    """All that comes with Tailrace loads without a word, in the order of the folders that were given."""
    loaded = load([ROOT / "functions", ROOT / "tests" / "functions"])

    assert {"chat", "count", "words", "storm"} <= set(loaded)
    assert "".join(capsys.readouterr()) == ""
    assert list(load([ROOT / "functions"])) == [name for name in loaded if name in load([ROOT / "functions"])]


def test_no_folder_no_functions(tmp_path: Path) -> None:
    """An empty folder is no error: a worker may be started before its functions are there."""
    assert load([]) == load([tmp_path]) == {}


def test_one_refused_function_does_not_take_its_file_along(folder: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """The others of the same file load; an alias is no second function; a folder that is not there is named."""
    refused = "\n\n@function()\ndef not_typed(x):\n    yield x\n"
    plain = "\n\n@function()\ndef plain(x: int):\n    yield x\n\n\nother = plain\n"
    place = folder(m=GOOD.format(name="good") + refused + "\n\nalias = good\n" + plain)

    assert set(load([place, place / "nowhere"])) == {"good", "plain"}
    logged = "".join(capsys.readouterr())
    assert "`not_typed` is refused" in logged
    assert "two functions" not in logged
    assert re.search(r"there is no folder .*nowhere", logged)


def test_an_import_that_does_not_come_back(folder: Files) -> None:
    """It is broken off, whether it waits or works, and said so; the others load."""
    place = folder(
        waits="import time\ntime.sleep(3600)\n",
        works="try:\n    while True: pass\nexcept Exception: pass\n",
        catches="import time\ntry: time.sleep(3600)\nexcept BaseException: pass\ntime.sleep(3600)\n",
        annotates="import time\n@function()\nasync def waits(x: 'time.sleep(3600) or int') -> None: ...\n",
        good=GOOD.format(name="good"),
    )
    found = registry_of([place], import_s=0.2)
    assert set(found.plugins) == {"good"}
    assert set(found.broken) == {f"drop_in/{stem}.py" for stem in ("waits", "works", "catches", "annotates")}
    assert all("did not come back within 0.2 s (TAILRACE_IMPORT_S)" in error for error in found.broken.values())


def test_what_is_wrong_is_said_with_its_line(folder: Files) -> None:
    """The catalogue has the error and where it was raised, of an import as of a refusal. It names no other folders."""
    place = folder(raises="\n\n1 / 0\n", refused="@function()\nasync def odd(x): ...\n")
    broken = registry_of([place]).broken
    assert broken["drop_in/raises.py"] == "ZeroDivisionError: division by zero (drop_in/raises.py:5)"
    assert re.match(r"drop_in/refused.py:3: `odd` is refused: .*`x` has no type", broken["drop_in/refused.py"])


def test_a_reason_is_not_for_all_who_list_functions(folder: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a word of the operator's, the catalogue has an exception's type and place, and finds the line of the log
    that has its text; the texts of failures and of refusals are for all.
    """
    place = folder(
        raises="raise OSError('postgres://app:Canary@db')\n",
        declares="from plugins import Failure\nraise Failure('set API_KEY')\n",
        refused="@function()\nasync def odd(x): ...\n",
    )
    broken = registry.load([place]).broken
    found = re.fullmatch(
        r"OSError \(drop_in/raises.py:3\); the worker's log has more, with the reference ([0-9a-f]{8})",
        broken["drop_in/raises.py"],
    )
    assert found, broken
    logged = "".join(capsys.readouterr())
    assert re.search(rf"functions not loaded .*reference='?{found[1]}'?\b(.|\n)*Canary", logged)
    assert broken["drop_in/declares.py"] == "set API_KEY (drop_in/declares.py:4)"
    assert "`odd` is refused: " in broken["drop_in/refused.py"]


MANY_WORDS: Final = """
import json
from pydantic import BaseModel

class Settings(BaseModel):
    api_key: str

def load() -> None:
    {statement}

load()
"""

STATEMENTS: Final = {
    "a message of several lines": ("Settings.model_validate({})", ["ValidationError", "api_key", "Field required"]),
    "a line of the library's": ("json.loads('{')", ["JSONDecodeError: Expecting property name"]),
    "a note": (
        "e = ValueError('no key'); e.add_note('set API_KEY'); e.add_note('or ask'); raise e",
        ["ValueError: no key\nset API_KEY\nor ask"],
    ),
    "a group": (
        "raise ExceptionGroup('both', [ValueError('one'), ExceptionGroup('inner', [KeyError('two')])])",
        ["ValueError: one; KeyError: 'two'"],
    ),
    "no words": ("raise RuntimeError from OSError('disk full')", ["RuntimeError, caused by OSError: disk full"]),
}


@pytest.mark.parametrize(("statement", "told"), STATEMENTS.values(), ids=STATEMENTS)
def test_a_reason_is_told_whole(folder: Files, statement: str, told: list[str]) -> None:
    """The reason has all that an exception says, and the line of the author's own file."""
    file = folder(settings=MANY_WORDS.format(statement=statement)) / "settings.py"
    (reason,) = registry_of([file.parent]).broken.values()
    assert all(words in reason for words in told)
    assert reason.endswith("(drop_in/settings.py:11)")
    assert len(reason) < 500


def test_a_syntax_error_is_told_with_its_line(folder: Files) -> None:
    """That of the file which has it: the one that is loaded, or one that it imports."""
    place = folder(bad="x = 1\ndef broken(:\n    ...\n", imports="from . import _bad\n", _bad="y = [\n")
    broken = registry_of([place]).broken
    assert broken["drop_in/bad.py"] == "SyntaxError: invalid syntax (drop_in/bad.py:4)"
    assert broken["drop_in/imports.py"] == "SyntaxError: '[' was never closed (drop_in/_bad.py:3)"


def test_a_reason_is_bounded(folder: Files) -> None:
    """However much an exception says."""
    (reason,) = registry_of([folder(talks="raise ValueError('x' * 1_000_000)\n")]).broken.values()
    assert len(reason) < 3_000
    assert reason.endswith("talks.py:3)")


def test_all_refused_functions_of_a_file_are_told(folder: Files) -> None:
    """Not the first alone."""
    refused = "".join(f"@function()\nasync def {name}(x): ...\n" for name in ("one", "two", "three"))
    (reason,) = registry_of([folder(several=refused)]).broken.values()
    assert re.findall(r"`(\w+)` is refused", reason) == ["one", "two", "three"]


LIFESPAN: Final = """
from contextlib import asynccontextmanager

class Model: ...

{decorator}
async def lifespan() -> {yields}:
    yield Model()

@function()
async def uses(x: int, model: Model) -> AsyncIterator[int]:
    yield x
"""


def test_what_a_lifespan_makes_is_no_input(folder: Files) -> None:
    """The parameter of that type is given by the worker; clients neither see nor need it."""
    place = folder(m=LIFESPAN.format(decorator="@asynccontextmanager", yields="AsyncIterator[Model]"))
    found = registry_of([place])
    assert list(found.plugins["uses"].made) == ["model"]
    assert "model" not in str(found.plugins["uses"].declaration.input)
    assert len(found.resources) == 1


@pytest.mark.parametrize(
    ("decorator", "yields"), [("", "None"), ("@asynccontextmanager", "AsyncIterator"), ("@asynccontextmanager", "int")]
)
def test_a_lifespan_that_cannot_be_used(folder: Files, decorator: str, yields: str) -> None:
    """Its module's functions are refused, and told what would be right."""
    found = registry_of([folder(m=LIFESPAN.format(decorator=decorator, yields=yields))])
    assert found.plugins == {}
    assert "`async def lifespan() -> AsyncIterator[Model]`" in "".join(found.broken.values())
