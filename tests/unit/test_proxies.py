"""The settings that say which proxies may name callers, and in which header."""

import pytest

from services.api.proxies import proxies_of
from services.api.settings import Settings

TRUSTED = ["10.0.0.7", "::ffff:10.0.0.7", "10.1.0.255", "fd00::7", "unix:"]
OTHERS = ["10.0.0.8", "::ffff:10.0.0.8", "10.1.1.0", "fd00::8", "", "unix", "localhost", "10.0.0.7:80", "::a00:7"]


def test_trusted_proxies() -> None:
    """An address, a network, an address of the older version in the newer one's form, and a Unix socket, if listed."""
    proxies = proxies_of("10.0.0.7, 10.1.0.0/24 fd00::7,unix:")
    assert [peer for peer in (*TRUSTED, *OTHERS) if proxies.trust(peer)] == TRUSTED
    assert not proxies_of("10.0.0.7").trust("unix:")
    assert not proxies_of("unix:").trust("10.0.0.7")


@pytest.mark.parametrize(
    ("variable", "wrong", "why"),
    [
        ("TRUSTED_PROXIES", "", "it should list the proxies"),
        ("TRUSTED_PROXIES", "proxy.example", "is no address"),
        ("TRUSTED_PROXIES", "10.0.0.7:80", "is no address"),
        ("TRUSTED_PROXIES", "10.0.0.7/24", "is no address"),
        ("TRUSTED_PROXIES", "10.0.0.7, *", "is no address"),
        ("TRUSTED_PROXIES", "0.0.0.0/0", "is every address"),
        ("TRUSTED_PROXIES", "10.0.0.7 ::/0", "is every address"),
        ("IDENTITY_HEADER", "", "such as X-Forwarded-User"),
        ("IDENTITY_HEADER", "X_Forwarded_User", "letters, digits and hyphens"),
        ("IDENTITY_HEADER", "X-Forwarded-User:", "letters, digits and hyphens"),
        ("IDENTITY_HEADER", "authorization", "that the proxy alone sets"),
        ("IDENTITY_HEADER", "X-API-Key", "that the proxy alone sets"),
    ],
)
def test_a_wrong_setting(variable: str, wrong: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable and what would be right."""
    monkeypatch.setenv(f"TAILRACE_{variable}", wrong)
    with pytest.raises(SystemExit, match=f"^TAILRACE_{variable} is '.*{why}"):
        Settings.read()
