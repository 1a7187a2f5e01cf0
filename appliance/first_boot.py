"""What makes a box of an image, at each boot before all else: its own SSH key, the site's facts, its network devices.

Everything is made where it is missing and whole when it is there, so power may go at any point.
"""

import os
import pwd
import re
import socket
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path

from appliance import apply, modules, provision
from appliance import config as configuration
from appliance.config import Config
from appliance.errors import UserError
from appliance.files import written
from appliance.provision import Facts, Machine

SITE = Path("/efi/provision/site.toml")
NETWORKS = Path("/run/systemd/network")
HOST_KEY = Path("/etc/ssh/ssh_host_ed25519_key")
ISSUES = Path("/run/issue.d")
DEVICES = Path("/sys/class/net")
MAX_BYTES = 65_536
_ETHERNET = "1"  # linux/if_arp.h, ARPHRD_ETHER

Tell = Callable[[str], None]


def run(tell: Tell, site: Path = SITE) -> None:
    """A mistake in the facts is told and leaves all as it was: the box comes up as it did before."""
    make_host_key(HOST_KEY)
    devices = ethernet()
    try:
        text = _read(site)
        if text is not None and text != _kept():
            take_in(_facts(text, site, devices), text, _facts_before(devices))
            tell(f"{site}: taken in")
    except UserError as error:
        tell(str(error))
        show("facts", str(error))
    if not configuration.DEFAULT_FILE.exists():
        take_in(_facts("", site, devices), "")
    _settle(devices, tell)


def show(name: str, line: str) -> None:
    """Above the login, on the screen and the serial line; only an image has the folder."""
    if ISSUES.is_dir():
        _write(ISSUES / f"gatehouse-{name}.issue", f"\n{for_issue(line)}\n", 0o644)


def for_issue(text: str) -> str:
    """Text that agetty(8) prints as it is."""
    return text.replace("\\", "\\\\")


def ethernet(root: Path = DEVICES) -> tuple[str, ...]:
    """Names of the wired devices that stand for hardware, in their natural order."""
    found = [
        path.name
        for path in root.iterdir()
        if (path / "device").exists()
        and not (path / "wireless").exists()
        and (path / "type").read_text(encoding="ascii").strip() == _ETHERNET
    ]
    return tuple(sorted(found, key=lambda name: [int(part) if part.isdigit() else part for part in _parts(name)]))


def _parts(name: str) -> list[str]:
    return re.findall(r"\d+|\D+", name)


def make_host_key(path: Path) -> None:
    """sshd's; a half-made one never has its name."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        new = Path(folder) / "key"
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(new)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        os.sync()
        new.with_suffix(".pub").rename(path.with_suffix(".pub"))
        new.rename(path)
        os.sync()


def take_in(facts: Facts, text: str, before: Facts | None = None) -> None:
    """What differs from the facts `before`: a key that is added takes nothing away that was set on the pages since.

    The file that says what was taken in is written last: till then, the next boot does it again.
    """
    file = configuration.DEFAULT_FILE
    if before is None or tomllib.loads(facts.text) != tomllib.loads(before.text) or not file.exists():
        _save(file, {facts.text, before.text if before else ""})
        _write(file, facts.text, 0o644)
    _authorize(facts.machine.ssh_authorized_keys, before.machine.ssh_authorized_keys if before else ())
    if before is None or facts.machine.modules != before.machine.modules:
        for module in modules.MODULES:
            modules.set_enabled(facts.config, module, module.name in facts.machine.modules)
    _write(_kept_file(), text, 0o644)


def _save(file: Path, known: Collection[str]) -> None:
    """A copy beside, unless it holds nothing that isn't known from facts."""
    if file.exists() and file.read_text(encoding="utf-8", errors="replace") not in known:
        with written(file.with_name(file.name + ".before"), 0o644, "root", "root") as copy:
            copy.write(file.read_bytes())


def _authorize(keys: Collection[str], before: Collection[str]) -> None:
    """Keys that came by other ways stay."""
    home = Path(pwd.getpwuid(0).pw_dir) / ".ssh"
    file = home / "authorized_keys"
    held = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    kept = [line for line in held if line not in before and line not in keys]
    if [*kept, *keys] != held:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(file, "\n".join([*kept, *keys, ""]), 0o600)


def _read(site: Path) -> str | None:
    try:
        with site.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if (hidden := site.with_name(f"{site.name}.txt")).exists():  # by an editor of Windows, which hides the ending
            raise UserError(f"{hidden}: isn't read: rename it to {site.name}") from None
        return None
    except OSError as error:
        raise UserError(f"{site}: can't be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{site}: longer than {MAX_BYTES} bytes: these aren't site facts")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")  # editors of Windows
    except UnicodeDecodeError as error:
        raise UserError(f"{site}: not UTF-8: {error}") from None


def _facts(text: str, site: Path, devices: tuple[str, ...]) -> Facts:
    return provision.parse(text, site, devices, tuple(module.name for module in modules.MODULES))


def _facts_before(devices: tuple[str, ...]) -> Facts | None:
    """Those taken in last; None where there are none, or another version's."""
    kept = _kept()
    try:
        return None if kept is None else _facts(kept, _kept_file(), devices)
    except UserError:
        return None


def _machine() -> Machine:
    try:
        return provision.machine_of(_kept() or "", _kept_file())
    except UserError:
        return Machine()  # of another version's facts


def _settle(devices: tuple[str, ...], tell: Tell) -> None:
    """What no file system keeps: the host's name, and networkd's files for the devices as they are configured now."""
    config, machine = _config(), _machine()
    socket.sethostname(machine.hostname)
    _write(Path("/etc/hostname"), f"{machine.hostname}\n", 0o644)
    NETWORKS.mkdir(parents=True, exist_ok=True)
    present = tuple(path.name for path in DEVICES.iterdir())
    if config.gateway.wan not in present:
        there = ", ".join(devices) or "none"
        line = f"[gateway] wan: there is no device {config.gateway.wan}; there are: {there}: see docs/image.md"
        tell(line)
        show("devices", line)
    for name, text in provision.networks(config, machine, devices, present).items():
        _write(NETWORKS / name, text, 0o644)


def _config() -> Config:
    """That which `gatehouse apply --boot` will use."""
    try:
        return configuration.load()
    except UserError:
        return apply.last_applied(Config().paths.state) or Config()


def _kept() -> str | None:
    try:
        return _kept_file().read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _kept_file() -> Path:
    """The facts that were taken in last."""
    return Config().paths.state / "site.toml"


def _write(path: Path, text: str, mode: int) -> None:
    if path.exists() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path, mode, "root", "root") as file:
        file.write(text.encode())
