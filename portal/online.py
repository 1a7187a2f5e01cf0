"""Who is online, found by whatever a question names: with 10,000 sessions a look at each of them takes longer than
all the rest of a login."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from portal.limits import Live
from portal.models import Session
from portal.radius import DynamicRequest


class Online:
    """By the address in the LAN; a device has one session, and a public address one holder."""

    def __init__(self) -> None:
        self._by_ip: dict[IPv4Address, Live] = {}
        self._by_id: dict[str, Live] = {}
        self._by_mac: dict[str, Live] = {}
        self._by_address: dict[IPv4Address, Live] = {}

    def __len__(self) -> int:
        return len(self._by_ip)

    def __iter__(self) -> Iterator[Live]:
        return iter(self._by_ip.values())

    def __getitem__(self, ip: IPv4Address) -> Live:
        return self._by_ip[ip]

    def add(self, live: Live) -> None:
        session = live.session
        self._by_ip[session.ip], self._by_id[session.id], self._by_mac[session.mac] = live, live, live
        if session.address is not None:
            self._by_address[session.address] = live

    def remove(self, session: Session) -> None:
        live = self._by_ip.pop(session.ip)
        del self._by_id[session.id]
        if self._by_mac.get(session.mac) is live:
            del self._by_mac[session.mac]
        if session.address is not None and self._by_address.get(session.address) is live:
            del self._by_address[session.address]

    def at(self, ip: IPv4Address) -> Live | None:
        return self._by_ip.get(ip)

    def of_device(self, mac: str) -> Live | None:
        return self._by_mac.get(mac)

    def holding(self, address: IPv4Address) -> Live | None:
        return self._by_address.get(address)

    def matching(self, request: DynamicRequest) -> list[Session]:
        """Those that everything the request names fits to; Framed-IP-Address may be the public address or the one in
        the LAN."""
        return [live.session for live in self._candidates(request) if matches(live.session, request)]

    def _candidates(self, request: DynamicRequest) -> list[Live]:
        if request.session_id:
            found = [self._by_id.get(request.session_id)]
        elif request.mac is not None:
            found = [self._by_mac.get(request.mac)]
        elif request.host_ip is not None:
            found = [self._by_ip.get(request.host_ip)]
        else:
            return list(self)
        return [live for live in found if live is not None]


def matches(session: Session, request: DynamicRequest) -> bool:
    return (
        request.session_id in ("", session.id)
        and request.account in ("", session.account)
        and request.mac in (None, session.mac)
        and request.host_ip in (None, session.ip)
        and request.address in (None, session.ip, session.address)
    )
