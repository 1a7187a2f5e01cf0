"""Starting a service as its own user with its own few capabilities, and the environment all services share."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import appliance
from appliance.config import Config
from appliance.service import Service

TREE = Path(appliance.__file__).parents[1]


def settled(config: Config) -> Path:
    """The copy of the configuration that services read: what apply has verified, whatever is edited meanwhile."""
    return config.paths.run / "gatehouse.toml"


def environment(config: Config, service: Service | None = None) -> dict[str, str]:
    """What a service's process sees; nothing is inherited but the path to programs."""
    shared = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(TREE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "GATEHOUSE_CONFIG": str(settled(config)),
    }
    return shared | dict(service.environment if service else ())


def as_user(user: str, groups: Sequence[str], capabilities: Sequence[str] = ()) -> list[str]:
    """The setpriv(1) words that drop everything else; the process dies with the one that started it."""
    held = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return [
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        f"--groups={','.join(groups)}" if groups else "--clear-groups",
        f"--inh-caps={held}",
        f"--ambient-caps={held}",
        f"--bounding-set={held}",
        "--no-new-privs",
        "--pdeathsig=KILL",
    ]


def words(config: Config, service: Service) -> list[str]:
    """The whole command of a service where no systemd drops the privileges.

    A program that forks workers gets a PID namespace: when its first process is killed, the kernel takes the rest.
    """
    command = [*as_user(service.user, service.groups, service.capabilities), *service.command(config)]
    return ["unshare", "--pid", "--fork", "--kill-child=KILL", *command] if service.forks else command


def check(config: Config, service: Service, command: Sequence[str]) -> str:
    """Runs a service's own configuration check as its user; returns what it printed, empty when all is well."""
    done = subprocess.run(
        [*as_user(service.user, service.groups), *command],
        env=environment(config, service),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout.decode(errors="replace").strip() or f"exit {done.returncode}"


def run(*command: str) -> str:
    """Output of a program that has to succeed; raises subprocess.CalledProcessError."""
    return subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ
    ).stdout
