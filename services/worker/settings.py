"""The settings of a worker process, from environment variables."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from plugins.redis_url import check, from_file
from services.worker.logs import Format

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Read once, when the process starts. A wrong value stops the process and names the variable."""

    model_config = SettingsConfigDict(
        env_prefix="TAILRACE_", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    # It may have a password, which no message and no repr shows.
    redis_url: Annotated[str, AfterValidator(check)] = Field(
        default="redis://localhost:6379/0", validation_alias="REDIS_URL", repr=False
    )
    # Folders of functions, separated as in PATH.
    functions_path: str = Field(default="functions", validation_alias="FUNCTIONS_PATH")
    # Whose texts readers get when a function fails: those of a `Failure` alone, or those of every exception.
    failure_text: Literal["declared", "always"] = "declared"
    # Seconds that the import of a module, and then its lifespan, may take.
    import_s: Seconds = 30
    # Seconds until a worker that stopped renewing counts as dead.
    lease_s: Seconds = 15
    # Seconds between renewals: three chances within a lease.
    renew_s: Seconds = 5
    # Seconds that functions may continue to run after SIGTERM or SIGINT. Then they are cancelled.
    drain_s: float = Field(default=15, ge=0, le=86_400)
    # Seconds that a function has to clean up after it was cancelled or ran out of time. Then its task ends without it.
    grace_s: Seconds = 10
    # The same, when the process stops.
    clean_up_s: Seconds = 3
    # Seconds that the process has to exit after that. Then its exit is forced.
    exit_s: Seconds = 3
    # Seconds that a message may be read and not claimed. Then another worker takes it: the one that read it has died.
    abandoned_s: Seconds = 30
    # Seconds between two checks for messages that were read and not claimed.
    takeover_s: Seconds = 2
    # Per cent of the slots that tasks of one owner may hold at once; None is the default of `Shares`.
    owner_slots: Annotated[int, Field(ge=1, le=100)] | None = None
    # How log lines look: `auto` is `console` in a terminal, and `json` elsewhere.
    log_format: Format = "auto"

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if self.renew_s >= self.lease_s:
            raise ValueError(
                f"TAILRACE_RENEW_S is {self.renew_s:g}: it should be less than TAILRACE_LEASE_S ({self.lease_s:g})"
            )
        return self

    @property
    def function_folders(self) -> list[Path]:
        """The folders of `FUNCTIONS_PATH`, in order."""
        return [Path(folder) for folder in self.functions_path.split(os.pathsep) if folder]

    @classmethod
    def read(cls) -> Self:
        """The settings of this process's environment.

        Raises:
            SystemExit: variables are wrong; the message names each, what it is, and what would be right.
        """
        try:
            return cls(**from_file(os.environ))  # type: ignore[arg-type]  # by the name of the variable
        except ValidationError as error:
            raise SystemExit("\n".join(_in_words(details) for details in error.errors())) from None


def _in_words(error: ErrorDetails) -> str:
    if not error["loc"]:  # about more than one variable: it names them itself
        return error["msg"].removeprefix("Value error, ")
    name = str(error["loc"][0])
    variable = f"TAILRACE_{name.upper()}" if name in Settings.model_fields else name
    wrong = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"{variable} is wrong: {wrong}" if name == "REDIS_URL" else f"{variable} is {error['input']!r}: {wrong}"
