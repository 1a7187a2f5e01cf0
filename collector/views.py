"""A search as its URL says it: filter, period, order, columns, grouping, limit, site; pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from urllib.parse import urlencode

from appliance.config_site import KEY
from appliance.errors import UserError
from collector.periods import USUAL_FROM, USUAL_TO, Period, period

USUAL_LIMIT, MOST = 100, 1000  # rows on a page; a file may have all
MAX_FILTER = 2000
USUAL = ("first", "duration", "exporter", "protocol", "src", "src_port", "dst", "dst_port", "packets", "bytes")
SUMS = ("flows", "packets", "bytes")
EXTRA = (
    "last",
    "flags",
    "tos",
    "in_if",
    "out_if",
    "nat_src",
    "nat_src_port",
    "nat_dst",
    "nat_dst_port",
    "src_mac",
    "dst_mac",
    "vlan",
    "src_as",
    "dst_as",
    "hop",
    "sampling",
    "received",
)
GROUPS = ("src", "dst", "src_port", "dst_port", "protocol", "exporter", "in_if", "out_if", "src_as", "dst_as")
LIMITS = (20, 100, 500, 1000)


@dataclass(frozen=True)
class View:
    """`limit` 0 is for files: all rows. A search that is `asked` isn't only the form. No `site` is this one."""

    filter: str = ""
    begin: str = USUAL_FROM
    end: str = USUAL_TO
    order: str = ""
    columns: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    limit: int = USUAL_LIMIT
    site: str = ""
    asked: bool = False

    @property
    def shown(self) -> tuple[str, ...]:
        """Columns of the answer, in the order of the page."""
        if self.group:
            return (*self.group, *SUMS)
        return self.columns or USUAL

    @property
    def sort(self) -> str:
        """`-` before a column's name is from the highest down."""
        if self.order.lstrip("-") in self.shown:
            return self.order
        return "-bytes" if self.group else "-first"

    def period(self, zone: tzinfo, now: int) -> Period:
        return period(self.begin, self.end, zone, now)

    def url(self, **other: object) -> str:
        """This view with something changed; what is usual isn't said."""
        view = replace(self, **other)  # type: ignore[arg-type]
        values = {
            "q": view.filter,
            "from": view.begin,
            "to": "" if view.end == USUAL_TO else view.end,
            "sort": "" if view.order == View.order else view.order,
            "columns": ",".join(view.columns),
            "group": ",".join(view.group),
            "limit": "" if view.limit == USUAL_LIMIT else str(view.limit),
            "site": view.site,
        }
        return flows_url(**values)

    def file_url(self, kind: str, **other: object) -> str:
        return f"{self.url(**other)}&format={kind}"

    def sorted_url(self, name: str) -> str:
        """Numbers and times begin with the highest; a second click turns it round."""
        return self.url(order=name if self.sort == f"-{name}" else f"-{name}")

    def aria_sort(self, name: str) -> str:
        return {name: "ascending", f"-{name}": "descending"}.get(self.sort, "none")


def read(asked: Mapping[str, Sequence[str]]) -> View:
    """Of the URL's values, each perhaps given several times (as boxes of a form) or parted by commas.

    Raises UserError for a limit that is no number, and for what can't be a site; columns that there aren't are left
    out.
    """

    def last(name: str) -> str:
        return (asked.get(name) or ("",))[-1].strip()

    def several(name: str, known: Sequence[str]) -> tuple[str, ...]:
        names = [part.strip() for value in asked.get(name, ()) for part in value.split(",")]
        return tuple(dict.fromkeys(part for part in names if part in known))

    columns = several("columns", (*USUAL, *EXTRA))
    return View(
        filter=last("q"),
        begin=last("from") or USUAL_FROM,
        end=last("to") or USUAL_TO,
        order=last("sort"),
        columns=() if columns == USUAL else columns,
        group=several("group", GROUPS)[:3],
        limit=_limit(last("limit"), last("format")),
        site=site(last("site")),
        asked=bool({"q", "from", "sort", "group"} & asked.keys()),
    )


def site(text: str) -> str:
    """A site's key, or "" for this one. Raises UserError for what can be none."""
    if text and not re.fullmatch(KEY, text):
        raise UserError(f"Site: {text[:40]!r} can't be the key of one")
    return text


def _limit(text: str, kind: str) -> int:
    if text and not (text.isascii() and text.isdecimal() and len(text) < 8):
        raise UserError("Rows: a whole number is needed")
    number = int(text or USUAL_LIMIT)
    return number if kind else min(max(1, number), MOST)


def flows_url(**asked: str) -> str:
    """A search, from elsewhere."""
    return "/flows?" + urlencode({key: value for key, value in asked.items() if value})
