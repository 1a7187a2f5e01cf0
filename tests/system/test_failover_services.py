"""The appliance's own services go on after a failover: the same processes, with the standby that was promoted."""

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from appliance import launch
from tests.lab import postgresql
from tests.lab.namespace import wait_until
from tests.lab.radius import RadiusServer, radius_server

pytestmark = pytest.mark.system

SERVICES = ("appliance.jobs", "appliance.admin.web")


class Services:
    """Some of the appliance's, as root, with the configuration of `server`."""

    def __init__(self, server: RadiusServer) -> None:
        self.log = server.folder / "services.log"
        self._socket = server.config.paths.run / "admin" / "admin.sock"
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        environment = launch.environment(server.config) | {"GATEHOUSE_CONFIG": str(server.config.file)}
        self._processes = []
        for name in SERVICES:
            with self.log.open("ab") as out:
                words = [sys.executable, "-m", name, "--config", str(server.config.file)]
                self._processes.append(subprocess.Popen(words, env=environment, stdout=out, stderr=out, cwd="/"))

    def alive(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def status(self, path: str) -> int:
        """0 while nobody listens yet."""
        link = http.client.HTTPConnection("localhost")
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.settimeout(30)
        try:
            link.sock.connect(str(self._socket))
        except OSError:
            return 0
        link.request("GET", path)
        with link.getresponse() as answer:
            return answer.status


@pytest.fixture
def pair() -> Iterator[postgresql.Pair]:
    with postgresql.pair() as pair:
        yield pair


@pytest.fixture
def services(pair: postgresql.Pair) -> Iterator[Services]:
    with radius_server(f'[database]\nurl = "{pair.url()}"\n') as server:
        server.start("accounting")  # renders what the jobs read, too
        services = Services(server)
        try:
            yield services
        finally:
            services.stop()


def lease(pair: postgresql.Pair) -> int:
    """Until when the jobs hold theirs, which they say again and again."""
    found = pair.primary.ask("SELECT max(held_until) FROM job_lease", postgresql.NAME)
    return int(found[0][0] or 0)


def test_jobs_and_pages_go_on_in_the_same_processes(pair: postgresql.Pair, services: Services) -> None:
    wait_until(lambda: services.status("/login") == 200 and lease(pair), 60, "the services to start")
    pair.primary.kill()
    wait_until(lambda: services.status("/login") == 503, 20, "a page that says that the database is away")
    pair.fail_over()
    before = lease(pair)
    wait_until(lambda: services.status("/login") == 200, 20, "pages after the failover")
    wait_until(lambda: lease(pair) > before, 60, "jobs after the failover")
    assert services.alive()
