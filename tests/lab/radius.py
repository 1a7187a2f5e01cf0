"""FreeRADIUS on loopback with our raddb, as its own user: for tests and benchmarks of the RADIUS side alone."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance import apply, certificates, config, launch
from appliance.accounts import manage
from appliance.accounts.database import open_core
from appliance.accounts.models import Plan
from appliance.crypto import SecretBox, key_file, load_box, new_secret
from appliance.island.standing_in import open_core_or_copy
from appliance.nas import clients, raddb
from appliance.nas.models import Nas
from appliance.nas.services import RADIUS
from appliance.sites import registry
from appliance.sites.models import Site
from tests.lab.namespace import free_ports, wait_until

READY = "Ready to process requests"
ROUTER = "127.0.0.2"


class RadiusServer:
    """Both radiusd processes over a core database of their own; `secret` is that of the NAS `router`, 127.0.0.2.

    `node_of` is another server with the same database: it gives its key and secret, and knows the routers.
    """

    def __init__(
        self, folder: Path, extra_toml: str = "", radius_toml: str = "", node_of: "RadiusServer | None" = None
    ) -> None:
        self.folder = folder
        authentication, accounting, *status = free_ports(4)
        file = folder / "gatehouse.toml"
        file.write_text(
            f'[paths]\nstate = "{folder}/state"\nrun = "{folder}/run"\nlog = "{folder}/log"\n'
            f'[radius]\nlisten = "127.0.0.1"\nauthentication_port = {authentication}\naccounting_port = {accounting}\n'
            f"authentication_status_port = {status[0]}\naccounting_status_port = {status[1]}\n"
            + radius_toml
            + extra_toml
        )
        self.config = config.load(file)
        self.secret: str = node_of.secret if node_of else new_secret()
        self.environment: dict[str, str] = {}  # added to that of both processes
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        if node_of:
            key = key_file(self.config.paths.state)
            key.parent.mkdir(parents=True)
            shutil.copy(key_file(node_of.config.paths.state), key)
            shutil.chown(key, "root", "gatehouse-core")
            self._join(node_of)
        apply.prepare(self.config, ())
        if node_of:
            return
        with self.core():
            Nas.create(name="router", address=ROUTER, kind="mikrotik", secret=self.box.seal(self.secret))

    def _join(self, other: "RadiusServer") -> None:
        """As a site of its own, where it has a key."""
        if self.config.fleet:
            machine = registry.own_machine(self.config.paths.state)
            with other.core():
                registry.add(self.config.site.key, "")
                Site.update(machine=machine).where(Site.key == self.config.site.key).execute()

    @property
    def box(self) -> SecretBox:
        return load_box(self.config.paths.state)

    def authority(self) -> str:
        """PEM of the certificate that phones have installed."""
        return certificates.authority(self.config)

    def status_secret(self) -> str:
        """Who asks the status ports needs it."""
        return (self.config.paths.run / "status.secret").read_text()

    @contextmanager
    def core(self) -> Iterator[None]:
        with open_core(self.config):
            yield

    def plan(self, name: str, **values: object) -> None:
        with self.core():
            manage.add(Plan, "plan", name=name, **values)

    def account(self, name: str, plan: str, password: str, **values: Any) -> None:
        with self.core():
            manage.add_account(name, plan, password, self.box, **values)

    def start(self, *processes: str) -> None:
        """Starts the named processes, or both, and waits until they answer."""
        with open_core_or_copy(self.config):
            files = raddb.render(self.config, clients.read(self.config, self.box))
        apply.install(self.config, [*apply.settings(self.config, RADIUS), *files])
        for service in RADIUS:
            if not service.wanted(self.config):
                continue
            process = service.name.removeprefix("radius-")
            if not processes or process in processes:
                environment = launch.environment(self.config, service) | self.environment
                self._start(process, launch.words(self.config, service), environment)

    def _start(self, process: str, words: Sequence[str], environment: dict[str, str]) -> None:
        log = self.config.paths.log / f"{process}.log"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self._processes[process] = subprocess.Popen(words, env=environment, cwd="/", stdout=out, stderr=out)
        wait_until(lambda: READY in self.log(process)[before:] or not self.alive(process), 15, f"{process} to start")
        if not self.alive(process):
            raise RuntimeError(f"{process} ended at once: {self.log(process)[before:]}")

    def log(self, process: str = "authentication") -> str:
        return (self.config.paths.log / f"{process}.log").read_text(errors="replace")

    def pid(self, process: str = "authentication") -> int:
        return self._processes[process].pid

    def alive(self, process: str = "authentication") -> bool:
        return self._processes[process].poll() is None

    def kill(self, process: str) -> None:
        self._processes[process].kill()
        self._processes[process].wait()

    def stop(self) -> dict[str, int]:
        """Exit status by process."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return {name: process.returncode for name, process in self._processes.items()}

    def radclient(
        self,
        attributes: str,
        kind: str = "auth",
        secret: str | None = None,
        source: str = ROUTER,
        timeout: int = 3,
    ) -> str:
        """What radclient(1) printed of the answer; kind is auth or acct. Message-Authenticator is added to logins.

        It is sent three times, as routers do: a busy machine may take seconds for an answer.
        """
        port = self.config.radius.authentication_port if kind == "auth" else self.config.radius.accounting_port
        if kind == "auth" and "Message-Authenticator" not in attributes:
            attributes += "\nMessage-Authenticator = 0x00"
        done = subprocess.run(
            [
                "radclient",
                "-d",
                str(self.config.paths.run / "raddb"),
                "-x",
                "-r",
                "3",
                "-t",
                str(timeout),
                f"127.0.0.1:{port}",
                kind,
                secret or self.secret,
            ],
            input=f"{attributes}\nPacket-Src-IP-Address = {source}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr


@contextmanager
def radius_server(
    extra_toml: str = "", radius_toml: str = "", node_of: RadiusServer | None = None
) -> Iterator[RadiusServer]:
    """Not started yet, so that plans and routers can be made first. `radius_toml` are lines of [radius]."""
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-radius-", dir="/var/tmp"))
    folder.chmod(0o755)
    server = RadiusServer(folder, extra_toml, radius_toml, node_of)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
