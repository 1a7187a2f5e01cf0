"""`gatehouse flows stats`, `exporters`, `storage`, `hold` and `redecode`: totals, and what is kept how long."""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from appliance.config import Config
from appliance.errors import UserError
from appliance.tables import show
from appliance.units import format_bytes, parse_duration
from collector import holding
from collector.asker import asker
from collector.filters.names import PROTOCOLS, service_text
from collector.periods import Period, period

KINDS = ("service", "protocol", "client", "destination", "interface", "exporter")


def add_parsers(verbs: Any) -> None:
    words = verbs.add_parser("stats", help="totals of any period, without opening a flow")
    period_words(words, "1d ago")
    words.add_argument("--by", choices=KINDS, default="service", help="default: service")
    words.add_argument("--step", metavar="TIME", help="over time instead, such as every 1h")
    words.add_argument("--limit", type=int, default=10, metavar="N", help="default: 10")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_stats)
    words = verbs.add_parser("exporters", help="the routers whose flows are kept")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_exporters)
    words = verbs.add_parser("storage", help="what flows take on the data disk, and how long it lasts")
    words.set_defaults(run=_storage)
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
    from collector import questions
    from collector.store.models import Range

    asked = span(args, config)
    of = Range(asked.since_ms, asked.until_ms)
    with questions.opened(config) as reading:
        known = questions.known(config, reading)
        rows = list(_over_time(reading, of, args, config) if args.step else _totals(reading, of, args, known))
        lines = questions.certified(reading, known, reading.certificate(of), config.site.timezone)
    if args.json:
        print(*map(json.dumps, rows), sep="\n")
        print(*lines, sep="\n", file=sys.stderr)
        return ""
    shown = [row | {"bytes": format_bytes(row["bytes"])} for row in rows]
    table = show(shown, tuple(shown[0]), False) if shown else "no flows are known of that time"
    return "\n".join([table, "", *lines])


def _totals(reading: Any, of: Any, args: argparse.Namespace, known: Any) -> Iterator[dict[str, Any]]:
    from collector.store import rollups

    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    if args.by == "exporter":
        for number, address in reading.exporters.items():
            total = rollups.whole(reading.catalog, of, [number])
            sums[known.routers.get(address, address)] = [total.flows, total.packets, total.bytes]
    else:
        kind, most = ("service", 2**31) if args.by == "protocol" else (args.by, args.limit)
        for total in rollups.top(reading.catalog, of, kind, limit=most):
            name = _named(args.by, rollups.label(kind, total.key))
            for place, value in enumerate((total.flows, total.packets, total.bytes)):
                sums[name][place] += value
    ordered = sorted(sums.items(), key=lambda item: (item[0] == _REST, -item[1][2], item[0]))
    for name, (flows, packets, octets) in ordered[: args.limit + 1]:
        yield {args.by: name, "flows": flows, "packets": packets, "bytes": octets}


_REST = "other"


def _named(by: str, label: str) -> str:
    if not label or by not in ("service", "protocol"):
        return label or _REST
    protocol, _, port = label.partition("/")
    if by == "service":
        return service_text(int(protocol), int(port))
    return next((name for name, number in PROTOCOLS.items() if number == int(protocol)), protocol)


def _over_time(reading: Any, of: Any, args: argparse.Namespace, config: Config) -> Iterator[dict[str, Any]]:
    from collector.store import rollups

    step_ms = parse_duration(args.step) * 1000
    if step_ms % rollups.MINUTE_MS:
        raise UserError(f"{args.step}: whole minutes are needed")
    for at_ms, total in rollups.over_time(reading.catalog, of, step_ms):
        at = datetime.fromtimestamp(at_ms / 1000, config.site.timezone).isoformat(timespec="minutes")
        yield {"from": at, "flows": total.flows, "packets": total.packets, "bytes": total.bytes}


# What is kept


def _exporters(args: argparse.Namespace, config: Config) -> str:
    from collector import questions
    from collector.store import rollups
    from collector.store.models import Range

    now_ms = int(time.time() * 1000)
    with questions.opened(config) as reading:
        known = questions.known(config, reading)
        rows = []
        for number, address in reading.exporters.items():
            day = rollups.whole(reading.catalog, Range(now_ms - rollups.DAY_MS, now_ms), [number])
            losses = reading.catalog.losses(now_ms - rollups.DAY_MS, now_ms)
            lost = sum(loss.flows for loss in losses if loss.exporter == number)
            name = known.routers.get(address)
            rows.append({"exporter": name, "address": address, "flows_a_day": day.flows, "lost_a_day": lost})
    return show(rows, ("exporter", "address", "flows_a_day", "lost_a_day"), args.json)


def _storage(args: argparse.Namespace, config: Config) -> str:
    from collector import questions
    from collector.store import retention

    with questions.opened(config) as reading:
        found = retention.forecast(config, reading.folder, reading.catalog, int(time.time() * 1000))
        segments = reading.catalog.segments()
        flows, holds = sum(segment.rows for segment in segments), len(reading.catalog.holds())
    lines = [f"{flows:,} flows in {format_bytes(found.used_bytes)}B, {format_bytes(found.free_bytes)}B free"]
    if segments:
        begun = min(segment.received_from_ms for segment in segments) / 1000
        lines.append(f"since {datetime.fromtimestamp(begun, config.site.timezone):%Y-%m-%d %H:%M}")
    return "\n".join([*lines, *found.lines(), f"{holds} periods are held" if holds else "nothing is held"])


def _hold(args: argparse.Namespace, config: Config) -> str:
    asked = span(args, config)
    number = holding.add(config, asked.since_ms, asked.until_ms, args.reason, asker())
    return f"hold {number}: nothing of that time goes until `gatehouse flows hold release {number}`"


def _release(args: argparse.Namespace, config: Config) -> str:
    return f"hold {holding.release(config, args.number, asker())} is released"


def _holds(args: argparse.Namespace, config: Config) -> str:
    from collector import questions

    def at(ms: int) -> str:
        return datetime.fromtimestamp(ms / 1000, config.site.timezone).isoformat(timespec="minutes")

    with questions.opened(config) as reading:
        rows = [
            {"hold": h.id, "from": at(h.since_ms), "to": at(h.until_ms), "reason": h.reason, "who": h.who}
            for h in reading.catalog.holds()
        ]
    return show(rows, ("hold", "from", "to", "reason", "who"), args.json)


def _redecode(args: argparse.Namespace, config: Config) -> str:
    asked = span(args, config)
    count = holding.redecode(config, asked.since_ms, asked.until_ms, asker())
    return f"{count:,} seconds of datagrams are being read again" if count else "no datagrams of that time are there"
