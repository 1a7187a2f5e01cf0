"""Whose an address was in a period, as the sessions of RADIUS tell; for the sums of statistics.

Reads the open core database.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from appliance.accounts.web_parts import account_url
from collector import whose
from collector.periods import Period
from collector.sums import Row

NOBODY = "not known"


@dataclass(frozen=True)
class Used:
    """`url` is empty where an address was several accounts' in turn: then nobody knows whose its sum is."""

    name: str
    url: str
    bytes: int
    flows: int
    packets: int


def by_account(clients: Sequence[Row], span: Period, site: str = "") -> list[Used]:
    """Sums of rows with the key `key`, an address; what is nobody's is put together."""
    owners = _owners([str(row["key"]) for row in clients], span, site)
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in clients:
        of = sums[owners.get(str(row["key"]), ())]
        for place, measure in enumerate(("bytes", "flows", "packets")):
            of[place] += row[measure]
    return [Used(_name(names), _url(names), *numbers) for names, numbers in sums.items()] if owners else []


def _name(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more, in turn"
    return " and ".join(names) + (", in turn" if len(names) > 1 else "") if names else NOBODY


def _url(names: Sequence[str]) -> str:
    return account_url({"name": names[0]}) if len(names) == 1 else ""


def _owners(addresses: Iterable[str], span: Period, site: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = defaultdict(set)
    for held in whose.holdings(span.since_ms, span.until_ms, set(addresses), site):
        found[str(IPv4Address(held.address) if held.family == 4 else IPv6Address(held.address))].add(held.account)
    return {address: tuple(sorted(names)) for address, names in found.items()}
