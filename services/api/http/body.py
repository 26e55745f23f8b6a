"""The body of a request: JSON, or an error that says where it is not."""

import re
from typing import Any, Final

from litestar import Request
from litestar.exceptions import SerializationException

from services.api.http.problems import problem

# The escapes of a JSON text. The group is a surrogate outside a pair. It is none if the text ends within the pair.
ESCAPES: Final = re.compile(
    rb"""\\u[dD][89abAB]..\\u[dD][c-fC-F]..
    |(\\u[dD][89abAB]..(?!(?:\\(?:u(?:[dD](?:[c-fC-F].?)?)?)?)?\Z)|\\u[dD][c-fC-F]..)
    |\\.""",
    re.DOTALL | re.VERBOSE,
)


class JSONRequest(Request[Any, Any, Any]):
    """A request whose body is JSON, whatever its `Content-Type` says."""

    async def json(self) -> Any:
        """Return the decoded body.

        Raises:
            ProblemDetailsException: 400, it is not JSON.
        """
        try:
            return await super().json()
        except (SerializationException, UnicodeDecodeError, RecursionError) as error:
            why = _fault(error, await self.body())
            raise problem(400, "invalid-json", "Malformed body", f"The body must be a JSON object. {why}.") from error


def _fault(error: Exception, body: bytes) -> str:
    if isinstance(error, RecursionError):
        return "It is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "It is not UTF-8"
    said = str(error)
    # msgspec takes a lone surrogate near the end for a truncated body. It stops at its first error, and so at the first
    # lone surrogate, if it stops at one.
    if "truncated" in said or "surrogate" in said:
        lone = next((escape for escape in ESCAPES.finditer(body) if escape[1]), None)
        if lone is not None:
            return f"A string has the lone surrogate {lone[1].decode('latin-1')} (byte {lone.start()})"
    return said
