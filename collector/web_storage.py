"""What is kept and how long it will fit, the data disk, and what is held back from removal."""

from functools import partial
from typing import Any

from appliance import data_disk
from appliance.accounts.models import core_db
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.errors import UserError
from collector import clustered, facts, holding, web_parts
from collector.facts import Storage
from collector.periods import period

MAX_REASON = 300


def storage(ask: Ask) -> Any:
    return _shown(ask, {}, "")


def _shown(ask: Ask, typed: dict[str, str], error: str) -> Any:
    kept, trouble, held = None, "", []
    try:
        kept, held = facts.storage(ask.config, ask.now), facts.holds(ask.config)
    except UserError as away:
        trouble = str(away)
    return ask.page(
        "flow_storage.html",
        400 if error else 200,
        kept=kept,
        trouble=trouble,
        disk=_disk(ask),
        cluster=_cluster(ask, kept) if ask.config.netflow.store else None,
        holds=held,
        forecast=forecast(ask.config, kept) if kept else (),
        typed=typed,
        error=error,
        at=partial(web_parts.at, zone=ask.config.site.timezone),
        octets=web_parts.octets,
        settings=ask.config.netflow,
    )


def _disk(ask: Ask) -> str:
    """What is wrong with it, "" for nothing."""
    try:
        data_disk.ready(ask.config)
    except UserError as error:
        return str(error)
    return ""


def _cluster(ask: Ask, kept: Storage | None) -> dict[str, Any]:
    """What is in it and what waits, and how each of its hosts is."""
    said = clustered.said(ask.config)
    return {
        "lines": list(clustered.lines(ask.config)) if kept else [],
        "problems": list(clustered.problems(ask.config, ask.now)),
        "hosts": said.hosts if said else {},
    }


def forecast(config: Any, kept: Storage) -> list[str]:
    """In sentences: what a day takes, when the disk is full, what was asked for and needs how much."""
    if not kept.day_bytes:
        return ["How much a day takes is known once a day has passed."]
    lines = [f"A day takes {web_parts.octets(kept.day_bytes)} at today's rate, for {kept.day_rows:,} flows."]
    days = config.netflow.disk_days
    need = days * kept.day_bytes
    lines.append(f"{days} days of it need {web_parts.octets(need)}.")
    if need > min(kept.bytes + kept.disk_free, config.netflow.keep_gb * 10**9 or need):
        lines.append("That is more than there may be: the oldest flows will go earlier.")
    if kept.days_left is not None:
        lines.append(f"What is free now is enough for {kept.days_left:,.0f} days.")
    return lines


def hold(ask: Ask) -> Any:
    """The collector writes it down with who and why, so that it is known even if the record couldn't be written."""
    form = ask.form()
    try:
        span = period(form.get("from", ""), form.get("to", ""), ask.config.site.timezone, ask.now)
        reason = _reason(form)
        number = holding.add(ask.config, span.since_ms, span.until_ms, reason, ask.person.name)
    except UserError as error:
        return _shown(ask, form, str(error))
    _record(ask, "held", number, reason, {"from": form["from"], "to": form["to"]})
    return ask.done("/flows/storage", "No retention takes these flows away until you release them.")


def release(ask: Ask, number: str) -> Any:
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise UserError(f"there is no hold {number}")
    reason = _reason(ask.form())
    holding.release(ask.config, int(number), ask.person.name)
    _record(ask, "released", int(number), reason, {})
    return ask.done("/flows/storage", "That hold is released: retention may take those flows away again.")


def _record(ask: Ask, action: str, number: int, reason: str, of: dict[str, object]) -> None:
    with core_db.atomic():
        audit.record(ask.person.name, action, f"flows hold {number}", {}, {"why": reason, **of})


def _reason(form: dict[str, str]) -> str:
    reason = form.get("reason", "").strip()
    if not 3 <= len(reason) <= MAX_REASON or not reason.isprintable():
        raise UserError(f"Reason: say why, in 3 to {MAX_REASON} characters")
    return reason


PAGES = (
    Page("/flows/storage", storage, nav="Storage"),
    Page("/flows/holds/new", hold, "POST", role="owner"),
    Page("/flows/holds/<number>/release", release, "POST", role="owner"),
)
