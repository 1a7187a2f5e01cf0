"""Sites as programs see them."""

import json
from collections.abc import Sequence
from typing import Any

from appliance.api.resources import Call, Field, Resource, Values
from appliance.api.shapes import TIME, Maybe, Number, Text
from appliance.api.web import routes
from appliance.sites import overview, registry
from appliance.sites.models import Site


def _query(call: Call, asked: Values) -> Any:
    return Site.select(Site, overview.online().alias("online"))


def _find(call: Call, key: str) -> Any:
    return _query(call, {}).where(Site.key == key).first()


def _show(call: Call, rows: Sequence[Any]) -> list[Values]:
    at = registry.database_now()
    return [
        {
            "key": row.key,
            "title": row.title,
            "state": overview.state(row, at),
            "problems": "\n".join(overview.problems(row, at)),
            "reported_at": row.reported_at,
            "clock_ahead_ms": row.ahead_ms,
            "version": row.version,
            "modules": row.modules,
            "disks": json.dumps(overview.told_disks(row)),
            "snapshot_at": row.snapshot_at,
            "online": row.online,
        }
        for row in rows
    ]


def _change(call: Call, row: Any, given: Values) -> Values:
    registry.change(row, given["title"])
    return {}


SITES = Resource(
    name="sites",
    one="site",
    about="The appliances that share this database. A site is made and joined by commands.",
    fields=(
        Field("key", Text(max=32), "what it is called"),
        Field("title", Text(max=registry.MAX_TITLE, min=0), "what people call it", change=True),
        Field("state", Text(max=40), "well, silent, not joined, or how many problems there are"),
        Field("problems", Text(max=10_000, min=0), "one a line"),
        Field("reported_at", Maybe(TIME), "when its appliance last said how it is"),
        Field("clock_ahead_ms", Maybe(Number(-(2**40), 2**40)), "its clock less the database's"),
        Field("version", Text(max=40, min=0), "of what runs there"),
        Field("modules", Text(max=200, min=0), "that are on there, parted by spaces"),
        Field("disks", Text(max=2000, min=0), "JSON list of [name, free octets, octets]"),
        Field("snapshot_at", Maybe(TIME), "of when its own copy of the accounts is"),
        Field("online", Number(0, 2**40), "sessions that are open at its routers"),
    ),
    key="key",
    query=_query,
    order=(Site.created_at,),
    find=_find,
    show=_show,
    change=_change,
    changes="owner",
)

RESOURCES = (SITES,)
PAGES = routes(*RESOURCES)
