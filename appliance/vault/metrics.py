"""Figures of the vault for Prometheus."""

from collections.abc import Iterator

import peewee

from appliance.api.metrics import Metric, Sample, single
from appliance.config import Config
from appliance.errors import UserError
from appliance.vault import alerts, desk, offers, sources
from appliance.vault.alerts import Alert
from appliance.vault.models import GOOD, Event, Object, Replica, Vault, Version

KINDS = (alerts.LATE, alerts.QUOTA, alerts.DISK, alerts.CONTENTS, alerts.COPY, alerts.BACKUP, alerts.HISTORY)


class Collector:
    def __init__(self, config: Config) -> None:
        self._config = config

    def read(self, now: int) -> Iterator[Metric]:
        try:
            with desk.opened(self._config):
                yield single("vault_up", "gauge", "1 where the vault's catalogue can be read.", 1)
                yield from [*_vaults(), *_whole()]
        except UserError:
            yield single("vault_up", "gauge", "1 where the vault's catalogue can be read.", 0)


def _vaults() -> Iterator[Metric]:
    vaults = list(Vault.select().where(Vault.removed_at.is_null()).order_by(Vault.name))
    names = [{"vault": str(vault.name)} for vault in vaults]

    def of(name: str, help_: str, values: list[float]) -> Metric:
        return Metric(name, "gauge", help_, [Sample(*pair) for pair in zip(names, values, strict=True)])

    yield of("vault_bytes", "What a vault keeps, old versions included.", [vault.used_bytes for vault in vaults])
    yield of("vault_files", "Files that are there now.", [vault.used_files for vault in vaults])
    yield of(
        "vault_quota_bytes", "What it may keep, 0 where only the disk says so.", [v.quota_bytes or 0 for v in vaults]
    )
    last = desk.by(Version.vault, peewee.fn.MAX(Version.stored_ms), Version.confirmed)
    yield of(
        "vault_last_upload_timestamp_seconds",
        "When a file last came whole.",
        [last.get(v.id, 0) / 1000 for v in vaults],
    )


def _whole() -> Iterator[Metric]:
    counts = desk.counted(Alert.kind, Alert.over_at.is_null())
    yield Metric(
        "vault_alerts", "gauge", "Open alerts.", [Sample({"kind": kind}, counts.get(kind, 0)) for kind in KINDS]
    )
    states = desk.counted(Object.state)
    samples = [Sample({"state": str(state)}, count) for state, count in sorted(states.items())]
    yield Metric("vault_objects", "gauge", "Contents on the disk, each once.", samples)
    oldest = Object.select(peewee.fn.MIN(Object.verified_at)).where(Object.state == GOOD).scalar() or 0
    yield single("vault_verified_timestamp_seconds", "gauge", "Every good content was verified since.", oldest)
    copies = [Sample({"copy": str(copy.name)}, copy.pulled_at or 0) for copy in Replica.select()]
    copies += [Sample({"copy": f"kept by {offer.name}"}, offer.pulled_at or 0) for offer in offers.rows()]
    yield Metric("vault_copy_timestamp_seconds", "gauge", "When a second copy last followed.", copies)
    kept = [Sample({"source": str(source.name)}, source.pulled_at or 0) for source in sources.rows()]
    yield Metric("vault_source_timestamp_seconds", "gauge", "When a copy of another appliance last followed.", kept)
    yield single(
        "vault_events_total", "counter", "Events of the manifest.", Event.select(peewee.fn.MAX(Event.n)).scalar() or 0
    )
