"""The hosts by which clients may ask for this API: this machine's own names, and those that the operator lists.

A page of `http://evil.example` may let its name lead to this machine (DNS rebinding). A browser then takes the API for
the page's own site, and lets the page read everything. The name in the header `Host` gives it away.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

# A name, a name with `*.` before it, an IPv4 address, or an IPv6 address in brackets; and a port.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST: Final = re.compile(rf"((?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(\d{{1,5}}))?")

# Characters of the longest name and a port. The pattern takes the square of the length.
MAX_LENGTH: Final = 260

# A URL without a port means one of these, by its scheme, which `Host` does not tell.
DEFAULT_PORTS: Final = frozenset({None, 80, 443})


class Host(NamedTuple):
    """A host in lower case. `port` is None if none is given; `*.` before the name stands for all names below it."""

    name: str
    port: int | None

    def covers(self, other: "Host") -> bool:
        """Return whether this listed host allows the other one. Without a port, it allows every port."""
        below = self.name.startswith("*.") and other.name.endswith(self.name[1:])
        ports = {self.port, other.port}
        return (below or self.name == other.name) and (self.port is None or len(ports) == 1 or ports <= DEFAULT_PORTS)


# Names that lead to this machine, whatever a name server says.
LOOPBACK: Final = tuple(Host(name, None) for name in ("localhost", "*.localhost", "127.0.0.1", "[::1]"))


# The hosts of an operator that lists none.
UNLISTED: Final = (Host("localhost", None),)


def host_of(text: str) -> Host | None:
    """Return the host in this header, or None if it is none."""
    host = _parsed(text)
    return None if host is None or host.name.startswith("*") else host


def hosts_of(text: str) -> tuple[Host, ...]:
    """Return the hosts of a list, separated by commas or spaces.

    Raises:
        ValueError: a word is no host. The message names it, and says what would be right.
    """
    hosts = []
    for word in text.replace(",", " ").split():
        host = _parsed(word)
        if host is None:
            raise ValueError(
                f"{word!r:.100} is no host. Write names such as tailrace.example.com, *.example.com for names below, "
                "10.0.0.7 or [fd00::7], each with a port or without, separated by commas"
            )
        hosts.append(host)
    return tuple(hosts)


def is_allowed(host: Host | None, listed: Iterable[Host]) -> bool:
    """Return whether this host is one of the machine's own names, or a listed one."""
    return host is not None and any(each.covers(host) for each in (*LOOPBACK, *listed))


def _parsed(text: str) -> Host | None:
    match = _HOST.fullmatch(text.lower()) if text.isascii() and len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    name, port = match[1], int(match[2]) if match[2] else None
    return None if port is not None and port > 65_535 else Host(name, port)
