"""Making the tables on each server that hasn't got them."""

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
    ((version,),) = host.rows("SELECT version()")
    major, minor = (int(part) for part in str(version).split(".")[:2])
    store = cluster.store
    for statement in tables.statements((major, minor), store.database, store.cluster, number):
        host.rows(statement)
    ((made,),) = host.rows("SELECT number FROM shard")
    return int(made)


def _number(cluster: Cluster, host: Host) -> int:
    """Which shard it is, as it says itself."""
    if not cluster.store.cluster:
        return 1
    cluster.count(host)
    where = f"cluster = '{cluster.store.cluster}' AND is_local"
    found = host.rows(f"SELECT shard_num FROM system.clusters WHERE {where}")  # noqa: S608
    if len(found) != 1:
        raise UserError(f"{host.name}: by its own account it isn't one of the shards of {cluster.store.cluster}")
    return int(found[0][0])
