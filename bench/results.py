"""Figures: one for each measurement, and medians of several runs."""

from statistics import median
from typing import NamedTuple


class Figure(NamedTuple):
    """`value` of `what`, for `system` at `work`. More is better unless `less` is."""

    work: str
    system: str
    what: str
    value: float
    less: bool = False


def medians(runs: list[list[Figure]]) -> list[Figure]:
    """The median of each figure over all runs that have it."""
    values: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in (figure for run in runs for figure in run):
        values.setdefault(figure[:3], []).append(figure)
    return [same[0]._replace(value=median(figure.value for figure in same)) for same in values.values()]
