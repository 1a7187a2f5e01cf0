"""Site facts: one TOML file on the boot partition, as `flash.yml` or a technician's editor writes it; pure.

Its section [provision] is about the machine, all others are the configuration.
"""

import base64
import binascii
import re
import tomllib
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import tomlkit
import tomlkit.exceptions

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
            if not _is_whole(key):
                raise ValueError(f"ssh_authorized_keys: {key[:40]!r} isn't whole: copy the line again")
        if not (bool(self.wan_address) == bool(self.wan_gateway) == bool(self.wan_dns)):
            raise ValueError("wan_address, wan_gateway and wan_dns: give all three, or none for DHCP")
        ours, gateway = self.wan_address, self.wan_gateway
        if ours and gateway and (gateway not in ours.network or gateway == ours.ip):
            raise ValueError(
                f"wan_gateway: {gateway} is no neighbour of {ours}: is the prefix right, as in 192.0.2.10/24?"
            )


def _is_whole(key: str) -> bool:
    """Strings with their lengths to the very end, the first of which is the kind (RFC 4253, 6.6)."""
    kind, text = key.split()[:2]
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length:
            return False
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return len(found) > 1 and found[0] == kind.encode()


@dataclass(frozen=True)
class Facts:
    """`text` is the configuration, as it is written to its file."""

    machine: Machine
    config: Config
    text: str


def parse(text: str, file: Path, devices: tuple[str, ...], known_modules: tuple[str, ...]) -> Facts:
    """`devices` are the Ethernet devices there are; raises ConfigError that names the file and the key."""
    tables, machine = _tables(text, file), machine_of(text, file)
    for name in machine.modules:
        if name not in known_modules:
            raise ConfigError(f"{file}: [{SECTION}] modules: there is no module {name!r}: {', '.join(known_modules)}")
    rest = with_defaults(_rest(text, tables, file), file, devices)
    return Facts(machine, configuration.parse(rest, file), rest)


def machine_of(text: str, file: Path) -> Machine:
    """Whatever the other sections hold; raises ConfigError."""
    table = _tables(text, file).get(SECTION, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: {SECTION}: a section is needed: write [{SECTION}] on a line of its own")
    machine: Machine = configuration.section(Machine, SECTION, table, file)
    return machine


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


def with_defaults(text: str, file: Path, devices: tuple[str, ...]) -> str:
    """What a box needs that isn't told which device is which: the first leads to the provider, the next to the guests.

    With one device only, the guests' is a bridge that nothing is plugged into yet. The admin's pages are to be
    reached from the network, as nobody sits at the box.
    """
    try:
        document = tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    gateway = document.get("gateway", {})
    named = gateway if isinstance(gateway, Mapping) else {}
    free = [name for name in devices if name not in named.values()]
    wan = free.pop(0) if free and "wan" not in named else "eth0"
    _add(document, "gateway", {"wan": wan, "lan": free[0] if free else _BRIDGE})
    _add(document, "admin", {"listen": "0.0.0.0"})  # noqa: S104
    return tomlkit.dumps(document)


def _add(document: MutableMapping[str, object], section: str, values: Mapping[str, str]) -> None:
    """Where they are missing; what isn't a section is a mistake that is told later."""
    table = document.setdefault(section, tomlkit.table())
    if isinstance(table, MutableMapping):
        for key, value in values.items():
            table.setdefault(key, value)


def networks(
    config: Config, machine: Machine, devices: tuple[str, ...], present: Collection[str] = ()
) -> dict[str, str]:
    """systemd.network(5) and systemd.netdev(5) files by name; the guests' device is the gateway daemon's own.

    `present` are other devices there are. Where the provider's isn't there, as on another box's configuration, the
    first that isn't the guests' takes its place, so that the box can be reached.
    """
    address = [f"Address={machine.wan_address}"] if machine.wan_address else ["DHCP=ipv4"]
    gateway = [f"Gateway={machine.wan_gateway}"] if machine.wan_gateway else []
    servers = [f"DNS={server}" for server in machine.wan_dns]
    wan = ["[Match]", f"Name={config.gateway.wan}", "", "[Network]", *address, *gateway, *servers]
    wan += ["KeepConfiguration=dynamic-on-stop"]  # a restart of networkd cuts nobody
    lan = ["[Match]", f"Name={config.gateway.lan}", "", "[Link]", "Unmanaged=yes"]
    files = {"10-gatehouse-wan.network": wan, "10-gatehouse-lan.network": lan}
    spare = [name for name in devices if name != config.gateway.lan]
    if config.gateway.wan not in (*devices, *present) and spare:
        files["90-gatehouse-spare.network"] = [f"Name={spare[0]}" if "Name=" in line else line for line in wan]
    if config.gateway.lan == _BRIDGE and _BRIDGE not in devices:
        files["10-gatehouse-lan.netdev"] = ["[NetDev]", f"Name={config.gateway.lan}", "Kind=bridge"]
    return {name: "\n".join([*lines, ""]) for name, lines in files.items()}


def _tables(text: str, file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
