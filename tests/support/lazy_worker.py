"""A worker that renews no lease by itself: it asks only when one of its own is over, which is after a second."""

from typing import Final, Self

from pydantic import model_validator

from services.worker import settings
from tests.support.settings import NEVER_S


class Lazy(settings.Settings):
    """Settings that the product refuses: a worker with them would lose its tasks."""

    lease_s: float = 1
    renew_s: float = NEVER_S

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        return self


vars(settings)["Settings"] = Lazy

from services.worker.app import broker as its_broker  # noqa: E402  # it reads the settings

broker: Final = its_broker
