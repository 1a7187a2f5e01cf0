"""The pages for routers: who may ask, how each is doing, what it is told, and what is pasted into it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from ipaddress import AddressValueError, IPv4Address
from typing import Any

import bottle
import peewee

from appliance import wishes
from appliance.accounts import manage
from appliance.accounts.models import Session, core_db
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, Row
from appliance.admin.paths import part
from appliance.crypto import new_secret
from appliance.doctor import run
from appliance.doctor.findings import OK, Finding, worst
from appliance.errors import UserError
from appliance.nas import checks, clients, login_page, reach, routers, script, setup, watch
from appliance.nas.models import COA, GATEWAY, Nas
from appliance.nas.routers import Wanted
from appliance.nas.setup import Wishes
from appliance.service import is_enabled
from appliance.units import format_ago

LOOK_AGAIN_S = 2
RECORDED = (
    "address",
    "kind",
    "coa",
    "coa_port",
    "radsec",
    "require_message_authenticator",
    "tunnel_address",
    "netflow",
    "netflow_from",
    "site",
)


def url(name: str) -> str:
    return f"/routers/{part(name)}"


# All of them


def listed(ask: Ask) -> Any:
    silent_s = ask.config.radius.silent_s
    silent = watch.silent(watch.routers(silent_s, ask.config.shows_gateways), silent_s, ask.now)
    online = Session.select(peewee.fn.COUNT(Session.id)).where(Session.nas == Nas.name, Session.ended_at.is_null())
    of = List(
        title="Routers",
        query=Nas.select(
            Nas.id,
            Nas.name,
            Nas.address,
            Nas.kind,
            Nas.coa,
            Nas.require_message_authenticator,
            Nas.netflow,
            Nas.seen_at,
            Nas.site,
            online.alias("online"),
        ).where(Nas.kind.in_(routers.shown_kinds(ask.config))),
        columns=(
            Column("name", "Name", Nas.name, link=lambda row: url(str(row["name"]))),
            Column("address", "Address", Nas.address),
            Column("kind", "Kind", Nas.kind),
            Column("seen_at", "Last heard", Nas.seen_at, show=lambda at: format_ago(ask.now - at)),
            Column("online", "Online", number=True),
            Column("wrong", "Wrong secrets", number=True),
            Column("require_message_authenticator", "Proves requests", show=lambda must: "yes" if must else "no"),
            Column("coa", "Told by"),
            Column("netflow", "Flows", Nas.netflow, show=lambda kept: "kept" if kept else "no"),
            Column("doctor", "Doctor"),
            *([Column("site", "Site", Nas.site)] if ask.config.fleet else ()),
        ),
        order="name",
        search=lambda text: Nas.name.contains(text) | Nas.address.startswith(text),
        choices=(Choice("silence", "Heard", {"silent": Nas.name.in_(list(silent)), "never": Nas.seen_at.is_null()}),),
        empty="No router yet. Add the first one: its secret is made for it, and a script to paste.",
        fill=lambda rows: _filled(ask, rows),
    )
    return of.respond(ask, "routers.html", silent=[watch.line(name, what, ask.now) for name, what in silent.items()])


def _filled(ask: Ask, rows: Sequence[Row]) -> Sequence[Row]:
    """What FreeRADIUS has counted, and what the doctor found last."""
    names = [row["name"] for row in rows]
    wrong = checks.wrong_secrets(ask.config, list(Nas.select().where(Nas.name.in_(names))))
    report = run.latest(ask.config)
    found: dict[str, list[Finding]] = {}
    for finding in report.findings if report else ():
        found.setdefault(finding.subject, []).append(finding)
    words = {name: worst(found[subject]) for name in names if (subject := f"router {name}") in found}
    return [{**row, "wrong": wrong.get(str(row["name"])), "doctor": words.get(row["name"])} for row in rows]


# One of them


def shown(ask: Ask, name: str) -> Any:
    nas = manage.get(Nas, name, "nas")
    return _router_page(ask, nas, _typed(nas), wish=ask.query().get("wish", ""))


def _apply(ask: Ask) -> str:
    """Empty where nobody takes a wish, which the router's page then says."""
    return routers.apply(ask.config, ask.person.name)


def _router_page(
    ask: Ask,
    nas: Any,
    typed: Mapping[str, str],
    error: str = "",
    secret: str = "",
    found: Sequence[Finding] | None = None,
    wish: str = "",
) -> Any:
    silent_s = ask.config.radius.silent_s
    said = wishes.outcome(ask.config, wish) if wish else ""
    if said is None and not secret:
        bottle.response.set_header("Refresh", str(LOOK_AGAIN_S))
    silence = watch.silent(watch.routers(silent_s, ask.config.shows_gateways), silent_s, ask.now).get(nas.name)
    return ask.page(
        "router.html",
        400 if error else 200,
        nas=nas,
        typed=typed,
        error=error,
        secret=secret,
        wish=wish,
        waits=said is None,
        refusal=said,
        found=found,
        own=nas.kind == GATEWAY,
        fine=OK,
        silence=watch.line(nas.name, silence, ask.now) if silence else "",
        applied=checks.is_applied(ask.config, nas),
        online=Session.select().where(Session.nas == nas.name, Session.ended_at.is_null()).count(),
        wrong=checks.wrong_secrets(ask.config, [nas]).get(nas.name),
        **_choices(ask),
    )


