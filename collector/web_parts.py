"""What several of the pages share: columns as people read them, and the links that narrow a search down."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from appliance.config import Config
from appliance.sites.models import Site
from appliance.units import format_bytes
from collector.certifying import percent
from collector.showing import DURATION, FIELDS, OCTETS, SUMS, TIME, Field
from collector.store.models import Certificate

Row = Mapping[str, Any]


# What a value says in the filter language; the others are only shown.
NARROW: Mapping[str, str] = {
    "exporter": "exporter {}",
    "protocol": "proto {}",
    "src": "src host {}",
    "src_port": "src port {}",
    "dst": "dst host {}",
    "dst_port": "dst port {}",
    "tos": "tos {}",
    "in_if": "in if {}",
    "out_if": "out if {}",
    "src_as": "src as {}",
    "dst_as": "dst as {}",
    "nat_src": "nat src host {}",
    "nat_src_port": "nat src port {}",
    "nat_dst": "nat dst host {}",
    "nat_dst_port": "nat dst port {}",
    "src_mac": "src mac {}",
    "dst_mac": "dst mac {}",
    "vlan": "vlan {}",
    "hop": "next host {}",
    "account": "account {}",
    "client": "host {}",
    "destination": "host {}",
}


def column(name: str) -> Field:
    return SUMS.get(name) or FIELDS[name]


def is_number(name: str) -> bool:
    return column(name).kind in (OCTETS, DURATION) or name in ("packets", "flows")


def text(name: str, value: Any) -> str:
    """A cell for people."""
    if value is None or value == "":
        return "–"
    kind = column(name).kind
    if kind == TIME:
        return str(value)[:23].replace("T", " ")
    if not isinstance(value, int):
        return str(value)
    if kind == DURATION:
        return short_duration(value)
    return octets(value) if kind == OCTETS else f"{value:,}" if is_number(name) else str(value)


def at(ms: int, zone: tzinfo) -> str:
    """The site's wall clock."""
    return f"{datetime.fromtimestamp(ms / 1000, zone):%Y-%m-%d %H:%M:%S}"


def octets(number: float) -> str:
    """`1.5 GB`."""
    text = format_bytes(round(number))
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def short_duration(ms: int) -> str:
    return f"{ms / 1000:.1f} s" if ms < 60_000 else f"{ms // 60_000}:{ms // 1000 % 60:02} min"


def narrowed(filter_text: str, name: str, value: Any) -> str:
    """The filter with one condition more; what has an `or` in it is put into brackets first."""
    how, word = NARROW.get(name, ""), _word(value)
    if not how or not word:
        return ""
    term = how.format(word)
    if not filter_text or term in filter_text:
        return filter_text or term
    kept = f"({filter_text})" if re.search(r"\bor\b|\|\|", filter_text, re.IGNORECASE) else filter_text
    return f"{kept} and {term}"


def _word(value: Any) -> str:
    """As the filter language takes it; "" for what can't be said in it."""
    text = "" if value is None else str(value)
    if re.fullmatch(r"[\w.:/@*+%-]+", text):
        return text
    quote = next((mark for mark in "\"'" if mark not in text), "")
    return f"{quote}{text}{quote}" if text and quote else ""


def bits(each_s: float) -> str:
    """`1.5 Mbit/s`."""
    for factor, unit in ((10**9, "Gbit/s"), (10**6, "Mbit/s"), (10**3, "kbit/s")):
        if each_s >= factor:
            return f"{each_s / factor:.1f} {unit}"
    return f"{each_s:.0f} bit/s"


@dataclass(frozen=True)
class ShownCertificate:
    """A certificate with routers' names in place of numbers; `percent` is never rounded up."""

    present: int
    lost: int
    percent: str
    losses: Sequence[Row]
    complete_until_ms: int
    notes: Sequence[str]


def shown_certificate(of: Certificate, routers: Mapping[int, str]) -> ShownCertificate:
    losses = [{**loss._asdict(), "exporter": routers.get(loss.exporter, "all")} for loss in of.losses]
    return ShownCertificate(of.present, of.lost, percent(of), losses, of.complete_until_ms, of.notes)


def sites(config: Config) -> list[str]:
    """The other ones whose flows may be asked for here; none where each keeps its own."""
    if config.netflow.cluster is None or not config.fleet:
        return []
    return [str(row.key) for row in Site.select(Site.key).where(Site.key != config.site.key).order_by(Site.key)]
