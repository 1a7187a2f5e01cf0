"""Whose datagrams are collected: routers that are switched on, by the address that their flows come from."""

import json
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple

_MAPPED = "::ffff:"


class Exporter(NamedTuple):
    """A router, or one of the networks that routers of that name send from."""

    network: IPv4Network | IPv6Network
    name: str
    collected: bool


def text(exporters: Iterable[Exporter]) -> str:
    rows = [{"network": str(e.network), "name": e.name, "collected": e.collected} for e in exporters]
    return json.dumps(rows, indent=1) + "\n"


def parse(given: str) -> list[Exporter]:
    return [Exporter(ip_network(row["network"]), row["name"], row["collected"]) for row in json.loads(given)]


def plain(address: str) -> str:
    """As recvfrom(2) of a socket for both families says it, but IPv4 as such and without a zone."""
    if address.startswith(_MAPPED) and "." in address:
        return address[len(_MAPPED) :]
    return address.partition("%")[0]


class Exporters:
    """The longest prefix that an address is in decides; asked for each new sender, so by a look-up for each length."""

    def __init__(self, exporters: Iterable[Exporter] = ()) -> None:
        lengths: dict[tuple[int, int], dict[int, Exporter]] = {}
        for exporter in exporters:
            network = exporter.network
            rest = network.max_prefixlen - network.prefixlen
            lengths.setdefault((network.version, rest), {})[int(network.network_address) >> rest] = exporter
        self._lengths = sorted(lengths.items())

    def find(self, address: str) -> Exporter | None:
        """Raises ValueError for what is no address."""
        parsed = ip_address(address)
        number = int(parsed)
        for (version, rest), exporters in self._lengths:
            if version == parsed.version and (found := exporters.get(number >> rest)):
                return found
        return None


class Followed:
    """The rendered file, read anew when it has changed; as it was while it can't be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: Any = None
        self.exporters = Exporters()

    def changed(self) -> bool:
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return False
            self.exporters = Exporters(parse(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError):
            return False
        self._seen = seen
        return True
