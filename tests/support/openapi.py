"""Whether an answer is as the OpenAPI document describes it."""

import json
from typing import Any

import httpx
import jsonschema_rs

# The media type of errors.
PROBLEM = "application/problem+json"


def responses(document: Any, operation: Any) -> dict[int, Any]:
    """The answers of an operation, by status. References are followed."""

    def resolved(described: Any) -> Any:
        reference = described.get("$ref")
        return document["components"]["responses"][reference.rpartition("/")[2]] if reference else described

    return {int(status): resolved(described) for status, described in operation["responses"].items()}


def check(document: Any, answer: httpx.Response, method: str, template: str) -> None:
    """The answer is of one of the media types of its status, and fits the schema of it."""
    described = responses(document, document["paths"][template][method.lower()]).get(answer.status_code)
    assert described is not None, f"{answer.status_code} is not documented: {answer.text}"
    if not answer.content:
        assert "content" not in described
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in described["content"], answer.headers["content-type"]
    schema = described["content"][media_type]["schema"]
    body: Any = answer.json() if media_type.endswith("json") and "ndjson" not in media_type else answer.text
    if answer.status_code >= 400 and media_type != "application/json":
        assert (media_type, body["status"]) == (PROBLEM, answer.status_code)
        assert schema == {"$ref": "#/components/schemas/Problem"}
    validator = jsonschema_rs.validator_for({**schema, "components": document["components"]})
    faults = [f"{fault.instance_path}: {fault.message}" for fault in validator.iter_errors(body)]
    assert faults == [], json.dumps(body)
