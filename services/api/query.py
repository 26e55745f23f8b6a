"""Numbers in a query string."""

from services.api.problems import problem


def number(name: str, given: str | None, default: float, low: int, high: int, *, whole: bool = False) -> float:
    """A number from the query.

    Raises:
        ProblemDetailsException: 400, it is not a number, or not between `low` and `high`.
    """
    if not given:
        return default
    digits = given.isascii() and given.replace("." if not whole else "", "", 1).isdigit() and len(given) < 20
    if not digits or not low <= float(given) <= high:
        kind = "whole number" if whole else "number"
        raise problem(
            400, f"invalid-{name}", f"Invalid {name}", f"The parameter {name} must be a {kind} from {low} to {high}."
        )
    return float(given)
