"""A page of a listed origin uses the API from a browser; a page of another one gets nothing."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.support.browser import Pages, pages
from tests.support.key_files import KeyFile, bearer
from tests.support.processes import Api, Process, api_process

pytestmark = pytest.mark.program

WITH_A_KEY: Final = (
    "starts",
    "streams",
    "resumes",
    "cancels",
    "asks_again",
    "forgets_its_key",
    "has_a_wrong_key",
    "asks_too_fast",
    "sends_too_much",
    "is_without_cors",
    "sends_cookies",
)

# The report of a page that the browser lets read nothing.
NOTHING: Final = {"error": "TypeError"}


@pytest.fixture(scope="module")
def site() -> Iterator[Pages]:
    """The page's server."""
    with pages() as one:
        yield one


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Keys of two owners, and their file."""
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")
    return {"key": file.add("ada"), "noisy": file.add("eve"), "file": str(file.path)}


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process, site: Pages, keys: dict[str, str]) -> Iterator[Api]:
    """An API that asks for keys, and lists the page's origin."""
    settings = {"TAILRACE_AUTH": "keys", "TAILRACE_KEYS_FILE": keys["file"], "TAILRACE_CORS_ORIGINS": site.origin}
    with api_process(redis_url, TAILRACE_OWNER_REQUESTS="1", TAILRACE_OWNER_BURST="60", **settings) as one:
        yield one


def visit(site: Pages, origin: str, api: Api, factory: pytest.TempPathFactory, *names: str, **keys: str) -> Any:
    """The report of the page of this origin."""
    return site.visit(factory.mktemp("profile"), origin, *names, api=api.url, **keys)


@pytest.fixture(scope="module")
def seen(api: Api, site: Pages, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a page of the listed origin."""
    found: dict[str, Any] = visit(site, site.origin, api, tmp_path_factory, *WITH_A_KEY, **keys)
    return found


def test_it_starts_a_task(seen: dict[str, Any]) -> None:
    """It sends its key and an Idempotency-Key, and reads where the task is."""
    started = seen["starts"]
    assert started["status"] == 202
    task_id = started["body"]["task_id"]
    assert started["headers"]["location"].endswith(f"/tasks/{task_id}")


def test_it_reads_the_stream_of_a_post(seen: dict[str, Any]) -> None:
    """It reads each event, and where to come back to."""
    assert seen["streams"]["events"] == [[0, 1], [1, 2], [2, 3], [3, {"chunks": 3}]]
    assert "/stream" in seen["streams"]["location"]


def test_it_comes_back_with_the_last_event_id(seen: dict[str, Any]) -> None:
    """It reads every event once: those before it left, and those behind its cursor."""
    assert seen["resumes"] == [[seq, seq + 1] for seq in range(20)] + [[20, {"chunks": 20}]]


def test_it_cancels(seen: dict[str, Any]) -> None:
    """DELETE is a method of the task's path."""
    assert (seen["cancels"]["status"], seen["cancels"]["body"]["status"]) == (202, "cancelled")


def test_it_asks_whether_a_document_is_current(seen: dict[str, Any]) -> None:
    """It reads the ETag, and sends it as If-None-Match."""
    assert seen["asks_again"] == 304


def test_it_reads_why_it_was_refused(seen: dict[str, Any]) -> None:
    """401, 413, and 429 with the time to wait: the page reads the problem."""
    kinds = {name: seen[name]["body"]["type"].rpartition(":")[2] for name in WITH_A_KEY[5:9]}
    assert kinds == {
        "forgets_its_key": "no-credential",
        "has_a_wrong_key": "invalid-credential",
        "asks_too_fast": "too-many-requests",
        "sends_too_much": "too-large",
    }
    assert [seen[name]["status"] for name in kinds] == [401, 401, 429, 413]
    assert int(seen["asks_too_fast"]["headers"]["retry-after"]) >= 1


def test_it_reads_nothing_by_what_a_browser_adds(seen: dict[str, Any]) -> None:
    """Without CORS it cannot embed an answer, and with cookies it cannot read one: a page asks in its own name."""
    assert (seen["is_without_cors"], seen["sends_cookies"]) == (NOTHING, NOTHING)


def test_a_page_of_an_unlisted_origin(
    api: Api, site: Pages, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It reads nothing and starts nothing, though it has a key."""

    def tasks() -> Any:
        answer = httpx.get(f"{api.url}/tasks", headers=bearer(keys["key"]), params={"limit": 100})
        return answer.raise_for_status().json()

    before = tasks()
    found = visit(site, site.other_origin, api, tmp_path_factory, *WITH_A_KEY, **keys)
    assert found == dict.fromkeys(WITH_A_KEY, NOTHING)
    assert tasks() == before


@pytest.fixture(scope="module")
def open_api(redis_url: str, worker: Process, site: Pages) -> Iterator[Api]:
    """An API without authentication that lists the page's origin."""
    with api_process(redis_url, TAILRACE_CORS_ORIGINS=site.origin) as one:
        yield one


def test_without_authentication(open_api: Api, site: Pages, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A page of a listed origin may do all, by an EventSource too; one of another origin nothing."""
    names = ("starts", "has_an_event_source")
    found = visit(site, site.origin, open_api, tmp_path_factory, *names)
    assert found["starts"]["status"] == 202
    assert found["has_an_event_source"] == [[0, 1], [1, 2], [2, 3], [3, {"chunks": 3}]]
    found = visit(site, site.other_origin, open_api, tmp_path_factory, *names)
    assert found == dict.fromkeys(names, NOTHING)
