"""Running the services under supervisor, on machines (and in namespaces) without systemd."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping

from appliance import launch, templates
from appliance.config import Config
from appliance.service import File, Service

_FILE = "supervisord.conf"
SOCKET, STATES = "supervisor.sock", "states.json"  # below `paths.run`
STATES_GOOD_S = 30


def render(config: Config, services: Iterable[Service]) -> File:
    programs = [
        {
            "name": service.name,
            "command": _command(launch.words(config, service)),
            "environment": _environment(launch.environment(config, service)),
            "umask": f"{service.umask:03o}",
        }
        for service in services
    ]
    text = templates.render(
        "appliance",
        "supervisord.conf.j2",
        programs=programs,
        paths=config.paths,
        watcher=_command(
            [sys.executable, "-m", "appliance.watcher", str(config.file.absolute()), str(config.paths.run)]
        ),
        watcher_environment=_environment(launch.environment(config)),
    )
    return File(_FILE, text, "root", (), mode=0o600)


def _command(words: Iterable[str]) -> str:
    return " ".join(_quoted(word) for word in words)


def _environment(variables: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in variables.items())


def is_running(config: Config) -> bool:
    return _control(config, "pid").returncode == 0


def update(config: Config, restart: Iterable[str]) -> None:
    """Starts new and stopped services, stops those that are gone and restarts those that are named."""
    before = status(config)
    _control(config, "update")
    for name in restart:
        if name in before:
            _control(config, "restart", name)
    _control(config, "start", "all")


def stop(config: Config, names: Iterable[str] = ("all",)) -> None:
    """All services, or these; until the next `update`."""
    _control(config, "stop", *names)


def status(config: Config) -> dict[str, str]:
    """State (RUNNING, BACKOFF, …) by service; empty when supervisor doesn't run.

    Who isn't root is told what its watcher has written down within the last seconds.
    """
    if os.geteuid() != 0:
        return _noted(config)
    lines = _control(config, "status").stdout.splitlines()
    return {
        fields[0]: fields[1] for fields in (line.split() for line in lines) if len(fields) > 1 and fields[1].isupper()
    }


def _noted(config: Config) -> dict[str, str]:
    path = config.paths.run / STATES
    try:
        old = time.time() - path.stat().st_mtime > STATES_GOOD_S
        noted: dict[str, str] = {} if old else json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return noted


def run_in_foreground(config: Config) -> None:
    """Becomes supervisord; returns only by an error."""
    words = [
        sys.executable,
        "-m",
        "supervisor.supervisord",
        "--nodaemon",
        "-c",
        str(config.paths.run / _FILE),
    ]
    os.execve(sys.executable, words, os.environ | {"PYTHONWARNINGS": "ignore"})  # noqa: S606


def _control(config: Config, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "supervisor.supervisorctl",
        "-c",
        str(config.paths.run / _FILE),
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def _quoted(word: str) -> str:
    return f'"{_escaped(word)}"' if set(word) & set(" ;%") else word


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
