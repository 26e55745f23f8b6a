"""What `REDIS_URL` may say: where Redis is, as which user, how it is secured. All else the services set themselves.

An option of a URL takes the place of what a service sets for its connections. `decode_responses` alone would make every
request fail; a time-out would end the connection that waits for entries.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

# Patterns of the values of options that may be there, by name; those of TLS only with rediss://.
OPTIONS: Final = {
    "db": r"\d+",
    "username": ".+",
    "password": ".+",
    "protocol": "[23]",
    "socket_keepalive": "(?i)true|false|yes|no|1|0",
}
TLS_OPTIONS: Final = {
    "ssl_cert_reqs": "optional|required",
    "ssl_check_hostname": "(?i)true|false|yes|no|1|0",
    "ssl_ca_certs": ".+",
    "ssl_ca_path": ".+",
    "ssl_ca_data": ".+",
    "ssl_certfile": ".+",
    "ssl_keyfile": ".+",
    "ssl_password": ".+",
    "ssl_ciphers": ".+",
}

# Options of redis-py that are known well, and refused. An error names no other: it may be a part of a password.
REFUSED: Final = frozenset(
    {
        "client_name", "connection_class", "decode_responses", "encoding", "encoding_errors", "health_check_interval",
        "host", "legacy_responses", "max_connections", "parser_class", "path", "port", "retry", "retry_on_error",
        "retry_on_timeout", "socket_connect_timeout", "socket_keepalive_options", "socket_read_size", "socket_timeout",
        "timeout",
    }
)  # fmt: skip

# What to write in place of an option, and why a value is refused.
INSTEAD: Final = {
    "max_connections": "; TAILRACE_REDIS_CONNECTIONS sets the number of an API's connections",
    "ssl_cert_reqs": ": without a check, another server may get the password. For a certificate that no "
    "public authority has signed, give the file of its own authority as ssl_ca_certs",
}

ENCODED: Final = "In a user name or a password, / should be %2F, ? should be %3F, # should be %23, and @ should be %40"


def from_file(env: Mapping[str, str], name: str = "REDIS_URL") -> dict[str, str]:
    """Return the variable `name` as it stands in the file that `name` with `_FILE` names; nothing if that is not set.

    Raises:
        SystemExit: the file cannot be read, or is no text, or the variable is set, too.
    """
    path = env.get(f"{name}_FILE", "")
    if not path:
        return {}
    if env.get(name):
        raise SystemExit(f"{name} and {name}_FILE are both set: there should be one of them")
    try:
        return {name: Path(path).read_text().strip()}
    except OSError as error:
        raise SystemExit(f"{name}_FILE is {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SystemExit(f"{name}_FILE is {path!r}: it should have text") from None


def check(url: str) -> str:
    """Return the URL.

    Raises:
        ValueError: it cannot be read; its path is no number; or it has an option that it may not have, or that is
            wrong. The message has no part of the URL, because any part may be one of a password.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # whose text has a part of the URL
        raise ValueError(f"its host or its port cannot be read. {ENCODED}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("it should begin with redis://, rediss:// or unix://")
    if "#" in url or "@" in parts.query:
        raise ValueError(f"it has a # or an @ where there may be none. {ENCODED}")
    if parts.scheme == "unix":
        if parts.hostname or (parts.netloc and "@" not in parts.netloc) or "@/" in parts.path:
            raise ValueError(f"it should be of the form unix://user:password@/path/of/the/socket. {ENCODED}")
    # redis-py would take such a path for database 0.
    elif not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError(f"its path should be the number of a database. {ENCODED}")
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        _check_option(parts.scheme, name, value)
    return url


def _check_option(scheme: str, name: str, value: str) -> None:
    allowed = OPTIONS | (TLS_OPTIONS if scheme == "rediss" else {})
    if name in TLS_OPTIONS and name not in allowed:
        raise ValueError(f"with the option {name} it should begin with rediss://")
    if name not in allowed:
        named = f"the option {name}" if name in REFUSED else "one of its options"
        raise ValueError(
            f"it should not have {named}{INSTEAD.get(name, '')}. It may have {', '.join(OPTIONS)}, and with rediss:// "
            f"also {', '.join(TLS_OPTIONS)}"
        )
    if not re.fullmatch(allowed[name], value, re.DOTALL):
        right = allowed[name].removeprefix("(?i)")
        raise ValueError(f"its option {name} should be {right}{INSTEAD.get(name, '')}")
