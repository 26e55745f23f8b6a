"""What workers have announced in a hash: read within bounds, and decoded once for as long as it does not change."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from plugins import declaration, scripts
from services.api import foreign

READ: Final = scripts.read("announcements.lua", __file__)

Announced = TypeVar("Announced")


class Reading(NamedTuple, Generic[Announced]):
    """The announcements that were read, ordered by name, and the server's time (ms): workers announce by that clock."""

    announced: list[Announced]
    now: int


class Announcements(Generic[Announced]):
    """The fields of one hash. A field that cannot be read is skipped, and logged once.

    `decode` returns the announcement of a field, by its name and value; it raises ValueError if that is none.
    """

    def __init__(self, redis: Redis, key: str, decode: Callable[[bytes, bytes], Announced]) -> None:
        self._redis = redis
        self._key = key
        self._decode = decode
        self._decoded: dict[bytes, tuple[bytes, Announced | None]] = {}  # by name, with the value

    async def read(self, *names: str) -> Reading[Announced]:
        """Return the announcements of these names; of all, if there is no name.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        try:
            # The API may write neither hash (deploy/redis.acl), so the script is one that only reads.
            answer: Any = await self._redis.eval_ro(READ, 1, self._key, str(declaration.MAX_BYTES), *names)
            (seconds, micros), fields, longer = answer
        except ResponseError as error:
            if not foreign.is_wrong_type(error):
                raise
            foreign.log_once("announcements not readable", self._key, error)
            return Reading([], 0)
        for name in longer:
            self._report(name, f"it is longer than {declaration.MAX_BYTES} bytes")
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        if not names:  # it forgets those that are gone
            self._decoded = {name: known for name, known in self._decoded.items() if name in values}
        announced = [await self._announced(name, values[name]) for name in sorted(values)]
        now = int(seconds) * 1_000 + int(micros) // 1_000
        return Reading([each for each in announced if each is not None], now)

    async def _announced(self, name: bytes, value: bytes) -> Announced | None:
        known = self._decoded.get(name)
        if known is None or known[0] != value:
            known = self._decoded[name] = value, self._decode_or_report(name, value)
            # To decode a large one takes milliseconds, and hundreds may be new. Streams go on after each.
            await asyncio.sleep(0)
        return known[1]

    def _decode_or_report(self, name: bytes, value: bytes) -> Announced | None:
        try:
            return self._decode(name, value)
        except (ValueError, RecursionError) as error:
            self._report(name, error)
            return None

    def _report(self, name: bytes, error: object) -> None:
        foreign.log_once("announcement not readable", f"{self._key} {name.decode(errors='replace')}", error)
