"""SQL of FLOW's columns over a segment's file (collector/store/packing.py): the way back, exactly."""

from collections.abc import Mapping
from pathlib import Path

from collector.flows import COLUMNS
from collector.store import duck
from collector.store.models import Column
from collector.store.packing import PAIRS, SAME, dtype_for

SQL_TYPES = {"i8": "BIGINT", "i4": "INTEGER", "u8": "UBIGINT", "u4": "UINTEGER", "u2": "USMALLINT", "u1": "UTINYINT"}
TYPES = {column.name: SQL_TYPES[column.dtype.lstrip("<")] for column in COLUMNS}
_BITS = {name: 1 << bit for bit, name in enumerate(SAME)}


class File:
    """One segment's SQL, from its file or from whatever else has its columns."""

    def __init__(self, source: str | Path, bounds: Mapping[str, Column]) -> None:
        """Of a path there is a column `file_row_number`, too."""
        of_file = isinstance(source, Path)
        self.source = f"read_parquet({duck.text(source)}, file_row_number = true)" if of_file else str(source)
        self.bounds = bounds

    def relation(self, where: str = "") -> str:
        """FLOW's columns; `where` is over the file's own."""
        chosen = ", ".join(f"{self.column(column.name)} AS {column.name}" for column in COLUMNS)
        query = f"SELECT {chosen} FROM {self.source}"  # noqa: S608
        return f"{query} WHERE {where}" if where else query

    def column(self, name: str) -> str:
        return f"CAST({self._value(name)} AS {TYPES[name]})"

    def first(self) -> str:
        low, high = self.bounds["first"]
        return f"({low} + CAST(first AS BIGINT))" if low != high else f"{low}"

    def began(self, low: int, high: int) -> str:
        """Condition that a flow began then, as the file's statistics can be asked; empty where it holds for all."""
        base, most = self.bounds["first"]
        low, high = max(low, base), min(high, most)
        if low > high:
            return "false"
        if (low, high) == (base, most):
            return ""
        kind = SQL_TYPES[dtype_for(0, most - base)]
        return f"first BETWEEN {low - base}::{kind} AND {high - base}::{kind}"

    def last(self) -> str:
        return f"({self.first()} + {self.raw('duration', 'BIGINT')})"

    def _value(self, name: str) -> str:
        if name == "first":
            return self.first()
        if name == "last":
            return self.last()
        if name == "received":
            return f"({self.last()} + {self.raw('lag', 'BIGINT')})"
        for a, b, client, peer in PAIRS:
            if name in (a, b):
                one, other = (client, peer) if name == a else (peer, client)
                return self._choice("up", self._side(one, TYPES[name]), self._side(other, TYPES[name]))
        return self.raw(name, TYPES[name])

    def raw(self, name: str, kind: str) -> str:
        """A column of the file, or the literal that it is throughout."""
        low, high = self.bounds[name]
        if low == high:
            return f"{low}::{kind}" if kind != "BOOLEAN" else ("true" if low else "false")
        return name if kind == "BOOLEAN" else f"CAST({name} AS {kind})"

    def _choice(self, flag: str, yes: str, no: str) -> str:
        low, high = self.bounds[flag]
        if yes == no or low == high:
            return yes if low or yes == no else no
        return f"CASE WHEN {flag} THEN {yes} ELSE {no} END"

    def _side(self, name: str, kind: str) -> str:
        """A column of one end, as it was before the address behind NAT took the place of the public one."""
        if name in ("client_hi", "client_lo"):
            return self._choice("via", self._nat(f"nat_{name}", kind), self.raw(name, kind))
        if name in ("nat_client_hi", "nat_client_lo"):
            return self._choice("via", self.raw(name.removeprefix("nat_"), kind), self._nat(name, kind))
        if name.startswith("nat_"):
            return self._nat(name, kind)
        return self.raw(name, kind)

    def _nat(self, name: str, kind: str) -> str:
        """NAT's value, which isn't written where it is the one before NAT."""
        base = name.removeprefix("nat_")
        low, high = self.bounds["same"]
        bit = _BITS[base]
        own = self.raw(name, kind)
        if low == high:
            return self.raw(base, kind) if low & bit else own
        return f"CASE WHEN same & {bit} <> 0 THEN {self.raw(base, kind)} ELSE {own} END"

    def between(self, side: str, hi: int, low: int, high: int) -> str:
        """Condition that an end's address lies in a range, such as the file's statistics can be asked."""
        parts = [self.within(f"{side}_hi", hi, hi), self.within(f"{side}_lo", low, high)]
        if "false" in parts:
            return "false"
        return " AND ".join(part for part in parts if part) or "true"

    def within(self, name: str, low: int, high: int) -> str:
        """Condition on a column, empty where it holds for all. Literals are of its own type: nothing is cast."""
        least, most = self.bounds[name]
        low, high = max(low, least), min(high, most)
        if low > high:
            return "false"
        if (low, high) == (least, most):
            return ""
        kind = SQL_TYPES[dtype_for(least, most)]
        if low == high:
            return f"{name} = {low}::{kind}"
        return f"{name} BETWEEN {low}::{kind} AND {high}::{kind}"
