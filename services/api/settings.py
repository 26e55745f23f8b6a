"""What an API process can be told, by environment variables."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once, when the process starts. A wrong value ends the process and names the variable."""

    model_config = SettingsConfigDict(env_prefix="TAILRACE_", frozen=True)

    redis_url: str = Field(default="redis://localhost:6379/0", validation_alias="REDIS_URL")
    # Connections for commands; the tail has one more of its own. Commands are short, so two serve a process.
    redis_connections: int = Field(default=2, ge=1)
    # Seconds between comments on a silent stream, and between two looks at its log: what a lost ring can cost.
    heartbeat_s: float = Field(default=15, gt=0)
    # Seconds between two calls of this process to itself through Redis, and to wait for one: what a connection that
    # went deaf can cost is twice as much.
    probe_s: float = Field(default=4, gt=0)
    # Seconds between two looks at tasks that nobody seems to run: with the lease, what the death of a worker costs.
    scan_s: float = Field(default=5, gt=0)
    # The workers' lease, in seconds: as long after an outage of Redis no worker is taken for dead.
    lease_s: float = Field(default=15, gt=0)
    # Seconds a client may take to accept what is sent, until its connection is closed.
    send_timeout_s: float = Field(default=30, gt=0)
