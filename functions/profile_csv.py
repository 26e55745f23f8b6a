"""What is in a table: a function that is not async, and does its work in a thread."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import Field

from plugins import Failure, Progress, function

# Rows between two words of progress.
STEP: Final = 10_000


@dataclass
class Column:
    """What one column holds. `least`, `most` and `mean` are null where not all of its values are numbers."""

    name: str
    values: int
    empty: int
    distinct: int
    most_common: list[str]
    least: float | None = None
    most: float | None = None
    mean: float | None = None


def as_number(value: str) -> float | None:
    """None for what is no finite number: `nan` and `inf` are words, and JSON has none of them."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@dataclass
class Tally:
    """What is counted of a column while rows go by."""

    seen: Counter[str] = field(default_factory=Counter)
    numbers: list[float] | None = field(default_factory=list)

    def add(self, value: str) -> None:
        """One value."""
        self.seen[value] += 1
        if value and self.numbers is not None:
            number = as_number(value)
            if number is None:
                self.numbers = None
            else:
                self.numbers.append(number)

    def column(self, name: str) -> Column:
        """What it comes to."""
        empty = self.seen.pop("", 0)
        common = [value for value, _ in self.seen.most_common(3)]
        column = Column(name, self.seen.total(), empty, len(self.seen), common)
        if self.numbers:
            column.least, column.most = min(self.numbers), max(self.numbers)
            column.mean = sum(number / len(self.numbers) for number in self.numbers)
        return column


@function(timeout=600)
def profile_csv(
    text: Annotated[str, Field(min_length=1)], delimiter: Literal[",", ";", "\t", "|"] = ","
) -> Iterator[Column | Progress]:
    """Describe the columns of a table: how many values, how many different ones, the range of numbers.

    Args:
        text: the table as CSV, its first line the names of its columns.
        delimiter: what stands between two values.

    Yields:
        A column, when all rows were read.
    """
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    names = next(rows)
    tallies = [Tally() for _ in names]
    for number, row in enumerate(rows, 1):
        if row and len(row) != len(names):
            raise Failure(f"line {rows.line_num} has {len(row)} values, where there are {len(names)} columns")
        for tally, value in zip(tallies, row, strict=False):
            tally.add(value.strip())
        if number % STEP == 0:
            yield Progress(number, note="rows")
    for name, tally in zip(names, tallies, strict=True):
        yield tally.column(name)
