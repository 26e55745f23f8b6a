"""An API whose hub dies of its first disconnection: its back-off raises an unforeseen error."""

from litestar import Litestar
from redis.backoff import AbstractBackoff

from services.api import app
from services.api.streams import hub


class Broken(AbstractBackoff):
    """A back-off that cannot be computed, once."""

    def __init__(self, whole: AbstractBackoff) -> None:
        self._whole = whole

    def compute(self, failures: int) -> float:
        """Raise, and be whole from then on."""
        vars(hub)["BACKOFF"] = self._whole
        raise ZeroDivisionError(failures)


def create_app() -> Litestar:
    """The application, with that fault in it."""
    vars(hub)["BACKOFF"] = Broken(hub.BACKOFF)  # a constant, elsewhere
    return app.create_app()
