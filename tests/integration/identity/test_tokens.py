"""Tokens of an identity provider: each request proves its caller by one, and has what its claims allow."""

import hashlib
import hmac
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.canaries import CANARY
from tests.support.identity_provider import (
    TRUSTED,
    Provider,
    Signer,
    base64url,
    claims,
    private_key,
    provider_of,
    public_jwk,
    signed,
)
from tests.support.key_files import KeyFile, bearer
from tests.support.processes import Api, Process, api_process
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

API: Final = [sys.executable, "-m", "uvicorn", "--factory", "services.api.app:create_app", "--port", "0"]

START: Final = {"function": "count", "input": {"to": 1}}

SIGNERS: Final = {algorithm: Signer(f"key of {algorithm}", algorithm) for algorithm in ALGORITHMS}
RSA: Final = SIGNERS["RS256"]
# A key of another curve than its token says; and one that says of itself that it is for one algorithm.
NARROW: Final = Signer("narrow", "RS256", 1)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """A provider with a key for each algorithm, and keys that are for no signature."""
    with provider_of(*SIGNERS.values()) as provider:
        extra = [
            NARROW.jwk(alg="RS512", use="sig"),
            Signer("for encryption").jwk(use="enc"),
            {"kty": "oct", "kid": "symmetric", "k": base64url(b"k" * 32)},
            {"kty": "new", "kid": "of another kind"},
        ]
        provider.publish(*(signer.jwk() for signer in SIGNERS.values()), *extra)
        yield provider


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process, provider: Provider, key_file: KeyFile) -> Iterator[Api]:
    """An API that takes tokens, and keys beside them."""
    settings = provider.settings() | {"TAILRACE_AUTH": "keys,jwt", "TAILRACE_KEYS_FILE": str(key_file.path)}
    with api_process(redis_url, **settings) as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of that API, without a credential of its own."""
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        yield client


async def test_the_keys_are_there_from_the_start(api: Api, provider: Provider) -> None:
    """An API serves when it has the provider's keys; its log says how many, and how many it cannot use."""
    api.process.wait_for(r"keys of the identity provider read.*ignored=3.*keys=11")
    assert provider.asked >= 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token(client: httpx.AsyncClient, algorithm: str) -> None:
    """Its caller starts a task and finds it in its list."""
    headers = bearer(SIGNERS[algorithm].token(sub=f"ada, by {algorithm}"))
    started = await client.post("/tasks", json=START, headers=headers)
    assert started.status_code == 202
    listed = (await client.get("/tasks", headers=headers)).json()["tasks"]
    assert [task["task_id"] for task in listed] == [started.json()["task_id"]]


async def test_an_owner_is_a_subject_of_the_issuer(client: httpx.AsyncClient, key_file: KeyFile) -> None:
    """Every token of a subject has its tasks, whatever key signed it. Another subject has not, nor has an API key whose
    owner has the same name.
    """
    url = (await client.post("/tasks", json=START, headers=bearer(RSA.token(sub="bob")))).json()["status_url"]
    assert (await client.get(url, headers=bearer(SIGNERS["ES256"].token(sub="bob")))).status_code == 200
    assert (await client.get(url, headers=bearer(RSA.token(sub="Bob")))).status_code == 404
    key = key_file.add("bob")

    async def known() -> bool:
        return (await client.get("/tasks", headers=bearer(key))).status_code == 200

    await until(known, "the key is known")
    assert (await client.get(url, headers=bearer(key))).status_code == 404


MAY_START: Final = [
    {"scope": "tasks functions:count"},
    {"scope": "openid tasks profile functions:count offline_access"},
    {"scope": None, "scp": ["tasks", "functions:*"]},
    {"scope": None, "scp": "tasks functions:*"},
    {"scope": "tasks", "scp": ["functions:count"]},
]


@pytest.mark.parametrize("scopes", MAY_START)
async def test_scopes(client: httpx.AsyncClient, scopes: dict[str, Any]) -> None:
    """They are in `scope` or in `scp`, in either form, among others that are not of this API."""
    assert (await client.post("/tasks", json=START, headers=bearer(RSA.token(**scopes)))).status_code == 202


