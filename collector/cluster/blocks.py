"""Answers of a cluster as arrays, block by block: nothing of a large answer is in memory longer than it is needed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from clickhouse_driver.protocol import ServerPacketTypes

from collector.cluster import native
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


def blocks(
    host: Host, sql: str, tables: Sequence[Table], settings: Mapping[str, Any], progress: Progress
) -> Iterator[Block]:
    """By a connection of its own. Who stops before the end closes it, and with it ends the question.

    Raises Away, Refused.
    """
    client = native.client(**host.options())
    given = {t.name: [(name, kind, t.columns[name]) for name, kind in t.types.items()] for t in tables}
    try:
        with client.disconnect_on_error(sql, dict(settings)):
            client.connection.send_query(sql)
            native.send_tables(client, given)
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
