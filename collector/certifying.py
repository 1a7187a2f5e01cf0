"""How complete an answer is, in words."""

from collections.abc import Mapping
from datetime import datetime, tzinfo

from collector.store.models import Certificate, Lost

CAUSES = {
    "sequence": "sequence gap: sent by the router, never received",
    "kernel": "received faster than they could be taken",
    "queue": "received faster than the disk took them",
    "parked": "their template never came",
    "refused": "could not be decoded",
    "spool": "the spool was full while the data disk was away",
    "cluster": "the cluster was away for too long, and there was no room for more to wait",
    "server": "a server of the cluster has lost them, and they were on no disk here any more",
    "damaged": "the file they were in is damaged",
}
MOST_LINES = 10


def percent(certificate: Certificate) -> str:
    """Never rounded up to the whole."""
    sent = certificate.present + certificate.lost
    hundredths = certificate.present * 10_000 // sent if sent else 10_000
    return f"{hundredths // 100}.{hundredths % 100:02d} %" if hundredths % 100 else f"{hundredths // 100} %"


def lines(certificate: Certificate, zone: tzinfo, routers: Mapping[int, str]) -> list[str]:
    """The first says how much there is, the others what is missing: most flows first, ten at most."""
    sent = certificate.present + certificate.lost
    if not sent:
        return ["No flows are known to be lost", *certificate.notes]
    first = f"{percent(certificate)} of flows present"
    first += f": {certificate.lost:,} of {sent:,} lost" if certificate.lost else f": all of {sent:,}"
    found = sorted(certificate.losses, key=lambda loss: (-loss.flows, loss.since_ms))
    told = [_loss(loss, zone, routers) for loss in found[:MOST_LINES] if loss.flows]
    if len(found) > MOST_LINES:
        told.append(f"and {sum(loss.flows for loss in found[MOST_LINES:]):,} more in {len(found) - MOST_LINES} gaps")
    return [first, *told, *certificate.notes]


def _loss(loss: Lost, zone: tzinfo, routers: Mapping[int, str]) -> str:
    since, until = (datetime.fromtimestamp(ms / 1000, zone) for ms in (loss.since_ms, loss.until_ms))
    end = f"{until:%H:%M:%S}" if since.date() == until.date() else f"{until:%Y-%m-%d %H:%M:%S}"
    at = f" at {routers[loss.exporter]}" if loss.exporter in routers else ""
    return f"{loss.flows:,} lost {since:%Y-%m-%d %H:%M:%S}–{end}: {CAUSES.get(loss.cause, loss.cause)}{at}"
