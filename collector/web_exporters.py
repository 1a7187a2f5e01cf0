"""Who sends flows and who should: how each is doing, and switching it on."""

from functools import partial
from typing import Any

from appliance import wishes
from appliance.accounts import manage
from appliance.accounts.models import core_db
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.doctor.findings import worst
from appliance.errors import UserError
from appliance.nas import routers
from appliance.nas.models import GATEWAY, Nas
from appliance.nas.routers import Wanted
from appliance.units import format_ago
from collector import module, senders, views, web_parts
from collector.senders import Sender


def exporters(ask: Ask) -> Any:
    found, trouble = _found(ask)
    return ask.page(
        "flow_exporters.html",
        collected=[one for one in found if one.on and one.heard],
        others=[one for one in found if not one.on],
        waiting=[one for one in found if one.on and not one.heard],
        trouble=[*trouble, *module.problems(ask.config)],
        routers=Nas.select().where(Nas.kind != GATEWAY).exists(),
        port=ask.config.netflow.port,
        search=_search,
        url=senders.url,
        state=lambda one: worst(senders.findings(one, ask.config, ask.now)),
    )


def _found(ask: Ask) -> tuple[list[Sender], list[str]]:
    try:
        return senders.every(ask.config, ask.now), []
    except UserError as error:
        return senders.expected(ask.config), [f"Who sends can’t be told: {error}."]


def _search(address: str) -> str:
    return views.flows_url(q=f"exporter {address}")


def exporter(ask: Ask, name: str) -> Any:
    """One router: what the doctor finds in what it sends, and the lines that set it up."""
    found, trouble = _found(ask)
    nas = manage.get(Nas, name, "nas")
    its = [one for one in found if one.router == name]
    return ask.page(
        "flow_exporter.html",
        nas=nas,
        senders=its,
        trouble=trouble,
        own=nas.kind == GATEWAY,
        lines=senders.set_up(ask.config, nas),
        doubts=[finding for one in its if one.on for finding in senders.findings(one, ask.config, ask.now)],
        port=ask.config.netflow.port,
        at=partial(web_parts.at, zone=ask.config.site.timezone),
        ago=lambda ms: format_ago(ask.now - ms // 1000),
        octets=web_parts.octets,
        search=_search,
        url=senders.url,
    )


def switch(ask: Ask, name: str) -> Any:
    """The collector takes its datagrams once root has rendered its list, which is asked for here."""
    nas, on = manage.get(Nas, name, "nas"), ask.form().get("on") == "yes"
    before = {"netflow": bool(nas.netflow)}
    with core_db.atomic():
        routers.change(ask.config, nas, Wanted(netflow=on))
        audit.record(ask.person.name, "changed", f"router {name}", before, {"netflow": on})
    try:
        wishes.wish(ask.config, ask.person.name)
    except OSError:
        return ask.done("/flows/exporters", f"{name} is switched; run `gatehouse apply` for the collector to know.")
    return ask.done("/flows/exporters", f"Flows of {name} are {'kept' if on else 'no longer kept'} within seconds.")


PAGES = (
    Page("/flows/exporters", exporters, nav="Exporters"),
    Page("/flows/exporters/<name>", exporter),
    Page("/flows/exporters/<name>/switch", switch, "POST"),
)
