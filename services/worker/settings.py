"""What a worker can be told, by environment variables."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once, when the process starts. A wrong value ends the process and names the variable."""

    model_config = SettingsConfigDict(env_prefix="TAILRACE_", frozen=True)

    redis_url: str = Field(default="redis://localhost:6379/0", validation_alias="REDIS_URL")
    # Folders of functions, separated as in PATH.
    functions_path: str = Field(default="functions", validation_alias="FUNCTIONS_PATH")
    # Seconds that the import of a module, and then its lifespan, may take.
    import_s: float = Field(default=30, gt=0)
    # Seconds until a worker that stopped renewing is taken for dead.
    lease_s: float = Field(default=15, gt=0)
    # Seconds between renewals: three chances within a lease.
    renew_s: float = Field(default=5, gt=0)
    # Seconds that running functions may go on after the process was told to stop. Cancelled then, they have 4 more.
    drain_s: float = Field(default=15, ge=0)

    @property
    def function_folders(self) -> list[Path]:
        """The folders of `FUNCTIONS_PATH`, in order."""
        return [Path(folder) for folder in self.functions_path.split(os.pathsep) if folder]
