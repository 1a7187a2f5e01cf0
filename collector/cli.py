"""`gatehouse flows`: words in, questions out. What asks them is loaded only then: other commands need no DuckDB."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import Any

from appliance.config import Config
from appliance.errors import UserError
from appliance.tables import show
from appliance.units import parse_duration
from collector import cli_kept
from collector.asker import asker
from collector.cli_kept import period_words, span
from collector.periods import moment

_LIMIT = 100  # rows of a table; files have all


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("flows", help="what the routers told of traffic: search, statistics, whose it was")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _search_words(verbs)
    _top_words(verbs)
    _who_words(verbs)
    cli_kept.add_parsers(verbs)


def _search_words(verbs: Any) -> None:
    words = verbs.add_parser("search", help="flows that a filter fits, such as: host 10.1.2.3 and dst port 25")
    words.add_argument("filter", nargs="*", metavar="FILTER", help="in nfdump's manner; all flows without")
    _common(words)
    words.add_argument("--columns", default="", metavar="NAME,…", help="what is shown; `all` is all there is")
    words.add_argument(
        "--sort", default="", metavar="NAME", help="by any column, the highest first; default: the newest"
    )
    words.add_argument("--ascending", action="store_true", help="the lowest first")
    words.add_argument("--limit", type=_count, metavar="N", help=f"default: {_LIMIT} in a table, all otherwise")
    words.set_defaults(run=_search)


def _top_words(verbs: Any) -> None:
    words = verbs.add_parser("top", help="sums by any column, or by several: src, dst_port, account, …")
    words.add_argument("group", metavar="NAME,…")
    words.add_argument("filter", nargs="*", metavar="FILTER")
    _common(words)
    words.add_argument("--columns", default="", metavar="NAME,…", help="sums; default: flows, packets, bytes")
    words.add_argument("--sort", default="bytes", metavar="NAME", help="default: bytes")
    words.add_argument("--ascending", action="store_true", help="the lowest first")
    words.add_argument("--limit", type=_count, default=10, metavar="N", help="default: 10")
    words.set_defaults(run=_search)


def _who_words(verbs: Any) -> None:
    words = verbs.add_parser("who", help="whose an address was at a time; the question stands in the record")
    words.add_argument("--ip", required=True, metavar="ADDRESS", help="public, or a guest's own")
    words.add_argument("--port", type=_port, metavar="N", help="without it all who shared a public address are told")
    words.add_argument(
        "--at", required=True, metavar="TIME", help="such as 2027-01-31T18:00:05, site's time, or with Z"
    )
    words.add_argument("--protocol", metavar="NAME", help="tcp, udp, or a number")
    words.add_argument("--slack", default="5s", metavar="TIME", help="by how much the time may be wrong; default: 5s")
    words.add_argument("--reason", required=True, help="such as the number of the request; it stands in the record")
    _site_words(words)
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_who)


def _common(words: argparse.ArgumentParser) -> None:
    period_words(words, "1h ago")
    _site_words(words)
    form = words.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one object a line")
    form.add_argument("--csv", action="store_true")
    words.add_argument("--utc", action="store_true", help="times in UTC, not the site's")


def _site_words(words: argparse.ArgumentParser) -> None:
    words.add_argument("--site", default="", metavar="KEY", help="of another site, as the cluster has it")


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**40:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


# Searching


def _search(args: argparse.Namespace, config: Config) -> str:
    from collector import export, questions, search
    from collector.showing import FIELDS

    zone: tzinfo = UTC if args.utc else config.site.timezone
    asked, group = span(args, config), _names(getattr(args, "group", ""))
    columns = [*FIELDS] if args.columns == "all" and not group else _names(args.columns)
    to_file = args.json or args.csv
    sort = args.sort or ("" if to_file else "first")
    request = {
        "filter": " ".join(args.filter),
        "since_ms": asked.since_ms,
        "until_ms": asked.until_ms,
        "order": sort if args.ascending else f"-{sort}" if sort else "",
        "columns": columns,
        "group": group,
        "limit": args.limit or (None if to_file else _LIMIT),
    }
    with _until_interrupted(args), questions.opened(config, args.site) as reading:
        known = questions.known(config, reading)
        query = questions.query(request)
        if args.csv:
            prepared = search.prepare(reading, query, known, zone)
            _write_csv(prepared)
            found = prepared.certificate
        else:
            result = search.run(reading, query, known, zone)
            for line in export.json_lines(result) if args.json else export.table(result):
                print(line)
            found = result.certificate
        _certify(questions.certified(reading, known, found, zone), to_file)
    return ""


@contextmanager
def _until_interrupted(args: argparse.Namespace) -> Iterator[None]:
    """Whoever has seen enough presses Ctrl-C; exit status as of a program that a signal ended."""
    try:
        yield
    except KeyboardInterrupt:
        args.status = 130


def _write_csv(prepared: Any) -> None:
    from collector import export

    progress = export.Progress(prepared.progress)
    try:
        for block in export.csv(prepared):
            sys.stdout.buffer.write(block)
            progress.block(block)
        sys.stdout.buffer.flush()
    finally:
        progress.done()


def _certify(lines: list[str], aside: bool) -> None:
    """The answer's last words; beside it where a program reads it."""
    sys.stdout.flush()
    print(*lines if aside else ["", *lines], sep="\n", file=sys.stderr if aside else sys.stdout)


