"""Secrets in the output of processes: no line may have one, whatever a test sends.

Credentials are known by their form. All else that is secret in a test has `CANARY` in it: passwords, the API's own
secrets, inputs.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

# A part of every secret text of the tests that has no form of its own. No function with such an input prints it.
CANARY: Final = "Canary7S3cret"

# The forms of secrets, by name. In a ticket and a token, the last part makes it one.
FORMS: Final = {
    "an API key": re.compile(r"trk_[0-9A-Za-z]+_[0-9A-Za-z]{43}"),
    "a token": re.compile(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+", re.ASCII),
    "a ticket": re.compile(r"v1\.[0-9a-f]{8}\.[0-9]{13}\.[0-9]{13}\.[A-Za-z0-9_-]{43}"),
    "a secret text of the tests": re.compile(CANARY),
}

# The command that makes API keys: it prints each of them once, as it should.
PRINTS_KEYS: Final = "services.api.keys"


def assert_none(output: str, command: Sequence[str] = (), but: Collection[str] = ()) -> None:
    """The output of this command has no secret, apart from these texts."""
    if PRINTS_KEYS in command:
        return
    for text in but:
        output = output.replace(text, "")
    found = [
        f"{name} in line {number}: {line}"
        for name, form in FORMS.items()
        if form.search(output)
        for number, line in enumerate(output.splitlines(), 1)
        if form.search(line)
    ]
    assert not found, f"the output of `{' '.join(command)}` has a secret:\n" + "\n".join(found)
