"""Units for systemd, one a service, hardened; the same Service descriptions that supervisor gets."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from appliance import launch, templates
from appliance.config import Config
from appliance.service import ASKED, Service, is_enabled

# Made anew at each boot, so that no unit of another version is ever started.
UNITS = Path("/run/systemd/system")
BOOT_UNITS = Path("/usr/local/lib/systemd/system")  # systemd.unit(5); read-only in an image
BOOT = "gatehouse-apply.service"
_NOT_SYSTEM = ("/home", "/media", "/mnt", "/opt", "/root", "/var")  # what ProtectSystem=full leaves to be written to
WISHES, WISHES_PATH = "gatehouse-wishes.service", "gatehouse-wishes.path"
RENEWAL, RENEWAL_TIMER = "gatehouse-renewal.service", "gatehouse-renewal.timer"
BACKUP, BACKUP_TIMER = "gatehouse-backup.service", "gatehouse-backup.timer"


def is_running() -> bool:
    """sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def render(config: Config, services: Iterable[Service]) -> dict[str, str]:
    """Unit text by file name."""
    units = {}
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
            read_only=[f"-{path}" for path in _NOT_SYSTEM if not config.paths.data.is_relative_to(path)],
        )
    return units


def wishes(config: Config) -> dict[str, str]:
    """The unit that grants wishes, as root, and the one that starts it when there are any."""
    command = f"{sys.executable} -m appliance.cli --config {config.file} apply --wishes"
    values = {"command": command, "environment": launch.environment(config), "folder": config.paths.state / ASKED}
    names = (WISHES, WISHES_PATH)
    return {name: templates.render("appliance.systemd", f"{name}.j2", **values) for name in names}


def renewal(config: Config) -> dict[str, str]:
    """The unit that renews the certificate, as root, and the one that starts it each day."""
    if not config.acme.enabled:
        return {}
    command = f"{sys.executable} -m appliance.cli --config {config.file} certificate renew"
    values = {"command": command, "environment": launch.environment(config)}
    names = (RENEWAL, RENEWAL_TIMER)
    return {name: templates.render("appliance.systemd", f"{name}.j2", **values) for name in names}


def own_backup(config: Config) -> dict[str, str]:
    """The unit that backs up the appliance itself, as root, and the one that starts it each night."""
    if not (is_enabled(config, "netbackup") and config.vault.recipients):
        return {}
    command = f"{sys.executable} -m appliance.cli --config {config.file} vault backup"
    values = {"command": command, "environment": launch.environment(config), "state": config.paths.state}
    names = (BACKUP, BACKUP_TIMER)
    return {name: templates.render("appliance.systemd", f"{name}.j2", **values) for name in names}


def install_boot(config: Config) -> bool:
    """The one unit that outlives a reboot, and renders all others; also where no systemd runs, as in a chroot.

    Returns whether anything changed.
    """
    command = f"{sys.executable} -m appliance.cli --config {config.file} apply --boot"
    text = templates.render("appliance.systemd", f"{BOOT}.j2", command=command, environment=launch.environment(config))
    BOOT_UNITS.mkdir(parents=True, exist_ok=True)
    changed = _write(BOOT_UNITS / BOOT, text)
    if _systemctl("is-enabled", BOOT, check=False).strip() != "enabled":
        _systemctl("enable", "--quiet", BOOT)
        changed = True
    return changed


def update(units: dict[str, str], restart: Iterable[str]) -> None:
    """Installs the units, stops those that are gone, starts new ones and restarts those that are named."""
    changed = _install(units)
    names = {f"gatehouse-{name}.service" for name in restart} | changed
    if again := sorted(names & set(_started(units)) - {WISHES_PATH, RENEWAL_TIMER, BACKUP_TIMER}):
        _systemctl("try-restart", *again)
    _systemctl("start", BOOT, *_started(units))


def stop(units: Iterable[str] | None = None) -> None:
    """All services, or those of these that there are; until the next `update`."""
    there = [path.name for path in _there()]
    if names := [name for name in there if units is None or name in units]:
        _systemctl("stop", *names)


def start_at_boot(units: dict[str, str]) -> None:
    """Called by the unit that they wait for, so it doesn't wait for them."""
    _install(units)
    if units:
        _systemctl("start", "--no-block", *_started(units))


def _started(units: Iterable[str]) -> list[str]:
    """All but those that a path or a timer starts."""
    return [name for name in units if name not in (WISHES, RENEWAL, BACKUP)]


def _there() -> list[Path]:
    return sorted(path for kind in ("path", "service", "timer") for path in UNITS.glob(f"gatehouse-*.{kind}"))


def _install(units: dict[str, str]) -> set[str]:
    """Names of the changed ones."""
    gone = [path for path in _there() if path.name not in units]
    if gone:
        _systemctl("stop", *(path.name for path in gone))
    for path in gone:
        path.unlink()
    changed = {name for name, text in units.items() if _write(UNITS / name, text)}
    _systemctl("daemon-reload")
    return changed


def start_mount(path: Path) -> bool:
    """Whether there is a unit for that mount point; raises subprocess.CalledProcessError when it fails."""
    if not is_running():
        return False
    unit = launch.run("systemd-escape", "--path", "--suffix=mount", str(path)).strip()
    if _systemctl("show", "--property=LoadState", "--value", unit).strip() != "loaded":
        return False
    launch.run("systemctl", "start", unit)
    return True


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
