"""The appliance's configuration: frozen dataclasses from one TOML file, with a default for everything."""

import dataclasses
import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from appliance.config_acme import Acme as Acme
from appliance.config_checks import EMAIL as EMAIL
from appliance.config_checks import between as _between
from appliance.config_checks import certificate as _certificate
from appliance.config_checks import ports as _ports
from appliance.config_database import Database
from appliance.config_dealer import Dealer as Dealer
from appliance.config_island import Island as Island
from appliance.config_netflow import Netflow as Netflow
from appliance.config_portal import Portal as Portal
from appliance.config_portal import Texts
from appliance.config_site import Site as Site
from appliance.config_vault import Vault as Vault
from appliance.errors import ConfigError, UserError

DEFAULT_FILE = Path("/etc/gatehouse/gatehouse.toml")
TUNNEL_DEVICE = "gatehouse"


@dataclass(frozen=True)
class Paths:
    """`state` survives a reboot, `run` needn't (rendered files and sockets), `log` holds what services print.

    `data` is where the detached data disk is mounted.
    """

    state: Path = Path("/var/lib/gatehouse")
    run: Path = Path("/run/gatehouse")
    log: Path = Path("/var/log/gatehouse")
    data: Path = Path("/srv/gatehouse")


@dataclass(frozen=True)
class Radius:
    """Where FreeRADIUS listens, and what it tells every NAS.

    `certificate` and `key` (PEM files) replace the own ones that phones see; `radsec_port` 0 is no RadSec.
    `public_address` is where routers reach it.
    """

    listen: IPv4Address = IPv4Address("0.0.0.0")  # noqa: S104 (routers reach it from anywhere; clients are listed)
    authentication_port: int = 1812
    accounting_port: int = 1813
    radsec_port: int = 0
    authentication_status_port: int = 18121
    accounting_status_port: int = 18122
    interim_interval_s: int = 300
    public_address: IPv4Address | None = None
    log_logins: bool = True
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        ports = ("authentication_port", "accounting_port", "authentication_status_port", "accounting_status_port")
        _ports(self, *ports)
        if len({getattr(self, port) for port in ports}) < len(ports):
            raise ValueError(f"{', '.join(ports)}: four different ports are needed")
        _between(self, "radsec_port", 0, 65_535)
        _certificate(self.certificate, self.key)
        _between(self, "interim_interval_s", 60, 86_400)

    @property
    def silent_s(self) -> int:
        """So long may a session, or a router with sessions, be silent before it counts as gone: three reports."""
        return 3 * self.interim_interval_s


@dataclass(frozen=True)
class Gateway:
    """The appliance's own NAS, if it is to be one. `addresses` are the public ones that it may give one-to-one."""

    enabled: bool = True
    lan: str = "eth1"
    wan: str = "eth0"
    address: IPv4Interface = IPv4Interface("10.10.0.1/20")
    addresses: tuple[IPv4Network, ...] = ()
    coa_port: int = 3799

    def __post_init__(self) -> None:
        for key in ("lan", "wan"):
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", getattr(self, key)):
                raise ValueError(f"{key}: a network device's name has 1 to 15 letters, digits, '.', '_' or '-'")
        if self.lan == self.wan:
            raise ValueError("lan and wan: two different network devices are needed")
        if self.address.network.prefixlen > 30:
            raise ValueError("address: the guests' network needs a prefix of /30 or shorter")
        _ports(self, "coa_port")


@dataclass(frozen=True)
class Dhcp:
    """Addresses for guests. `first` and `last` default to the whole of the gateway's network."""

    first: IPv4Address | None = None
    last: IPv4Address | None = None
    lease_s: int = 3600
    dns: tuple[IPv4Address, ...] = ()

    def __post_init__(self) -> None:
        _between(self, "lease_s", 120, 604_800)


@dataclass(frozen=True)
class Admin:
    """Where the admin pages listen. Other machines reach them by TLS only."""

    listen: IPv4Address = IPv4Address("127.0.0.1")
    port: int = 8090

    def __post_init__(self) -> None:
        _ports(self, "port")

    @property
    def tls(self) -> bool:
        return not self.listen.is_loopback


