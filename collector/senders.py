"""The routers that send flows, and those that should: how each is doing. Reads the core database."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

import peewee

from appliance.accounts.models import Session
from appliance.admin.paths import part
from appliance.config import Config
from appliance.doctor.findings import BAD, OK, WARN, Finding
from appliance.errors import UserError
from appliance.nas import routers, setup
from appliance.nas.models import GATEWAY, Nas
from appliance.units import format_ago
from collector import facts, module, noted
from collector.exporters import Exporter, Exporters
from collector.facts import Heard
from collector.journal import OTHERS
from collector.noted import Doubt, Noted

_DAY_S = 86_400
SILENT_S = 900  # templates are sent every few seconds as long as anything passes
MOST_UNKNOWN = 20


@dataclass(frozen=True)
class Sender:
    """`router` is empty where no router of ours sends from there; `heard` None where it never sent."""

    address: str
    router: str
    kind: str
    on: bool
    heard: Heard | None
    radius_bytes: int = 0

    @property
    def noted(self) -> Noted:
        return replace(self.heard.noted, radius_bytes=self.radius_bytes) if self.heard else Noted()

    def silent_s(self, now: int) -> int | None:
        """Since when it sends nothing, where that is worth a word."""
        silence = now - self.heard.last_ms // 1000 if self.heard else 0
        return silence if silence > SILENT_S else None

    @property
    def known(self) -> bool:
        """Whether it has a page of its own."""
        return bool(self.kind)

    @property
    def subject(self) -> str:
        return f"flows of {self.router or self.address}"


def url(router: str) -> str:
    return f"/flows/exporters/{part(router)}"


def every(config: Config, now: int) -> list[Sender]:
    """Raises Unavailable where nobody knows who sends."""
    named = {str(nas.name): nas for nas in Nas.select().order_by(Nas.name)}
    known = Exporters(_known(config, named))
    counted, found = _counted(now), []
    for one in facts.heard(config, now):
        of = None if one.address == OTHERS else known.find(one.address)
        kind = str(named[of.name].kind) if of and of.name in named else ""
        router, on = (of.name, of.collected) if of else ("", False)
        found.append(Sender(one.address, router, kind, on, one, counted.get(router, 0)))
    seen = {one.router for one in found}
    return [*found, *(one for one in expected(config) if one.router not in seen)]


def _counted(now: int) -> dict[str, int]:
    """Octets of sessions that began since yesterday, by router: flows of that time have at least as many."""
    octets = peewee.fn.SUM(Session.input_octets + Session.output_octets)
    query: Any = Session.select(Session.nas, octets).where(Session.started_at > now - _DAY_S).group_by(Session.nas)
    return {str(name): int(count or 0) for name, count in query.tuples()}


def _known(config: Config, named: dict[str, Any]) -> Iterator[Exporter]:
    for name, nas in named.items():
        if nas.kind != GATEWAY:
            for network in module.addresses(nas):
                yield Exporter(ip_network(network), name, bool(nas.netflow))
    if module.has_gateway(config):
        yield Exporter(ip_network("127.0.0.1/32"), GATEWAY, True)


def expected(config: Config) -> list[Sender]:
    """Those that are switched on, whether they send or not."""
    on = Nas.select().where(Nas.netflow, Nas.kind != GATEWAY).order_by(Nas.name)
    return [Sender(module.addresses(nas)[0], str(nas.name), str(nas.kind), True, None) for nas in on]


def findings(one: Sender, config: Config, now: int) -> list[Finding]:
    """Of one that is switched on; that all is well is said too."""
    target = f"dst-address={_server(config, one)}" if one.kind == routers.MIKROTIK else ""
    doubts = list(_heard(one, config, now)) + list(noted.doubts(one.noted, target, now) if one.heard else ())
    found = [Finding(one.subject, *doubt) for doubt in doubts]
    return found or [Finding(one.subject, OK, "They come, can be read, and their times are right.")]


def _server(config: Config, one: Sender) -> str:
    nas = Nas.get_or_none(Nas.name == one.router)
    try:
        return str(setup.server(config, nas)) if nas else ""
    except UserError:
        return "SERVER"


def _heard(one: Sender, config: Config, now: int) -> Iterator[Doubt]:
    lines = set_up(config, Nas.get_or_none(Nas.name == one.router))
    if one.heard is None:
        yield Doubt(BAD, "It is switched on, and has sent nothing yet.", "Let it send.", lines)
    elif silence := one.silent_s(now):
        sentence = f"It sent nothing any more: the last datagram came {format_ago(silence)}."
        yield Doubt(BAD, sentence, "See that it is up and sends.", lines)


def set_up(config: Config, nas: Any) -> tuple[str, ...]:
    """RouterOS's commands for its flows; none for other makes."""
    return setup.remedy(config, nas, "Flows") if nas is not None and nas.kind == routers.MIKROTIK else ()


def all_findings(config: Config, now: int) -> Iterator[Finding]:
    """Of who is switched on, and who sends without being so."""
    found = every(config, now)
    for one in found:
        if one.on:
            yield from findings(one, config, now)
    known = [one for one in found if not one.on and one.router]
    for one in known:
        sentence = "It sends flows, and none are kept: it isn't switched on."
        lines = (f"gatehouse nas set {one.router} --netflow on", "gatehouse apply")
        yield Finding(one.subject, WARN, sentence, "Switch it on, or let it send no more.", lines)
    strangers = [one.address for one in found if not one.router]
    if strangers:
        named = ", ".join(strangers[:MOST_UNKNOWN])
        sentence = f"{len(strangers)} addresses send flows that are no router's of ours: {named}."
        yield Finding("flows of others", WARN, sentence, "Add them as routers, or let them send no more.")
