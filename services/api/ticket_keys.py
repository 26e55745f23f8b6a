"""The secrets that sign tickets, as an operator lists them."""

from typing import Final

# Characters of the shortest secret.
MIN_LENGTH: Final = 32

RIGHT: Final = (
    f"it should be secrets of {MIN_LENGTH} printable ASCII characters or more, separated by commas, spaces or new "
    "lines: the first signs tickets, all verify them"
)


def secrets_of(text: object) -> tuple[str, ...] | None:
    """Return the secrets of this list; None if there is none.

    Raises:
        ValueError: it is empty, or one of them is too short, has other characters, or is there twice. The message has
            no part of any.
    """
    if text is None:
        return None
    secrets = tuple(str(text).replace(",", " ").split())
    if not secrets:
        raise ValueError(RIGHT)
    for number, secret in enumerate(secrets, 1):
        if len(secret) < MIN_LENGTH:
            raise ValueError(f"its secret {number} has {len(secret)} characters; {RIGHT}")
        if not (secret.isascii() and secret.isprintable()):
            raise ValueError(f"its secret {number} has other characters; {RIGHT}")
    if len(set(secrets)) < len(secrets):
        raise ValueError(f"it has a secret twice; {RIGHT}")
    return secrets
