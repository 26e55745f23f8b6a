"""The contract that both services share, and all that a function's author imports.

It holds names, lifetimes, shapes and the one write rule. It imports msgspec and the standard library, opens no
connection and wraps no client.
"""

from plugins.context import Context
from plugins.event import Event, Progress
from plugins.failure import Failure
from plugins.function import function

__all__ = ["Context", "Event", "Failure", "Progress", "function"]
