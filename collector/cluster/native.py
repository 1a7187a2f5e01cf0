"""Blocks of ClickHouse's native protocol from and into numpy's arrays, as they lie in memory.

The library does the same only where pandas is there, too, which is 70 MB that nothing here needs. What isn't of a fixed
width is the library's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from clickhouse_driver import Client, defines
from clickhouse_driver.block import BlockInfo, ColumnOrientedBlock
from clickhouse_driver.columns.service import read_column, write_column
from clickhouse_driver.reader import read_binary_str, read_binary_uint8
from clickhouse_driver.streams.native import BlockInputStream, BlockOutputStream
from clickhouse_driver.varint import read_varint, write_varint
from clickhouse_driver.writer import write_binary_str, write_binary_uint8

_KINDS = {f"{sign}Int{8 * size}": f"<{kind}{size}" for sign, kind in (("U", "u"), ("", "i")) for size in (1, 2, 4, 8)}
_DATE = "<u2"  # days since 1970, in arrays that are written
_KINDS |= {"Float64": "<f8", "Float32": "<f4"}


def client(**options: Any) -> Client:
    """One whose answers are arrays by column, and that takes such ones."""
    made = Client(**options)
    connection = made.connection
    connection.get_block_in_stream = lambda: _In(connection.fin, connection.context)
    connection.get_block_out_stream = lambda: _Out(connection.fout, connection.context)
    return made


def insert(client: Client, table: str, columns: Mapping[str, Any]) -> None:
    """One block; arrays where their types are of a fixed width, lists elsewhere."""
    sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES"
    with client.disconnect_on_error(sql, {}):
        client.connection.send_query(sql)
        client.connection.send_external_tables(None)
        sample = client.receive_sample_block().columns_with_types
        for data in ([columns[name] for name, _ in sample], []):
            client.connection.send_data(ColumnOrientedBlock(sample if data else [], data))
            client.receive_profile_events()
        client.receive_end_of_insert_query()


def send_tables(client: Client, tables: Mapping[str, Sequence[tuple[str, str, Any]]]) -> None:
    """What goes with a question that was sent: by name, columns with their types and values."""
    for name, columns in tables.items():
        block = ColumnOrientedBlock([column[:2] for column in columns], [column[2] for column in columns])
        client.connection.send_data(block, table_name=name)
    client.connection.send_data(ColumnOrientedBlock())


class _Out(BlockOutputStream):  # type: ignore[misc]
    def write(self, block: Any) -> None:
        revision = self.context.server_info.used_revision
        if revision >= defines.DBMS_MIN_REVISION_WITH_BLOCK_INFO:
            block.info.write(self.fout)
        write_varint(block.num_columns, self.fout)
        write_varint(block.num_rows, self.fout)
        for index, (name, kind) in enumerate(block.columns_with_types):
            write_binary_str(name, self.fout)
            write_binary_str(kind, self.fout)
            if block.num_columns:
                if revision >= defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION:
                    write_binary_uint8(0, self.fout)
                self._column(name, kind, block.get_column_by_index(index))
        self.finalize()

    def _column(self, name: str, kind: str, values: Any) -> None:
        width = _DATE if kind == "Date" else _KINDS.get(kind)
        if isinstance(values, np.ndarray) and width:
            self.fout.write(values.astype(width, copy=False).tobytes())
        else:
            items = values.tolist() if isinstance(values, np.ndarray) else list(values)  # which the library changes
            write_column(self.context, name, kind, items, self.fout)


class _In(BlockInputStream):  # type: ignore[misc]
    def read(self, use_numpy: bool | None = None) -> ColumnOrientedBlock:
        info, revision = BlockInfo(), self.context.server_info.used_revision
        if revision >= defines.DBMS_MIN_REVISION_WITH_BLOCK_INFO:
            info.read(self.fin)
        many, rows = read_varint(self.fin), read_varint(self.fin)
        told, data = [], []
        for _ in range(many):
            told.append((read_binary_str(self.fin), read_binary_str(self.fin)))
            custom = revision >= defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION and read_binary_uint8(self.fin)
            if rows:
                data.append(self._column(told[-1][1], rows, bool(custom)))
        return ColumnOrientedBlock(told, data, info)

    def _column(self, kind: str, rows: int, custom: bool) -> Any:
        if kind in _KINDS and not custom:
            width = np.dtype(_KINDS[kind]).itemsize
            return np.frombuffer(self.fin.read(rows * width), _KINDS[kind], rows)
        found = read_column(self.context, kind, rows, self.fin, has_custom_serialization=custom)
        if kind in _KINDS:
            return np.asarray(found, _KINDS[kind])
        return np.fromiter(found, np.object_, rows)
