"""A function whose input has a check of its author's own."""

from enum import Enum

from pydantic import BaseModel, model_validator

from plugins import function


class Unit(Enum):
    """Of a length."""

    METRE = "m"
    FOOT = "ft"


class Range(BaseModel):
    """From low to high."""

    low: float
    high: float
    unit: Unit = Unit.METRE

    @model_validator(mode="after")
    def in_order(self) -> "Range":
        """Low is not above high; and nothing is in feet."""
        if self.low > self.high:
            raise ValueError("low must not be above high")
        if self.unit is Unit.FOOT:
            raise LookupError("how long is a foot?")
        return self


@function(retries=1, backoff=0)
async def in_range(ranges: list[Range], value: float = 0.0) -> list[bool]:
    """Say of each range whether the value is in it."""
    return [each.low <= value <= each.high for each in ranges]
