"""Who held which address when, as the sessions of RADIUS tell. Reads the core database, which is open."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from ipaddress import ip_address, ip_network
from operator import or_
from typing import Any

from appliance.accounts.models import Session
from appliance.config import Config
from appliance.core import LOOPBACK
from appliance.nas.models import GATEWAY, Nas
from collector.exporters import Exporter, Exporters
from collector.module import addresses

FOREVER_MS = 2**62
LONGEST_S = 62 * 86_400  # that a session which has ended may have begun before the period asked for
_PIECE = 400


@dataclass(frozen=True)
class Holding:
    """`address` as a number was this account's from `since_ms` to before `until_ms`; `session` is its row."""

    address: int
    family: int
    since_ms: int
    until_ms: int
    account: str
    mac: str
    session: int
    nas: str


def site_of(config: Config) -> str:
    """Whose sessions count here; none where there is only one site."""
    return config.site.key if config.fleet else ""


def holdings(since_ms: int, until_ms: int, addresses: Collection[str] | None = None, site: str = "") -> list[Holding]:
    """Of a period, of these addresses or all. No two of one address at a time: who came later had it then.

    With a `site` what was at other ones doesn't count: many have the same private addresses.
    """
    of: dict[int, list[Holding]] = defaultdict(list)
    for row in _sessions(since_ms // 1000, -(-until_ms // 1000), addresses, site):
        for holding in _of(row):
            of[holding.address].append(holding)
    return [holding for held in of.values() for holding in disjoint(held)]


def disjoint(held: Sequence[Holding]) -> Iterator[Holding]:
    """Of one address. What was begun later ends what was begun before."""
    ordered = sorted(held, key=lambda one: (one.since_ms, one.session))
    for one, after in zip(ordered, [*ordered[1:], None], strict=True):
        until = one.until_ms if after is None else min(one.until_ms, after.since_ms)
        if one.since_ms < until:
            yield Holding(one.address, one.family, one.since_ms, until, one.account, one.mac, one.session, one.nas)


def overlapping(address: str, since_ms: int, until_ms: int, site: str = "") -> list[Holding]:
    """All sessions that had the address at any moment between, as they were told: they may overlap."""
    number = int(ip_address(address))
    rows = _sessions(since_ms // 1000, until_ms // 1000 + 1, {address}, site)
    found = [one for row in rows for one in _of(row) if one.address == number]
    return [one for one in found if one.since_ms <= until_ms and one.until_ms > since_ms]


def routers(senders: Iterable[str]) -> dict[str, str]:
    """Names of routers by the addresses that flows come from, as far as these are known."""
    there = [Exporter(ip_network(LOOPBACK), GATEWAY, True)]
    for nas in Nas.select().where(Nas.kind != GATEWAY):
        there += [Exporter(ip_network(network), str(nas.name), True) for network in addresses(nas)]
    known = Exporters(there)
    return {sender: found.name for sender in senders if (found := known.find(sender)) is not None}


def exporters(addresses: Mapping[int, str]) -> dict[int, str]:
    """Each by its router's name, or else its address."""
    names = routers(addresses.values())
    return {number: names.get(address, address) for number, address in addresses.items()}


def _of(row: dict[str, Any]) -> Iterator[Holding]:
    since, until = row["started_at"] * 1000, FOREVER_MS if row["ended_at"] is None else row["ended_at"] * 1000 + 999
    for text in dict.fromkeys((row["framed_ip"], row["host_ip"])):
        try:
            address = ip_address(text or "")
        except ValueError:
            continue
        yield Holding(int(address), address.version, since, until, row["account"], row["mac"], row["id"], row["nas"])


def _sessions(since: int, until: int, addresses: Collection[str] | None, site: str) -> Iterator[Any]:
    """By the indexes of what is open and of when it began: there is none of addresses."""
    columns = (
        Session.id,
        Session.account,
        Session.mac,
        Session.nas,
        Session.framed_ip,
        Session.host_ip,
        Session.started_at,
        Session.ended_at,
    )
    elsewhere = Nas.select(Nas.name).where(Nas.site.is_null(False), Nas.site != site)
    here = (Session.nas.not_in(elsewhere),) if site else ()
    began = (Session.started_at <= until) & (Session.started_at > since - LONGEST_S)
    for when in (Session.ended_at.is_null() & (Session.started_at <= until), began & (Session.ended_at >= since)):
        for its in _pieces(addresses):
            query: Any = Session.select(*columns).where(when, *here, *its).dicts()
            yield from query.iterator()


def _pieces(addresses: Collection[str] | None) -> Iterator[tuple[Any, ...]]:
    if addresses is None:
        yield ()
        return
    listed = sorted(addresses)
    for start in range(0, len(listed), _PIECE):
        piece = listed[start : start + _PIECE]
        yield (reduce(or_, (field.in_(piece) for field in (Session.framed_ip, Session.host_ip))),)
