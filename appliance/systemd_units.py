"""Units for systemd, one a service, hardened; the same Service descriptions that supervisor gets."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from appliance import launch, templates
from appliance.config import Config
from appliance.service import Service

UNITS = Path("/etc/systemd/system")


def is_running() -> bool:
    """sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def render(config: Config, services: Iterable[Service]) -> dict[str, str]:
    """Unit text by file name, the one that renders at boot included."""
    command = f"{sys.executable} -m appliance.cli --config {config.file} apply --boot"
    units = {
        "gatehouse-apply.service": templates.render(
            "appliance.systemd",
            "gatehouse-apply.service.j2",
            command=command,
            environment=launch.environment(config),
        )
    }
    for service in services:
        families = ["AF_UNIX", "AF_INET", "AF_INET6"]
        if service.capabilities:
            families += ["AF_NETLINK", "AF_PACKET"]
        units[f"{service.unit}.service"] = templates.render(
            "appliance.systemd",
            "service.j2",
            service=service,
            capabilities=" ".join(f"CAP_{name.upper()}" for name in service.capabilities),
            command=" ".join(service.command(config)),
            environment=launch.environment(config, service),
            families=" ".join(families),
            writes=[str(path) for path in service.writes(config)],
        )
    return units


def update(units: dict[str, str], restart: Iterable[str]) -> None:
    """Installs the units, stops those that are gone, starts new ones and restarts those that are named."""
    gone = [path for path in UNITS.glob("gatehouse-*.service") if path.name not in units]
    for path in gone:
        _systemctl("disable", "--now", path.name)
        path.unlink()
    changed = [name for name, text in units.items() if _write(UNITS / name, text)]
    _systemctl("daemon-reload")
    _systemctl("enable", *units)
    names = {f"gatehouse-{name}.service" for name in restart} | set(changed)
    if again := sorted(names & set(units) - {"gatehouse-apply.service"}):
        _systemctl("try-restart", *again)
    _systemctl("start", *units)


def status(services: Iterable[Service]) -> dict[str, str]:
    """systemd's word (active, failed, …) by service."""
    return {s.name: _systemctl("is-active", f"{s.unit}.service", check=False).strip() for s in services}


def _write(path: Path, text: str) -> bool:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return True


def _systemctl(*words: str, check: bool = True) -> str:
    done = subprocess.run(["systemctl", *words], check=check, stdout=subprocess.PIPE, text=True, env=os.environ)
    return done.stdout
