"""The pages for routers: who may ask, who has fallen silent, and what is pasted into them."""

from typing import Any

from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Column, List
from appliance.nas import watch
from appliance.nas.models import Nas
from appliance.units import format_ago


def routers(ask: Ask) -> Any:
    interval_s = ask.config.radius.interim_interval_s
    silent = watch.silent(watch.routers(interval_s), interval_s, ask.now)
    of = List(
        title="Routers",
        query=Nas.select(Nas.id, Nas.name, Nas.address, Nas.kind, Nas.coa, Nas.seen_at),
        columns=(
            Column("name", "Name", Nas.name),
            Column("address", "Address", Nas.address),
            Column("kind", "Kind", Nas.kind),
            Column("coa", "Told by"),
            Column("seen_at", "Last heard", Nas.seen_at, show=lambda at: format_ago(ask.now - at)),
        ),
        order="name",
        search=lambda text: Nas.name.contains(text) | Nas.address.startswith(text),
        empty="No router yet: gatehouse nas add NAME --address IP",
    )
    return of.respond(ask, "routers.html", silent=[watch.line(name, what, ask.now) for name, what in silent.items()])


PAGES = (Page("/routers", routers, nav="Routers"),)
