"""What an API process can be told, by environment variables."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.asyncio.connection import parse_url

Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _url(url: str) -> str:
    parse_url(url)  # raises what is wrong with it
    return url


class Settings(BaseSettings):
    """Read once, when the process starts. A wrong value stops the process and names the variable."""

    model_config = SettingsConfigDict(env_prefix="TAILRACE_", frozen=True, allow_inf_nan=False)

    redis_url: Annotated[str, AfterValidator(_url)] = Field(
        default="redis://localhost:6379/0", validation_alias="REDIS_URL"
    )
    # Connections for commands; the tail has one more of its own. Commands are short, so two serve a process.
    redis_connections: int = Field(default=2, ge=1, le=1_000)
    # Seconds between comments on a silent stream, and between two looks at its log: what a lost ring can cost.
    heartbeat_s: Seconds = 15
    # Seconds between two calls of this process to itself through Redis, and to wait for one: what a connection that
    # went deaf can cost is twice as much.
    probe_s: Seconds = 4
    # Seconds between two looks at tasks that nobody seems to run: with the lease, what the death of a worker costs.
    scan_s: Seconds = 5
    # The workers' lease, in seconds: as long after an outage of Redis no worker is taken for dead.
    lease_s: Seconds = 15
    # Seconds until a task that no worker has claimed is queued again, and a limit that holds tasks back is looked at.
    unclaimed_s: int = Field(default=60, ge=1, le=86_400)
    # Seconds a client may take to accept what is sent, until its connection is closed.
    send_timeout_s: Seconds = 30

    @classmethod
    def read(cls) -> Self:
        """The settings of this process's environment.

        Raises:
            SystemExit: variables are wrong; the message names each, what it is, and what would be right.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SystemExit("\n".join(_in_words(each) for each in error.errors())) from None


def _in_words(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    variable = f"TAILRACE_{name.upper()}" if name in Settings.model_fields else name
    wrong = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"{variable} is {error['input']!r}: {wrong}"
