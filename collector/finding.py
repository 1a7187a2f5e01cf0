"""What the search box finds of flows: an address or a network leads to them, without looking whether there are any."""

import re
from collections.abc import Iterator
from ipaddress import ip_network

from appliance.config import Config
from appliance.service import Hit, Search
from collector.views import flows_url

SINCE = "1d ago"
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")


def hits(config: Config, text: str) -> Iterator[Hit]:
    if _MAC.fullmatch(text.lower()):
        yield _hit(
            text, f"mac {text.lower().replace('-', ':')}", "of this device, where the router tells MAC addresses"
        )
        return
    try:
        found = ip_network(text)
    except ValueError:
        return
    if "." in text or ":" in text:  # a number alone is an address too, for Python
        words = "host" if found.prefixlen == found.max_prefixlen else "net"
        yield _hit(
            text, f"{words} {found.network_address if words == 'host' else found}", "from it and to it, of the last day"
        )


def _hit(text: str, term: str, note: str) -> Hit:
    return Hit("Flows", text, flows_url(q=term, **{"from": SINCE}), note, beside=True)


SEARCH = Search(hits, (("Flows", "by an address, a network or a MAC address"),))
