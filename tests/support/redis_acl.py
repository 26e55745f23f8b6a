"""The users of `deploy/redis.acl`: every Redis of the tests has them, and the services of the tests are two of them.

The tests themselves may do everything: they are the user `default`, whose line they replace. So a URL without a user is
the tests' own, and a service's has its user in it. Where a server ends, it has refused these users nothing.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.canaries import CANARY
from tests.support.launcher import ROOT

FILE: Final = ROOT / "deploy" / "redis.acl"

PASSWORD: Final = f"{CANARY}-of-a-user-of-redis"

# The programs that run the services, and whose user each is.
USERS: Final = {"uvicorn": "api", "services.worker": "worker", "taskiq": "worker"}

TESTS: Final = "user default on nopass ~* &* +@all"

# Seconds for a server to answer. One that a test has frozen is not asked.
ANSWER_S: Final = 1


def rules() -> dict[str, list[str]]:
    """The rules of each user of the file, as they stand there."""
    lines = [line.split() for line in FILE.read_text().splitlines()]
    assert all(words[0] == "user" for words in lines), "Redis takes no line of another kind"
    return {words[1]: words[2:] for words in lines}


def for_tests() -> dict[str, list[str]]:
    """The rules of each user, with a password for those of the services; the tests may do everything."""
    services = {name: [*words, f">{PASSWORD}"] for name, words in rules().items() if name in USERS.values()}
    return services | {"default": TESTS.split()[2:]}


def written(users: Mapping[str, Sequence[str]]) -> str:
    """A file with the rules of these users."""
    return "".join(f"user {name} {' '.join(words)}\n" for name, words in users.items())


def set_users(url: str) -> None:
    """Give these users to a server that runs already."""
    with Redis.from_url(url) as redis:
        for name, words in for_tests().items():
            redis.execute_command("ACL", "SETUSER", name, "reset", *words)


def url_of(user: str, url: str) -> str:
    """The URL, as this user."""
    parts = urlsplit(url)
    if parts.scheme != "redis" or "@" in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:{PASSWORD}@{parts.netloc}"))


def as_own_user(command: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """The environment of this command: one that runs a service reaches Redis as the service's user."""
    is_module = command[:2] == [sys.executable, "-m"]
    is_ours = any(word.startswith(("services.", "tests.")) for word in command)  # the benchmark runs others, too
    if is_module and is_ours and command[2] in USERS and "REDIS_URL" in env:
        return {**env, "REDIS_URL": url_of(USERS[command[2]], env["REDIS_URL"])}
    return dict(env)


def assert_nothing_refused(url: str) -> None:
    """The server at this URL has refused the services nothing. One that does not answer says nothing about it."""
    try:
        once = Retry(NoBackoff(), 0)
        with Redis.from_url(url, decode_responses=True, retry=once, socket_timeout=ANSWER_S) as redis:
            refused = list(refusals(redis.acl_log()))
    except (exceptions.ConnectionError, exceptions.TimeoutError):
        return
    assert not refused, "\n".join(refused)


def refusals(log: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each refusal of a service in a server's ACL LOG, with the rule that would allow it; wrong passwords are none."""
    sign = {"command": "+", "key": "~", "channel": "&"}
    for entry in log:
        if entry["username"] in USERS.values() and entry["reason"] in sign:
            reason, wanted = entry["reason"], entry["object"]
            yield (
                f"Redis refuses the user `{entry['username']}` the {reason} {wanted} ({entry['context']}). If it needs "
                f"it, add {sign[reason]}{wanted} to the line `user {entry['username']}` of {FILE.relative_to(ROOT)} "
                "(a pattern for keys and channels); if not, the code should not ask for it."
            )