# Whose it was


def _who(args: argparse.Namespace, config: Config) -> str:
    from collector import questions

    zone = config.site.timezone
    request = {
        "ip": args.ip,
        "port": args.port,
        "at_ms": moment(args.at, zone, int(time.time())),
        "protocol": None if args.protocol is None else _protocol(args.protocol),
        "slack_ms": parse_duration(args.slack) * 1000,
        "who": asker(),
        "reason": args.reason,
        "site": args.site,
    }
    answer = questions.told(config, request)
    if not answer["found"]:
        raise UserError(
            f"nobody is known to have had {answer['subject']}, or {args.slack} around it; {answer['lines'][0]}"
        )
    return json.dumps(answer, indent=2, ensure_ascii=False) if args.json else "\n".join(_people(answer, zone))


def _protocol(text: str) -> int:
    from collector.filters.names import PROTOCOLS

    if text.lower() in PROTOCOLS:
        return PROTOCOLS[text.lower()]
    if text.isdecimal() and len(text) <= 3 and int(text) <= 255:
        return int(text)
    raise UserError(f"{text!r} is no protocol: write tcp, udp or a number")


def _people(answer: Any, zone: tzinfo) -> list[str]:
    def at(ms: int | None) -> str:
        return "" if ms is None else datetime.fromtimestamp(ms / 1000, zone).isoformat(" ", "seconds")

    rows = []
    for one in answer["found"]:
        held = one["held"] or {}
        rows.append(
            {
                "account": held.get("account"),
                "device": held.get("mac"),
                "address": one["client"],
                "known by": f"{one['flows']:,} × {one['how']}" if one["flows"] else one["how"],
                "session": held.get("session"),
                "router": held.get("nas"),
                "from": at(held.get("since_ms")),
                "to": at(held.get("until_ms")) or ("goes on" if held else ""),
                "off by": f"{one['off_ms'] / 1000:.1f}s" if one["off_ms"] else "",
            }
        )
    lines = [answer["subject"], show(rows, tuple(rows[0]), False), ""]
    if len(answer["accounts"]) > 1:
        lines.append(
            f"{len(answer['accounts'])} accounts are possible: a port, a protocol or a surer time may tell which"
        )
    lines.append(f"Looked at: {answer['slack_ms'] / 1000:.0f} s around that time")
    for clock in answer["clocks"]:
        off = (
            f"{clock['ahead_ms'] / 1000:.1f} s ahead of ours or more"
            if clock["ahead_ms"]
            else (f"at most {clock['behind_ms'] / 1000:.1f} s behind ours")
        )
        lines.append(f"Clock of {clock['router']}: {off}, by {clock['flows']:,} flows")
    return [*lines, *answer["lines"]]
