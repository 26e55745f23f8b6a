"""Dice. Nothing here knows of Tailrace: a plain function is enough."""

import random
from collections.abc import Iterator


def roll(dice: int = 2, sides: int = 6, seed: int | None = None) -> Iterator[int]:
    """Roll dice, one after the other.

    Args:
        dice: how many.
        sides: of each.
        seed: the same seed rolls the same.

    Yields:
        What came up.
    """
    chance = random.Random(seed)  # noqa: S311  # nobody's money is at stake
    for _ in range(dice):
        yield chance.randint(1, sides)
