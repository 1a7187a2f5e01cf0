"""The section [netflow]: what the collector listens to, and how much of it is kept."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from appliance.config_checks import address, between, ports

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_URL = "clickhouse://user@host1:9000,host2:9000/database?cluster=NAME"
_PORT, _TLS_PORT = 9000, 9440


@dataclass(frozen=True)
class Store:
    """A cluster of ClickHouse. Without the `cluster`'s name there is one server, which may have several addresses."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    database: str
    cluster: str = ""
    secure: bool = False
    ca: Path | None = None


@dataclass(frozen=True)
class Netflow:
    """`listen` "::" is every address of both families. Datagrams as they came are kept for hours, flows for days.

    `keep_gb` 0 is as much as the data disk holds. `buffer_mb` is the socket's, `spool_mb` what is kept on the system's
    disk while the data disk is away. `gateway` is whether the appliance's own gateway sends its guests' flows.
    With a `store` flows go to a cluster, and stay on the disk for `store_keep_days` after that. While it is away they
    wait for so many days and GB, 0 is as many as the disk holds.
    """

    listen: str = "::"
    port: int = 2055
    gateway: bool = True
    keep_days: int = 180
    keep_gb: int = 0
    journal_hours: int = 48
    journal_gb: int = 4
    spool_mb: int = 512
    buffer_mb: int = 16
    store: str = ""
    store_password_file: Path | None = None
    store_keep_days: int = 7
    store_wait_days: int = 90
    store_wait_gb: int = 0

    def __post_init__(self) -> None:
        address(self, "listen")
        ports(self, "port")
        for key, low, high in (
            ("keep_days", 1, 3650),
            ("keep_gb", 0, 1_000_000),
            ("journal_hours", 1, 8760),
            ("journal_gb", 1, 100_000),
            ("spool_mb", 16, 100_000),
            ("buffer_mb", 1, 512),
            ("store_keep_days", 1, 3650),
            ("store_wait_days", 1, 3650),
            ("store_wait_gb", 0, 1_000_000),
        ):
            between(self, key, low, high)
        if self.store_keep_days * 24 < self.journal_hours:
            raise ValueError("store_keep_days: flows have to stay as long as their datagrams do, for journal_hours")
        if self.store:
            _store(self.store)

    @property
    def disk_days(self) -> int:
        """How long flows stay on the data disk."""
        return min(self.store_keep_days, self.keep_days) if self.store else self.keep_days

    @property
    def cluster(self) -> Store | None:
        return _store(self.store) if self.store else None


def _store(url: str) -> Store:
    """Raises ValueError."""
    parts = urlsplit(url)
    database = parts.path.removeprefix("/")
    if parts.scheme != "clickhouse" or not _NAME.fullmatch(database) or parts.fragment:
        raise ValueError(f"store: {_URL} is needed")
    user, _, hosts = parts.netloc.rpartition("@")
    if ":" in user:
        raise ValueError("store: the password is in no address: name a file with it as store_password_file")
    words = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if unknown := words.keys() - {"cluster", "secure", "ca"}:
        raise ValueError(f"store: {min(unknown)} is unknown (known: cluster, secure, ca)")
    cluster, secure = words.get("cluster", ""), words.get("secure", "0")
    if cluster and not _NAME.fullmatch(cluster):
        raise ValueError(f"store: a cluster's name has letters, digits and _: {cluster!r}")
    if secure not in ("0", "1") or ("ca" in words and secure == "0"):
        raise ValueError("store: secure=1 is TLS, with ca=FILE if its authority is an own one")
    found = tuple(_host(host, _TLS_PORT if secure == "1" else _PORT) for host in hosts.split(","))
    ca = Path(words["ca"]) if "ca" in words else None
    return Store(found, unquote(user) or "default", database, cluster, secure == "1", ca)


def _host(text: str, usual: int) -> tuple[str, int]:
    name, _, port = text.rpartition(":") if re.search(r":\d+$", text) else (text, "", str(usual))
    if not _HOST.fullmatch(name) or not port.isascii() or not 0 < int(port) < 65_536:
        raise ValueError(f"store: {text!r} is no host: {_URL} is needed")
    return name.strip("[]"), int(port)
