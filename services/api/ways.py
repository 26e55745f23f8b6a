"""The ways in which callers may prove their identity."""

from typing import Final, Literal

Way = Literal["none", "keys", "jwt", "proxy"]

KNOWN: Final[dict[str, Way]] = {"keys": "keys", "jwt": "jwt", "proxy": "proxy"}

RIGHT: Final = (
    "`keys` (API keys, of the file TAILRACE_KEYS_FILE), `jwt` (tokens of an identity provider), `proxy` (a trusted "
    "proxy names the caller), several of them separated by commas, or `none`: whoever reaches the API may do everything"
)


def ways_of(text: object) -> frozenset[Way]:
    """Return the ways that this setting lists; none of them for `none`.

    Raises:
        ValueError: it lists none, or an unknown one. The message says what would be right.
    """
    words = str(text).replace(",", " ").split()
    if words == ["none"]:
        return frozenset()
    if not words or not all(word in KNOWN for word in words):
        raise ValueError(f"it should be {RIGHT}")
    return frozenset(KNOWN[word] for word in words)
