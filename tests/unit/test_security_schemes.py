"""The OpenAPI document says how callers prove their identity, and which scopes each call needs."""

import json
from typing import Any, Final

import pytest

from plugins.declaration import Declaration
from services.api.app import create_app
from services.api.identity.refusals import unidentified
from services.api.routes.openapi import with_functions
from services.api.settings import Settings
from services.api.ways import ways_of

pytestmark = pytest.mark.anyio

BEARER: Final = "bearer"
KEY: Final = "apiKey"

# The schemes of each setting, and whether a call may have no credential because a proxy names its caller.
SETTINGS: Final = {
    "keys": ([BEARER, KEY], False),
    "jwt": ([BEARER], False),
    "keys,jwt": ([BEARER, KEY], False),
    "keys,proxy": ([BEARER, KEY], True),
    "jwt,proxy": ([BEARER], True),
    "proxy": ([], False),
}

# The scopes that a call needs. Those that are not here are for all.
NEEDS: Final = {
    "post /tasks": ["tasks", "functions:{name}"],
    "get /tasks": ["tasks"],
    "get /tasks/{task_id}": ["tasks"],
    "delete /tasks/{task_id}": ["tasks"],
    "post /tasks/{task_id}/tickets": ["tasks"],
    "get /tasks/{task_id}/stream": ["tasks"],
    "get /tasks/{task_id}/chunks": ["tasks"],
    "get /functions": [],
    "get /functions/{name}": [],
    "post /functions/{name}/tasks": ["tasks", "functions:{name}"],
    "post /functions/count/tasks": ["tasks", "functions:count"],
    "put /functions/{name}/paused": ["admin"],
    "delete /functions/{name}/paused": ["admin"],
}

COUNT: Final = Declaration(name="count", description="Count.\n\nTo a number.", version="0", input={}, timeout=1)


async def document(auth: str, *tickets: str) -> Any:
    """The document of an API with this setting and these keys of tickets, and the function `count`."""
    app = create_app(Settings())
    app.state.settings = Settings().model_copy(update={"auth": ways_of(auth), "ticket_keys": tickets})
    return await with_functions(app, [COUNT])


def calls_of(document: Any) -> dict[str, Any]:
    """The calls, by method and path."""
    return {f"{method} {path}": call for path, calls in document["paths"].items() for method, call in calls.items()}


@pytest.mark.parametrize(("auth", "schemes", "optional"), [(auth, *more) for auth, more in SETTINGS.items()])
async def test_each_call_says_what_it_needs(auth: str, schemes: list[str], optional: bool) -> None:
    """By each scheme that there is, with its scopes; HEAD as GET. Health and OPTIONS are for all."""
    whole = await document(auth)
    assert list(whole["components"].get("securitySchemes", {})) == schemes
    needs = NEEDS | {call.replace("get", "head"): scopes for call, scopes in NEEDS.items() if call.startswith("get")}
    for name, call in calls_of(whole).items():
        required = [{scheme: needs[name]} for scheme in schemes] if name in needs else []
        assert call.get("security", []) == required + ([{}] if required and optional else []), name
        assert ("401" in call["responses"]) == (name in needs), name
    assert whole["components"]["responses"]["Problem401"]["headers"].keys() == {"WWW-Authenticate"}


@pytest.mark.parametrize(("auth", "others"), [("keys", [BEARER, KEY]), ("proxy", [])])
async def test_a_ticket_is_a_scheme(auth: str, others: list[str]) -> None:
    """Of the calls that take one, and no parameter: the API refuses a ticket beside another credential."""
    whole = await document(auth, "k" * 32)
    assert list(whole["components"]["securitySchemes"]) == [*others, "ticket"]
    calls = calls_of(whole)
    takers = {name for name, call in calls.items() if {"ticket": []} in call.get("security", [])}
    assert takers == {f"{method} /tasks/{{task_id}}/{of}" for method in ("get", "head") for of in ("stream", "chunks")}
    for name in takers:
        assert "ticket" not in [parameter["name"] for parameter in calls[name]["parameters"]]


async def test_each_call_says_it_in_words() -> None:
    """Behind what the call is, for readers of the document."""
    calls = calls_of(await document("keys"))
    for name, scopes in NEEDS.items():
        last = calls[name]["description"].rpartition("\n\n")[2]
        assert all(f"`{scope}`" in last for scope in scopes), name
        assert scopes or last == "The caller needs no scope.", name
    assert calls["post /functions/count/tasks"]["description"] == (
        "To a number.\n\nThe caller needs the scopes `tasks` and `functions:count`."
    )


async def test_without_authentication_no_call_needs_a_credential() -> None:
    """A client that is generated of the document has none, and is not asked for one."""
    whole = await document("none")
    assert "securitySchemes" not in whole["components"]
    assert [name for name, call in calls_of(whole).items() if "security" in call or "401" in call["responses"]] == []
    assert "Problem401" not in whole["components"]["responses"]
    assert "The caller needs" not in json.dumps(whole["paths"])


async def test_what_there_is_to_send() -> None:
    """A request without a credential is told what this API takes, and nothing else."""
    words = {"keys": ("API key", "X-API-Key", "Bearer"), "jwt": ("token", "Bearer"), "proxy": ("proxy",)}
    for auth in SETTINGS:
        detail = unidentified(ways_of(auth)).detail
        told = {word for way in auth.split(",") for word in words[way]}
        assert {word for each in words.values() for word in each if word in detail} == told, detail
        assert detail[0].isupper(), detail
        assert detail.endswith("."), detail
        assert "  " not in detail, detail
