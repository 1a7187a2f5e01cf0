"""Answers of a cluster as arrays, block by block: nothing of a large answer is in memory longer than it is needed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from clickhouse_driver import Client
from clickhouse_driver.protocol import ServerPacketTypes

from collector.cluster.client import BROKEN, Host

Block = Mapping[str, Any]  # arrays by column


class Table(NamedTuple):
    """What goes to the servers with a question: arrays by column, and ClickHouse's types of these."""

    name: str
    columns: Block
    types: Mapping[str, str]


class Progress:
    """Of one question, as the servers tell it."""

    def __init__(self) -> None:
        self._read = self._all = 0

    def told(self, read: int, more: int) -> None:
        self._read += read
        self._all += more

    @property
    def share(self) -> float:
        """In hundredths."""
        return 100.0 * self._read / self._all if self._all else 0.0


class _Given(dict[str, Any]):
    """As the library takes arrays: from what looks like a table of pandas."""

    def __len__(self) -> int:
        return len(next(iter(self.values())).values)


class _Column(NamedTuple):
    values: Any


def blocks(
    host: Host, sql: str, tables: Sequence[Table], settings: Mapping[str, Any], progress: Progress
) -> Iterator[Block]:
    """By a connection of its own. Who stops before the end closes it, and with it ends the question.

    Raises Away, Refused.
    """
    client = Client(**host.options(use_numpy=True))
    given = [
        {
            "name": t.name,
            "structure": list(t.types.items()),
            "data": _Given({k: _Column(v) for k, v in t.columns.items()}),
        }
        for t in tables
    ]
    try:
        with client.disconnect_on_error(sql, dict(settings)):
            client.connection.send_query(sql)
            client.connection.send_external_tables(given)
            for packet in client.packet_generator():
                if packet.type == ServerPacketTypes.PROGRESS:
                    progress.told(packet.progress.rows, packet.progress.total_rows)
                elif packet.type == ServerPacketTypes.DATA and packet.block.num_rows:
                    names = [name for name, _ in packet.block.columns_with_types]
                    yield dict(zip(names, packet.block.get_columns(), strict=True))
    except BROKEN as error:
        raise host.told(error) from None
    finally:
        client.disconnect()
