"""The doctor's checks of flows: those that send, and whether what came is kept."""

import time
from collections.abc import Iterator

from appliance import data_disk
from appliance.config import Config
from appliance.doctor.findings import BAD, OK, WARN, Check, Finding
from appliance.errors import UserError
from appliance.units import format_bytes, format_duration
from collector import clustered, facts, module, senders

SUBJECT = "flows"
LATE_S = 300  # a datagram is in a segment a minute or so after it came


def routers(config: Config) -> Iterator[Finding]:
    yield from senders.all_findings(config, int(time.time()))


def kept(config: Config) -> Iterator[Finding]:
    """Whether all that came is written down and found."""
    found = [Finding(SUBJECT, BAD, f"{line}.", "See its log: gatehouse status.") for line in module.problems(config)]
    try:
        data_disk.ready(config)
    except UserError as error:
        found.append(Finding(SUBJECT, BAD, f"{error}.", "They wait on the system's disk, as many as fit.", ()))
        yield from found
        return
    flow = facts.flow(config, int(time.time()))
    if flow.lag_s > LATE_S:
        sentence = f"What came {format_duration(int(flow.lag_s))} ago can't be searched yet."
        found.append(Finding(SUBJECT, BAD, sentence, "See whether its service runs.", ("gatehouse status",)))
    for cause, count in sorted(flow.dropped.items()):
        sentence = f"{count:,} datagrams of the last day were lost here ({cause}), with the flows in them."
        found.append(Finding(SUBJECT, WARN, sentence, "Give the socket more room: [netflow] buffer_mb."))
    storage = facts.storage(config, int(time.time()))
    for line in storage.damaged:
        found.append(Finding(SUBJECT, BAD, f"A file is damaged: {line}.", "Look at the disk: gatehouse disk list."))
    if config.netflow.store:
        found += _cluster(config, int(time.time()))
    yield from found or [Finding(SUBJECT, OK, "All that came is kept and can be searched.")]


def _cluster(config: Config, now: int) -> Iterator[Finding]:
    waits = clustered.waiting(config)
    if clustered.late(waits, now):
        sentence = f"{waits.rows:,} flows wait for the cluster, {format_bytes(waits.bytes)}B."
        bound = f"They may wait for {config.netflow.store_wait_days} days: [netflow] store_wait_days, store_wait_gb."
        found = clustered.said(config)
        why = found.problem if found is not None else ""
        yield Finding(SUBJECT, WARN, f"{sentence} {why}".strip(), bound, ("gatehouse flows storage",))


CHECKS = (Check("flows of routers", routers, core=True), Check("flows", kept))
