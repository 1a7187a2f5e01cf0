"""Configuration and sessions -> text for `nft -f -`; pure.

One table, no rule per guest: sets and maps whose elements time out in the kernel by themselves. No packet
passes because its flow is established: each one is looked up, so that a lost element cuts running flows too.

The map `up` doesn't time out: its elements count what each guest sent (IP octets, before any queue drops it),
until the last read of an ended session; what may pass is decided by `auth` before.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from appliance.config import Config
from portal.models import Session

TABLE = "inet gatehouse"
OWN_FLOW = 1  # conntrack mark of a guest's flows to the gateway itself, which survive login and logout
DNS_QUERIES = "5/second burst 50 packets"  # per guest that isn't online: a page opens, a tunnel crawls
DNS_BYTES = 160  # UDP length of a query with a name of about 120 letters; tunnels need longer ones
PORTAL_CONNECTIONS = 40  # per guest; nginx counts a connection only once it has read a whole request
_DAY_S = 86_400
GARDEN_S = _DAY_S  # an address that nobody has asked for so long

_SETS = {
    "auth": ("set", "type ether_addr . ipv4_addr; size 65535; flags timeout;"),
    "up": ("map", "type ipv4_addr : classid; size 65535; counter;"),
    "down": ("map", "type ipv4_addr : classid; size 65535; flags timeout;"),
    "out": ("map", "type ipv4_addr : ipv4_addr; size 65535; flags timeout;"),
    "in": ("map", "type ipv4_addr : ipv4_addr; size 65535; flags timeout;"),
    "asked": ("set", "type ipv4_addr; size 65535; flags dynamic,timeout; timeout 1m;"),
    "garden": ("set", f"type ipv4_addr; size 65535; flags dynamic,timeout; timeout {GARDEN_S}s;"),
    "callers": ("set", "type ipv4_addr; size 65535; flags dynamic;"),
}
_TIMED = ("auth", "down", "out", "in")
_STALE = (*_TIMED, "garden")  # dnsmasq fills it anew: what is no longer in the walled garden has to go
_CHAINS = {
    "early": "type filter hook prerouting priority raw; policy accept;",
    "prerouting": "type nat hook prerouting priority dstnat; policy accept;",
    "input": "type filter hook input priority filter; policy accept;",
    "portal": "",
    "dns": "",
    "forward": "type filter hook forward priority filter; policy drop;",
    "postrouting": "type nat hook postrouting priority srcnat; policy accept;",
    "output": "type filter hook output priority filter; policy accept;",
}

Online = tuple[Session, float | None]
"""A session and the seconds it has left, None for no limit."""

Counted = tuple[IPv4Address, int]
"""An element of `up`: a guest's address and the minor of its class."""


def render(config: Config, online: Iterable[Online], stale: Iterable[Counted] = ()) -> str:
    """One transaction that leaves exactly this, from whatever an earlier run of the same version left.

    `stale` are elements of `up` that have to go; the others go on counting.
    The base chains stay: deleting and adding the table in one transaction drops a packet now and then, as a new
    chain's hook is there before its rules are (seen on Linux 6.18, in 42 of 100 transactions under load).
    """
    return _declarations() + "".join(map(_stop_counting, stale)) + _rules(config) + "".join(_fill(online))


def render_anew(config: Config, online: Iterable[Online]) -> str:
    """For a table that another version declared in another way; counters start again."""
    return f"add table {TABLE}\ndelete table {TABLE}\n{render(config, online)}"


def add(session: Session, remaining_s: float | None) -> str:
    return "".join(_fill([(session, remaining_s)]))


def remove(session: Session) -> str:
    """Nothing passes any more, but the counter stays.

    Deleting an element that has timed out would fail the transaction, so that it is added first.
    """
    return _elements("add", session) + _elements("delete", session)


def forget(session: Session) -> str:
    """The counter too."""
    element = _counted(session.ip, session.minor)
    return f"add element {TABLE} up {{ {element} }}\ndelete element {TABLE} up {{ {element} }}\n"


def retime(session: Session, remaining_s: float | None) -> str:
    """Before Linux 6.12 an element's timeout can't be changed: out and in again, in one transaction."""
    return remove(session) + add(session, remaining_s)


def _fill(online: Iterable[Online]) -> Iterator[str]:
    members: dict[str, list[str]] = {}
    for session, remaining_s in online:
        members.setdefault("up", []).append(_counted(session.ip, session.minor))
        for name, key, data in _timed(session):
            members.setdefault(name, []).append(f"{key}{_timeout(remaining_s)}{data}")
    for name, elements in members.items():
        yield f"add element {TABLE} {name} {{ {', '.join(elements)} }}\n"


def _elements(verb: str, session: Session) -> str:
    return "".join(f"{verb} element {TABLE} {name} {{ {key}{data} }}\n" for name, key, data in _timed(session))


def _timed(session: Session) -> Iterator[tuple[str, str, str]]:
    """Set or map, key, and ` : data` of a map."""
    yield "auth", f"{session.mac} . {session.ip}", ""
    yield "down", f"{session.ip}", f" : 1:{session.minor:x}"
    if session.address:
        yield "out", f"{session.ip}", f" : {session.address}"
        yield "in", f"{session.address}", f" : {session.ip}"


