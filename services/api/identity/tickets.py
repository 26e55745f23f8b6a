"""Tickets: `v1.<key>.<open until>.<stream until>.<mac>`. One opens the stream and the pages of one task, to read them.

An `EventSource` sends no header, so a ticket stands in the URL. Times are in milliseconds since the epoch: the first is
for opening a stream, the second for its end. `mac` is that of both times and of the task's id, by one of the API's
secrets, and `key` tells which one.
"""

import base64
import hmac
import re
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from services.api.identity.caller import TASKS, Caller, owner_of
from services.api.identity.refusals import CredentialError

VERSION: Final = "v1"

# A time has 13 digits until the year 2286.
TICKET: Final = re.compile(r"v1\.([0-9a-f]{8})\.([0-9]{13})\.([0-9]{13})\.([A-Za-z0-9_-]{43})", re.ASCII)

# Part of each signed text, so that no other text that the same secret signs is a ticket.
DOMAIN: Final = "tailrace-ticket"

# The issuer of all tickets, as a part of an owner: the holders of a task's tickets have one rate of requests.
ISSUER: Final = "tailrace:tickets"


class Ticket(msgspec.Struct, frozen=True):
    """A ticket: its text, and its times in milliseconds since the epoch."""

    text: str
    open_until: int
    stream_until: int


class Tickets:
    """Makes tickets, and verifies them. The first secret signs. Without any there are no tickets."""

    def __init__(self, secrets: Sequence[str], open_s: float, stream_s: float) -> None:
        self._secrets = {_key_of(secret): secret for secret in secrets}
        self._open_s = open_s
        self._stream_s = stream_s

    @property
    def on(self) -> bool:
        """Whether there are tickets."""
        return bool(self._secrets)

    def make(self, task_id: str, caller: Caller) -> Ticket:
        """Return a ticket for this task, which is valid for no longer than the caller's credential."""
        now = time.time()
        stream_until = _ms(min(now + self._stream_s, caller.until))
        open_until = min(_ms(now + self._open_s), stream_until)
        key, secret = next(iter(self._secrets.items()))
        mac = _mac(secret, task_id, str(open_until), str(stream_until))
        return Ticket(f"{VERSION}.{key}.{open_until}.{stream_until}.{mac}", open_until, stream_until)

    def holder(self, text: str, task_id: str) -> Caller:
        """Return the caller that has this ticket, and asks for this task.

        Raises:
            CredentialError: the ticket is malformed, none for this task, or not valid any more.
        """
        if not self.on:
            raise CredentialError("This API takes no tickets: its setting TAILRACE_TICKET_KEYS is not set.")
        match = TICKET.fullmatch(text)
        if match is None:
            raise CredentialError("The ticket is malformed: a part of it may be missing.")
        key, open_until, stream_until, mac = match.groups()
        secret = self._secrets.get(key, "")
        # Nothing of the ticket counts before this.
        if not (secret and hmac.compare_digest(mac, _mac(secret, task_id, open_until, stream_until))):
            raise CredentialError("The ticket is not for this task, or its key is none of this API's any more.")
        if int(open_until) <= _ms(time.time()):
            raise CredentialError("The ticket has expired. POST to the task's address with /tickets makes another.")
        return Caller(
            owner=owner_of(ISSUER, task_id), scopes=frozenset({TASKS}), until=int(stream_until) / 1_000, task=task_id
        )


def _ms(seconds: float) -> int:
    return int(seconds * 1_000)


def _key_of(secret: str) -> str:
    """Return the name of a secret, which tells nothing of it."""
    return hmac.digest(secret.encode(), f"{DOMAIN}-key".encode(), "sha256").hex()[:8]


def _mac(secret: str, task_id: str, open_until: str, stream_until: str) -> str:
    text = "\0".join([DOMAIN, VERSION, task_id, open_until, stream_until])
    mac = hmac.digest(secret.encode(), text.encode("utf-8", "surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
