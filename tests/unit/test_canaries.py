"""A secret in the output of a process fails the test that started it."""

import sys
from typing import Final

import pytest

from services.api.identity.api_keys import new_key
from services.api.identity.caller import Caller
from services.api.identity.tickets import Tickets
from tests.support.canaries import CANARY
from tests.support.identity_provider import Signer
from tests.support.key_files import TICKET_KEY
from tests.support.processes import Process
from tests.support.redis_acl import PASSWORD

KEY: Final = new_key()[0]
SECRETS: Final = {
    "a key": KEY,
    "a token": Signer("canary", "ES256").token(),
    "a ticket": Tickets([TICKET_KEY], 60, 60).make("0" * 32, Caller(owner="", scopes=frozenset())).text,
    "a secret of tickets": TICKET_KEY,
    "a password of Redis": PASSWORD,
    "an input": CANARY,
}


def printing(text: str) -> Process:
    """A process that prints this text in its second line."""
    return Process([sys.executable, "-c", "import os; print('begins', os.environ['TEXT'], sep='\\n')"], {"TEXT": text})


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_in_the_output(secret: str) -> None:
    """The failure names the process and the line, whether the process ends or is ended."""
    process = printing(f"the caller has {secret}, and more")
    with pytest.raises(AssertionError, match=r"(?s)-c import os.* in line 2: the caller has "):
        process.wait()
    with pytest.raises(AssertionError, match="has a secret"):
        process.kill()


def test_no_secret_in_the_output() -> None:
    """Words of the same kind are none: the id of a key, a part of one, the head of a token, other versions."""
    head, claims, _ = SECRETS["a token"].split(".")
    for text in (KEY.rpartition("_")[0], KEY[:-1], head, f"{head}.", claims, "v1.2.3", "trk_a_b"):
        assert printing(text).wait() == 0


def test_a_text_that_a_test_has_written_elsewhere() -> None:
    """It is no secret in this process's output; any other is."""
    process = printing(f"GET /{KEY} 404")
    process.public.add(f"/{KEY}")
    assert process.wait() == 0
    process = printing(f"GET /{KEY} {new_key()[0]}")
    process.public.add(f"/{KEY}")
    with pytest.raises(AssertionError, match="an API key in line 2"):
        process.wait()
