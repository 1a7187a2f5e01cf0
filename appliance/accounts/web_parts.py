"""What several of the hotspot's pages share: times, addresses of other pages, sentences."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from appliance.accounts import terms
from appliance.accounts.models import Plan
from appliance.admin.frame import Ask
from appliance.admin.paths import part

RUNNING = "Running sessions follow within seconds."


def local(ask: Ask) -> Callable[[int], str]:
    """A time as people at the site say it."""
    return lambda seconds: datetime.fromtimestamp(seconds, ask.config.site.timezone).strftime("%Y-%m-%d %H:%M")


def account_url(row: Mapping[str, object], key: str = "name") -> str:
    return f"/accounts/{part(row[key])}"


def batch_url(name: str) -> str:
    return f"/vouchers/batch/{part(name)}"


def audited(row: Any) -> dict[str, object]:
    """What the record of changes says of an account."""
    return {
        "plan": row.plan.name,
        "enabled": bool(row.enabled),
        "address": row.address,
        "valid_until": row.valid_until,
        **terms.overrides(row.overrides),
    }


def plan_names() -> list[str]:
    return [row.name for row in Plan.select(Plan.name).order_by(Plan.name)]


def unsure(ask: Ask, title: str, lines: Iterable[str], button: str, **more: str) -> Any:
    """A page that shows what would be done and sends the same form again, with `more`.

    None once that was said yes to.
    """
    typed = ask.fields()
    if any(name == "sure" for name, _ in typed):
        return None
    kept = [(name, value) for name, value in typed if name not in ("back", *more)]
    return ask.page("confirm.html", title=title, lines=list(lines), button=button, kept=[*kept, *more.items()])
