"""The appliance itself, run inside the gateway machine as its own services, from this very tree.

The tree may lie where service users can't go (/root is 0700), so each command gets it mounted at `app` in the
private mount namespace that `ip netns exec` makes anyway.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from appliance.config import Config, load
from tests.lab.namespace import CommandFailed, Namespace, wait_until

_TREE = Path(__file__).resolve().parents[2]
_MOUNT_AND_RUN = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"'


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
        paths = {name: self.directory / name for name in ("state", "run", "log")}
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

    def start(self, config_toml: str = "", config_toml_extra: str = "") -> None:
        self.prepare(config_toml, config_toml_extra)
        self.cli("enable", "hotspot")
        self.up()

    def up(self, timeout_s: float = 60) -> None:
        """Starts every service and returns when guests can be served."""
        words = self._python("-m", "appliance.cli", "--config", str(self.config_file), "up")
        self._up = self._machine.popen(*words, log="up.log")
        try:
            wait_until(self._ready, timeout_s, "the appliance")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self._up_log()}") from None

    def _ready(self) -> bool:
        if self._up and self._up.poll() is not None:
            raise CommandFailed(f"`gatehouse up` ended with status {self._up.returncode}\n{self._up_log()}")
        config = self.config()
        listens = self._machine.listens
        return (
            (config.paths.run / "gateway" / "gateway.sock").exists()
            and all(listens(port, udp=True) for port in (67, config.radius.authentication_port))
            and listens(config.radius.accounting_port, udp=True)
            and listens(config.portal.http_port)
        )

    def _up_log(self) -> str:
        return (self._machine.directory / "up.log").read_text(encoding="utf-8")

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

    def cli(self, *argv: str, timeout_s: float = 60) -> str:
        """What `gatehouse …` prints; raises CommandFailed."""
        words = ("-m", "appliance.cli", "--config", str(self.config_file), *argv)
        return self.python(*words, timeout_s=timeout_s)

    def json(self, *argv: str) -> Any:
        return json.loads(self.cli("--json", *argv))

    def python(self, *argv: str, timeout_s: float = 60) -> str:
        """What a Python with our tree prints inside the gateway machine; raises CommandFailed."""
        return self._machine.run(*self._python(*argv), timeout_s=timeout_s).stdout

    def _python(self, *argv: str) -> tuple[str, ...]:
        python = Path(sys.prefix) / "bin" / "python"
        if python.is_relative_to(self._tree):
            python = self.app / python.relative_to(self._tree)
        mount = ("sh", "-c", _MOUNT_AND_RUN, "sh", str(self._tree), str(self.app))
        return (*mount, "env", f"PYTHONPATH={self.app}", str(python), *argv)

    def log(self, service: str) -> str:
        return (self.directory / "log" / f"{service}.log").read_text(encoding="utf-8", errors="replace")


def _toml(tables: dict[str, dict[str, Any]]) -> str:
    """Strings, numbers and lists of them look the same in JSON (https://toml.io/en/v1.0.0)."""
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for section, table in tables.items()
    )
