"""Records of one template, many sets of them at once, as columns of numbers."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.decoding.fields import Piece

Array = NDArray[np.int64]
Numbers = NDArray[np.unsignedinteger]
Flows = NDArray[np.void]

# what is known of a set, for each of its records; one row a set
SET = ("received", "exported", "reference", "shift", "uptime", "marks", "exporter", "domain", "sampling", "records")
# `exported` by the exporter's clock; `reference`: the same moment as it is believed; `shift`: to be added to what the
# exporter's clock says; `uptime` of the exporter at export, -1 where it isn't known


class Sets:
    """Facts of sets, spread over their records; `samplers`: what each set's exporter has told of its samplers."""

    def __init__(self, rows: Array, samplers: Sequence[Mapping[int, int]] = ()) -> None:
        self._columns = dict(zip(SET, rows.T, strict=True))
        self._spread: dict[str, Array] = {}
        self._samplers = samplers
        self.swapped: set[int] = set()  # exporters that send sampling rates in the wrong byte order
        self.count = int(self._columns["records"].sum())

    def of_sets(self, name: str) -> Array:
        column: Array = self._columns[name]
        return column

    def of_records(self, name: str) -> Array:
        if name not in self._spread:
            self._spread[name] = np.repeat(self._columns[name], self._columns["records"])
        return self._spread[name]

    def sampled(self, ids: Numbers) -> Array:
        """One packet in so many by each record's sampler; 0 where it isn't known."""
        rates, start = np.zeros(len(ids), np.int64), 0
        for count, samplers in zip(self._columns["records"].tolist(), self._samplers, strict=True):
            for id in np.unique(ids[start : start + count]).tolist() if samplers else ():
                theirs = rates[start : start + count]
                theirs[ids[start : start + count] == id] = samplers.get(id, 0)
            start += count
        return rates


class Records:
    """`count` records of `size` octets, one behind the other."""

    def __init__(self, data: bytes, size: int, count: int) -> None:
        self._data, self._size, self.count = data, size, count

    def number(self, piece: Piece) -> Numbers:
        """Big-endian numbers of 1 to 8 octets."""
        if piece.length in (1, 2, 4, 8):
            return self._plain(piece.offset, piece.length)
        value = np.zeros(self.count, np.uint64)
        offset, left = piece
        for length in (4, 2, 1):
            while left >= length:
                value = value << np.uint64(8 * length) | self._plain(offset, length)
                offset, left = offset + length, left - length
        return value

    def count_of(self, piece: Piece) -> NDArray[np.uint64]:
        """The same in 64 bits, to reckon with."""
        return self.number(piece).astype(np.uint64)

    def wide(self, piece: Piece) -> tuple[Numbers, Numbers]:
        """The high and the low half of 16 octets."""
        return self._plain(piece.offset, 8), self._plain(piece.offset + 8, 8)

    def _plain(self, offset: int, length: int) -> Numbers:
        return np.ndarray((self.count,), _BIG[length], self._data, offset, (self._size,))


_BIG: Final = {length: np.dtype(f">u{length}") for length in (1, 2, 4, 8)}
