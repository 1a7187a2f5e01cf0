"""Site facts: one TOML file on the boot partition, as `flash.yml` or a technician's editor writes it; pure.

Its section [provision] is about the machine, all others are the configuration.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import ConfigError

SECTION = "provision"
_KEY_KIND = r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
_HOSTNAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_BRIDGE = "guests"


@dataclass(frozen=True)
class Machine:
    """[provision]. Without `wan_address` the provider's DHCP gives one."""

    hostname: str = "gatehouse"
    ssh_authorized_keys: tuple[str, ...] = ()
    modules: tuple[str, ...] = ("hotspot",)
    wan_address: IPv4Interface | None = None
    wan_gateway: IPv4Address | None = None
    wan_dns: tuple[IPv4Address, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(_HOSTNAME, self.hostname):
            raise ValueError("hostname: 1 to 63 lower-case letters, digits and '-' are needed")
        for key in self.ssh_authorized_keys:
            if not re.fullmatch(_KEY_KIND + r" [A-Za-z0-9+/]+=*( .*)?", key):
                raise ValueError(f"ssh_authorized_keys: {key[:40]!r} isn't a line of an OpenSSH public key file")
        if (self.wan_address is None) != (self.wan_gateway is None):
            raise ValueError("wan_address and wan_gateway: give both or neither")


@dataclass(frozen=True)
class Facts:
    """`text` is the configuration, as it is written to its file."""

    machine: Machine
    config: Config
    text: str


def parse(text: str, file: Path, devices: tuple[str, ...], known_modules: tuple[str, ...]) -> Facts:
    """`devices` are the Ethernet devices there are; raises ConfigError that names the file and the key."""
    tables = _tables(text, file)
    table = tables.get(SECTION, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: {SECTION}: a section is needed: write [{SECTION}] on a line of its own")
    machine = configuration.section(Machine, SECTION, table, file)
    for name in machine.modules:
        if name not in known_modules:
            raise ConfigError(f"{file}: [{SECTION}] modules: there is no module {name!r}: {', '.join(known_modules)}")
    rest = _rest(text, tables, file)
    rest += defaults(_tables(rest, file), devices)
    return Facts(machine, configuration.parse(rest, file), rest)


def _rest(text: str, tables: Mapping[str, object], file: Path) -> str:
    """Without [provision]; raises ConfigError where lines don't tell where that is."""
    rest = without_machine(text)
    try:
        if tomllib.loads(rest) == {key: value for key, value in tables.items() if key != SECTION}:
            return rest
    except tomllib.TOMLDecodeError:
        pass
    raise ConfigError(f"{file}: [{SECTION}]: write it as one section of plain keys")


def without_machine(text: str) -> str:
    """The other sections, with their comments."""
    kept, inside = [], False
    for line in text.splitlines():
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            inside = header[1].strip("\"'") == SECTION
        if not inside:
            kept.append(line)
    return "\n".join(kept).strip() + "\n"


def defaults(tables: Mapping[str, object], devices: tuple[str, ...]) -> str:
    """What a box needs that isn't told which device is which: the first leads to the provider, the next to the guests.

    With one device only, the guests' is a bridge that nothing is plugged into yet. The admin's pages are to be
    reached from the network, as nobody sits at the box.
    """
    lines = []
    if "gateway" not in tables:
        wan, lan = (*devices, "eth0", _BRIDGE)[:2] if len(devices) != 1 else (devices[0], _BRIDGE)
        lines += ["", "[gateway]", f'wan = "{wan}"', f'lan = "{lan}"']
    if "admin" not in tables:
        lines += ["", "[admin]", 'listen = "0.0.0.0"']
    return "\n".join([*lines, ""])


def networks(config: Config, machine: Machine, devices: tuple[str, ...]) -> dict[str, str]:
    """systemd.network(5) and systemd.netdev(5) files by name; the guests' device is the gateway daemon's own."""
    address = [f"Address={machine.wan_address}"] if machine.wan_address else ["DHCP=ipv4"]
    gateway = [f"Gateway={machine.wan_gateway}"] if machine.wan_gateway else []
    servers = [f"DNS={server}" for server in machine.wan_dns]
    wan = ["[Match]", f"Name={config.gateway.wan}", "", "[Network]", *address, *gateway, *servers]
    wan += ["KeepConfiguration=dynamic-on-stop"]  # a restart of networkd cuts nobody
    lan = ["[Match]", f"Name={config.gateway.lan}", "", "[Link]", "Unmanaged=yes"]
    files = {"10-gatehouse-wan.network": wan, "10-gatehouse-lan.network": lan}
    if config.gateway.lan == _BRIDGE and _BRIDGE not in devices:
        files["10-gatehouse-lan.netdev"] = ["[NetDev]", f"Name={config.gateway.lan}", "Kind=bridge"]
    return {name: "\n".join([*lines, ""]) for name, lines in files.items()}


def _tables(text: str, file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
