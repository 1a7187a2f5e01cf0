"""What a question needs of a store of flows, so that little more than the answer leaves it; pure."""

from dataclasses import dataclass

from collector.filters.conditions import Node
from collector.store.models import Range


@dataclass(frozen=True)
class Wanted:
    """Flows that fit `root` and overlap `range`; `columns` are FLOW's.

    With an `order`, names of columns with whether from the highest down, and a `limit` only the first ones matter.
    With a `group` its sums do. Names may be of what conditions.COMPUTED has, and of showing.SUMS in a group's order.
    Without `together` flows may come in several parts.
    """

    root: Node
    range: Range
    columns: tuple[str, ...]
    order: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    group: tuple[str, ...] = ()
    together: bool = True


@dataclass(frozen=True)
class Held:
    """Addresses as halves, and the times (ms) at which they become or cease to be somebody's.

    Of a group's `coarse` columns, which are addresses and `first`, only what is held when matters: other addresses may
    be 0, and a time another one between the same two of these.
    """

    addresses: tuple[tuple[int, int], ...]
    changes: tuple[int, ...]
    coarse: tuple[str, ...]
