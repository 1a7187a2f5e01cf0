"""`gatehouse island`: how this site goes on without the central database, and what didn't fit together."""

import argparse
import json
import threading
import time
from contextlib import closing
from datetime import datetime
from typing import Any

import peewee

from appliance import db
from appliance.accounts.database import open_core
from appliance.admin import audit
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.island import dismissing, keeper, places, state
from appliance.island.conflicts import KINDS
from appliance.island.models import IslandConflict
from appliance.island.queue import Queue
from appliance.tables import show


def add_parser(commands: Any) -> None:
    help_ = "how this site goes on while the central database is away, and conflicts that came of it"
    verbs = commands.add_parser("island", help=help_).add_subparsers(dest="verb", required=True, metavar="VERB")
    words = verbs.add_parser("show", help="the age of the own copy, what waits to be told; also without the database")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_show, needs_core=False)
    words = verbs.add_parser("copy", help="tell the database what waits, and copy it now")
    words.set_defaults(run=_copy, needs_core=False)
    words = verbs.add_parser("conflicts", help="what didn't fit together once sites had delivered")
    words.add_argument("--all", action="store_true", help="also those that were dismissed")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_conflicts)
    words = verbs.add_parser("dismiss", help="conflicts that are settled")
    words.add_argument("number", nargs="+")
    words.set_defaults(run=_dismiss)


def _show(args: argparse.Namespace, config: Config) -> str:
    _needed(config)
    now = int(time.time())
    found = _state(config)
    try:
        with open_core(config):
            reached, conflicts = True, IslandConflict.select().where(IslandConflict.dismissed_at.is_null()).count()
    except (UserError, peewee.PeeweeException):
        reached, conflicts = False, None
    if args.json:
        values = {
            "site": config.site.key,
            "database_reached": reached,
            "copy_taken_at": found.copy.taken_at if found.copy else None,
            "waiting": found.waiting,
            "oldest_waiting_at": found.oldest_at,
            "conflicts": conflicts,
        }
        return json.dumps(values, indent=2)
    lines = [f"the central database {'answers' if reached else 'can’t be reached'}", *state.words(found, config, now)]
    if conflicts:
        lines.append(f"{conflicts} conflicts: see `gatehouse island conflicts`")
    return "\n".join(lines)


def _copy(args: argparse.Namespace, config: Config) -> str:
    _needed(config)
    box, now = load_box(config.paths.state), int(time.time())
    central = db.connect(config.database_url)
    try:
        with closing(Queue(places.queue_file(config))) as queue, central.connection_context():
            count = keeper.deliver(central, config, queue, now, threading.Event())
            keeper.Keeper(config, box).copy(central, now)
    except peewee.PeeweeException as error:
        raise UserError(f"the central database can't be told or copied: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise UserError(f"{places.folder(config)}: {error.strerror}") from None
    return f"{'1 entry is' if count == 1 else f'{count} entries are'} told, and the copy is made"


def _conflicts(args: argparse.Namespace, config: Config) -> str:
    query = IslandConflict.select().order_by(IslandConflict.id)
    if not args.all:
        query = query.where(IslandConflict.dismissed_at.is_null())

    def at(seconds: int | None) -> str | None:
        if seconds is None:
            return None
        return datetime.fromtimestamp(seconds, config.site.timezone).isoformat(timespec="minutes")

    rows: list[dict[str, object]] = [
        {
            "number": row.id,
            "what": KINDS.get(row.kind, row.kind),
            "kind": row.kind,
            "site": row.site,
            "account": row.account,
            "at": at(row.at),
            "found": at(row.found_at),
            "detail": row.detail,
            "dismissed": at(row.dismissed_at),
            "by": row.dismissed_by,
        }
        for row in query
    ]
    more = ("dismissed", "by") if args.all else ()
    return show(rows, ("number", "what", "site", "account", "at", "detail", *more), args.json)


def _dismiss(args: argparse.Namespace, config: Config) -> str:
    count = dismissing.dismiss([dismissing.number(text) for text in args.number], audit.command())
    return f"{count} dismissed"


def _needed(config: Config) -> None:
    if not places.is_wanted(config):
        raise UserError("the database is in a file of this appliance's own: it is never cut off from it")


def _state(config: Config) -> state.State:
    try:
        return state.of(config)
    except OSError as error:
        raise UserError(str(error)) from None
