"""The proxies that may name the caller of a request, as the operator lists them, and the header in which they do."""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

# The peer of a connection to a Unix socket, and its name in the list: any program that may open it.
UNIX: Final = "unix:"

# Names of headers without an underscore: many programs take `_` and `-` for the same.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}")

# Headers that clients send for other reasons, and that proxies pass on.
TAKEN: Final = frozenset(
    {"accept", "authorization", "content-type", "cookie", "host", "origin", "user-agent", "x-api-key"}
)


class Proxies(NamedTuple):
    """Networks of trusted proxies, and whether the peers of a Unix socket are some."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    unix: bool

    def trust(self, peer: str) -> bool:
        """Return whether this peer is one of them: an address, or `UNIX`."""
        if peer == UNIX:
            return self.unix
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        # A socket for both versions of IP has a peer of the older one in this form.
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


def proxies_of(text: str) -> Proxies:
    """Return the proxies of a list, separated by commas or spaces.

    Raises:
        ValueError: the list is empty, or a word is no address. The message says what would be right.
    """
    words = text.replace(",", " ").split()
    if not words:
        raise ValueError("it should list the proxies, such as 10.0.0.7, 10.1.0.0/24, fd00::7 or unix:")
    return Proxies(tuple(_network(word) for word in words if word != UNIX), UNIX in words)


def _network(word: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(word)
    except ValueError as error:
        raise ValueError(
            f"{word!r:.100} is no address ({error}). Write addresses such as 10.0.0.7 or fd00::7, networks such as "
            "10.1.0.0/24, or unix: for a Unix socket, separated by commas or spaces"
        ) from None
    if network.prefixlen == 0:
        raise ValueError(f"{word!r} is every address: each client could name itself as it likes. List the proxies only")
    return network


def header_of(text: str) -> str:
    """Return this name of a header, in lower case.

    Raises:
        ValueError: it is none, or one that clients send. The message says what would be right.
    """
    if not _NAME.fullmatch(text) or text.lower() in TAKEN:
        raise ValueError(
            "it should be the name of a header that the proxy alone sets, such as X-Forwarded-User: letters, digits "
            "and hyphens"
        )
    return text.lower()
