"""A setting that is wrong stops the process at its start, and the message says what would be right."""

import re
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
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


@pytest.mark.parametrize("value", ["0", "101", "-5", "half", "50.5", "80%", ""])
def test_a_share_that_is_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner's share of the slots is a whole number of per cent, 1 to 100: the message says so."""
    monkeypatch.setenv("TAILRACE_OWNER_SLOTS", value)
    with pytest.raises(SystemExit, match=rf"^TAILRACE_OWNER_SLOTS is '{value}': it should be .+"):
        WorkerSettings.read()


def test_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset it is no number: which share counts then depends on the owner."""
    assert WorkerSettings.read().owner_slots is None
    for value in (1, 100):
        monkeypatch.setenv("TAILRACE_OWNER_SLOTS", str(value))
        assert WorkerSettings.read().owner_slots == value


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_url_that_is_none(settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names REDIS_URL and the schemes that there are, and does not repeat the URL."""
    monkeypatch.setenv("REDIS_URL", "localhost:6379")
    with pytest.raises(SystemExit, match=r"^REDIS_URL is wrong: it should begin with redis://, rediss:// or unix://$"):
        settings.read()


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_url_in_a_file(
    settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A password need not stand in the environment, which all that a function starts inherits."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "url"))
    (tmp_path / "url").write_text("redis://api:secret@elsewhere:6379/0\n")
    assert settings.read().redis_url == "redis://api:secret@elsewhere:6379/0"


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_file_that_is_none(
    settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message names the variable and the file; or both variables, if it is not clear which counts."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(SystemExit, match=r"REDIS_URL_FILE is '.*/none': No such file or directory"):
        settings.read()
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    with pytest.raises(SystemExit, match="REDIS_URL and REDIS_URL_FILE are both set"):
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
    """The message names REDIS_URL, the option if redis-py has it, and the options that there may be."""
    url = f"redis://localhost/0?protocol=3&{option}"
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SystemExit) as stopped:
        settings.read()
    name = option.partition("=")[0]
    named = "one of its options" if name == "nope" else f"the option {name}"
    assert re.match(rf"REDIS_URL is wrong: it should not have {named}\b", str(stopped.value))
    assert "It may have db, username, password, protocol" in str(stopped.value)
    assert ("TAILRACE_REDIS_CONNECTIONS" in str(stopped.value)) == (name == "max_connections")


@pytest.mark.parametrize(
    "option", ["protocol=4", "db=x", "db=", "socket_keepalive=maybe", "ssl_cert_reqs=sometimes", "ssl_cert_reqs=none"]
)
@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_an_option_of_the_url_that_is_wrong(
    settings: type[ApiSettings | WorkerSettings], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the option, and what it should be."""
    monkeypatch.setenv("REDIS_URL", f"rediss://localhost?{option}")
    with pytest.raises(SystemExit) as stopped:
        settings.read()
    name = option.partition("=")[0]
    assert re.match(rf"REDIS_URL is wrong: its option {name} should be ", str(stopped.value))
    assert ("ssl_ca_certs" in str(stopped.value)) == (name == "ssl_cert_reqs")


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_path_of_the_url_that_is_no_database(
    settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what the path is for. redis-py would use database 0."""
    monkeypatch.setenv("REDIS_URL", "redis://localhost/tailrace")
    with pytest.raises(SystemExit, match=r"^REDIS_URL is wrong: its path should be the number of a database"):
        settings.read()


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_tls_options_without_tls(settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which scheme has them."""
    monkeypatch.setenv("REDIS_URL", "redis://localhost?ssl_ca_certs=x.pem")
    with pytest.raises(SystemExit, match=r"wrong: with the option ssl_ca_certs it should begin with rediss://"):
        settings.read()


@pytest.mark.parametrize(
    ("scheme", "options"), [("redis", redis_url.OPTIONS), ("rediss", redis_url.OPTIONS | redis_url.TLS_OPTIONS)]
)
def test_options_that_the_url_may_have(scheme: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both services start with them, and redis-py makes a connection with them."""
    values = dict.fromkeys(options, "x") | {"db": "3", "protocol": "3", "socket_keepalive": "True"}
    values |= {"ssl_cert_reqs": "required", "ssl_check_hostname": "no"} if scheme == "rediss" else {}
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


# Parts of a password that an operator may have written as they are; and what may stand between them.
SECRETS: Final = ("Canary7", "S3cret")
BETWEEN: Final = st.lists(
    st.sampled_from(
        ["/", "?", "#", "@", ":", "[", "]", "%", "%2", "&", "=", "\\", " ", "\n", "1", "é", "℀", "redis://"]
    ),
    max_size=4,
).map("".join)
PASSWORDS: Final = st.tuples(BETWEEN, BETWEEN, BETWEEN).map(
    lambda parts: f"{parts[0]}{SECRETS[0]}{parts[1]}{SECRETS[1]}{parts[2]}"
)

# Places of a password in a URL: right ones and wrong ones.
URLS: Final = [
    "redis://:{}@redis.example:6379/0",
    "redis://user:{}@redis.example",
    "rediss://{}:x@redis.example/0",
    "redis://redis.example:{}/0",
    "redis://redis.example/{}",
    "redis://redis.example?password={}",
    "rediss://redis.example?ssl_password={}",
    "redis://redis.example?db={}",
    "redis://redis.example?{}=1",
    "unix://user:{}@/run/redis.sock",
    "{}",
    "redis://{}",
]


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
@pytest.mark.parametrize("url", URLS)
@given(password=PASSWORDS)
def test_a_password_is_never_told(settings: type[ApiSettings | WorkerSettings], url: str, password: str) -> None:
    """Whatever is wrong with the URL: no part of the password is in what is said. If nothing is wrong, no repr of the
    settings has it, and no error of the connection names it as the host.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_URL", url.format(password))
        try:
            read = settings.read()
        except SystemExit as stopped:
            said = str(stopped)
            assert said.startswith("REDIS_URL is wrong: ")
        else:
            made: Any = ConnectionPool.from_url(read.redis_url).make_connection()  # type: ignore[no-untyped-call]
            said = repr(read) + str(read)
            if "password=" in url or ":{}@" in url:
                said += f"{getattr(made, 'host', '')}{getattr(made, 'port', '')}{getattr(made, 'path', '')}"
    assert not [secret for secret in SECRETS if secret.lower() in said.lower()]


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_password_is_not_told_of_settings_made_in_code(settings: type[ApiSettings | WorkerSettings]) -> None:
    """Pydantic's own error says what is wrong without the URL."""
    with pytest.raises(ValidationError) as refused:
        settings(REDIS_URL="redis://:Canary7/S3cret@h")  # type: ignore[call-arg]  # by the name of its variable
    assert "it should" in str(refused.value) or "cannot be read" in str(refused.value)
    assert "Canary7" not in str(refused.value) + repr(refused.value)


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
    assert "REDIS_URL is wrong: " in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_format_of_the_log_that_is_none(
    settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable and the formats that there are."""
    monkeypatch.setenv("TAILRACE_LOG_FORMAT", "xml")
    with pytest.raises(SystemExit, match="TAILRACE_LOG_FORMAT is 'xml': it should be 'auto', 'json' or 'console'"):
        settings.read()


SECRET: Final = "0123456789-0123456789-0123456789"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it should be secrets of 32 printable ASCII characters or more"),
        (SECRET[1:], "its secret 1 has 31 characters; it should be secrets of 32"),
        (f"{SECRET},{SECRET[:9]}", "its secret 2 has 9 characters"),
        (f"{SECRET[1:]}é", "its secret 1 has other characters"),
        (f"{SECRET} {SECRET}", "it has a secret twice"),
    ],
)
def test_secrets_that_are_none(text: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names TAILRACE_TICKET_KEYS and says what is wrong, and has no part of any secret."""
    monkeypatch.setenv("TAILRACE_TICKET_KEYS", text)
    with pytest.raises(SystemExit) as stopped:
        ApiSettings.read()
    assert re.match(rf"TAILRACE_TICKET_KEYS is wrong: {fault}", str(stopped.value))
    assert "01234" not in str(stopped.value)


def test_secrets_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The secrets of tickets need not stand in the environment, nor in one line; they stand in one place."""
    path, new = tmp_path / "secrets", SECRET[::-1] + "!"
    path.write_text(f"{new}\n{SECRET}\n")
    monkeypatch.setenv("TAILRACE_TICKET_KEYS_FILE", str(path))
    assert ApiSettings.read().ticket_keys == (new, SECRET)
    assert SECRET not in repr(ApiSettings.read())
    monkeypatch.setenv("TAILRACE_TICKET_KEYS", SECRET)
    with pytest.raises(SystemExit, match="TAILRACE_TICKET_KEYS and TAILRACE_TICKET_KEYS_FILE are both set"):
        ApiSettings.read()
