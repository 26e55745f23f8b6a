"""Looks every package of uv.lock up among known vulnerabilities: `make check` fails if one of them has any.

It uses `uv audit`, and passes its own arguments on to it. Where no advisory data can be reached, it says so and passes:
a check that needs a network would keep everyone without one from all the others.
"""

import os
import re
import subprocess
import sys
from typing import Final

# A network that swallows requests costs so many seconds, once.
ENV: Final = {"UV_HTTP_TIMEOUT": "5", "UV_HTTP_RETRIES": "0"}

# In the errors of requests, whatever is the cause: no network, no answer, or one that has no advisories. uv breaks its
# lines where they are too long.
OUT_OF_REACH: Final = re.compile(r"\bfor\s+url\s+\(")

# In the error of a uv that has no such command: before 0.10.
UNKNOWN: Final = "unrecognized subcommand"

SKIPPED: Final = (
    "=" * 100,
    "NOT AUDITED: no advisory data can be reached. Nothing is known about vulnerabilities of the packages in uv.lock.",
    "=" * 100,
)


def main(arguments: list[str]) -> int:
    """Audit the lock, and return the exit code: 0 if nothing is found, or if there was nothing to look it up in."""
    uv = os.environ.get("UV", "uv")  # `uv run` says which
    command = [uv, "audit", "--locked", "--preview-features", "audit-command", *arguments]
    done = subprocess.run(command, env={**os.environ, **ENV}, capture_output=True, text=True)  # noqa: S603  # no shell
    print(done.stdout, done.stderr, sep="", end="", flush=True)
    if done.returncode == 2 and (OUT_OF_REACH.search(done.stderr) or UNKNOWN in done.stderr):
        print(*SKIPPED, sep="\n", flush=True)
        return 0
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