def _counted(ip: IPv4Address, minor: int) -> str:
    return f"{ip} : 1:{minor:x}"


def _stop_counting(counted: Counted) -> str:
    return f"delete element {TABLE} up {{ {_counted(*counted)} }}\n"


def _timeout(remaining_s: float | None) -> str:
    """nft 1.0.6 refuses many seconds where it takes the same time in days; 0 would mean for ever."""
    if remaining_s is None:
        return ""
    seconds, millis = divmod(max(1, round(remaining_s * 1000)), 1000)
    days, seconds = divmod(seconds, _DAY_S)
    return f" timeout {days}d{seconds}s{millis}ms"


def _declarations() -> str:
    sets = "".join(f"\t{kind} {name} {{ {text} }}\n" for name, (kind, text) in _SETS.items())
    chains = "".join(f"\tchain {name} {{ {hook} }}\n" for name, hook in _CHAINS.items())
    flushes = "".join(f"flush {_SETS[name][0]} {TABLE} {name}\n" for name in _STALE)
    return f"table {TABLE} {{\n{sets}{chains}}}\nflush table {TABLE}\n{flushes}"


def _rules(config: Config) -> str:
    lan, wan = f'"{config.gateway.lan}"', f'"{config.gateway.wan}"'
    gateway, network = config.gateway.address.ip, config.gateway.address.network
    http, https = config.portal.http_port, config.portal.https_port
    past_portal = _garden(config, "ip daddr {} tcp dport {{ 80, 443 }} accept")
    to_garden = _garden(config, f"iifname {lan} oifname {wan} ip daddr {{}} tcp dport {{{{ 80, 443 }}}} KEEP accept")
    from_garden = _garden(
        config, f"iifname {wan} oifname {lan} ip saddr {{}} tcp sport {{{{ 80, 443 }}}} ct state established accept"
    )
    return f"""table {TABLE} {{
	chain early {{
		iifname != {lan} accept
		meta nfproto ipv6 drop
		ip saddr 0.0.0.0 udp dport 67 accept
		ip saddr != {network} drop
		ip saddr {gateway} drop
	}}
	chain prerouting {{
		iifname {wan} dnat ip to ip daddr map @in
		iifname != {lan} accept
		ip daddr {gateway} ct mark set {OWN_FLOW}
		ip daddr {gateway} tcp dport 80 dnat ip to {gateway}:{http}
		ip daddr {gateway} tcp dport 443 dnat ip to {gateway}:{https}
		ip daddr {gateway} accept
		ether saddr . ip saddr @auth accept
{past_portal}		tcp dport 80 dnat ip to {gateway}:{http}
		meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {gateway}:53
	}}
	chain input {{
{_foreign(config)}		iifname != {{ {lan}, "lo" }} ip daddr {gateway} drop
		iifname != {lan} accept
		udp dport 67 accept
		ip daddr != {gateway} drop
		icmp type {{ echo-request, echo-reply }} accept
		meta l4proto {{ tcp, udp }} th dport 53 goto dns
		tcp dport {{ {http}, {https} }} goto portal
		drop
	}}
	chain portal {{
		ct state new add @callers {{ ip saddr ct count over {PORTAL_CONNECTIONS} }} reject with tcp reset
		accept
	}}
	chain dns {{
		ether saddr . ip saddr @auth accept
		udp length > {DNS_BYTES} drop
		update @asked {{ ip saddr limit rate over {DNS_QUERIES} }} drop
		accept
	}}
	chain forward {{
		tcp flags syn / syn,rst tcp option maxseg size set rt mtu
		iifname {lan} oifname {wan} ether saddr . ip saddr @auth meta priority set ip saddr map @up accept
		iifname {wan} oifname {lan} ct state established,related meta priority set ip daddr map @down accept
		iifname {wan} oifname {lan} ct status dnat meta priority set ip daddr map @down accept
{to_garden}{from_garden}		iifname {lan} meta l4proto tcp reject with tcp reset
		iifname {lan} reject with icmpx admin-prohibited
	}}
	chain postrouting {{
		oifname {wan} ip saddr {network} snat ip to ip saddr map @out
		oifname {wan} ip saddr {network} masquerade
	}}
	chain output {{
		oifname {wan} meta priority set 1:0
		oifname {lan} meta nfproto ipv6 drop
	}}
}}
"""  # noqa: S608 ("update" is nftables)


def _garden(config: Config, rule: str) -> str:
    """`rule` for those whom guests reach before the login; with KEEP an address that is in use stays in the set."""
    places = [("@garden", "update @garden { ip daddr }")] if config.portal.garden_hosts else []
    if networks := config.portal.garden_networks:
        places.append((f"{{ {', '.join(map(str, networks))} }}", ""))
    return "".join(f"\t\t{rule.format(place).replace('KEEP', keep)}\n" for place, keep in places)


def _foreign(config: Config) -> str:
    """Addresses for guests are `local` to the kernel so that it answers ARP; nothing here listens on them."""
    networks = ", ".join(str(network) for network in config.gateway.addresses)
    return f"\t\tip daddr {{ {networks} }} drop\n" if networks else ""
