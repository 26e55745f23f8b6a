"""What `REDIS_URL` may say: where Redis is, as which user, how it is secured. All else the services set themselves.

An option of a URL takes the place of what a service sets for its connections. `decode_responses` alone would make every
request fail; a time-out would end the connection that waits for entries.
"""

import re
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
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": "(?i)true|false|yes|no|1|0",
    "ssl_ca_certs": ".+",
    "ssl_ca_path": ".+",
    "ssl_ca_data": ".+",
    "ssl_certfile": ".+",
    "ssl_keyfile": ".+",
    "ssl_password": ".+",
    "ssl_ciphers": ".+",
}

# What to write in place of an option.
INSTEAD: Final = {"max_connections": "; TAILRACE_REDIS_CONNECTIONS sets the number of an API's connections"}


def check(url: str) -> str:
    """Return the URL.

    Raises:
        ValueError: an option is not one that the URL may have; its value is not right; or the path is no number.
    """
    parts = urlsplit(url)
    # redis-py would take such a path for database 0.
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError(f"its path should be the number of a database, not {parts.path.removeprefix('/')!r}")
    allowed = OPTIONS | (TLS_OPTIONS if parts.scheme == "rediss" else {})
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            if name in TLS_OPTIONS:
                raise ValueError(f"with the option {name} it should begin with rediss://")
            raise ValueError(
                f"it should not have the option {name}{INSTEAD.get(name, '')}. It may have {', '.join(OPTIONS)}, and "
                f"with rediss:// also {', '.join(TLS_OPTIONS)}"
            )
        if not re.fullmatch(allowed[name], value, re.DOTALL):
            raise ValueError(f"its option {name} should be {allowed[name].removeprefix('(?i)')}, not {value!r}")
    return url
