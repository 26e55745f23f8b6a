"""Real proxies before an API, each with its configuration of deploy/, as an operator would run it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support import canaries
from tests.support.processes import ROOT, Process, free_port
from tests.support.programs import program

NGINX: Final = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/nginx.conf;
}}
"""


def nginx(configuration: Path) -> list[str]:
    """The command that runs nginx with this file, which a file around it includes."""
    around = configuration.with_name("around.conf")
    around.write_text(NGINX.format(folder=configuration.parent))
    return [program("nginx"), "-e", "stderr", "-p", str(configuration.parent), "-c", str(around)]


def caddy(configuration: Path) -> list[str]:
    """The command that runs Caddy with this file, without the port for its administration."""
    configuration.write_text(configuration.read_text().replace("\n{\n", "\n{\n\tadmin off\n", 1))
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(configuration)]


def haproxy(configuration: Path) -> list[str]:
    """The command that runs HAProxy with this file."""
    return [program("haproxy"), "-db", "-f", str(configuration)]


# The commands, by the configuration's name in deploy/.
PROXIES: Final[dict[str, Callable[[Path], list[str]]]] = {
    "nginx.conf": nginx,
    "Caddyfile": caddy,
    "haproxy.cfg": haproxy,
}


class Logs:
    """All that a proxy writes: to its output, and to files that its configuration names."""

    def __init__(self, process: Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    def __str__(self) -> str:
        return self._process.output + "".join(path.read_text() for path in sorted(self._folder.glob("*.log")))


@contextmanager
def proxy(name: str, api_port: int, folder: Path, more: str = "") -> Iterator[str]:
    """A proxy with this configuration, before an API at this port; the proxy's own URL. nginx may have `more` of it."""
    with logging_proxy(name, api_port, folder, more) as (url, _):
        yield url


@contextmanager
def logging_proxy(name: str, api_port: int, folder: Path, more: str = "") -> Iterator[tuple[str, Logs]]:
    """The same, and its logs."""
    port = free_port()
    text = (ROOT / "deploy" / name).read_text()
    text = text.replace("    proxy_set_header Host $http_host;\n", f"    proxy_set_header Host $http_host;\n{more}")
    configuration = folder / name
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{api_port}").replace("8080", str(port))
    configuration.write_text(text.replace("/var/log/nginx/", f"{folder}/"))
    process = Process(PROXIES[name](configuration), {"HOME": str(folder)}, cwd=folder)
    logs = Logs(process, folder)
    try:
        yield f"http://127.0.0.1:{port}", logs
    finally:
        process.kill()
        print(logs)
        canaries.assert_none(str(logs), [name])
