"""Rows that are no table of the database, for a `List`: what it asks of a query, done in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class By:
    """What a column is sorted by."""

    key: Callable[[Row], Any]
    reverse: bool = False

    def asc(self) -> "By":
        return self

    def desc(self) -> "By":
        return replace(self, reverse=True)


class Rows:
    """Conditions are functions of a row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def where(self, condition: Callable[[Row], bool]) -> "Rows":
        return Rows([row for row in self._rows if condition(row)])

    def order_by(self, by: By) -> "Rows":
        return Rows(sorted(self._rows, key=by.key, reverse=by.reverse))

    def limit(self, count: int) -> "Rows":
        return Rows(self._rows[:count])

    def offset(self, count: int) -> "Rows":
        return Rows(self._rows[count:])

    def dicts(self) -> "Rows":
        return self

    def count(self) -> int:
        return len(self._rows)

    def iterator(self) -> Iterator[Row]:
        return iter(self._rows)

    __iter__ = iterator
