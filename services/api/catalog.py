"""The functions that workers have announced, as far as a caller may know of them; and which are paused.

What cannot be read is skipped, and logged once: another program has written it, or a worker of another release. It must
not take the other functions with it.
"""

from typing import Any, Final

import msgspec
import structlog
from litestar.plugins.problem_details import ProblemDetailsException
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from plugins import entries, keys
from plugins.declaration import Broken, Declaration
from plugins.function import FUNCTION_NAME
from services.api import foreign
from services.api.announcements import Announcements
from services.api.http import validation
from services.api.http.problems import problem
from services.api.identity.caller import Caller
from services.api.redis_client import run_script

# It may run when Redis is full: a function that misbehaves may have filled it.
PAUSE: Final = "#!lua flags=allow-oom\nreturn redis.call('SADD', KEYS[1], ARGV[1])"

# Names of functions that the answer to an unknown one tells.
MAX_KNOWN: Final = 20

logger = structlog.get_logger()

_decoder = msgspec.json.Decoder(Declaration)
_broken_decoder = msgspec.json.Decoder(Broken)


class Function(Declaration, frozen=True, kw_only=True):
    """A function as announced, and whether it is paused."""

    paused: bool = False


class Catalog:
    """Reads what is announced, and pauses and resumes functions."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._declared = Announcements(redis, keys.FUNCTIONS, _declaration_in)
        self._broken = Announcements(redis, keys.BROKEN, _broken_in)

    async def declaration_of(self, name: str, caller: Caller) -> Declaration:
        """Return the announcement of a function.

        Raises:
            ProblemDetailsException: 404, it is unknown, or this caller may not know of it; with names that it may know.
        """
        # Nothing is asked about a function that it may not know of: the answer costs the same whether there is one.
        found, now = await self._declared.read(name) if caller.may_see(name) else ([], 0)
        if not found or not _kept(found[0], now):
            raise await self._unknown(name, caller)
        return found[0]

    async def declarations(self, caller: Caller) -> list[Declaration]:
        """Return the announcements of all functions that this caller may know of, ordered by name."""
        announced, now = await self._declared.read()
        return [
            declaration for declaration in announced if _kept(declaration, now) and caller.may_see(declaration.name)
        ]

    async def broken(self) -> list[Broken]:
        """Return what workers could not load, as announced within `BROKEN_TTL_S`, ordered by source."""
        announced, now = await self._broken.read()
        since = now - keys.BROKEN_TTL_S * 1_000
        return [broken for broken in announced if broken.at > since]

    async def functions(self, caller: Caller) -> list[Function]:
        """Return all functions that this caller may know of, ordered by name."""
        announced, paused = await self.declarations(caller), await self._paused()
        return [Function(**msgspec.structs.asdict(known), paused=known.name in paused) for known in announced]

    async def function_of(self, name: str, caller: Caller) -> Function:
        """Return a function.

        Raises:
            ProblemDetailsException: 404, as `declaration_of`.
        """
        declaration = await self.declaration_of(name, caller)
        return Function(**msgspec.structs.asdict(declaration), paused=name in await self._paused(name))

    async def pause(self, name: str) -> None:
        """Pause a function: workers start it no more as soon as they receive the change. `keys.PAUSED` is the only
        state: workers park the tasks of a paused function when they read their messages, so a crash leaves nothing half
        done.
        """
        if await run_script(self._redis, PAUSE, [keys.PAUSED], [name]):
            logger.warning("function paused", function=name)
        await self._redis.publish(keys.FUNCTIONS_CHANGED, name)

    async def resume(self, name: str) -> None:
        """Resume a function: workers unpark its tasks."""
        if await self._redis.srem(keys.PAUSED, name):
            logger.warning("function resumed", function=name)
        await self._redis.publish(keys.FUNCTIONS_CHANGED, name)

    async def _paused(self, *names: str) -> set[str]:
        """Return which of these functions are paused; of all, if there is no name."""
        try:
            if names:
                marks: Any = await self._redis.smismember(keys.PAUSED, list(names))
                return {name for name, mark in zip(names, marks, strict=True) if mark}
            members: Any = await self._redis.smembers(keys.PAUSED)
        except ResponseError as error:
            if not foreign.is_wrong_type(error):
                raise
            foreign.log_once("paused functions not readable", keys.PAUSED, error)
            return set()
        return {member.decode(errors="replace") for member in members}

    async def _unknown(self, name: str, caller: Caller) -> ProblemDetailsException:
        """Return the problem 404, with the names that begin most like this one, of those that this caller may know. No
        declaration is read for it.
        """
        try:
            fields: Any = await self._redis.hkeys(keys.FUNCTIONS)
        except ResponseError as error:
            if not foreign.is_wrong_type(error):
                raise
            fields = []
        names = {field.decode(errors="replace") for field in fields} - {name}
        visible = [other for other in names if FUNCTION_NAME.fullmatch(other) and caller.may_see(other)]
        known = sorted(visible, key=lambda other: (-_shared(name, other), other))
        told, more = sorted(known[:MAX_KNOWN]), len(known[MAX_KNOWN:])
        detail = f"There is no function {name!r:.100}. Known: {', '.join(told) or 'none'}"
        detail += f", and {more} more: GET /functions has them." if more else "."
        members: dict[str, Any] = {"known": told} | ({"more": more} if more else {})
        return problem(404, "unknown-function", "Unknown function", detail, **members)


def _shared(name: str, other: str) -> int:
    """Return how many characters two names have in common at their beginning."""
    pairs = enumerate(zip(name, other, strict=False))
    return next((at for at, (one, another) in pairs if one != another), min(len(name), len(other)))


def _declaration_in(field: bytes, value: bytes) -> Declaration:
    """Return the declaration in this field.

    Raises:
        ValueError: it is none by which inputs can be validated.
    """
    declaration = _decoder.decode(value)
    if declaration.name.encode() != field or not FUNCTION_NAME.fullmatch(declaration.name):
        raise ValueError(f"it is of {declaration.name!r:.100}")
    if entries.too_deep(declaration.input):
        raise ValueError(f"its schema is nested deeper than {entries.MAX_DEPTH} levels")
    validation.validator_of(msgspec.json.encode(declaration.input))
    return declaration


def _broken_in(_: bytes, value: bytes) -> Broken:
    return _broken_decoder.decode(value)


def _kept(declaration: Declaration, now: int) -> bool:
    """Return whether a worker has announced it within a week. The hash lives as long as any function is announced."""
    at = declaration.announced_at
    return at is None or at > now - keys.FUNCTIONS_TTL_S * 1_000
