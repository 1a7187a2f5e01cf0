"""How the sites are: what their appliances said last, for pages, programs and commands."""

import json
from collections.abc import Iterator
from typing import Any

import peewee

from appliance.accounts.models import Session
from appliance.admin.paths import part
from appliance.config import Config
from appliance.nas.models import Nas
from appliance.service import Attention
from appliance.sites.models import Site
from appliance.sites.registry import database_now, is_silent
from appliance.units import format_ago, format_bytes

CLOCK_OFF_MS = 2000
WELL = "well"


def url(key: str) -> str:
    return f"/sites/{part(key)}"


def online() -> Any:
    """A column of a query of sites: sessions that are open at its routers."""
    there = Session.select(peewee.fn.COUNT(Session.id)).join(Nas, on=(Nas.name == Session.nas))
    return there.where(Nas.site == Site.key, Session.ended_at.is_null())


def _told(text: str, kind: type) -> Any:
    """What an appliance wrote of itself: of another version, perhaps, or by somebody else; empty if it isn't that."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return kind()
    return told if isinstance(told, kind) else kind()


def told_problems(site: Any) -> list[str]:
    return [line for line in _told(site.problems, list) if isinstance(line, str)]


def told_disks(site: Any) -> list[tuple[str, int, int]]:
    """Name, free octets, octets."""
    kinds = [str, int, int]
    return [
        (disk[0], disk[1], disk[2])
        for disk in _told(site.disks, list)
        if isinstance(disk, list) and [type(part) for part in disk] == kinds
    ]


def told_settings(site: Any) -> dict[str, str]:
    """By key as they would be typed."""
    return {key: text for key, text in _told(site.settings, dict).items() if isinstance(text, str)}


def problems(site: Any, now: int) -> list[str]:
    """Lines, the worst first; `now` by the database's clock."""
    if not site.machine:
        return ["no box has joined yet"]
    found = told_problems(site)
    if is_silent(site, now):
        heard = site.reported_at
        found.insert(0, "it never reported" if heard is None else f"it was last heard {format_ago(now - heard)}")
    if abs(site.ahead_ms or 0) > CLOCK_OFF_MS:
        found.append(f"its clock is {clock(site.ahead_ms)} the database's")
    return found


def state(site: Any, now: int) -> str:
    """One word or two."""
    found = problems(site, now)
    if not site.machine:
        return "not joined"
    if is_silent(site, now):
        return "silent"
    return WELL if not found else f"{len(found)} problem{'s' if len(found) > 1 else ''}"


def clock(ahead_ms: int) -> str:
    return f"{abs(ahead_ms) / 1000:.1f} s {'ahead of' if ahead_ms > 0 else 'behind'}"


def disks(site: Any) -> Iterator[str]:
    for name, free, whole in told_disks(site):
        yield f"{name}: {format_bytes(free)} of {format_bytes(whole)} free"


def least_free(site: Any) -> int | None:
    """Percent of the fullest disk."""
    shares = [100 * free // max(whole, 1) for _, free, whole in told_disks(site)]
    return min(shares, default=None)


def attention(config: Config, now: int) -> Iterator[Attention]:
    at = database_now()
    for site in Site.select().order_by(Site.key):
        if found := problems(site, at):
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            yield Attention(f"site {site.key}: {found[0]}{more}", url(site.key))
