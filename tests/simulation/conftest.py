"""The Redis of the simulations, and the simulator of a test."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.simulation.server import Server
from tests.simulation.simulator import Simulator
from tests.support import redis_servers


@pytest.fixture(scope="session")
def simulated_server() -> Iterator[Server]:
    """A real Redis for all simulations of this process: the bundled server is quickest on a Unix socket."""
    if redis_servers.choice() == "container":
        with redis_servers.container() as url:
            server = Server(url)
            yield server
            server.close()
        return
    with TemporaryDirectory(prefix="tailrace-") as folder:
        path = Path(folder, "redis.sock")
        with redis_servers.EmbeddedRedis("--unixsocket", str(path)):
            server = Server(f"unix://{path}")
            yield server
            server.close()


@pytest.fixture
def simulator(simulated_server: Server) -> Simulator:
    """A simulator with nothing in it."""
    return Simulator(simulated_server)