LACKING: Final = [
    ({"scope": None}, "tasks"),
    ({"scope": "openid TASKS tasks:read functions:count"}, "tasks"),
    ({"scope": "tasks"}, "functions:count"),
    ({"scope": "tasks functions:words functions:"}, "functions:count"),
    ({"scope": "tasks,functions:*"}, "tasks"),
]


@pytest.mark.parametrize(("scopes", "missing"), LACKING)
async def test_a_scope_that_is_missing(client: httpx.AsyncClient, scopes: dict[str, Any], missing: str) -> None:
    """403 names it. A token without any scope has none."""
    refused = await client.post("/tasks", json=START, headers=bearer(RSA.token(**scopes)))
    assert (refused.status_code, refused.json().get("scope")) == (403, missing)


async def test_an_admin_by_a_token(client: httpx.AsyncClient) -> None:
    """The scope `admin` reads tasks of others."""
    url = (await client.post("/tasks", json=START, headers=bearer(RSA.token()))).json()["status_url"]
    assert (await client.get(url, headers=bearer(RSA.token(sub="root", scope="tasks admin")))).status_code == 200


def changed(**members: Any) -> Callable[[], str]:
    """A token with these claims."""
    return lambda: RSA.token(**members)


def headed(**members: Any) -> Callable[[], str]:
    """A token with these members of its header."""
    return lambda: RSA.of(claims(), **members)


def raw(header: str = '{"alg":"RS256","kid":"key of RS256"}', body: str | None = None) -> Callable[[], str]:
    """A token of these texts, with a valid signature."""
    return lambda: signed(header.encode(), (body or json.dumps(claims())).encode(), "RS256", RSA.key)


def without_signature(alg: str) -> str:
    """A token that says that it needs none."""
    return RSA.of(claims(), alg=alg).rpartition(".")[0] + "."


def confused(secret: bytes, kid: str = RSA.kid) -> str:
    """A token whose shared secret is known to all clients."""
    message = (
        f"{base64url(json.dumps({'alg': 'HS256', 'kid': kid}).encode())}.{base64url(json.dumps(claims()).encode())}"
    )
    return f"{message}.{base64url(hmac.digest(secret, message.encode(), hashlib.sha256))}"


def tampered() -> str:
    """A token whose subject was changed after it was signed."""
    header, _, signature = RSA.token().split(".")
    return f"{header}.{base64url(json.dumps(claims(sub='root', scope='admin')).encode())}.{signature}"


PUBLIC: Final = RSA.key.public_key()
FOREIGN: Final = private_key("RS256", 2)
DEEP: Final = '{"iss":' + "[" * 2_000 + "]" * 2_000 + "}"

