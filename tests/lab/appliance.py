"""The appliance itself, run inside the gateway machine as its own services, from this very tree.

The tree may lie where service users can't go (/root is 0700), so each command gets it mounted at `app` in the
private mount namespace that `ip netns exec` makes anyway. A systemd of this machine is hidden in there, so
that no unit is installed in it.
"""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance import data_disk
from appliance.config import Config, load
from tests.lab.namespace import CommandFailed, Namespace, run, wait_until

_TREE = Path(__file__).resolve().parents[2]
_DISK_MB = 256
_INSIDE = """
set -e
mount --bind "$1" "$2"
[ ! -d /run/systemd/system ] || mount -t tmpfs tmpfs /run/systemd
cd "$2"
shift 2
exec "$@"
"""


class Appliance:
    """Its state, rendered files and logs lie below `directory`, on a real disk."""

    def __init__(self, machine: Namespace, directory: Path, tree: Path = _TREE) -> None:
        self._machine = machine
        self._tree = tree
        self._up: subprocess.Popen[str] | None = None
        self.directory = directory
        self.app = directory / "app"
        self.config_file = directory / "gatehouse.toml"

    def prepare(self, config_toml: str = "", config_toml_extra: str = "") -> None:
        """Makes directories and the configuration; keys of `config_toml_extra` win."""
        paths = {name: self.directory / name for name in ("state", "run", "log", "data")}
        for path in (self.directory, self.app, *paths.values()):
            path.mkdir()
            path.chmod(0o755)
        tables: dict[str, dict[str, Any]] = {"paths": {name: str(path) for name, path in paths.items()}}
        for text in (config_toml, config_toml_extra):
            for section, table in tomllib.loads(text).items():
                tables.setdefault(section, {}).update(table)
        self.config_file.write_text(_toml(tables), encoding="utf-8")

    def config(self) -> Config:
        return load(self.config_file)

    def start(self, config_toml: str = "", config_toml_extra: str = "", netflow: bool = False) -> None:
        self.prepare(config_toml, config_toml_extra)
        if netflow:
            self.plug_disk()
        self.cli("enable", "hotspot")
        if netflow:
            self.cli("enable", "netflow")
        self.up()

    def plug_disk(self) -> None:
        """Memory that stands for a data disk: a file system of its own, with the marker of one."""
        disk = self.config().paths.data
        run("mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=755", "data", str(disk))
        (disk / data_disk.MARKER).write_text("00000000-0000-4000-8000-000000000000\n", encoding="ascii")

    def start_fresh(self) -> None:
        """As a box comes: nothing is enabled, it isn't told which device is which; the admin's pages are up."""
        self.prepare()
        self._begin(self._can_be_set_up, 30)

    def start_vault(self, config_toml: str = "") -> None:
        """With the netbackup module alone, and a data disk."""
        self.prepare(config_toml)
        self.plug_disk()
        self.cli("enable", "netbackup")
        self._begin(lambda: self._can_be_set_up() and self._machine.listens(21), 30)

    def up(self, timeout_s: float = 30) -> None:
        """Starts every service and returns when guests can be served."""
        self._begin(self._ready, timeout_s)

    def _begin(self, ready: Callable[[], bool], timeout_s: float) -> None:
        self._up = self._machine.popen(*self.words("-m", "appliance.cli", "up"), log="up.log")
        try:
            wait_until(lambda: self._lives() and ready(), timeout_s, "the appliance")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.cli('status')}{self._last_words()}") from None

    def _lives(self) -> bool:
        if self._up and self._up.poll() is not None:
            raise CommandFailed(f"`gatehouse up` ended with status {self._up.returncode}\n{self._last_words()}")
        return True

    def _can_be_set_up(self) -> bool:
        config = self.config()
        return self._machine.listens(config.admin.port) and (config.paths.run / "admin" / "admin.sock").exists()

    def _ready(self) -> bool:
        config = self.config()
        listens = self._machine.listens
        own = config.gateway.enabled
        return (
            (not own or (config.paths.run / "gateway" / "gateway.sock").exists())
            and all(listens(port, udp=True) for port in (*((67,) if own else ()), config.radius.authentication_port))
            and listens(config.radius.accounting_port, udp=True)
            and listens(config.portal.http_port)
        )

    def _last_words(self, lines: int = 8) -> str:
        """The end of each log, for whoever wants to know why it doesn't run after all is removed."""
        logs = [self._machine.directory / "up.log", *sorted(self.config().paths.log.glob("*.log"))]
        texts = {path.name: path.read_text(encoding="utf-8", errors="replace").splitlines() for path in logs}
        return "\n".join(f"{name}: {line}" for name, text in texts.items() for line in text[-lines:])

    def stop(self, timeout_s: float = 30) -> None:
        """Ends every service as a shutdown of the machine would."""
        if self._up is None:
            return
        self._up.terminate()
        try:
            self._up.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._up.kill()  # what it leaves is ended with its namespace
            self._up.wait()
        self._up = None

    def cli(self, *argv: str, stdin: str = "", timeout_s: float = 60) -> str:
        """What `gatehouse …` prints; raises CommandFailed."""
        return self.python("-m", "appliance.cli", *argv, stdin=stdin, timeout_s=timeout_s)

    def json(self, *argv: str) -> Any:
        return json.loads(self.cli(*argv, "--json"))

    def kill(self, service: str) -> None:
        """SIGKILL to the service's main process, as the kernel does it when memory runs out."""
        os.kill(self.pid(service), signal.SIGKILL)

    def pid(self, service: str) -> int:
        control = ("-W", "ignore", "-m", "supervisor.supervisorctl", "-c")
        printed = self.python(*control, str(self.config().paths.run / "supervisord.conf"), "pid", service)
        pid = int(printed)
        if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8") == "unshare\n":  # it only waits for the real one
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8"))
        return pid

    def log(self, service: str) -> str:
        return (self.config().paths.log / f"{service}.log").read_text(encoding="utf-8", errors="replace")

    def python(self, *argv: str, stdin: str = "", timeout_s: float = 60) -> str:
        """What a Python with our tree prints inside the gateway machine; raises CommandFailed."""
        return self._machine.run(*self.words(*argv), stdin=stdin, timeout_s=timeout_s).stdout

    def words(self, *argv: str) -> tuple[str, ...]:
        """The command that runs this Python with our tree at a place that service users can read."""
        python = Path(sys.prefix).resolve() / "bin" / "python"
        if python.is_relative_to(self._tree):
            python = self.app / python.relative_to(self._tree)
        variables = (f"PYTHONPATH={self.app}", f"GATEHOUSE_CONFIG={self.config_file}")
        return (
            "sh",
            "-c",
            _INSIDE,
            "sh",
            str(self._tree),
            str(self.app),
            "env",
            *variables,
            str(python),
            *argv,
        )


def _toml(tables: dict[str, dict[str, Any]]) -> str:
    """Strings, numbers and lists of them look the same in JSON (https://toml.io/en/v1.0.0)."""
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for section, table in tables.items()
    )
