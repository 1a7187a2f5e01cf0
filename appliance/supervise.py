"""Running the services under supervisor, on machines (and in namespaces) without systemd."""

import os
import subprocess
import sys
from collections.abc import Iterable

from appliance import launch, templates
from appliance.config import Config
from appliance.service import File, Service

_FILE = "supervisord.conf"


def render(config: Config, services: Iterable[Service]) -> File:
    programs = [
        {
            "name": service.name,
            "command": " ".join(_quoted(word) for word in launch.words(config, service)),
            "environment": ",".join(f'{k}="{_escaped(v)}"' for k, v in launch.environment(config, service).items()),
            "umask": f"{service.umask:03o}",
        }
        for service in services
    ]
    text = templates.render("appliance", "supervisord.conf.j2", programs=programs, paths=config.paths)
    return File(_FILE, text, "root", (), mode=0o600)


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


def stop(config: Config) -> None:
    """All services, until the next `update`."""
    _control(config, "stop", "all")


def status(config: Config) -> dict[str, str]:
    """State (RUNNING, BACKOFF, …) by service; empty when supervisor doesn't run."""
    lines = _control(config, "status").stdout.splitlines()
    return {
        fields[0]: fields[1] for fields in (line.split() for line in lines) if len(fields) > 1 and fields[1].isupper()
    }


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
