"""The admin's page for DHCP: which device holds which address, and who is online with it."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import quote

from appliance.accounts.models import Session
from appliance.accounts.web_parts import local
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, Row
from appliance.admin.rows import By, Rows
from appliance.config import Config
from appliance.nas import clients
from portal import dhcp

NONE = "No device has an address. They get one when they join the network of the guests."
NONE_HERE = "This box is no gateway: routers give their guests addresses themselves."


def leases(ask: Ask) -> Any:
    """What dnsmasq has written down; a session of the own gateway is found by its device."""
    own = ask.config.gateway.enabled
    online = {row["mac"]: row for row in _online(ask.config)}
    rows = [
        {
            "ip": str(lease.ip),
            "mac": lease.mac,
            "hostname": lease.hostname,
            "expires_at": lease.expires_at,
            "account": online[lease.mac]["account"] if lease.mac in online else None,
            "session": online[lease.mac]["id"] if lease.mac in online else None,
        }
        for lease in (dhcp.leases(dhcp.lease_file(ask.config)) if own else ())
        if lease.expires_at == 0 or lease.expires_at > ask.now
    ]
    of = List(
        title="DHCP leases",
        query=Rows(rows),
        columns=(
            Column("ip", "Address", By(lambda row: IPv4Address(row["ip"]))),
            Column("mac", "Device", By(lambda row: row["mac"])),
            Column("hostname", "Calls itself", By(lambda row: row["hostname"].lower())),
            Column("expires_at", "Until", By(lambda row: row["expires_at"]), show=_until(ask)),
            Column("account", "Online as", By(lambda row: row["account"] or ""), link=_session_url),
        ),
        order="ip",
        search=lambda text: lambda row: _fits(row, text.lower()),
        choices=(
            Choice(
                "state",
                "State",
                {"online": lambda row: row["account"] is not None, "not online": lambda row: row["account"] is None},
            ),
        ),
        empty=NONE if own else NONE_HERE,
        row_id="ip",
    )
    return of.respond(ask)


def _online(config: Config) -> Sequence[Row]:
    here = Session.ended_at.is_null() & (Session.nas == clients.own_name(config))
    query: Any = Session.select(Session.id, Session.mac, Session.account).where(here).order_by(Session.id)
    return list(query.dicts())


def _fits(row: Row, text: str) -> bool:
    return any(text in str(row[key] or "").lower() for key in ("ip", "mac", "hostname", "account"))


def _session_url(row: Row) -> str:
    return f"/sessions/{quote(str(row['session']))}" if row["session"] is not None else ""


def _until(ask: Ask) -> Any:
    return lambda at: local(ask)(at) if at else "for good"


PAGES = (Page("/leases", leases, nav="Leases"),)
