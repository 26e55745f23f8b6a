"""Content negotiation: what a client accepts as an answer."""

from typing import Any

from litestar import Request


def media_types(request: Request[Any, Any, Any]) -> set[str]:
    """Return the media types of the header `Accept`, without parameters."""
    ranges = ",".join(request.headers.getall("accept", [])).lower().split(",")
    return {media_range.partition(";")[0].strip() for media_range in ranges}
