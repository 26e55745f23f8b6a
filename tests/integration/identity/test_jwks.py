"""The keys of an identity provider: fetched in the background, and the last good ones stay."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from services.api.identity.jwks import ANSWER_S, MAX_BYTES, MAX_MISSING, Jwks
from services.api.identity.refusals import UnverifiableError
from tests.support.identity_provider import ELSEWHERE, ENDLESSLY, SILENTLY, SLOWLY, Provider, Signer, provider_of
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

OLD: Final = Signer("old")
NEW: Final = Signer("new", "ES256")


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider with one key."""
    with provider_of(OLD) as provider:
        yield provider


@asynccontextmanager
async def kept(provider: Provider, changes: list[bool], **times: float) -> AsyncIterator[Jwks]:
    """The keys of this provider, which are there; each change of them is a member of `changes`."""
    jwks = Jwks(provider.url, **times)
    keeper = asyncio.create_task(jwks.keep(lambda: changes.append(True)))
    try:
        await until(lambda: jwks.find("old", "RS256"), "the keys are there")
        yield jwks
    finally:
        keeper.cancel()


async def asked_again(provider: Provider, times: int = 2) -> None:
    """Wait until the provider has been asked so often from now on: the answer before the last one has been read."""
    before = provider.asked
    await until(lambda: provider.asked >= before + times, "the provider is asked again")


async def test_the_keys_are_fetched_regularly(provider: Provider) -> None:
    """A key that the provider adds is there before any token names it. Callers are forgotten once, when it comes."""
    changes: list[bool] = []
    async with kept(provider, changes, refresh_s=0.05) as jwks:
        await asked_again(provider)
        assert changes == [True]
        provider.publish(OLD.jwk(), NEW.jwk())
        await until(lambda: jwks.find("new", "ES256"), "the new key is there")
        await asked_again(provider)
        assert changes == [True, True]


BROKEN: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "an error": ({"status": 503}, "the answer has the status 503"),
    "a page": ({"document": b"<html>"}, "it is no JSON object"),
    "a list": ({"document": b"[]"}, "it is no JSON object"),
    "no text": ({"document": b'{"keys": "\xff"}'}, "it is no JSON object"),
    "no keys": ({"document": b'{"key": []}'}, "it has no list `keys`"),
    "an empty list": ({"document": b'{"keys": []}'}, "none of its 0 keys"),
    "symmetric keys": (
        {"document": json.dumps({"keys": [{"kty": "oct", "k": "a" * 43}]}).encode()},
        "none of its 1 keys",
    ),
    "too many keys": ({"document": json.dumps({"keys": [{}] * 101}).encode()}, "more than 100 keys"),
    "too long": ({"document": b" " * MAX_BYTES + b'{"keys": []}'}, f"more than {MAX_BYTES} bytes"),
    "without an end": ({"manner": ENDLESSLY}, f"more than {MAX_BYTES} bytes"),
    "elsewhere": ({"manner": ELSEWHERE}, "the answer has the status 302"),
    "silent": ({"manner": SILENTLY}, "no whole answer within 2 s"),
    "slow": ({"manner": SLOWLY}, "no whole answer within 2 s"),
}


@pytest.mark.parametrize(("faults", "said"), BROKEN.values(), ids=BROKEN)
async def test_a_provider_that_fails_later(provider: Provider, faults: dict[str, Any], said: str) -> None:
    """The last good keys stay, and no caller is forgotten. The log says it once, and once when it is over."""
    changes: list[bool] = []
    good = provider.document
    with capture_logs() as lines:
        async with kept(
            provider, changes, refresh_s=0.05, answer_s=2 if said.startswith("no whole") else ANSWER_S
        ) as jwks:
            for name, value in faults.items():
                setattr(provider, name, value)
            await asked_again(provider, 2 if said.startswith("no whole") else 4)
            assert jwks.find("old", "RS256")
            provider.manner, provider.status, provider.document = "well", 200, good
            await until(lambda: len(lines) >= 3, "the log says that it is over")
            assert changes == [True]
    assert [line["event"].rpartition(" ")[2] for line in lines] == ["read", "read", "read"]
    assert said in lines[1]["error"]
    assert (lines[1]["log_level"], lines[1]["meaning"]) == ("error", "those known stay")


async def test_a_connection_that_is_refused(provider: Provider) -> None:
    """It is a failure as any other."""
    changes: list[bool] = []
    with capture_logs() as lines:
        async with kept(provider, changes, refresh_s=0.05) as jwks:
            provider.close()
            await until(lambda: len(lines) >= 2, "the log says it")
            assert jwks.find("old", "RS256")
    assert lines[1]["error"].startswith("ConnectError")


async def test_unknown_keys_ask_once_in_a_while(provider: Provider) -> None:
    """However many there are, the provider is asked once in the time that is set, and again after that. A key that it
    then has is there; one that it does not have is told as such.
    """
    async with kept(provider, [], ask_s=1) as jwks:
        assert isinstance(jwks.refusal("new"), UnverifiableError)
        await until(lambda: not isinstance(jwks.refusal("new"), UnverifiableError), "it is told as such")
        provider.publish(OLD.jwk(), NEW.jwk())
        for number in range(3 * MAX_MISSING):
            refusal = jwks.refusal(f"unknown {number}")
            assert isinstance(refusal, UnverifiableError)
            assert refusal.retry_after_s <= 4
        await until(lambda: jwks.find("new", "ES256"), "the new key is there", deadline_s=5)
        _, first, second = provider.times
        assert second - first > 0.9


async def test_a_key_that_is_removed(provider: Provider) -> None:
    """Its tokens are refused at once: the provider has just said that it has no such key."""
    async with kept(provider, [], refresh_s=0.05) as jwks:
        provider.publish(NEW.jwk())
        await until(lambda: jwks.find("old", "RS256") is None, "the old key is gone")
        assert "does not have" in str(jwks.refusal("old"))


async def test_a_flood_of_unknown_keys_restores_none(provider: Provider) -> None:
    """The API remembers which keys were removed, however many others tokens name. So no flood keeps the streams of a
    removed key open.
    """
    async with kept(provider, [], refresh_s=0.05) as jwks:
        provider.publish(NEW.jwk())
        await until(lambda: jwks.find("old", "RS256") is None, "the old key is gone")
        for number in range(2 * MAX_MISSING):
            jwks.refusal(f"unknown {number}")
        assert "does not have" in str(jwks.refusal("old"))