# Bad tokens, and words of the sentence that says what is wrong.
BAD: Final[dict[str, tuple[Callable[[], str], str]]] = {
    "one part": (lambda: "abcdef", "three parts"),
    "two parts": (lambda: RSA.token().rpartition(".")[0], "three parts"),
    "five parts, encrypted": (lambda: RSA.token() + ".abc.def", "three parts"),
    "padding": (lambda: RSA.token() + "==", "three parts"),
    "no base64url": (lambda: RSA.token().replace("e", "+", 1), "three parts"),
    "half of it": (lambda: RSA.token()[:-41], "malformed"),
    "long": (lambda: RSA.token(more="x" * 8_000), "longer than 8192"),
    "tampered": (tampered, "signature"),
    "of a foreign key with a known id": (
        lambda: signed(b'{"alg":"RS256","kid":"key of RS256"}', json.dumps(claims()).encode(), "RS256", FOREIGN),
        "signature",
    ),
    "a key of its own in the header": (
        lambda: signed(
            json.dumps({"alg": "RS256", "kid": RSA.kid, "jwk": public_jwk("RS256", FOREIGN)}).encode(),
            json.dumps(claims()).encode(),
            "RS256",
            FOREIGN,
        ),
        "signature",
    ),
    "none": (lambda: without_signature("none"), "not signed"),
    "None": (lambda: without_signature("None"), "not signed"),
    "no signature": (lambda: without_signature("RS256"), "signature"),
    "the public key as PEM for a secret": (
        lambda: confused(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
        "not signed, or in a way",
    ),
    "the public key as JWK for a secret": (lambda: confused(json.dumps(RSA.jwk()).encode()), "not signed, or in a way"),
    "a symmetric key that the provider published": (
        lambda: confused(b"k" * 32, "symmetric"),
        "not signed, or in a way",
    ),
    "of another algorithm than its key": (
        lambda: SIGNERS["ES256"].of(claims(), kid=RSA.kid),
        "another way than its key",
    ),
    "of another algorithm than its key says": (lambda: NARROW.of(claims()), "another way than its key"),
    "no algorithm": (headed(alg=None), "header is wrong"),
    "a number for the algorithm": (headed(alg=7), "header is wrong"),
    "no id of a key": (headed(kid=None), "lacks `kid`"),
    "a number for the id of a key": (headed(kid=7), "header is wrong"),
    "a list for the id of a key": (headed(kid=[RSA.kid]), "header is wrong"),
    "a long id of a key": (headed(kid="k" * 300), "header is wrong"),
    "crit": (headed(crit=["exp"]), "extension"),
    "crit of nothing": (headed(crit=[]), "extension"),
    "a payload that is not encoded": (headed(b64=False, crit=["b64"]), "extension"),
    "a nested token": (headed(cty="JWT"), "another kind"),
    "for a logout": (headed(typ="logout+jwt"), "another kind"),
    "a header that is a list": (raw(header="[]"), "header is wrong"),
    "a header with a name twice": (raw(header='{"alg":"none","alg":"RS256","kid":"key of RS256"}'), "header is no"),
    "a claim twice": (raw(body=json.dumps(claims())[:-1] + ',"sub":"root"}'), "names are unique"),
    "a name twice within": (raw(body=json.dumps(claims())[:-1] + ',"a":{"b":1,"b":2}}'), "names are unique"),
    "claims that are a list": (raw(body="[]"), "payload is wrong"),
    "claims that are no JSON": (raw(body="{"), "payload is no JSON"),
    "deep claims": (raw(body=DEEP), "payload"),
    "NaN": (raw(body=json.dumps(claims(exp=float("nan")))), "payload is no JSON"),
    "a lone surrogate": (changed(sub="\ud800"), "payload is no JSON"),
    "UTF-16": (
        lambda: signed(b'{"alg":"RS256","kid":"key of RS256"}', '{"a":1}'.encode("utf-16"), "RS256", RSA.key),
        "",
    ),
    "no exp": (changed(exp=None), "`exp`"),
    "exp as a text": (lambda: RSA.token(exp=str(int(time.time()) + 60)), "$.exp"),
    "exp in milliseconds": (lambda: RSA.token(exp=int(time.time() + 60) * 1_000), "$.exp"),
    "a huge exp": (changed(exp=10**400), "payload"),
    "exp true": (changed(exp=True), "$.exp"),
    "no iss": (changed(iss=None), "`iss`"),
    "another issuer": (changed(iss="https://login.example/other"), "another issuer"),
    "an issuer with a slash": (changed(iss=TRUSTED["TAILRACE_JWT_ISSUER"] + "/"), "another issuer"),
    "no aud": (changed(aud=None), "`aud`"),
    "another audience": (changed(aud="https://other.example"), "another audience"),
    "other audiences": (changed(aud=["a", "b"]), "another audience"),
    "no sub": (changed(sub=None), "`sub`"),
    "an empty sub": (changed(sub=""), "$.sub"),
    "a number for sub": (changed(sub=7), "$.sub"),
    "a number for scope": (changed(scope=7), "$.scope"),
    "a null nbf": (raw(body=json.dumps(claims() | {"nbf": None})), "$.nbf"),
}


@pytest.mark.parametrize(("made", "words"), BAD.values(), ids=BAD)
async def test_a_bad_token(
    client: httpx.AsyncClient, api: Api, provider: Provider, made: Callable[[], str], words: str
) -> None:
    """401 with a sentence that says what is wrong. No answer and no line of the log repeats a part of it."""
    token, asked = made(), provider.asked
    answer = await client.get("/tasks", headers=bearer(token))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="tailrace", error="invalid_token"'
    problem = answer.json()
    assert problem["type"] == "urn:tailrace:problem:invalid-credential"
    assert words in problem["detail"]
    assert len(problem["detail"]) > 20
    for part in (*token.split("."), "k" * 300, "login.example", "key of RS256"):
        assert len(part) < 6 or part not in answer.text + str(answer.headers)
    assert token not in api.process.output
    assert (await client.get("/health/ready", headers=bearer(token))).status_code == 200
    assert provider.asked == asked


CLOCKS: Final = [
    ({"exp": -20}, True),
    ({"exp": -60}, False),
    ({"nbf": 20}, True),
    ({"nbf": 60}, False),
    ({"iat": 20}, True),
    ({"iat": 60}, False),
]


@pytest.mark.parametrize(("differences", "is_valid"), CLOCKS)
async def test_a_clock_that_differs(client: httpx.AsyncClient, differences: dict[str, int], is_valid: bool) -> None:
    """Twenty seconds are forgiven, a minute is not."""
    now = int(time.time())
    token = RSA.token(**{name: now + seconds for name, seconds in differences.items()})
    answer = await client.get("/tasks", headers=bearer(token))
    assert answer.status_code == (200 if is_valid else 401)
    assert is_valid or "expired" in answer.text or "not valid yet" in answer.text


async def test_a_token_that_expires(client: httpx.AsyncClient) -> None:
    """It is refused thirty seconds after its `exp`, and no sooner, although the API remembers its caller."""
    exp = int(time.time()) - 26
    headers = bearer(RSA.token(exp=exp))
    seen = []

    async def refused() -> bool:
        seen.append(time.time())
        return (await client.get("/tasks", headers=headers)).status_code == 401

    assert not await refused()
    await until(refused, "the token has expired", pause_s=0.1)
    assert seen[-1] >= exp + 30


async def test_a_token_without_an_id_of_a_key(client: httpx.AsyncClient) -> None:
    """The only key for its algorithm verifies it."""
    assert (await client.get("/tasks", headers=bearer(SIGNERS["EdDSA"].of(claims(), kid=None)))).status_code == 200


async def test_a_flood_of_unknown_keys(client: httpx.AsyncClient, provider: Provider) -> None:
    """No request waits. The provider is asked once. Tokens that are valid go on."""
    asked = provider.asked
    stranger = Signer("stranger", "RS256", 2)
    for number in range(300):
        answer = await client.get("/tasks", headers=bearer(stranger.of(claims(), kid=f"unknown {number}")))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:tailrace:problem:identity-unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 62
        assert elapsed_s(answer) < 5
    assert (await client.get("/tasks", headers=bearer(RSA.token()))).status_code == 200
    await until(lambda: provider.asked > asked, "the provider is asked")

    async def refused() -> bool:
        again = await client.get("/tasks", headers=bearer(stranger.of(claims(), kid="unknown 0")))
        return again.status_code == 401 and "does not have" in again.text

    await until(refused, "a key that the provider does not have is told as such")
    assert provider.asked == asked + 1


def elapsed_s(answer: httpx.Response) -> float:
    """Seconds until the answer was there."""
    return answer.elapsed.total_seconds()


async def answers(url: str, token: str, status: int) -> None:
    """Wait until the API answers a request with this token so; each answer before says 503 or 200."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:

        async def it_does() -> bool:
            answer = await client.get("/tasks", headers=bearer(token))
            assert answer.status_code in (200, 503, status)
            return answer.status_code == status

        await until(it_does, f"the API answers {status}", deadline_s=15)


async def test_the_provider_changes_its_key(redis_url: str) -> None:
    """Tokens of the new key are valid within seconds, without a restart, and never answered 401. Tokens of the old key
    are refused then, although the API remembers their callers.
    """
    old, new = Signer("old"), Signer("new", "RS256", 1)
    with provider_of(old) as provider, api_process(redis_url, **provider.settings()) as api:
        token = old.token()
        await answers(api.url, token, 200)
        provider.publish(new.jwk())
        await answers(api.url, new.token(), 200)
        await answers(api.url, token, 401)
        assert provider.asked == 2


async def test_a_provider_that_is_away_at_the_start(redis_url: str) -> None:
    """The API starts and says so. Tokens are answered 503 at once, so that clients keep them, and valid when the
    provider is back. A token that no key could make valid is answered 401.
    """
    signer = Signer("late")
    with provider_of(signer) as provider:
        provider.status = 500
        with api_process(redis_url, **provider.settings()) as api:
            client = httpx.AsyncClient(base_url=api.url, timeout=30)
            answer = await client.get("/tasks", headers=bearer(signer.token()))
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:tailrace:problem:identity-unavailable")
            assert 1 <= int(answer.headers["retry-after"]) <= 62
            assert "www-authenticate" not in answer.headers
            assert (await client.get("/tasks", headers=bearer(signer.token(exp=1)))).status_code == 401
            assert (await client.get("/health/ready", headers=bearer(signer.token()))).status_code == 200
            api.process.wait_for("keys of the identity provider not read.*the answer has the status 500")
            provider.status = 200
            await answers(api.url, signer.token(), 200)
            await client.aclose()


def test_a_provider_that_takes_its_time(redis_url: str) -> None:
    """The API waits for the first keys before it listens: a restart, which finds the provider a little slow, answers no
    valid token 503.
    """
    signer = Signer("slow")
    with provider_of(signer) as provider:
        provider.delay_s = 0.5
        with api_process(redis_url, **provider.settings()) as api, httpx.Client(base_url=api.url, timeout=30) as client:
            assert client.get("/tasks", headers=bearer(signer.token())).status_code == 200


def test_a_provider_that_says_nothing(redis_url: str, key_file: KeyFile) -> None:
    """The API starts nevertheless, and no request waits for the provider. API keys are taken as always."""
    signer, key = Signer("silent"), key_file.add("ada")
    with provider_of(signer) as provider:
        provider.manner = "silently"
        settings = provider.settings() | {"TAILRACE_AUTH": "keys,jwt", "TAILRACE_KEYS_FILE": str(key_file.path)}
        with api_process(redis_url, **settings) as api, httpx.Client(base_url=api.url, timeout=30) as client:
            assert client.get("/tasks", headers=bearer(key)).status_code == 200
            answer = client.get("/tasks", headers=bearer(signer.token()))
            assert answer.status_code == 503
            assert elapsed_s(answer) < 2
            api.process.wait_for("no whole answer within 5 s")


SECRET: Final = f"{CANARY}, of thirty-two bytes or more"


def test_a_shared_secret(redis_url: str) -> None:
    """It verifies tokens by HS256, and nothing else does. It stands in no line of the log."""
    settings = {"TAILRACE_AUTH": "jwt", "TAILRACE_JWT_SECRET": SECRET} | TRUSTED
    with api_process(redis_url, **settings) as api, httpx.Client(base_url=api.url, timeout=30) as client:
        assert client.get("/tasks", headers=bearer(confused(SECRET.encode()))).status_code == 200
        assert client.get("/tasks").json()["detail"] == "Send a token as `Authorization: Bearer …`."
        header, body = b'{"alg":"HS512"}', json.dumps(claims()).encode()
        for bad in (
            confused(b"another secret of thirty-two bytes"),
            signed(header, body, "HS512", SECRET.encode()),
            RSA.token(),
            without_signature("none"),
            without_signature("HS256"),
        ):
            answer = client.get("/tasks", headers=bearer(bad))
            assert answer.status_code == 401
            assert SECRET not in answer.text
        assert SECRET not in api.process.output


def test_what_tokens_need() -> None:
    """An API that lacks it does not start: the message names the setting."""
    process = Process(API, {"TAILRACE_AUTH": "jwt", "TAILRACE_JWT_ISSUER": "https://login.example"})
    assert process.wait() != 0
    assert (
        "TAILRACE_JWT_AUDIENCE is not set: with TAILRACE_AUTH=jwt it should be the `aud` of the tokens"
        in process.output
    )
