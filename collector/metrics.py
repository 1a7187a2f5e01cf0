"""Figures of the collector for Prometheus, from its small tables."""

from collections.abc import Iterator

from appliance.api.metrics import Metric, Sample, single
from appliance.config import Config
from appliance.errors import Unavailable
from collector import clustered, facts


class Collector:
    def __init__(self, config: Config) -> None:
        self._config = config

    def read(self, now: int) -> Iterator[Metric]:
        """Where the disk is away there is only that to tell."""
        try:
            heard = facts.heard(self._config, now)
            flow = facts.flow(self._config, now)
        except Unavailable:
            yield single("flow_storage_up", "gauge", "1 where journal and catalogue can be read.", 0)
            return
        yield single("flow_storage_up", "gauge", "1 where journal and catalogue can be read.", 1)
        names = [{"exporter": one.address, "collected": "yes" if one.collected else "no"} for one in heard]
        counted = [Sample(name, one.datagrams) for name, one in zip(names, heard, strict=True)]
        yield Metric("flow_datagrams_total", "counter", "Datagrams that came, by who sent them.", counted)
        octets = [Sample(name, one.bytes) for name, one in zip(names, heard, strict=True)]
        yield Metric("flow_datagram_bytes_total", "counter", "Octets of these datagrams.", octets)
        last = [Sample(name, one.last_ms / 1000) for name, one in zip(names, heard, strict=True)]
        yield Metric("flow_exporter_heard_timestamp_seconds", "gauge", "When each was last heard.", last)
        yield from _stored(flow)
        if self._config.netflow.store:
            yield from _clustered(self._config)


def _stored(flow: facts.Flow) -> Iterator[Metric]:
    yield single("flow_flows", "gauge", "Flows that are kept.", flow.rows)
    yield single("flow_segment_bytes", "gauge", "What their files take.", flow.bytes)
    yield single("flow_segments", "gauge", "How many files these are.", flow.files)
    yield single("flow_journal_bytes", "gauge", "What the journal takes.", flow.journal_bytes)
    lag = "How long the oldest datagram waits that is in no segment yet."
    yield single("flow_journal_lag_seconds", "gauge", lag, flow.lag_s)
    lost = [Sample({"cause": cause}, count) for cause, count in sorted(flow.lost.items())]
    yield Metric("flow_lost_flows", "gauge", "Flows of the last day that were lost, by cause.", lost)
    dropped = [Sample({"cause": cause}, count) for cause, count in sorted(flow.dropped.items())]
    yield Metric("flow_dropped_datagrams", "gauge", "Datagrams of the last day that nobody could take in.", dropped)


def _clustered(config: Config) -> Iterator[Metric]:
    waits, said = clustered.waiting(config), clustered.said(config)
    yield single("flow_cluster_waiting_flows", "gauge", "Flows that aren't in the cluster yet.", waits.rows)
    yield single("flow_cluster_waiting_bytes", "gauge", "What their files take.", waits.bytes)
    until = (waits.loaded_until_ms or 0) / 1000
    yield single("flow_cluster_loaded_timestamp_seconds", "gauge", "When the newest flow in it came.", until)
    if said is not None:
        up = [Sample({"host": host}, int(not trouble)) for host, trouble in said.hosts.items()]
        yield Metric("flow_cluster_host_up", "gauge", "1 where a host of the cluster answers.", up)
        yield single("flow_cluster_shards_missing", "gauge", "Shards of which no host answers.", len(said.missing))
