"""Keys of a site's configuration that are set from elsewhere: what guests read there, and nothing of its network.

The page writes down what is wanted; the site's own appliance wishes for it (`follower.py`), as an owner there would.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from appliance import wishes
from appliance.accounts.models import core_db
from appliance.admin import audit, settings
from appliance.config import Config
from appliance.errors import UserError
from appliance.service import Setting
from appliance.sites import overview
from appliance.sites.models import SiteSetting
from appliance.wishes import Wish

ALLOWED = (
    "site.name",
    "site.timezone",
    "site.contact",
    "portal.title",
    "portal.greeting",
    "portal.accent",
    "portal.terms",
    "portal.terms_url",
)
WAITING, ASKED, APPLIED, REFUSED = "waiting", "asked", "applied", "refused"


def allowed() -> Sequence[str]:
    known = wishes.settings()
    return [key for key in ALLOWED if key in known]


def asked_for() -> Sequence[Setting]:
    return [wishes.settings()[key] for key in allowed()]


def of(site: Any) -> list[Any]:
    return list(SiteSetting.select().where(SiteSetting.site == site.key).order_by(SiteSetting.key))


def current(site: Any) -> dict[str, str]:
    """As typed: what the site said last, and what it is to have instead."""
    now: dict[str, str] = {key: text for key, text in overview.told_settings(site).items() if key in allowed()}
    for row in of(site):
        if row.state in (WAITING, ASKED):
            now[row.key] = typed(row)
    return now


def kept(row: Any) -> str | dict[str, str] | None:
    """What it is to be; raises UserError for what no page has written, which the database may have all the same."""
    try:
        value = json.loads(row.value)
    except (ValueError, RecursionError):
        raise UserError("that is no value") from None
    texts = value.values() if isinstance(value, dict) else [value]
    if value is not None and not all(isinstance(text, str) for text in texts):
        raise UserError("that is no text")
    return value  # type: ignore[no-any-return]


def typed(row: Any) -> str:
    """A kept value in the words of the form."""
    try:
        value = kept(row)
    except UserError:
        return ""
    if isinstance(value, dict):
        return "\n".join(f"[{code}]\n{text}" for code, text in value.items())
    return settings.typed(value)


def want(site: Any, form: Mapping[str, str], who: str) -> int:
    """How many keys the site is to have otherwise; raises UserError for what can't be used anywhere."""
    before = current(site)
    after = {key: form[key].strip().replace("\r\n", "\n") for key in allowed() if key in form}
    changes = {key: settings.meant(key, text) for key, text in after.items() if text != before.get(key, "")}
    wishes.check(Wish(who, changes))
    plain = Config()
    try:
        wishes.edited(plain, changes)
    except UserError as error:
        raise UserError(str(error).removeprefix(f"{plain.file}: ")) from None
    with core_db.atomic():
        for key, value in changes.items():
            values = {"value": json.dumps(value), "changed_at": int(time.time()), "changed_by": who}
            SiteSetting.delete().where(SiteSetting.site == site.key, SiteSetting.key == key).execute()
            SiteSetting.create(site=site.key, key=key, **values)
        if changes:
            old = {key: before.get(key, "") for key in changes}
            audit.record(who, "changed", f"site {site.key}", old, {key: after[key] for key in changes})
    return len(changes)
