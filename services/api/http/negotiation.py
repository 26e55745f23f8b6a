"""What a client would take as an answer."""

from typing import Any

from litestar import Request


def media_types(request: Request[Any, Any, Any]) -> set[str]:
    """What the header `Accept` names, without parameters."""
    named = ",".join(request.headers.getall("accept", [])).lower().split(",")
    return {each.partition(";")[0].strip() for each in named}
