"""Running a root file system by systemd-nspawn(1): one program, or the whole system booted.

Each has a network of its own, always: nspawn would otherwise let its daemons act on this machine's.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.lab.namespace import Namespace, run, start, wait_until

_COMMON = (
    *("setpriv", "--pdeathsig", "TERM"),  # should we be killed, it shuts its system down
    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off"),
    *("--console=pipe", "--setenv=LANG=C.UTF-8"),
)
_ENV = {**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}  # /proc/sys/net, as on a machine of its own


def run_once(root: Path, *argv: str, directory: str = "/", timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    """A program in `root` with nothing but a loopback device."""
    return subprocess.run(
        [*_COMMON, "--as-pid2", "--private-network", f"--directory={root}", f"--chdir={directory}", *argv],
        env=_ENV,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class Machine:
    """`root` booted by its own systemd, its network devices those of `namespace`."""

    def __init__(self, root: Path, namespace: Namespace) -> None:
        self._root = root
        self._namespace = namespace
        self._log = namespace.directory / "boot.log"
        self._nspawn: subprocess.Popen[str] | None = None

    def boot(self, timeout_s: float = 60) -> None:
        """Returns when systemd has started, or tried to start, whatever is enabled."""
        self._nspawn = start(
            *(*_COMMON, "--boot", f"--network-namespace-path=/run/netns/{self._namespace.name}"),
            *("--capability=CAP_NET_ADMIN", f"--machine={self._namespace.name}", f"--directory={self._root}"),
            log=self._log,
            env=_ENV,
        )
        try:
            wait_until(self._is_up, timeout_s, "the system to boot")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self._log.read_text(errors='replace')}") from None

    def shut_down(self, timeout_s: float = 60) -> None:
        """As by `systemctl poweroff`; nspawn(1) passes SIGTERM on in this sense."""
        if self._nspawn is not None:
            self._nspawn.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(timeout_s)
            self.cut_power()

    def cut_power(self) -> None:
        """Every process ends at once, unasked: the kernel takes them with the first (pid_namespaces(7))."""
        if self._nspawn is not None:
            with contextlib.suppress(RuntimeError, ProcessLookupError):
                os.kill(self._leader(), signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(60)
            self._nspawn.kill()
            self._nspawn.wait()
            self._nspawn = None

    def run(self, *argv: str, stdin: str = "", check: bool = True, timeout_s: float = 60) -> str:
        """What a command prints inside; raises CommandFailed."""
        inside = ("nsenter", f"--target={self._leader()}", "--mount", "--uts", "--ipc", "--net", "--pid")
        clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")
        return run(*inside, *clean, *argv, stdin=stdin, check=check, timeout_s=timeout_s).stdout

    def _is_up(self) -> bool:
        if self._nspawn is None or self._nspawn.poll() is not None:
            raise RuntimeError(f"systemd-nspawn ended\n{self._log.read_text(errors='replace')}")
        with contextlib.suppress(RuntimeError):
            return self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")
        return False

    def _leader(self) -> int:
        """The process that is the system's number 1; raises RuntimeError while there is none."""
        pid = self._nspawn.pid if self._nspawn else 0
        with contextlib.suppress(FileNotFoundError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
                if Path(f"/proc/{child}/comm").read_text(encoding="ascii") == "systemd\n":
                    return int(child)
        raise RuntimeError("there is no system yet")


@contextlib.contextmanager
def booted(root: Path, namespace: Namespace) -> Iterator[Machine]:
    machine = Machine(root, namespace)
    try:
        machine.boot()
        yield machine
    finally:
        machine.shut_down()
