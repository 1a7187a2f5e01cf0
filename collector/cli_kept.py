"""`gatehouse flows stats`, `exporters`, `storage`, `hold` and `redecode`: totals, and what is kept how long."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from appliance.config import Config
from appliance.errors import UserError
from appliance.tables import show
from appliance.units import format_bytes, parse_duration
from collector import accounts, certifying, clustered, facts, holding, whose
from collector.asker import asker
from collector.periods import Period, period
from collector.store import retention, rollups
from collector.store.models import Range
from collector.sums import BY, CLIENTS, Kept, Sums, Totals

ACCOUNT = "account"
_FOLLOW_S = 2


def add_parsers(verbs: Any) -> None:
    words = verbs.add_parser("stats", help="totals of any period, without opening a flow")
    period_words(words, "1d ago")
    words.add_argument("--by", choices=(*BY, ACCOUNT), default="service", help="default: service")
    words.add_argument("--step", metavar="TIME", help="over time instead, such as every 1h")
    words.add_argument("--limit", type=int, default=10, metavar="N", help="default: 10")
    words.add_argument("--site", default="", metavar="KEY", help="of a site, as the cluster has it")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_stats)
    words = verbs.add_parser("exporters", help="the routers whose flows are kept")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_exporters)
    words = verbs.add_parser("storage", help="what flows take on the data disk, and how long it lasts")
    words.set_defaults(run=_storage)
    words = verbs.add_parser("load", help="into the cluster: what was kept before there was one")
    period_words(words, "3650d ago")
    words.add_argument("--no-wait", action="store_true", help="it goes on by itself")
    words.set_defaults(run=_load)
    _hold_words(verbs.add_parser("hold", help="keep a period whatever retention says, as a court may ask"))
    words = verbs.add_parser("redecode", help="read the datagrams of a period again, as far as they are still there")
    period_words(words, "1h ago")
    words.set_defaults(run=_redecode)


def _hold_words(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="hold_verb", required=True, metavar="VERB")
    words = verbs.add_parser("add")
    period_words(words, "1d ago")
    words.add_argument("--reason", required=True)
    words.set_defaults(run=_hold)
    words = verbs.add_parser("list")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_holds)
    words = verbs.add_parser("release")
    words.add_argument("number", type=int)
    words.set_defaults(run=_release)


def period_words(words: argparse.ArgumentParser, begin: str) -> None:
    words.add_argument("--from", dest="begin", default=begin, metavar="TIME", help=f"default: {begin}")
    words.add_argument("--to", dest="end", default="now", metavar="TIME", help="default: now")


def span(args: argparse.Namespace, config: Config) -> Period:
    return period(args.begin, args.end, config.site.timezone, int(time.time()))


# Totals


def _stats(args: argparse.Namespace, config: Config) -> str:
    asked = span(args, config)
    with _kept(config, args.site) as totals:
        site = whose.site_of(config, args.site)
        sums = Sums(totals, asked, site)
        rows = list(_over_time(sums, args, config) if args.step else _totals(sums, args, asked, site))
        lines = certifying.lines(sums.certificate(), config.site.timezone, sums.exporters)
    if args.json:
        print(*map(json.dumps, rows), sep="\n")
        print(*lines, sep="\n", file=sys.stderr)
        return ""
    shown = [row | {"bytes": format_bytes(row["bytes"])} for row in rows]
    table = show(shown, tuple(shown[0]), False) if shown else "no flows are known of that time"
    return "\n".join([table, "", *lines])


@contextmanager
def _kept(config: Config, site: str) -> Iterator[Totals]:
    """Of this machine; with the key of a site what the cluster has of that one, also where it is this one."""
    if site and (site != config.site.key or config.netflow.cluster is not None):
        from collector.cluster import totals  # what it takes isn't loaded by those who have no cluster

        with totals.opened(config, site) as found:
            yield found
        return
    with facts.catalog(config) as catalog:
        yield Kept(catalog)


def _totals(sums: Sums, args: argparse.Namespace, asked: Period, site: str) -> Iterator[dict[str, Any]]:
    if args.by == ACCOUNT:
        used = accounts.by_account(sums.top("client", limit=CLIENTS), asked, site)
        for one in sorted(used, key=lambda one: -one.bytes)[: args.limit]:
            yield {ACCOUNT: one.name, "flows": one.flows, "packets": one.packets, "bytes": one.bytes}
        return
    for row in sums.top(args.by, limit=args.limit):
        yield {args.by: row["key"], "flows": row["flows"], "packets": row["packets"], "bytes": row["bytes"]}


def _over_time(sums: Sums, args: argparse.Namespace, config: Config) -> Iterator[dict[str, Any]]:
    step_ms = parse_duration(args.step) * 1000
    if step_ms % rollups.MINUTE_MS:
        raise UserError(f"{args.step}: whole minutes are needed")
    for row in sums.over_time(step_ms):
        at = datetime.fromtimestamp(row["at_ms"] / 1000, config.site.timezone).isoformat(timespec="minutes")
        yield {"from": at, "flows": row["flows"], "packets": row["packets"], "bytes": row["bytes"]}


# What is kept


def _exporters(args: argparse.Namespace, config: Config) -> str:
    now_ms = int(time.time() * 1000)
    of = Range(now_ms - rollups.DAY_MS, now_ms)
    with facts.catalog(config) as catalog:
        addresses = catalog.exporters()
        names, losses = whose.routers(addresses.values()), catalog.losses(of.since_ms, of.until_ms)
        rows = [
            {
                "exporter": names.get(address),
                "address": address,
                "flows_a_day": rollups.whole(catalog, of, [number]).flows,
                "lost_a_day": sum(loss.flows for loss in losses if loss.exporter == number),
            }
            for number, address in addresses.items()
        ]
    return show(rows, ("exporter", "address", "flows_a_day", "lost_a_day"), args.json)


def _storage(args: argparse.Namespace, config: Config) -> str:
    with facts.catalog(config) as catalog:
        found = retention.forecast(config, facts.folder(config), catalog, int(time.time() * 1000))
        segments = catalog.segments()
        flows, holds = sum(segment.rows for segment in segments), len(catalog.holds())
    lines = [f"{flows:,} flows in {format_bytes(found.used_bytes)}B, {format_bytes(found.free_bytes)}B free"]
    if segments:
        begun = min(segment.received_from_ms for segment in segments) / 1000
        lines.append(f"since {datetime.fromtimestamp(begun, config.site.timezone):%Y-%m-%d %H:%M}")
    lines += [*found.lines(), f"{holds} periods are held" if holds else "nothing is held"]
    return "\n".join([*lines, *(_cluster(config) if config.netflow.store else ())])


def _cluster(config: Config) -> Iterator[str]:
    said = clustered.said(config)
    yield from clustered.lines(config)
    for host, trouble in said.hosts.items() if said else ():
        yield f"cluster: {trouble}" if trouble else f"cluster: {host} answers"
    yield from (line for line in clustered.problems(config, int(time.time())) if not said or line not in said.hosts)


def _load(args: argparse.Namespace, config: Config) -> str:
    """Another process does it; here is only waited for it."""
    if not config.netflow.store:
        raise UserError("no cluster keeps flows: [netflow] store is empty")
    asked = span(args, config)
    flows = holding.load(config, asked.since_ms, asked.until_ms, asker())
    left = clustered.waiting(config).asked
    if args.no_wait or not left:
        return (
            f"{flows:,} flows of the history will be loaded"
            if flows
            else "all of that time is in the cluster, or waits for it"
        )
    return _followed(config, left)


def _followed(config: Config, left: int) -> str:
    whole, told = left, ""
    try:
        while left:
            said = clustered.said(config)
            problem = f"; {said.problem}" if said and said.problem else ""
            if (line := f"{whole - left:,} of {whole:,} files are in the cluster{problem}") != told:
                print(line, file=sys.stderr, flush=True)
                told = line
            time.sleep(_FOLLOW_S)
            left = clustered.waiting(config).asked
            whole = max(whole, left)
    except KeyboardInterrupt:
        return f"{left:,} files are left; they are loaded all the same: gatehouse flows storage says how far it is"
    return "all of the history that was asked for is in the cluster"


def _hold(args: argparse.Namespace, config: Config) -> str:
    asked = span(args, config)
    number = holding.add(config, asked.since_ms, asked.until_ms, args.reason, asker())
    return f"hold {number}: nothing of that time goes until `gatehouse flows hold release {number}`"


def _release(args: argparse.Namespace, config: Config) -> str:
    return f"hold {holding.release(config, args.number, asker())} is released"


def _holds(args: argparse.Namespace, config: Config) -> str:
    def at(ms: int) -> str:
        return datetime.fromtimestamp(ms / 1000, config.site.timezone).isoformat(timespec="minutes")

    with facts.catalog(config) as catalog:
        rows = [
            {"hold": h.id, "from": at(h.since_ms), "to": at(h.until_ms), "reason": h.reason, "who": h.who}
            for h in catalog.holds()
        ]
    return show(rows, ("hold", "from", "to", "reason", "who"), args.json)


def _redecode(args: argparse.Namespace, config: Config) -> str:
    asked = span(args, config)
    count = holding.redecode(config, asked.since_ms, asked.until_ms, asker())
    return f"{count:,} seconds of datagrams are being read again" if count else "no datagrams of that time are there"
