"""API keys: each request proves its caller by one, and has what its owner has."""

import re
import resource
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest

from services.api.identity.api_keys import new_key
from tests.support.key_files import KeyFile, bearer
from tests.support.processes import Api, Process
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

API: Final = [sys.executable, "-m", "uvicorn", "--factory", "services.api.app:create_app", "--port", "0"]

# Calls of a task: the method, and the end of the path.
CALLS: Final = [("GET", ""), ("GET", "/stream"), ("GET", "/chunks"), ("DELETE", ""), ("DELETE", "?purge=true")]

START: Final = {"function": "count", "input": {"to": 1}}


async def answer_to(client: httpx.AsyncClient, headers: dict[str, str] | list[tuple[str, str]]) -> tuple[int, str, str]:
    """The status of a list of tasks with these headers, the problem's type, and the challenge."""
    answer = await client.get("/tasks", headers=headers)
    kind = "" if answer.status_code == 200 else answer.json()["type"].rpartition(":")[2]
    return answer.status_code, kind, answer.headers.get("www-authenticate", "")


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
async def test_a_key_in_either_header(callers: httpx.AsyncClient, key_file: KeyFile, header: str) -> None:
    """A caller with a key starts a task and finds it in its list, with either header."""
    key = await known(callers, key_file, key_file.add(f"ada, by {header}"))
    headers = {header: f"Bearer {key}" if header == "Authorization" else key}
    started = await callers.post("/tasks", json=START, headers=headers)
    assert started.status_code == 202
    listed = (await callers.get("/tasks", headers=headers)).json()["tasks"]
    assert [task["task_id"] for task in listed] == [started.json()["task_id"]]


async def known(client: httpx.AsyncClient, key_file: KeyFile, key: str) -> str:
    """Wait until the API has read a key that was added just now; the key."""

    async def is_known() -> bool:
        return (await answer_to(client, bearer(key)))[0] == 200

    await until(is_known, "the key is known")
    return key


