"""The page for devices that log in by themselves."""

from functools import partial
from typing import Any

from appliance.accounts.models import Account, Device, core_db
from appliance.accounts.web_parts import account_url, local, unsure
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Column, List, begins
from rlm_python import pairs

_NAMED = 20


def devices(ask: Ask) -> Any:
    of = List(
        title="Devices",
        query=Device.select(Device.mac, Account.name.alias("account"), Device.added_at, Device.used_at).join(Account),
        columns=(
            Column("mac", "Device", Device.mac),
            Column("account", "Account", link=partial(account_url, key="account")),
            Column("added_at", "Since", show=local(ask)),
            Column("used_at", "Last used", show=local(ask)),
        ),
        order="mac",
        search=lambda text: begins(Account.name, text) | begins(Device.mac, pairs.mac(text)),
        empty="No device logs in by itself. A plan’s “devices” says how many an account may have remembered.",
        row_id="mac",
    )
    return of.respond(ask, "devices.html")


def forget(ask: Ask) -> Any:
    """The chosen ones are asked for a login again; who is online stays so."""
    macs = ask.all("device")
    chosen = list(Device.select(Device, Account).join(Account).where(Device.mac.in_(macs)).order_by(Device.mac))
    if "back" in ask.form() or not chosen:
        return ask.done("/devices", "" if chosen else "Choose a device first.")
    lines = [f"{row.mac} of {row.account.name}" for row in chosen[:_NAMED]]
    lines += [f"and {len(chosen) - _NAMED} more"] if len(chosen) > _NAMED else []
    count = f"{len(chosen)} device{'' if len(chosen) == 1 else 's'}"
    if page := unsure(ask, f"Forget {count}?", lines, "Forget them"):
        return page
    with core_db.atomic():
        for row in chosen:
            Device.delete().where(Device.mac == row.mac, Device.account == row.account).execute()
            audit.record(ask.person.name, "forgot device", f"account {row.account.name}", {"device": row.mac}, {})
    return ask.done("/devices", f"{count} will be asked for a login again.")


PAGES = (
    Page("/devices", devices, nav="Devices"),
    Page("/devices/forget", forget, "POST"),
)