@dataclass(frozen=True)
class Mail:
    """The server that takes our messages; without a `host` none are sent. Its password is not in this file."""

    host: str = ""
    port: int = 587
    tls: str = "starttls"
    sender: str = ""
    user: str = ""

    def __post_init__(self) -> None:
        _ports(self, "port")
        if self.tls not in ("starttls", "tls", "none"):
            raise ValueError(f'tls: "starttls", "tls" or "none" is needed, not {self.tls!r}')
        if self.host and not EMAIL.fullmatch(self.sender):
            raise ValueError("sender: an e-mail address such as wifi@example.net is needed")
        if not self.user.isascii():
            raise ValueError("user: only ASCII characters are possible")
        if self.user and self.tls == "none":
            raise ValueError("user: a password is only sent over TLS: leave out user, or set tls")


@dataclass(frozen=True)
class Tunnel:
    """WireGuard to routers that can't be reached otherwise, such as behind carrier NAT; `network` is only in there."""

    enabled: bool = False
    listen_port: int = 51_820
    network: IPv4Network = IPv4Network("10.99.0.0/16")

    def __post_init__(self) -> None:
        _ports(self, "listen_port")
        if self.network.prefixlen > 30:
            raise ValueError("network: the tunnels' network needs a prefix of /30 or shorter")


@dataclass(frozen=True)
class Privacy:
    """How long is kept who was online when; what the law asks for differs from country to country."""

    keep_sessions_days: int = 180
    keep_refusals_days: int = 30

    def __post_init__(self) -> None:
        _between(self, "keep_sessions_days", 1, 3650)
        _between(self, "keep_refusals_days", 1, 3650)


@dataclass(frozen=True)
class Config:
    """Everything that is configured; see docs/configuration.md for the meaning of each key."""

    site: Site = field(default_factory=Site)
    paths: Paths = field(default_factory=Paths)
    database: Database = field(default_factory=Database)
    island: Island = field(default_factory=Island)
    radius: Radius = field(default_factory=Radius)
    gateway: Gateway = field(default_factory=Gateway)
    dhcp: Dhcp = field(default_factory=Dhcp)
    portal: Portal = field(default_factory=Portal)
    acme: Acme = field(default_factory=Acme)
    admin: Admin = field(default_factory=Admin)
    tunnel: Tunnel = field(default_factory=Tunnel)
    netflow: Netflow = field(default_factory=Netflow)
    vault: Vault = field(default_factory=Vault)
    dealer: Dealer = field(default_factory=Dealer)
    mail: Mail = field(default_factory=Mail)
    privacy: Privacy = field(default_factory=Privacy)
    file: Path = DEFAULT_FILE
    text: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        network = self.gateway.address.network
        for key in ("first", "last"):
            address = getattr(self.dhcp, key)
            if address is not None and address not in network:
                raise ValueError(f"[dhcp] {key}: {address} is outside the guests' network {network}")
        first, last = self.dhcp_range
        if first > last:
            raise ValueError(f"[dhcp] first: {first} comes after last, {last}")
        if first <= self.gateway.address.ip <= last:
            raise ValueError(f"[dhcp] first, last: the range holds the gateway's own address {self.gateway.address.ip}")
        for addresses in self.gateway.addresses:
            if addresses.overlaps(network):
                raise ValueError(f"[gateway] addresses: {addresses} overlaps the guests' network {network}")
        if self.tunnel.enabled:
            self._verify_tunnel()
        if self.portal.registration == "email" and not self.mail.host:
            raise ValueError("[portal] registration: to confirm e-mail addresses, messages are sent: fill in [mail]")
        if self.acme.enabled:
            self.acme.verify_names(self.certificate_names)

    def _verify_tunnel(self) -> None:
        own = (self.gateway.address.network, *self.gateway.addresses) if self.gateway.enabled else ()
        for other in own:
            if other.overlaps(self.tunnel.network):
                raise ValueError(f"[tunnel] network: {self.tunnel.network} overlaps {other} of [gateway]")
        if not self.radius.listen.is_unspecified:
            raise ValueError(f"[radius] listen: routers in tunnels don't reach {self.radius.listen}: leave it out")

    @property
    def dhcp_range(self) -> tuple[IPv4Address, IPv4Address]:
        """First and last address for guests; by default the part of the network above the gateway's address."""
        network = self.gateway.address.network
        above = self.gateway.address.ip + 1
        return self.dhcp.first or above, self.dhcp.last or network.broadcast_address - 1

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Those that a certificate by ACME is for."""
        return tuple(dict.fromkeys((self.portal.hostname, *self.acme.names)))

    @property
    def portal_url(self) -> str:
        """Where guests find the portal; by address without TLS, as a phone may ask other name servers than ours.

        Without an own gateway, which leads them from the usual ports to it, its own ones are named.
        """
        portal, secure = self.portal, self.portal.certificate is not None
        if not self.gateway.enabled:
            host = str(self.radius.public_address or portal.hostname)
            return f"https://{portal.hostname}:{portal.https_port}/" if secure else f"http://{host}:{portal.http_port}/"
        return f"https://{self.portal.hostname}/" if secure else f"http://{self.gateway.address.ip}/"

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.paths.state / 'core' / 'core.db'}"

    @property
    def shows_gateways(self) -> bool:
        """Whether own gateways are among the routers: this appliance's, or those of other sites."""
        return self.gateway.enabled or self.fleet

    @property
    def fleet(self) -> bool:
        """Whether this is one of many appliances on one database."""
        return bool(self.site.key) and self.database.url.startswith("postgresql://")