def _choices(ask: Ask) -> dict[str, Any]:
    forms = {"kinds": routers.GIVEN_KINDS, "takes": COA, "sites": routers.sites(ask.config)}
    return forms | {"tunnels": ask.config.tunnel.enabled, "flows": _flows(ask)}


def _flows(ask: Ask) -> bool:
    """Whether there is anybody to keep them."""
    return is_enabled(ask.config, "netflow")


def _typed(nas: Any) -> dict[str, str]:
    """As the form says it."""
    flags = {
        "radsec": nas.radsec,
        "message_authenticator": nas.require_message_authenticator,
        "tunnel": nas.tunnel_address is not None,
        "netflow": nas.netflow,
    }
    values = {"address": nas.address, "kind": nas.kind, "coa": nas.coa, "coa_port": str(nas.coa_port)}
    values |= {"netflow_from": nas.netflow_from, "site": nas.site or routers.ANY_SITE}
    return values | {name: "1" for name, is_so in flags.items() if is_so}


def new(ask: Ask) -> Any:
    typed = {"kind": routers.MIKROTIK, "coa": "coa", "message_authenticator": "1", "site": ask.config.site.key}
    return ask.page("router_new.html", typed=typed, error="", **_choices(ask))


def add(ask: Ask) -> Any:
    form = ask.form()
    try:
        with core_db.atomic():
            nas = routers.add(
                ask.config, form.get("name", "").strip(), _wanted(ask, form), form.get("secret", "").strip()
            )
            audit.record(ask.person.name, "added", f"router {nas.name}", {}, _recorded(nas) | {"secret": "…"})
    except UserError as error:
        typed = form | {"secret": ""}
        return ask.page("router_new.html", 400, typed=typed, error=str(error), **_choices(ask))
    secret = "" if form.get("secret") else routers.secret_of(ask.config, nas)
    return _router_page(ask, nas, _typed(nas), secret=secret, wish=_apply(ask))


def change(ask: Ask, name: str) -> Any:
    nas, form = manage.get(Nas, name, "nas"), ask.form()
    before = _recorded(nas)
    try:
        with core_db.atomic():
            routers.change(ask.config, nas, _wanted(ask, form))
            audit.record(ask.person.name, "changed", f"router {name}", before, _recorded(nas))
    except UserError as error:
        return _router_page(ask, manage.get(Nas, name, "nas"), form, str(error))
    return ask.done(f"{url(name)}?wish={_apply(ask)}", f"Router {name} is changed.")


def _wanted(ask: Ask, form: Mapping[str, str]) -> Wanted:
    """A switch that isn't sent is off, if it was shown. The address of a tunnel isn't for the form to say."""
    port, has_tunnel = form.get("coa_port", "").strip(), "tunnel" in form
    if port and not port.isdecimal():
        raise UserError(f"CoA port {port!r}: a port is between 1 and 65535")
    return Wanted(
        address=None if has_tunnel else form.get("address", "").strip() or None,
        kind=form.get("kind") or None,
        coa=form.get("coa") or None,
        coa_port=int(port) if port else None,
        radsec="radsec" in form,
        tunnel=has_tunnel,
        message_authenticator="message_authenticator" in form,
        netflow="netflow" in form if _flows(ask) else None,
        netflow_from=form.get("netflow_from"),
        site=form.get("site") or None,
    )


def _recorded(nas: Any) -> dict[str, object]:
    return {key: getattr(nas, key) for key in RECORDED}


def new_secret_of(ask: Ask, name: str) -> Any:
    """Made up, or typed; the router gets no answer from the next `apply` on until it has it too."""
    nas, given = manage.get(Nas, name, "nas"), ask.form().get("secret", "").strip()
    secret = given or new_secret()
    try:
        with core_db.atomic():
            routers.change(ask.config, nas, Wanted(), secret)
            audit.record(ask.person.name, "changed", f"router {name}", {"secret": "old"}, {"secret": "new"})
    except UserError as error:
        return _router_page(ask, nas, _typed(nas), str(error))
    return _router_page(ask, nas, _typed(nas), secret="" if given else secret, wish=_apply(ask))


def remove(ask: Ask, name: str) -> Any:
    nas = manage.get(Nas, name, "nas")
    with core_db.atomic():
        routers.remove(nas)
        audit.record(ask.person.name, "removed", f"router {name}", _recorded(nas), {})
    _apply(ask)
    return ask.done("/routers", f"Router {name} is removed, and FreeRADIUS is told.")


def check(ask: Ask, name: str) -> Any:
    """The doctor's checks of this one, now."""
    nas = manage.get(Nas, name, "nas")
    clients.must_be_served(ask.config, nas)
    return _router_page(ask, nas, _typed(nas), found=checks.one(ask.config, nas))


