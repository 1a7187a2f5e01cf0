"""The doctor's checks of the vault: what it keeps, whether that is whole and there twice, and what is late."""

from collections.abc import Iterator

import peewee

from appliance import data_disk
from appliance.config import Config
from appliance.doctor.findings import BAD, OK, WARN, Check, Finding
from appliance.errors import UserError
from appliance.vault import alerts, desk
from appliance.vault.models import GOOD, Object, Replica, Vault
from appliance.vault.offers import Offer

SUBJECT = "vault"
_REMEDY = {
    alerts.LATE: ("Look whether the client still runs; expect it no more on the vault's page if it is to end.", ()),
    alerts.QUOTA: ("Give it more, or let old versions go sooner, on the vault's page.", ("gatehouse vault list",)),
    alerts.DISK: ("Look at the disk; attach it anew.", ("gatehouse disk list", "gatehouse vault trust")),
    alerts.CONTENTS: ("It is mended from the second copy, if there is one.", ("gatehouse vault verify",)),
    alerts.COPY: ("Attach the second disk, or look whether the other appliance answers.", ("gatehouse vault replica",)),
    alerts.HISTORY: (
        "Nothing of the copy is lost. Find out who changed the other appliance's vault, before anything else is done.",
        ("gatehouse vault replica",),
    ),
    alerts.BACKUP: ("Let the router make another one, and look at its versions.", ()),
}


def kept(config: Config) -> Iterator[Finding]:
    try:
        data_disk.ready(config)
    except UserError as error:
        yield Finding(
            SUBJECT, BAD, f"Nothing can be stored: {error}.", "Attach the data disk.", ("gatehouse disk list",)
        )
    found = []
    with desk.opened(config):
        for alert in alerts.opened_ones():
            remedy, commands = _REMEDY.get(str(alert.kind), ("", ()))
            state = WARN if alert.kind in (alerts.QUOTA, alerts.COPY) else BAD
            found.append(Finding(SUBJECT, state, f"{alert.text[:1].upper()}{alert.text[1:]}.", remedy, commands))
        has_vaults = Vault.select().where(Vault.removed_at.is_null()).exists()
        if has_vaults and not Replica.select().exists() and not Offer.select().where(Offer.kept == "").exists():
            sentence = "There is no second copy: all is lost with the data disk."
            remedy = "Give it a second disk, or let another appliance keep one."
            found.append(Finding(SUBJECT, WARN, sentence, remedy, ("gatehouse vault replica", "gatehouse vault offer")))
        count = Object.select(peewee.fn.COUNT(Object.sha256)).where(Object.state == GOOD).scalar()
    yield from found or [Finding(SUBJECT, OK, f"All {count:,} contents are whole, and everything came in time.")]


CHECKS = (Check("vault", kept),)
