"""The keys of an identity provider, fetched in the background. No request waits for the provider.

When a provider signs with a new key, the first token that names this key makes the API fetch the keys anew. Meanwhile
such tokens are answered 503, so that clients keep them. They are answered 401 when the provider has been asked since.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

import httpx
import structlog

from services.api.identity.refusals import CredentialError, UnverifiableError
from services.api.identity.token_keys import PUBLIC, Key, KeysError, KeySet

# Seconds between two looks at the provider's keys, give or take a tenth; and the least between two that tokens cause.
REFRESH_S: Final = 600
ASK_S: Final = 60

# Seconds after a failure until the next attempt: from two on, twice as many each time, up to these.
MAX_RETRY_S: Final = 60

# What an answer may take: seconds in all, and bytes.
ANSWER_S: Final = 5
MAX_BYTES: Final = 262_144

# Seconds for which the start of the API waits for the keys.
START_S: Final = 2

# Seconds after which a client should ask again while the keys are being fetched.
SOON_S: Final = 2

# Ids of keys that are remembered because the provider did not have them; and of those that it has removed.
MAX_MISSING: Final = 1_000

logger = structlog.get_logger()


class Jwks:
    """The last good set of keys at this address. Until there is one, no token can be verified."""

    algorithms = PUBLIC

    def __init__(
        self, url: str, *, refresh_s: float = REFRESH_S, ask_s: float = ASK_S, answer_s: float = ANSWER_S
    ) -> None:
        self._url = url
        self._refresh_s = refresh_s
        self._ask_s = ask_s
        self._answer_s = answer_s
        self._keys: KeySet | None = None
        # Times of the monotonic clock: when the fetch began that found these keys, when the next one is due, and from
        # when on a token may ask for one.
        self._as_of = -math.inf
        self._due = 0.0
        self._may_ask = 0.0
        self._sooner = asyncio.Event()
        self._fetching = True
        self._failures = 0
        self._fault = ""
        # Ids of keys that were not there, and when each was first named; tokens name them, so anyone may add to them.
        self._missing: dict[str | None, float] = {}
        self._removed: dict[str | None, None] = {}  # ids of keys that were there, and are not any more
        self._tried = asyncio.Event()

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key of a token that names this one; None if it is not there now.

        Raises:
            CredentialError: it is for other algorithms.
        """
        return None if self._keys is None else self._keys.find(kid, algorithm)

    def refusal(self, kid: str | None) -> CredentialError:
        """Return why a token with a key that is not there is refused, and have the provider asked for it."""
        now = time.monotonic()
        if (due := max(now, self._may_ask)) < self._due:
            self._due, self._may_ask = due, due + self._ask_s
            self._sooner.set()
        named = self._missing.setdefault(kid, now)
        if len(self._missing) > MAX_MISSING:
            del self._missing[next(iter(self._missing))]
        if kid in self._removed or named < self._as_of:
            return CredentialError("The token is signed by a key that the identity provider does not have.")
        return UnverifiableError(SOON_S if self._fetching else SOON_S + math.ceil(max(0, self._due - now)))

    async def first(self) -> None:
        """Return when the keys have been fetched, or could not be, or that takes long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._tried.wait()

    async def keep(self, changed: Callable[[], None]) -> NoReturn:
        """Fetch the keys again and again, and call back when they have changed."""
        async with httpx.AsyncClient(timeout=self._answer_s, headers={"Accept-Encoding": "identity"}) as client:
            while True:
                await self._fetch(client, changed)
                await self._rest()

    async def _rest(self) -> None:
        while (left := self._due - time.monotonic()) > 0:
            self._sooner.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._sooner.wait()

    async def _fetch(self, client: httpx.AsyncClient, changed: Callable[[], None]) -> None:
        began = time.monotonic()
        self._due = began + self._refresh_s * random.uniform(0.9, 1.1)  # noqa: S311  # so that processes ask apart
        self._fetching = True
        try:
            keys = await fetched(client, self._url, self._answer_s)
        except KeysError as error:
            self._failed(str(error))
        else:
            self._found(keys, began, changed)
        finally:
            self._fetching = False
            self._tried.set()

    def _failed(self, fault: str) -> None:
        self._failures += 1
        retry_s = min(2.0 ** min(self._failures, 10), MAX_RETRY_S, self._refresh_s)
        self._due = min(self._due, time.monotonic() + retry_s)
        if fault != self._fault:
            meaning = "tokens cannot be verified" if self._keys is None else "those known stay"
            logger.error("keys of the identity provider not read", url=self._url, error=fault, meaning=meaning)
        self._fault = fault

    def _found(self, keys: KeySet, as_of: float, changed: Callable[[], None]) -> None:
        self._failures = 0
        self._as_of = as_of
        is_new = self._keys is None or self._keys.keys != keys.keys
        if is_new or self._fault:
            number = sum(map(len, keys.keys.values()))
            logger.info("keys of the identity provider read", url=self._url, keys=number, ignored=keys.ignored)
        self._fault = ""
        if is_new:
            self._remove(set(self._keys.keys if self._keys else ()) - set(keys.keys))
            self._keys = keys
            changed()

    def _remove(self, kids: set[str | None]) -> None:
        for kid in kids:
            self._removed.pop(kid, None)
            self._removed[kid] = None
        while len(self._removed) > MAX_MISSING:
            del self._removed[next(iter(self._removed))]


async def fetched(client: httpx.AsyncClient, url: str, answer_s: float) -> KeySet:
    """Return the keys at this address, if the whole answer is there in time.

    Raises:
        KeysError: there are none, or the answer takes too long, is too long, or leads elsewhere.
    """
    document = bytearray()
    try:
        async with asyncio.timeout(answer_s), client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise KeysError(f"the answer has the status {answer.status_code}")
            async for part in answer.aiter_raw():
                document += part
                if len(document) > MAX_BYTES:
                    raise KeysError(f"the answer has more than {MAX_BYTES} bytes")
    except (TimeoutError, httpx.TimeoutException):
        raise KeysError(f"there was no whole answer within {answer_s:g} s") from None
    except httpx.HTTPError as error:
        raise KeysError(f"{type(error).__name__}: {error}") from None
    return KeySet(bytes(document))
