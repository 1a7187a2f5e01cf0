"""`gatehouse account export|erase`: one person's data."""

import argparse
import json
from pathlib import Path
from typing import Any

from appliance.accounts import erasure
from appliance.accounts.vouchers_cli import write
from appliance.config import Config
from appliance.tables import show


def add_verbs(verbs: Any) -> None:
    words = verbs.add_parser("export", help="all data about one person as JSON (GDPR, articles 15 and 20)")
    words.add_argument("name")
    words.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    words.set_defaults(run=_export)
    words = verbs.add_parser("erase", help="erase one person's data (GDPR, article 17); without --yes only say what")
    words.add_argument("name")
    words.add_argument("--sessions", choices=erasure.SESSIONS, default="anonymise", help="what becomes of them")
    words.add_argument("--yes", action="store_true", help="do it; it can't be undone")
    words.set_defaults(run=_erase)


def _export(args: argparse.Namespace, config: Config) -> str:
    person = erasure.Person(args.name)
    text = json.dumps(erasure.export(person, config.site.timezone), indent=2, ensure_ascii=False)
    if args.output is None:
        return text
    write(args.output, text.encode() + b"\n")
    return str(args.output)


def _erase(args: argparse.Namespace, config: Config) -> str:
    person = erasure.Person(args.name)
    rows = erasure.preview(person, args.sessions)
    if args.yes:
        erasure.erase(person, args.sessions, config)
    table = show(rows, ("what", "how_many", "erased"), as_json=False)
    last = f"{args.name} is erased" if args.yes else "nothing was changed; with --yes it is done"
    return f"{table}\n{last}; logs and backups have copies of their own"