async def test_a_task_of_another_owner_is_unknown(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """Another owner gets the same answer as for a task that there is not, and cancels nothing."""
    ada, eve = (key_file.add(owner) for owner in ("ada", "eve"))
    await known(callers, key_file, eve)
    url = (await callers.post("/tasks", json=START, headers=bearer(ada))).json()["status_url"]
    unknown = f"/tasks/{'0' * 32}"
    for method, path in (
        ("GET", ""),
        ("GET", "/stream"),
        ("GET", "/chunks"),
        ("DELETE", ""),
        ("DELETE", "?purge=true"),
    ):
        foreign = await callers.request(method, url + path, headers=bearer(eve))
        none = await callers.request(method, unknown + path, headers=bearer(eve))
        assert (foreign.status_code, foreign.content) == (404, none.content)
    assert (await callers.get(url, headers=bearer(ada))).status_code == 200


async def test_no_credential(callers: httpx.AsyncClient) -> None:
    """The answer says what to send. Health needs no credential."""
    assert await answer_to(callers, {}) == (401, "no-credential", 'Bearer realm="tailrace"')
    detail = (await callers.get("/tasks")).json()["detail"]
    assert detail == "Send an API key as `Authorization: Bearer …` or as `X-API-Key`."
    assert (await callers.get("/health/live")).status_code == 200
    assert (await callers.get("/health/ready")).status_code == 200


BAD: Final = {
    "another scheme": [("Authorization", "Basic YWRhOnNlY3JldA==")],
    "nothing behind the scheme": [("Authorization", "Bearer")],
    "no scheme": [("Authorization", new_key()[0])],
    "an unknown key": [("Authorization", f"Bearer {new_key()[0]}")],
    "half a key": [("X-API-Key", new_key()[0][:30])],
    "another form": [("X-API-Key", "sk-12345")],
    "two keys": [("X-API-Key", new_key()[0]), ("X-API-Key", new_key()[0])],
    "a key and a token": [("X-API-Key", new_key()[0]), ("Authorization", f"Bearer {new_key()[0]}")],
    "the same key twice": [("X-API-Key", "trk_a_b"), ("X-API-Key", "trk_a_b")],
    "a long one": [("X-API-Key", "trk_" + "a" * 8_192)],
    "spaces": [("X-API-Key", "trk_a b")],
    "other letters": [("X-API-Key", "trk_\xe4_\xf6")],
}


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
async def test_a_bad_credential(callers: httpx.AsyncClient, headers: list[tuple[str, str]]) -> None:
    """401 with a challenge and a problem that says what is wrong, and repeats no part of it."""
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = await callers.get("/tasks", headers=sent)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="tailrace", error="invalid_token"'
    assert answer.json()["type"] == "urn:tailrace:problem:invalid-credential"
    assert len(answer.json()["detail"]) > 20
    for _, value in headers:
        for word in re.findall(r"\w{12,}", value):
            assert word not in answer.text


async def test_a_wrong_secret_is_as_an_unknown_key(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """A caller does not learn which ids of keys there are."""
    key = await known(callers, key_file, key_file.add("ada"))
    other = new_key()[0]
    wrong = f"{key.rpartition('_')[0]}_{other.rpartition('_')[2]}"
    answers = [await callers.get("/tasks", headers=bearer(each)) for each in (wrong, other)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content


async def test_a_key_that_expires(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """It is refused from then on, although the API remembers its caller; the answer says that it has expired."""
    key = await known(callers, key_file, key_file.add("ada", expires_s=3))

    async def expired() -> bool:
        return "has expired" in (await callers.get("/tasks", headers=bearer(key))).text

    await until(expired, "the key has expired")


async def test_a_revoked_key(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """It is refused without a restart, although the API remembers its caller; the owner's other key goes on."""
    old, new = key_file.add("ada"), key_file.add("ada")
    await known(callers, key_file, new)
    await known(callers, key_file, old)
    key_file.revoke(old)

    async def refused() -> bool:
        return (await answer_to(callers, bearer(old)))[0] == 401

    await until(refused, "the key is refused")
    assert (await answer_to(callers, bearer(new)))[0] == 200


async def test_a_broken_file_keeps_the_last_good_one(
    guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile
) -> None:
    """The log says where the file is wrong. Keys that were known go on, and the mended file counts at once."""
    key = await known(callers, key_file, key_file.add("ada"))
    key_file.path.write_text('{"keys": {"a": {"owner": 7}}}')
    guarded.process.wait_for(r"api keys not read, those known stay.*Expected `str`, got `int` - at `\$\.keys\[\.\.\.\]")
    assert (await answer_to(callers, bearer(key)))[0] == 200
    await known(callers, key_file, key_file.add("bob"))


async def test_a_file_that_is_no_text(guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """The log says so, and has no part of the file. Keys that were known go on."""
    key = await known(callers, key_file, key_file.add("ada"))
    key_file.path.write_bytes(key_file.path.read_bytes().replace(b"ada", b"a\xffa"))
    guarded.process.wait_for(r"api keys not read, those known stay.*a string in it is no UTF-8")
    assert (await answer_to(callers, bearer(key)))[0] == 200
    assert "crashed" not in guarded.process.output
    await known(callers, key_file, key_file.add("bob"))


async def test_a_file_that_cannot_be_read_for_a_while(
    guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile
) -> None:
    """A key that is revoked while the API may open no file is refused as soon as it may again, without another edit.
    The log names the fault once.
    """
    key = await known(callers, key_file, key_file.add("ada"))
    pid, said = guarded.process.pid, "api keys not read, those known stay.*Too many open files"
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
    try:
        key_file.revoke(key)
        guarded.process.wait_for(said)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    async def refused() -> bool:
        return (await answer_to(callers, bearer(key)))[0] == 401

    await until(refused, "the key is refused")
    assert len(re.findall(said, guarded.process.output)) == 1


async def test_a_function_that_is_not_the_callers(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """403 names the scope that is missing; the function that the key names is started."""
    key = await known(callers, key_file, key_file.add("ada", "tasks", "functions:count"))
    assert (await callers.post("/tasks", json=START, headers=bearer(key))).status_code == 202
    refused = await callers.post("/functions/words/tasks", json={"text": "a"}, headers=bearer(key))
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tailrace:problem:insufficient-scope")
    assert refused.json()["scope"] == "functions:words"
    assert refused.headers["www-authenticate"].endswith('error="insufficient_scope", scope="functions:words"')


async def test_only_an_admin_pauses(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """A function stands still for all owners, so a key needs the scope for it."""
    usual, admin = key_file.add("ada"), key_file.add("root", "admin")
    await known(callers, key_file, usual)
    refused = await callers.put("/functions/count/paused", headers=bearer(usual))
    assert (refused.status_code, refused.json()["scope"]) == (403, "admin")
    unknown = await callers.put("/functions/none/paused", headers=bearer(admin))
    assert unknown.status_code == 404


async def test_an_admin_has_every_task(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """An operator reads and cancels what another has started. The end says that an admin did, not which one."""
    ada, root = key_file.add("ada"), key_file.add("root", "tasks", "admin")
    await known(callers, key_file, root)
    slow = {"function": "count", "input": {"to": 2, "every": 3600}}
    url = (await callers.post("/tasks", json=slow, headers=bearer(ada))).json()["status_url"]
    assert (await callers.delete(url, headers=bearer(root))).status_code == 202
    assert (await callers.get(url, headers=bearer(ada))).json()["end"] == {"by": "admin"}


def refusal(**env: str) -> str:
    """The output of an API that does not start."""
    process = Process(API, env)
    assert process.wait() != 0
    return process.output


def test_without_a_decision_the_api_does_not_start() -> None:
    """The message says what there is to decide."""
    assert "TAILRACE_AUTH is '': it should be `keys`" in refusal(TAILRACE_AUTH="")
    assert "TAILRACE_AUTH is 'none,keys': it should be `keys`" in refusal(TAILRACE_AUTH="none,keys")


def test_a_keys_file_that_is_none(tmp_path: Path) -> None:
    """The message names the setting, or the file and where it is wrong, and how to make one."""
    assert "TAILRACE_KEYS_FILE is not set" in refusal(TAILRACE_AUTH="keys")
    none, broken = tmp_path / "none.json", tmp_path / "broken.json"
    broken.write_text('{"keys": {"a": {"owner": "ada"}}}')
    said = refusal(TAILRACE_AUTH="keys", TAILRACE_KEYS_FILE=str(none))
    assert f"TAILRACE_KEYS_FILE is '{none}': No such file or directory. `python -m services.api.keys add" in said
    said = refusal(TAILRACE_AUTH="keys", TAILRACE_KEYS_FILE=str(broken))
    assert "missing required field `sha256`" in said


def test_a_keys_file_that_is_no_text(tmp_path: Path) -> None:
    """The API does not start, and says so."""
    file = tmp_path / "keys.json"
    file.write_bytes(b'{"keys": {"a": {"owner": "\xff"}}}')
    assert "a string in it is no UTF-8" in refusal(TAILRACE_AUTH="keys", TAILRACE_KEYS_FILE=str(file))


def test_every_start_without_authentication_says_so(guarded: Api, api: Api) -> None:
    """An operator that meant to ask for keys sees it."""
    api.process.wait_for("no authentication")
    assert "no authentication" not in guarded.process.output