def file_of(path: Path | None) -> Path:
    """The file named by `path`, else by GATEHOUSE_CONFIG, else the default one."""
    return path or Path(os.environ.get("GATEHOUSE_CONFIG", DEFAULT_FILE))


def load(path: Path | None = None) -> Config:
    """Reads that file; defaults where there is none.

    Raises ConfigError with one line that names the file and the key.
    """
    file = file_of(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path or "GATEHOUSE_CONFIG" in os.environ:
            raise ConfigError(f"{file}: there is no such file") from None
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: can't be read: {error}") from error
    return parse(text, file)


def parse(text: str, file: Path = DEFAULT_FILE) -> Config:
    """Configuration from TOML text; `file` is only named in errors and kept in the result."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    hints = typing.get_type_hints(Config)
    sections = {key: hint for key, hint in hints.items() if dataclasses.is_dataclass(hint)}
    values = {}
    for name, table in tables.items():
        if name not in sections:
            raise ConfigError(f"{file}: [{name}]: unknown section{_meant(name, sections)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: {name}: a section is needed: write [{name}] on a line of its own")
        values[name] = section(typing.cast(type, sections[name]), name, table, file)
    try:
        return Config(**values, file=file, text=text)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None


def hint(key: str) -> Any:
    """The type of `section.key`; raises KeyError."""
    section, _, name = key.partition(".")
    return typing.get_type_hints(typing.get_type_hints(Config)[section])[name]


def value(config: Config, key: str) -> Any:
    """What `section.key` is."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def salvage_paths(path: Path | None) -> Paths:
    """Where things lie according to a file that can't be used otherwise; the defaults if even that can't be told."""
    file = file_of(path)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("paths", {})
        return typing.cast(Paths, section(Paths, "paths", table, file))
    except (OSError, ValueError, AttributeError, ConfigError):
        return Paths()


def section(cls: type, name: str, table: Mapping[str, object], file: Path) -> Any:
    """A dataclass from a TOML table; raises ConfigError that names the file and the key."""
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in table.items():
        if key not in hints:
            raise ConfigError(f"{file}: [{name}] {key}: unknown key{_meant(key, hints)}")
        try:
            values[key] = _convert(hints[key], value)
        except (ValueError, ZoneInfoNotFoundError, UserError) as error:
            raise ConfigError(f"{file}: [{name}] {key}: {error}") from None
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{file}: [{name}] {error}") from None


def _meant(word: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"


_FROM_TEXT: dict[object, tuple[Callable[[str], object], str]] = {
    Path: (Path, "a path in quotes"),
    ZoneInfo: (ZoneInfo, 'a time zone such as "Europe/Prague"'),
    IPv4Address: (IPv4Address, 'an address such as "10.0.0.1"'),
    IPv4Interface: (IPv4Interface, 'an address with its prefix such as "10.0.0.1/24"'),
    IPv4Network: (IPv4Network, 'a network such as "198.51.100.16/28"'),
}


def _convert(hint: Any, value: object) -> object:
    if isinstance(hint, types.UnionType):  # only "X | None" is used; absent means None
        return _convert(typing.get_args(hint)[0], value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError("a list in [ ] is needed")
        return tuple(_convert(typing.get_args(hint)[0], item) for item in value)
    if hint is Texts:
        return Texts.of(value)
    if hint in _FROM_TEXT:
        make, wanted = _FROM_TEXT[hint]
        if not isinstance(value, str):
            raise ValueError(f"{wanted} is needed, not {value!r}")
        try:
            return make(value)
        except (ValueError, ZoneInfoNotFoundError, OSError):
            raise ValueError(f"{wanted} is needed, not {value!r}") from None
    if type(value) is not hint:  # a bool is no int here
        wanted = {int: "a whole number", str: "text in quotes", bool: "true or false"}[hint]
        raise ValueError(f"{wanted} is needed, not {value!r}")
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("line breaks and control characters can't be used here")
    return value
