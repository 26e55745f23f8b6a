"""The examples, as their author would test them: with `plugins.testing`, and no service."""

import importlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from functions.count import count
from functions.import_orders import import_orders
from functions.profile_csv import profile_csv
from functions.words import words
from plugins import Context, Event, Failure
from plugins.testing import run
from services.worker.registry import registry
from tests.support.context import CONTEXT
from tests.support.processes import ROOT

TABLE = "name,age,city\nAda,36,London\nAlan,41,\nGrace,,London\n"


def test_count_and_words() -> None:
    """The two that the README begins with."""
    assert run(count, to=3) == [1, 2, 3]
    assert run(words, text="to be  or\nnot") == ["to ", "be ", " ", "or\n", "not"]


def test_a_table_is_profiled() -> None:
    """Each column: its values, how many differ, and the range of what are numbers."""
    name, age, city = run(profile_csv, text=TABLE)
    assert name == {
        "name": "name",
        "values": 3,
        "empty": 0,
        "distinct": 3,
        "most_common": ["Ada", "Alan", "Grace"],
        "least": None,
        "most": None,
        "mean": None,
    }
    assert (age["values"], age["empty"], age["least"], age["most"], age["mean"]) == (2, 1, 36, 41, 38.5)
    assert city["most_common"] == ["London"]


def test_words_that_look_like_numbers() -> None:
    """`nan` and `inf` are no numbers that JSON has: the column is one of words, and the task does not fail."""
    (column,) = run(profile_csv, text="a\nnan\n1\ninf\n")
    assert (column["values"], column["mean"]) == (3, None)
    (column,) = run(profile_csv, text="a\n1e308\n1e308\n")
    assert column["mean"] == 1e308


def test_a_long_table_shows_how_far_it_is() -> None:
    """Every ten thousand rows."""
    first, second, column = run(profile_csv, text="n\n" + "1\n" * 25_000)
    assert (first, second) == (
        Event("progress", {"done": 10_000, "note": "rows"}),
        Event("progress", {"done": 20_000, "note": "rows"}),
    )
    assert column["values"] == 25_000


def test_a_crooked_table_is_an_error_with_its_line() -> None:
    """A row that lacks a value is not guessed at."""
    with pytest.raises(Failure, match="line 3 has 1 values, where there are 2 columns"):
        run(profile_csv, text="a,b\n1,2\n3\n")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where orders are imported to."""
    monkeypatch.setenv("ORDERS_DB", str(tmp_path / "orders.sqlite3"))
    return tmp_path / "orders.sqlite3"


def numbers(database: Path) -> list[int]:
    """The orders that were imported."""
    with closing(sqlite3.connect(database)) as orders:
        return [number for (number,) in orders.execute("SELECT number FROM orders ORDER BY number")]


def test_an_import_goes_on_where_it_was(database: Path) -> None:
    """The second attempt neither begins again nor leaves one out."""
    first = run(import_orders, orders=100)
    assert [event.data["done"] for event in first] == [100]
    context = Context(task_id="0" * 32, attempt=2, yielded=first, logger=CONTEXT.logger)
    assert [event.data["done"] for event in run(import_orders, orders=250, context=context)] == [200, 250]
    assert numbers(database) == list(range(1, 251))


def test_an_import_whose_store_is_another(database: Path) -> None:
    """Orders that an earlier attempt reported and that are not stored here are imported again: none is missing."""
    context = Context(task_id="0" * 32, attempt=2, yielded=run(import_orders, orders=200), logger=CONTEXT.logger)
    database.unlink()
    run(import_orders, orders=250, context=context)
    assert numbers(database) == list(range(1, 251))


def test_languages() -> None:
    """A short text in each of the languages is recognized; the confidences of each are ordered, and add up to one."""
    pytest.importorskip("lingua", reason="the group `examples` is not installed")
    loaded = registry.load([ROOT / "examples"])
    assert loaded.broken == {}
    assert list(loaded.plugins["languages"].declaration.input["properties"]) == ["texts"]
    languages = importlib.import_module("examples.languages").languages
    given = {"en": "Where is the station?", "de": "Wo ist der Bahnhof?", "fr": "Où est la gare ?"}
    ranked = run(languages, texts=list(given.values()))
    assert [each[0]["language"] for each in ranked] == list(given)
    for each in ranked:
        confidences = [guess["confidence"] for guess in each]
        assert confidences == sorted(confidences, reverse=True)
        assert sum(confidences) == pytest.approx(1)


def test_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's plain function: the same seed rolls the same, and no side is left out."""
    monkeypatch.syspath_prepend(ROOT / "examples/dice/src")
    roll = importlib.import_module("tailrace_dice").roll
    assert len(run(roll)) == 2
    assert run(roll, dice=20, seed=1) == run(roll, dice=20, seed=1)
    assert set(run(roll, dice=500, sides=4)) == {1, 2, 3, 4}
