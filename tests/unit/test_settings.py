"""A setting that is wrong stops the process at its start, and the message says what would be right."""

import re
import sys
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from redis.asyncio import ConnectionPool

from plugins import redis_url
from services.api.settings import Settings as ApiSettings
from services.worker.settings import Settings as WorkerSettings
from tests.support.processes import Process

API = [sys.executable, "-m", "uvicorn", "--factory", "services.api.app:create_app", "--port", "0"]
WORKER = [sys.executable, "-m", "services.worker", "--workers", "2"]

NUMBERS = [
    (settings, f"TAILRACE_{name.upper()}")
    for settings in (ApiSettings, WorkerSettings)
    for name in settings.model_fields
    if name.endswith("_s") or settings.model_fields[name].annotation is int
]


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf", "1e9", ""])
@pytest.mark.parametrize(("settings", "variable"), NUMBERS)
def test_a_number_that_is_none(
    settings: type[ApiSettings | WorkerSettings], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable, its value, and what it should be."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as stopped:
        settings.read()
    assert re.fullmatch(rf"{variable} is '{value}': it should be .+", str(stopped.value))


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_url_that_is_none(settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names REDIS_URL and the schemes that there are."""
    monkeypatch.setenv("REDIS_URL", "localhost:6379")
    with pytest.raises(SystemExit, match=r"REDIS_URL is 'localhost:6379': .*redis://"):
        settings.read()


# Options of redis-py's connections and pools that no service can live with, or that it sets itself; and an unknown one.
REFUSED: Final = [
    "decode_responses=True",
    "encoding=latin-1",
    "encoding_errors=ignore",
    "socket_timeout=1",
    "socket_connect_timeout=1",
    "socket_read_size=1",
    "retry_on_timeout=yes",
    "retry_on_error=x",
    "retry=3",
    "health_check_interval=1",
    "max_connections=1",
    "timeout=1",
    "client_name=mine",
    "connection_class=x",
    "parser_class=x",
    "legacy_responses=no",
    "host=elsewhere",
    "path=/nowhere",
    "nope=1",
    "nope=",
]


@pytest.mark.parametrize("option", REFUSED)
@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_an_option_of_the_url_that_is_refused(
    settings: type[ApiSettings | WorkerSettings], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names REDIS_URL, the option, and the options that there may be."""
    url = f"redis://localhost/0?protocol=3&{option}"
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SystemExit) as stopped:
        settings.read()
    name = option.partition("=")[0]
    assert re.match(rf"REDIS_URL is '{re.escape(url)}': it should not have the option {name}\b", str(stopped.value))
    assert "It may have db, username, password, protocol" in str(stopped.value)
    assert ("TAILRACE_REDIS_CONNECTIONS" in str(stopped.value)) == (name == "max_connections")


@pytest.mark.parametrize("option", ["protocol=4", "db=x", "db=", "socket_keepalive=maybe", "ssl_cert_reqs=sometimes"])
@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_an_option_of_the_url_that_is_wrong(
    settings: type[ApiSettings | WorkerSettings], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the option, and what it should be."""
    monkeypatch.setenv("REDIS_URL", f"rediss://localhost?{option}")
    with pytest.raises(SystemExit) as stopped:
        settings.read()
    assert re.match(r"REDIS_URL is '.*': ", str(stopped.value))
    assert option.partition("=")[0] in str(stopped.value).partition("': ")[2]


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_path_of_the_url_that_is_no_database(
    settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what the path is for, instead of using database 0."""
    monkeypatch.setenv("REDIS_URL", "redis://localhost/tailrace")
    with pytest.raises(SystemExit, match="': its path should be the number of a database, not 'tailrace'"):
        settings.read()


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_tls_options_without_tls(settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which scheme has them."""
    monkeypatch.setenv("REDIS_URL", "redis://localhost?ssl_ca_certs=x.pem")
    with pytest.raises(SystemExit, match=r"': with the option ssl_ca_certs it should begin with rediss://"):
        settings.read()


@pytest.mark.parametrize(
    ("scheme", "options"), [("redis", redis_url.OPTIONS), ("rediss", redis_url.OPTIONS | redis_url.TLS_OPTIONS)]
)
def test_options_that_the_url_may_have(scheme: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both services start with them, and redis-py makes a connection with them."""
    values = dict.fromkeys(options, "x") | {"db": "3", "protocol": "3", "socket_keepalive": "True"}
    values |= {"ssl_cert_reqs": "none", "ssl_check_hostname": "no"} if scheme == "rediss" else {}
    url = f"{scheme}://localhost?{urlencode(values)}"
    monkeypatch.setenv("REDIS_URL", url)
    assert (ApiSettings.read().redis_url, WorkerSettings.read().redis_url) == (url, url)
    made: Any = ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    assert (made.db, made.username, made.password) == (3, "x", "x")


@pytest.mark.parametrize(
    "wrong",
    ["*", "http://a.example", "a.example/x", "a..example", "a.example:70000", "a.example:x", "a*.example", "ü.example"],
)
def test_a_host_that_is_none(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable, the word that is no host, and what would be one."""
    monkeypatch.setenv("TAILRACE_ALLOWED_HOSTS", f"ok.example, {wrong}")
    with pytest.raises(SystemExit) as stopped:
        ApiSettings.read()
    begin = f"TAILRACE_ALLOWED_HOSTS is 'ok.example, {wrong}': {wrong!r} is no host. Write names such as "
    assert str(stopped.value).startswith(begin)
    assert "*.example.com" in str(stopped.value)


@pytest.mark.parametrize(
    "listed", ["a.example,*.b.example:8443 [fd00::7]", " a.example , ,*.B.example:8443\t[FD00::7],"]
)
def test_hosts(listed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are separated by commas or spaces, in upper or lower case, with a port or without; there may be none."""
    monkeypatch.setenv("TAILRACE_ALLOWED_HOSTS", listed)
    assert ApiSettings.read().allowed_hosts == (("a.example", None), ("*.b.example", 8443), ("[fd00::7]", None))
    monkeypatch.setenv("TAILRACE_ALLOWED_HOSTS", "")
    assert ApiSettings.read().allowed_hosts == ()


def test_a_lease_that_is_over_before_it_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that renews too late would lose all its tasks: the message names both variables."""
    monkeypatch.setenv("TAILRACE_RENEW_S", "15")
    with pytest.raises(SystemExit, match=r"TAILRACE_RENEW_S is 15: it should be less than TAILRACE_LEASE_S \(15\)"):
        WorkerSettings.read()


@pytest.mark.parametrize("command", [API, WORKER])
def test_a_service_that_is_told_nonsense(command: list[str]) -> None:
    """It ends at once, all its processes do, with an exit code that tells, and says every fault in one go."""
    process = Process(command, {"TAILRACE_LEASE_S": "0", "REDIS_URL": "3"})
    try:
        assert process.wait() != 0
    finally:
        process.kill()
    assert "TAILRACE_LEASE_S is '0': it should be greater than 0" in process.output
    assert "REDIS_URL is '3': " in process.output
    assert "Traceback" not in process.output
