"""The settings of an API process, from environment variables."""

import os
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from plugins.redis_url import check, from_file
from services.api.hosts import Host, hosts_of
from services.api.logs import Format
from services.api.origins import origins_of
from services.api.proxies import Proxies, header_of, proxies_of
from services.api.ticket_keys import secrets_of
from services.api.ways import RIGHT, Way, ways_of

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]

# Variables whose values no message shows. Each may stand in a file, which the variable with `_FILE` names.
SECRETS: Final = ("REDIS_URL", "TAILRACE_JWT_SECRET", "TAILRACE_TICKET_KEYS")


class Settings(BaseSettings):
    """Read once, when the process starts. A wrong value stops the process and names the variable."""

    model_config = SettingsConfigDict(
        env_prefix="TAILRACE_", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    # It may have a password, which no message and no repr shows.
    redis_url: Annotated[str, AfterValidator(check)] = Field(
        default="redis://localhost:6379/0", validation_alias="REDIS_URL", repr=False
    )
    # How callers prove their identity. Without a decision the API does not start.
    auth: Annotated[frozenset[Way], NoDecode, BeforeValidator(ways_of)] = Field(default=...)
    # The file of the API keys.
    keys_file: Path | None = None
    # The issuer and the audience of tokens. Public keys at an address verify them, or a shared secret.
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwks_url: str | None = None
    jwt_secret: SecretStr | None = Field(default=None, validation_alias="TAILRACE_JWT_SECRET")
    # The peers that may name the caller of a request, and the header in which they do.
    trusted_proxies: Annotated[Proxies | None, NoDecode, BeforeValidator(proxies_of)] = Field(
        default=None, validate_default=False
    )
    identity_header: Annotated[str | None, BeforeValidator(header_of)] = Field(default=None, validate_default=False)
    # Secrets of tickets: the first signs, all verify. Seconds in which a ticket opens a stream, and for which it may
    # stay open.
    ticket_keys: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(secrets_of)] = Field(
        default=None, validation_alias="TAILRACE_TICKET_KEYS", repr=False
    )
    ticket_open_s: Seconds = 300
    ticket_stream_s: Seconds = 3_600
    # Hosts by which clients may ask for this API. This machine's own names are always among them.
    allowed_hosts: Annotated[tuple[Host, ...], NoDecode, BeforeValidator(hosts_of)] = Field(
        default="localhost"  # type: ignore[arg-type]  # it is validated, too
    )
    # Origins whose pages may use this API in a browser.
    cors_origins: Annotated[frozenset[str], NoDecode, BeforeValidator(origins_of)] = Field(
        default=None,
        validate_default=True,
    )
    # Connections for commands; the hub has one more of its own. Commands are short, so two are enough for a process.
    redis_connections: int = Field(default=2, ge=1, le=1_000)
    # Seconds between heartbeats of a silent stream, and between two reads of its log: the delay that a lost message can
    # cause.
    heartbeat_s: Seconds = 15
    # Seconds between two probes of the hub's connection, and to wait for one: a connection that receives nothing can
    # cause a delay of twice as much.
    probe_s: Seconds = 4
    # Seconds between two scans of recovery: together with the lease, the delay that the death of a worker causes.
    scan_s: Seconds = 5
    # The workers' lease, in seconds: for this long after an outage of Redis no worker counts as dead.
    lease_s: Seconds = 15
    # Seconds until a task that no worker has claimed is queued again, and a limit at which tasks wait is scanned.
    unclaimed_s: int = Field(default=60, ge=1, le=86_400)
    # Seconds for which the input of a task outlives its end: at most as long as the metadata is kept.
    input_ttl_s: int = Field(default=3_600, ge=0, le=86_400)
    # Seconds for which the log of a cancelled task is kept: at most as long as that of any other.
    cancelled_ttl_s: int = Field(default=3_600, ge=1, le=3_600)
    # How much of its `maxmemory` Redis may use when a task is started: the rest is for those that run.
    memory_share: float = Field(default=0.85, gt=0, le=1)
    # Seconds that a single send to a client may take, until its connection is aborted.
    send_timeout_s: Seconds = 30
    # Bytes of pages that late readers hold in the process: a hundred and more can be sent at once.
    page_bytes: Count = 67_108_864
    # Connections of clients. A stream is one.
    max_connections: int = Field(default=10_000, ge=1, le=1_000_000)
    # Seconds for a client to send the head of a request, and then its body.
    head_s: Seconds = 10
    body_s: Seconds = 30
    # Open streams and long-polls in the process; of one owner. Fewer than connections, so that other calls have some.
    streams: Count = 9_000
    owner_streams: Count = 8_000
    # Requests of one owner per second; and at once. After a restart all its readers return within seconds.
    owner_requests: Count = 1_000
    owner_burst: Count = 10_000
    # How log lines look: `auto` is `console` in a terminal, and `json` elsewhere.
    log_format: Format = "auto"
    # Open tasks, queued or running: of one owner; of all owners; that wait at one limit.
    owner_tasks: Count = 10_000
    tasks: Count = 100_000
    waiting_tasks: Count = 5_000

    @classmethod
    def read(cls) -> Self:
        """The settings of this process's environment.

        Raises:
            SystemExit: variables are wrong; the message names each, what it is, and what would be right.
        """
        try:
            files = {name: text for secret in SECRETS for name, text in from_file(os.environ, secret).items()}
            return cls(**files)  # type: ignore[arg-type]  # by the name of the variable
        except ValidationError as error:
            raise SystemExit("\n".join(_in_words(details) for details in error.errors())) from None


def _in_words(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    variable = f"TAILRACE_{name.upper()}" if name in Settings.model_fields else name
    if error["type"] == "missing":
        return f"{variable} is not set: it should be {RIGHT}"
    wrong = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"{variable} is wrong: {wrong}" if name in SECRETS else f"{variable} is {error['input']!r}: {wrong}"
