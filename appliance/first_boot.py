"""What makes a box of an image, at each boot before all else: its own SSH key, the site's facts, its network devices.

Everything is made where it is missing and whole when it is there, so power may go at any point.
"""

import os
import pwd
import re
import socket
import subprocess
import tempfile
from collections.abc import Callable
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
            take_in(_facts(text, site, devices), text)
            tell(f"{site}: taken in")
    except UserError as error:
        tell(str(error))
        _write(ISSUES / "gatehouse-facts.issue", f"\n{for_issue(str(error))}\n", 0o644)
    if not configuration.DEFAULT_FILE.exists():
        take_in(_facts("", site, devices), "")
    _settle(devices)


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


def take_in(facts: Facts, text: str) -> None:
    """The file that says what was taken in is written last: till then, the next boot does it again."""
    file = configuration.DEFAULT_FILE
    if file.exists():
        with written(file.with_name(file.name + ".before"), 0o644, "root", "root") as before:
            before.write(file.read_bytes())
    _write(file, facts.text, 0o644)
    if facts.machine.ssh_authorized_keys:
        home = Path(pwd.getpwuid(0).pw_dir) / ".ssh"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(home / "authorized_keys", "\n".join([*facts.machine.ssh_authorized_keys, ""]), 0o600)
    for module in modules.MODULES:
        modules.set_enabled(facts.config, module, module.name in facts.machine.modules)
    _write(_kept_file(), text, 0o644)


def _read(site: Path) -> str | None:
    try:
        with site.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
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


def _settle(devices: tuple[str, ...]) -> None:
    """What no file system keeps: the host's name, and networkd's files for the devices as they are configured now."""
    machine = _machine(devices)
    socket.sethostname(machine.hostname)
    _write(Path("/etc/hostname"), f"{machine.hostname}\n", 0o644)
    NETWORKS.mkdir(parents=True, exist_ok=True)
    for name, text in provision.networks(_config(), machine, devices).items():
        _write(NETWORKS / name, text, 0o644)


def _machine(devices: tuple[str, ...]) -> Machine:
    try:
        return _facts(_kept() or "", _kept_file(), devices).machine
    except UserError:
        return Machine()  # of another version's facts


def _config() -> Config:
    """That which `gatehouse apply --boot` will use."""
    for file in (None, Config().paths.state / apply.KEPT):
        try:
            return configuration.load(file)
        except UserError:
            pass
    return Config()


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
