"""What the OpenAPI document says of every call, beside what its handler declares: refusals, HEAD and OPTIONS.

An error is described once, and referred to by all calls that answer it: a document with hundreds of functions stays
small, and a generator makes one class of it.
"""

from typing import Any, Final

from services.api.http.problems import MEANINGS
from services.api.http.refusals import Refusal

PROBLEM: Final = "application/problem+json"

RESPONSES: Final = "#/components/responses/"

# The statuses of what never becomes a request, which any call may be answered.
REFUSED: Final = sorted({int(refusal.status) for refusal in Refusal})

# What each error means. A status that only refusals have means what they say.
ERRORS: Final = {int(refusal.status): refusal.detail for refusal in Refusal} | MEANINGS

CONTENT: Final = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}

CHALLENGE: Final = {
    "description": "The challenge, of the scheme Bearer (RFC 6750, 3).",
    "required": True,
    "schema": {"type": "string"},
}

# HEAD and OPTIONS have a tag of their own: generators group by it, and keep them out of the way of other calls.
TAG: Final = "methods"


def complete(document: dict[str, Any]) -> None:
    """Add to each path of the document what the server answers beside its handlers."""
    for calls in document["paths"].values():
        for call in calls.values():
            call["responses"] = _with_errors(call["responses"])
        options = _options(list(calls.values()))
        if "get" in calls:
            calls["head"] = _head(calls["get"])
        calls["options"] = options
    called = [call["responses"] for calls in document["paths"].values() for call in calls.values()]
    used = {response["$ref"] for responses in called for response in responses.values() if "$ref" in response}
    components = {name: each for name, each in _components().items() if RESPONSES + name in used}
    document["components"]["responses"] = components


def _with_errors(responses: dict[str, Any]) -> dict[str, Any]:
    """Return these answers of a call with the refusals, and with a reference in place of each plain error."""
    whole = {status: response for status, response in responses.items() if response.get("content") != CONTENT}
    plain = {int(status) for status in responses.keys() - whole.keys()}
    for status in plain.union(REFUSED):
        if own := whole.get(str(status)):
            whole[str(status)] = own | {"content": own["content"] | CONTENT}
        else:
            whole[str(status)] = _reference(f"Problem{status}")
    return dict(sorted(whole.items()))


def _head(get: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": [TAG],
        "summary": f"{get['summary']}: the head of the answer",
        "operationId": f"head.{get['operationId']}",
        "parameters": get.get("parameters", []),
        **({"security": get["security"]} if "security" in get else {}),
        "responses": {status: _reference("Head") for status in get["responses"]},
    }


def _options(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Return OPTIONS of a path with these calls. It is refused to foreign hosts, if they all are."""
    foreign = {403} if all("403" in call["responses"] for call in calls) else set()
    errors = {str(status): _reference(f"Problem{status}") for status in sorted(foreign.union(REFUSED))}
    return {
        "tags": [TAG],
        "summary": "Ask for the methods of the path",
        "operationId": f"options.{calls[0]['operationId']}",
        "parameters": [each for each in calls[0].get("parameters", []) if each["in"] == "path"],
        "responses": {"204": _reference("Options"), **errors},
    }


def _components() -> dict[str, Any]:
    allow = {"description": "The methods, with commas between them.", "schema": {"type": "string"}}
    return {
        **{f"Problem{status}": {"description": ERRORS[status], "content": CONTENT} for status in sorted(ERRORS)},
        "Problem401": {"description": ERRORS[401], "headers": {"WWW-Authenticate": CHALLENGE}, "content": CONTENT},
        "Head": {"description": "The head of the answer that GET has. There is no body."},
        "Options": {"description": "`Allow` names the methods of the path.", "headers": {"Allow": allow}},
    }


def _reference(name: str) -> dict[str, str]:
    return {"$ref": RESPONSES + name}
