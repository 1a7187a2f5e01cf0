"""Who held which address when, as the sessions of RADIUS tell. Reads the core database, which is open."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from ipaddress import ip_address, ip_network
from operator import or_
from typing import Any

from appliance.accounts.models import Session
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.core import LOOPBACK
from appliance.nas.models import GATEWAY, Nas
from collector.exporters import Exporter, Exporters
from collector.module import addresses

FOREVER_MS = 2**62
NOWHERE = "?"  # no site's key
LONGEST_S = 62 * 86_400  # that a session which has ended may have begun before the period asked for
_PIECE = 400
_ROUTER = "router "  # what the record calls one


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


def site_of(config: Config, asked: str = "") -> str:
    """Whose sessions and routers count for flows of a site, or of this one; "" is all where there is only one.

    Where each site has a database of its own, nothing is known here of another one: NOWHERE.
    """
    if not config.fleet:
        return "" if asked in ("", config.site.key) else NOWHERE
    return asked or config.site.key


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


def routers(senders: Iterable[str], site: str = "") -> dict[str, str]:
    """Names of routers by the addresses that flows come from, as far as these are known. Not of another site's."""
    there = [Exporter(ip_network(LOOPBACK), GATEWAY, True)]
    for nas in Nas.select().where(Nas.kind != GATEWAY):
        if site == NOWHERE or (site and nas.site not in (None, site)):
            continue
        there += [Exporter(ip_network(network), str(nas.name), True) for network in addresses(nas)]
    known = Exporters(there)
    return {sender: found.name for sender in senders if (found := known.find(sender)) is not None}


def exporters(addresses: Mapping[int, str], site: str = "") -> dict[int, str]:
    """Each by its router's name, or else its address."""
    names = routers(addresses.values(), site)
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
    if site == NOWHERE:
        return
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
    sites = _Sites() if site else None
    here = (Session.nas.not_in(sites.always_elsewhere(site)),) if sites else ()
    began = (Session.started_at <= until) & (Session.started_at > since - LONGEST_S)
    for when in (Session.ended_at.is_null() & (Session.started_at <= until), began & (Session.ended_at >= since)):
        for its in _pieces(addresses):
            query: Any = Session.select(*columns).where(when, *here, *its).dicts()
            for row in query.iterator():
                if sites is None or not sites.of(row).isdisjoint((site, None)):
                    yield row


class _Sites:
    """Which sites routers were of when: as they are now, and by the record of what was changed. None may be any."""

    def __init__(self) -> None:
        self._now: dict[str, str | None] = dict(Nas.select(Nas.name, Nas.site).tuples())
        self._left: dict[str, list[tuple[int, str | None]]] = defaultdict(list)  # until when it was of which
        changed = (Audit.action == "removed") | ((Audit.action == "changed") & Audit.changes.contains('"site"'))
        of_routers = Audit.subject.startswith(_ROUTER) & changed
        record: Any = Audit.select(Audit.at, Audit.subject, Audit.changes).where(of_routers)
        for at, subject, changes in record.tuples():
            site = json.loads(changes).get("site", (None,))[0]
            self._left[subject.removeprefix(_ROUTER)].append((at, site))

    def always_elsewhere(self, site: str) -> Any:
        """Routers of which nothing but another site is known."""
        left = Nas.name.not_in(list(self._left))
        return Nas.select(Nas.name).where(Nas.site.is_null(False), Nas.site != site, left)

    def of(self, session: Mapping[str, Any]) -> set[str | None]:
        """All that its router was of while it went on."""
        name, found = session["nas"], set()
        for at, site in sorted(self._left.get(name, ()), key=lambda left: left[0]):
            if at >= session["started_at"]:
                found.add(site)
            if session["ended_at"] is not None and at > session["ended_at"]:
                return found
        return found | ({self._now[name]} if name in self._now else set() if found else {_gateways(name)})


def _gateways(name: str) -> str | None:
    """The site whose own gateway a name is, also of one that was removed: no other router may be called so."""
    kind, _, site = name.partition("-")
    return site if kind == GATEWAY and site else None


def _pieces(addresses: Collection[str] | None) -> Iterator[tuple[Any, ...]]:
    if addresses is None:
        yield ()
        return
    listed = sorted(addresses)
    for start in range(0, len(listed), _PIECE):
        piece = listed[start : start + _PIECE]
        yield (reduce(or_, (field.in_(piece) for field in (Session.framed_ip, Session.host_ip))),)
