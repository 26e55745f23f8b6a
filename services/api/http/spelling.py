"""A path has one spelling. A proxy, or a cache, that has rules for paths would not see the others for what they are."""

import re
from typing import Any, Final

from litestar.connection import ASGIConnection

from services.api.http.problems import problem

# Other spellings: an empty segment, a slash at the end, an escaped slash, an escape of a character that needs none
# (RFC 3986, 6.2.2.2).
OTHER: Final = re.compile(rb"//|./\Z|%(?:2[DdEeFf]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")


def refuse_others(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Runs before every handler. Litestar finds it by any spelling.

    Raises:
        ProblemDetailsException: 404, the path has another spelling than its own.
    """
    if OTHER.search(connection.scope["raw_path"]):
        raise problem(
            404,
            "not-found",
            "Not found",
            "A path has one spelling: no empty segment, no slash at the end, no escaped slash, letter or digit.",
        )
