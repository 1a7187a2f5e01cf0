"""What was typed for a wish, until it is known what became of it: a refused one is shown with its form as it was.

Only settings, which are no secrets, and which modules were chosen; files aren't kept.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import bottle

from appliance import wishes
from appliance.admin.frame import Ask
from appliance.config import Config

REFUSED = "refused"  # of a form's address: the wish's id
MODULE = "module "  # begins the fields that choose them
_KEPT = 20


def keep(ask: Ask, number: str, form: Mapping[str, str]) -> None:
    """Of the form that this request has sent, to the address at which it stands."""
    typed = {name: text for name, text in form.items() if name in wishes.settings() or name.startswith(MODULE)}
    typed |= {name: form[name] for name in ("gateway",) if name in form}
    path = _path(ask.config, number)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps([ask.person.name, bottle.request.path, typed]), encoding="utf-8")
    for old in sorted(path.parent.iterdir())[:-_KEPT]:
        old.unlink(missing_ok=True)


def form_url(ask: Ask, number: str) -> str:
    """Where that form stands with what was typed; empty where nothing is kept, or for somebody else."""
    _, path = _kept(ask, number)
    return path and f"{path}?{REFUSED}={number}"


def refused(ask: Ask) -> tuple[Mapping[str, str], str]:
    """What was typed into the form at this address, and why it was refused; both empty where it wasn't."""
    number = ask.query().get(REFUSED, "")
    typed, path = _kept(ask, number)
    said = wishes.outcome(ask.config, number) if path == bottle.request.path else ""
    return (typed, said) if said else ({}, "")


def _kept(ask: Ask, number: str) -> tuple[Mapping[str, str], str]:
    if re.fullmatch(r"[0-9a-f-]{1,40}", number):
        with contextlib.suppress(OSError, ValueError):  # it was long ago, or a power cut
            who, path, typed = json.loads(_path(ask.config, number).read_text(encoding="utf-8"))
            if who == ask.person.name:
                return typed, path
    return {}, ""


def _path(config: Config, number: str) -> Path:
    return config.paths.state / "admin" / "drafts" / number
