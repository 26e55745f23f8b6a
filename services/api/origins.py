"""The origins whose pages may use this API in a browser, as the operator lists them."""

from typing import Final

from services.api.hosts import host_of

# Ports that a browser leaves out, by the scheme of a page.
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def origins_of(text: str | None) -> frozenset[str]:
    """Return the origins of a list, separated by commas or spaces, each as a browser writes it; none without a list.

    Raises:
        ValueError: a word is no origin. The message names it, and says what would be right.
    """
    return frozenset(_origin(word) for word in (text or "").replace(",", " ").split())


def _origin(word: str) -> str:
    scheme, separator, rest = word.lower().partition("://")
    host = host_of(rest)
    if not separator or scheme not in DEFAULT_PORTS or host is None:
        raise ValueError(
            f"{word!r:.100} is no origin. Write each one in full, such as https://app.example.com or "
            "http://localhost:5173: a scheme, a name, the port if there is one; no `*`, no path, no slash at the end; "
            "separated by commas or spaces"
        )
    port = "" if host.port in (None, DEFAULT_PORTS[scheme]) else f":{host.port}"
    return f"{scheme}://{host.name}{port}"
