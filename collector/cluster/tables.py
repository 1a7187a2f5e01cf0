"""The tables of a cluster, by the version of its servers; queries over them are the same for all.

Each shard has a table `flows`, and `flows_all` is that of all shards; likewise the others. What a segment gave lies on
one shard under the number of the attempt that loaded it, its `load`. It counts once that number is in `loads`, which is
written last; of two for one segment the smaller one counts. All that a load has is of one `day`: the one (UTC) in which
the first of its segment's datagrams came, which is how old days are dropped whole. Nothing here asks a server.
"""

from collections.abc import Iterator

from collector.flows import COLUMNS

TABLES = ("flows", "ends", "totals", "loads", "exporters", "replaced", "keeping")
ENDS = ("src", "dst", "nat_src", "nat_dst")  # by the number that `end` has
FSYNC_SINCE = (21, 1)  # before that a server that loses power loses what came in the last seconds
CODECS_SINCE = (19, 17)  # ClickHouse's release with codecs; LowCardinality is sound by then, too

_TYPES = {"u1": "UInt8", "u2": "UInt16", "u4": "UInt32", "u8": "UInt64", "i8": "Int64"}
_TIMES = ("first", "last", "received")
_OF_ENDS = (
    *("family", "protocol", "src_hi", "src_lo", "src_port", "dst_hi", "dst_lo", "dst_port"),
    *("nat_src_hi", "nat_src_lo", "nat_src_port", "nat_dst_hi", "nat_dst_lo", "nat_dst_port"),
    *("first", "last", "received", "exporter", "nat_event", "marks"),
)
_LOAD = (("site", "String"), ("day", "Date"), ("load", "UInt64"))
FLOW_TYPES = {column.name: _TYPES[column.dtype.lstrip("<")] for column in COLUMNS}
_BY_TABLE: dict[str, tuple[tuple[str, str], ...]] = {
    # FLOW's columns as the router told them, and the client as the segment has it (collector/store/packing.py)
    "flows": (*_LOAD, ("client_hi", "UInt64"), ("client_lo", "UInt64"), ("twin", "UInt8"), *FLOW_TYPES.items()),
    # a row for each end of a flow that has an address, but the client's own, and those that NAT left as they were
    "ends": (
        *_LOAD,
        *(("end", "UInt8"), ("end_hi", "UInt64"), ("end_lo", "UInt64"), ("end_port", "UInt16")),
        *((name, FLOW_TYPES[name]) for name in _OF_ENDS),
    ),
    # collector/store/rollups.py's rows; `grain` 0 is a minute, 1 an hour, 2 a day
    "totals": (
        *_LOAD,
        *(("grain", "UInt8"), ("kind", "UInt8"), ("at", "Int64"), ("exporter", "UInt32"), ("thing", "String")),
        *((name, "Int64") for name in ("flows", "packets", "bytes", "up_bytes")),
    ),
    # the odd times are 1 and 0 where there are none; a copy is on each shard, `shard` is the one that has the rows
    "loads": (
        *_LOAD,
        *(("sha256", "String"), ("shard", "UInt32"), ("rows", "UInt64"), ("exporters", "Array(UInt32)")),
        *((f"{name}_ms", "Int64") for name in ("received_from", "received_until", "first", "last")),
        *((f"{name}_ms", "Int64") for name in ("odd_first", "odd_last")),
        ("at", "DateTime"),
    ),
    "exporters": (("site", "String"), ("exporter", "UInt32"), ("address", "String")),
    # loads whose datagrams were decoded anew since: they don't count any more
    "replaced": _LOAD,
    # how long a site keeps flows, and what of them is held back; the last row of each counts
    "keeping": (
        ("site", "String"),
        ("at", "DateTime"),
        ("keep_days", "UInt32"),
        *(("since_ms", "Array(Int64)"), ("until_ms", "Array(Int64)")),
    ),
}
_PLACES = {
    "flows": ("day", "site, twin, family, client_hi, client_lo, load, first"),
    "ends": ("day", "site, end_hi, end_lo, end_port, first"),
    "totals": ("(grain, day)", "site, kind, at, exporter, thing, load"),
    "loads": ("day", "site, day, sha256, load"),
    "exporters": ("tuple()", "site, exporter"),
    "replaced": ("day", "site, load"),
    "keeping": ("tuple()", "site, at"),
}


def columns(table: str) -> tuple[str, ...]:
    return tuple(name for name, _ in _BY_TABLE[table])


def types(table: str) -> tuple[tuple[str, str], ...]:
    """With their names, as every version has them."""
    return _BY_TABLE[table]


def statements(version: tuple[int, int], database: str, cluster: str, shard: int) -> Iterator[str]:
    """What makes them on one shard, where they aren't there. Without a cluster's name it is the only server."""
    for table in TABLES:
        partition, order = _PLACES[table]
        defined = ", ".join(_column(*column, version) for column in _BY_TABLE[table])
        by = f" PARTITION BY {partition}" if partition != "tuple()" else ""
        durable = " SETTINGS fsync_after_insert = 1, fsync_part_directory = 1" if version >= FSYNC_SINCE else ""
        yield f"CREATE TABLE IF NOT EXISTS {table} ({defined}) ENGINE = MergeTree(){by} ORDER BY ({order}){durable}"
        engine = f"Distributed({cluster}, {database}, {table})" if cluster else f"Merge({database}, '^{table}$')"
        plain = ", ".join(f"{name} {_plain(name, kind, version)}" for name, kind in _BY_TABLE[table])
        yield f"CREATE TABLE IF NOT EXISTS {table}_all ({plain}) ENGINE = {engine}"
    yield f"CREATE MATERIALIZED VIEW IF NOT EXISTS ends_of_flows TO ends AS {_ends()}"
    # The last one: where it is there, all are
    yield f"CREATE VIEW IF NOT EXISTS shard AS SELECT toUInt32({shard:d}) AS number"


def _column(name: str, kind: str, version: tuple[int, int]) -> str:
    plain = f"{name} {_plain(name, kind, version)}"
    if version < CODECS_SINCE:
        return plain
    codec = "Delta(8), ZSTD(1)" if name in _TIMES else "ZSTD(1)"
    return f"{plain} CODEC({codec})"


def _plain(name: str, kind: str, version: tuple[int, int]) -> str:
    return "LowCardinality(String)" if name == "site" and version >= CODECS_SINCE else kind


def _ends() -> str:
    """Of each inserted block: the ends beside the client's own, with what the lawful question needs of the flow."""
    arrays = {
        "end": ", ".join(f"toUInt8({number})" for number in range(len(ENDS))),
        **{f"end_{part}": ", ".join(f"{end}_{part}" for end in ENDS) for part in ("hi", "lo", "port")},
    }
    joined = ", ".join(f"[{values}] AS {name}" for name, values in arrays.items())
    chosen = ", ".join(columns("ends"))
    return (
        f"SELECT {chosen} FROM flows ARRAY JOIN {joined}"  # noqa: S608
        " WHERE (end_hi != 0 OR end_lo != 0) AND NOT (end_hi = client_hi AND end_lo = client_lo)"
        + "".join(
            f" AND NOT (end = {number:d}"
            + "".join(f" AND nat_{end}_{part} = {end}_{part}" for part in ("hi", "lo", "port"))
            + ")"
            for number, end in ((2, "src"), (3, "dst"))
        )
    )
