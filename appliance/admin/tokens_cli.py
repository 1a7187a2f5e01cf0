"""`gatehouse token`: programs' ways in, for who sets a box up without a browser."""

import argparse
from typing import Any

from appliance.accounts import manage
from appliance.accounts.models import core_db
from appliance.admin import audit, people
from appliance.admin.models import ApiToken
from appliance.config import Config
from appliance.tables import show


def add_parser(commands: Any) -> None:
    verbs = commands.add_parser("token", help="what programs send to the API and to /metrics").add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    words = verbs.add_parser("add", help="make a token and print it; it can't be shown again")
    words.add_argument("name")
    words.add_argument("--role", choices=people.ROLES, required=True)
    words.add_argument("--site", action="append", default=[], metavar="KEY=ROLE", help="limited to these sites")
    words.set_defaults(run=_add)
    words = verbs.add_parser("list")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_list)
    words = verbs.add_parser("remove")
    words.add_argument("name")
    words.set_defaults(run=_remove)


def _add(args: argparse.Namespace, config: Config) -> str:
    with core_db.atomic():
        token = people.add_token(args.name, args.role, " ".join(args.site))
        after = {"role": args.role, "sites": ", ".join(args.site)}
        audit.record(audit.command(), "added", f"token {args.name}", {}, after)
    return token


def _list(args: argparse.Namespace, config: Config) -> str:
    rows = [
        {"name": token.name, "role": token.role, "created_at": token.created_at, "used_at": token.used_at}
        for token in ApiToken.select().order_by(ApiToken.name)
    ]
    return show(rows, ("name", "role"), args.json)


def _remove(args: argparse.Namespace, config: Config) -> str:
    token = manage.get(ApiToken, args.name, "token")
    with core_db.atomic():
        token.delete_instance()
        audit.record(audit.command(), "removed", f"token {args.name}", {"role": token.role}, {})
    return f"the token {args.name} is no longer good"
