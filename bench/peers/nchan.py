"""nchan, the pub/sub module of nginx, with Redis behind it: the C that this field is measured by.

Debian has both: nginx-light, libnginx-mod-nchan.
"""

import asyncio
import shutil
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import ClassVar, Final
from uuid import uuid4

from bench import machine
from bench.peers import Stream, System
from bench.peers.http import Poster
from bench.work import Work, chunks_of
from tests.support.processes import free_port

MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

# One worker, because it has one processor, like all that are measured. The buffer holds whatever is published here.
CONFIGURATION: Final = """
load_module {module};
daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 65536; pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 32768; }}
http {{
  access_log off; client_body_temp_path {folder}/body; keepalive_requests 1000000000;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream redis {{ nchan_redis_server {redis}; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    nchan_message_buffer_length 1000000; nchan_message_timeout 1h; nchan_redis_pass redis;
    location ~ /publish/(\\w+)$ {{ nchan_publisher; nchan_channel_id $1; }}
    location ~ /stream/(\\w+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message oldest;
    }}
  }}
}}
"""


class Channel(Stream):
    """A channel."""

    def __init__(self, url: str, channel: str, work: Work) -> None:
        self.url = f"{url}/stream/{channel}"
        self._publish = f"{url}/publish/{channel}"
        self._work = work

    async def publish(self) -> None:
        """A request for each chunk: it takes no more at once."""
        async with Poster(self._publish, "text/plain") as poster:
            async for chunk in chunks_of(self._work):
                await poster.post(chunk.encode())


class Nchan(System):
    """nginx, Redis."""

    name: ClassVar = "nchan + Redis"

    def missing(self) -> str | None:
        """Debian's packages."""
        return None if shutil.which("nginx") and MODULE.exists() else "nginx-light, libnginx-mod-nchan"

    @property
    def version(self) -> str:
        """Its parts, with their versions."""
        asked = ["dpkg-query", "-W", "-f", "${Package} ${Version}, ", "nginx-light", "libnginx-mod-nchan"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.rstrip(", ") or "unknown"

    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """One nginx process."""
        folder = mkdtemp(prefix="tailrace-bench-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port = free_port()
        file = Path(folder) / "nginx.conf"
        file.write_text(
            CONFIGURATION.format(module=MODULE, folder=folder, redis=redis_url.removesuffix("/0"), port=port)
        )
        self.server = machine.start(stack, machine.pinned(machine.SERVER, ["nginx", "-c", str(file), "-p", folder]))
        self.url = f"http://127.0.0.1:{port}"
        await until_open(port)

    async def stream(self, work: Work) -> Stream:
        """Nothing to prepare."""
        return Channel(self.url, uuid4().hex, work)


async def until_open(port: int) -> None:
    """Wait until something listens there."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
