"""The setting that lists the origins of pages."""

import pytest

from services.api.settings import Settings

LISTED = "https://app.example.com,http://localhost:5173 , HTTPS://App.Example.com:443\thttp://[::1]:8000"


def test_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are separated by commas or spaces, and known as a browser writes them; by default there is none."""
    assert Settings.read().cors_origins == frozenset()
    monkeypatch.setenv("TAILRACE_CORS_ORIGINS", LISTED)
    assert Settings.read().cors_origins == {"https://app.example.com", "http://localhost:5173", "http://[::1]:8000"}


@pytest.mark.parametrize(
    "wrong",
    [
        "*",
        "https://*.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?a",
        "https://user@app.example.com",
        "app.example.com",
        "//app.example.com",
        "ftp://app.example.com",
        "file://",
        "null",
        "https://",
        "https://app.example.com:port",
        "https://app.example.com:70000",
        "https://äpp.example.com",
    ],
)
def test_an_origin_that_is_none(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable and the word, and says what would be right."""
    monkeypatch.setenv("TAILRACE_CORS_ORIGINS", f"https://ok.example {wrong}")
    with pytest.raises(SystemExit) as stopped:
        Settings.read()
    begin = f"TAILRACE_CORS_ORIGINS is 'https://ok.example {wrong}': {wrong!r} is no origin. Write each one in full"
    assert str(stopped.value).startswith(begin)
