"""Making the tables on each server that hasn't got them."""

import re

from appliance.errors import UserError
from collector.cluster import tables
from collector.cluster.client import Cluster, Host


def tables_on_all(cluster: Cluster) -> dict[int, Host]:
    """One host of each shard that answers, with its tables. Servers that have them are only asked."""
    found = cluster.shards()
    for host in cluster.hosts:
        if host.name in cluster.trouble:
            try:
                found.setdefault(_make(cluster, host), host)
                del cluster.trouble[host.name]
            except UserError as error:
                cluster.trouble[host.name] = str(error)
    return found


def _make(cluster: Cluster, host: Host) -> int:
    host.create_database()
    number = _number(cluster, host)
    version = re.match(r"(\d{1,4})\.(\d{1,4})\.", str(host.rows("SELECT version()")[:1])[3:])
    if version is None:
        raise UserError(f"{host.name}: it doesn't say which version it is")
    major, minor = int(version[1]), int(version[2])
    store = cluster.store
    for statement in tables.statements((major, minor), store.database, store.cluster, number):
        host.rows(statement)
    return host.number(host.rows("SELECT number FROM shard"))


def _number(cluster: Cluster, host: Host) -> int:
    """Which shard it is, as it says itself."""
    if not cluster.store.cluster:
        return 1
    cluster.count(host)
    where = f"cluster = '{cluster.store.cluster}' AND is_local"
    found = host.rows(f"SELECT shard_num FROM system.clusters WHERE {where}")  # noqa: S608
    if len(found) != 1:
        raise UserError(f"{host.name}: by its own account it isn't one of the shards of {cluster.store.cluster}")
    return host.number(found)