# Its script


def script_form(ask: Ask, name: str) -> Any:
    return _script_page(ask, manage.get(Nas, name, "nas"), {}, "", "")


def hotspot_file(ask: Ask, name: str, page: str) -> Any:
    """Nothing in it is secret."""
    if page not in login_page.PAGES:
        raise UserError(f"there is no {page}.html for a router")
    nas = manage.get(Nas, name, "nas")
    server = reach.endpoint(ask.config) if nas.tunnel_address else reach.server(ask.config, nas)
    text = login_page.login_html(ask.config, server, page)
    return ask.file(text.encode(), f"{page}.html", "text/html; charset=utf-8")


def script_shown(ask: Ask, name: str) -> Any:
    """It holds the secret, so who has seen it is on record."""
    nas, form = manage.get(Nas, name, "nas"), ask.form()
    key = nas.tunnel_key
    try:
        text = setup.text(ask.config, nas, _wishes(ask, form))  # of the vault it may want a log-in
        audit.record(ask.person.name, "saw the script of", f"router {name}", {}, {})
    except UserError as error:
        return _script_page(ask, nas, form, "", str(error))
    if nas.tunnel_key != key:
        _apply(ask)
    if "download" not in form:
        return _script_page(ask, nas, form, text, "")
    bottle.response.content_type = "text/plain; charset=utf-8"
    bottle.response.set_header("Content-Disposition", f'attachment; filename="{name}.rsc"')
    return f"{text}\n"


def _script_page(ask: Ask, nas: Any, form: Mapping[str, str], text: str, error: str) -> Any:
    begin = {f.name: f.default for f in fields(Wishes) if isinstance(f.default, str)}
    begin |= {"server": _server(ask, nas), "routeros": "7", "mac_login": "1"}
    typed = {**form, "backup_password": ""} if form else begin
    return ask.page(
        "router_script.html",
        400 if error else 200,
        nas=nas,
        typed=typed,
        chosen=ask.all("services") if form else ["hotspot"],
        services=script.SERVICES,
        formats=script.FLOW_FORMATS,
        files=list(login_page.PAGES),
        versions=[str(number) for number in script.ROUTEROS],
        vault=is_enabled(ask.config, "netbackup"),
        text=text,
        error=error,
    )


def _server(ask: Ask, nas: Any) -> str:
    try:
        return str(reach.endpoint(ask.config) if nas.tunnel_address else reach.server(ask.config, nas))
    except UserError:
        return ""


def _wishes(ask: Ask, form: Mapping[str, str]) -> Wishes:
    begin, flow = Wishes(), form.get("traffic_flow", "").strip()
    if form.get("routeros", "7") not in [str(number) for number in script.ROUTEROS]:
        raise UserError(f"RouterOS {form['routeros']!r}: there are {', '.join(map(str, script.ROUTEROS))}")
    if flow and not flow.isdecimal():
        raise UserError(f"port for flows {flow!r}: a port is between 1 and 65535")
    return Wishes(
        routeros=int(form.get("routeros", "7")),
        server=_address(form, "server"),
        services=setup.services(ask.all("services")),
        hotspot_profile=form.get("hotspot_profile", "").strip() or begin.hotspot_profile,
        dhcp_server=form.get("dhcp_server", "").strip() or begin.dhcp_server,
        certificate=form.get("certificate", "").strip() or begin.certificate,
        mac_login="mac_login" in form,
        ntp=_address(form, "ntp"),
        traffic_flow=setup.port(int(flow)) if flow else None,
        flows=_format(form.get("flows") or begin.flows),
        flow_interfaces=form.get("flow_interfaces", "").strip(),
        new_key="new_key" in form,
        backup="backup" in form and is_enabled(ask.config, "netbackup"),
        backup_password=form.get("backup_password", ""),
    )


def _format(name: str) -> str:
    if name not in script.FLOW_FORMATS:
        raise UserError(f"flows are sent as {', '.join(script.FLOW_FORMATS)}, not as {name!r}")
    return name


def _address(form: Mapping[str, str], name: str) -> IPv4Address | None:
    text = form.get(name, "").strip()
    try:
        return IPv4Address(text) if text else None
    except AddressValueError:
        raise UserError(f"{text!r} is no address: write 192.0.2.7") from None


PAGES = (
    Page("/routers", listed, nav="Routers"),
    Page("/routers/new", new, role="operator"),
    Page("/routers/new", add, "POST"),
    Page("/routers/<name>", shown),
    Page("/routers/<name>", change, "POST"),
    Page("/routers/<name>/secret", new_secret_of, "POST"),
    Page("/routers/<name>/remove", remove, "POST"),
    Page("/routers/<name>/check", check, "POST"),
    Page("/routers/<name>/script", script_form, role="operator"),
    Page("/routers/<name>/script", script_shown, "POST"),
    Page("/routers/<name>/<page>.html", hotspot_file, role="operator"),
)
