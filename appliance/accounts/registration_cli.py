"""`gatehouse registration`: guests who registered themselves, and the decision about those who wait for it."""

import argparse
import os
import pwd
import time
from datetime import datetime
from typing import Any

from appliance.accounts import registration
from appliance.accounts.models import Registration, core_db
from appliance.admin import audit
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.guest_verbs import ACCEPTED, REFUSED
from appliance.tables import show


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("registration", help="guests who registered themselves")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words = verbs.add_parser("list")
    words.add_argument("--state", choices=("waiting", "unconfirmed", "accepted", "refused"))
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_list)
    for verb, run, help_ in (
        ("approve", _approve, "let a guest in who waits for it"),
        ("refuse", _refuse, "and say so on their page"),
        ("remove", _remove, "forget who asked; an account that came of it stays"),
    ):
        words = verbs.add_parser(verb, help=help_)
        words.add_argument("id", type=int)
        words.set_defaults(run=run)


def _list(args: argparse.Namespace, config: Config) -> str:
    query = Registration.select().where(Registration.kind != registration.FREE).order_by(Registration.id)
    if args.state:
        query = query.where(Registration.state == args.state)
    rows = [
        {
            "id": row.id,
            "state": row.state,
            "name": row.name,
            "contact": row.contact,
            "mac": row.mac,
            "account": row.account.name if row.account else None,
            "asked": datetime.fromtimestamp(row.created_at, config.site.timezone).isoformat(timespec="minutes"),
        }
        for row in query
    ]
    return show(rows, ("id", "state", "name", "contact", "mac", "account", "asked"), args.json)


def _get(number: int) -> Any:
    row = Registration.get_or_none(Registration.id == number)
    if row is None:
        raise UserError(f"there is no registration {number}: see `gatehouse registration list`")
    return row


def _approve(args: argparse.Namespace, config: Config) -> str:
    row, box, now = _get(args.id), load_box(config.paths.state), int(time.time())
    with core_db.atomic():
        account = registration.approve(config, box, row, _who(), now)
        after = {"state": ACCEPTED, "account": account.name}
        audit.record(_who(), "approved", f"registration {row.id}", {"state": row.state}, after)
    return f"{row.name} may log in as {account.name}"


def _refuse(args: argparse.Namespace, config: Config) -> str:
    row = _get(args.id)
    with core_db.atomic():
        audit.record(_who(), "refused", f"registration {row.id}", {"state": row.state}, {"state": REFUSED})
        registration.refuse(row, _who(), int(time.time()))
    return f"{row.name} is refused"


def _remove(args: argparse.Namespace, config: Config) -> str:
    row = _get(args.id)
    with core_db.atomic():
        registration.forget(row)
        audit.record(_who(), "removed", f"registration {row.id}", {"state": row.state}, {})
    return f"registration {row.id} is forgotten"


def _who() -> str:
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
