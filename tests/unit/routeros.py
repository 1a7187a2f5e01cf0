"""A small strict stand-in for RouterOS's terminal, which can't run here: enough to paste our own scripts into.

It refuses what doesn't parse, menus that it doesn't know, and properties that a menu of that version doesn't have.
The table below is from MikroTik's manual: for 7 the pages RADIUS, HotSpot - Captive portal, PPP AAA, DHCP, WireGuard,
IP Addressing, Filter, Traffic Flow and NTP of help.mikrotik.com/docs/spaces/ROS (and the argument tables that its
console reference prints); for 6.49 wiki.mikrotik.com, Manual:RADIUS_Client, IP/Hotspot/Profile,
IP/Hotspot/Walled_Garden, PPP_AAA, IP/DHCP_Server, IP/Firewall/Filter, IP/Traffic_Flow, System/Time, Scripting and
System/Scheduler.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_HIDDEN = {"dynamic"}  # what can be found by, never set


def _table(text: str) -> dict[str, set[str]]:
    rows = (line.split(":") for line in text.replace("\\\n", "").strip().splitlines())
    return {menu.strip(): set(names.split()) for menu, names in rows}


_BOTH = _table(r"""
/radius: accounting-backup accounting-port address authentication-port called-id comment disabled domain realm \
    secret service src-address timeout
/radius incoming: accept port
/ip hotspot profile: name hotspot-address dns-name html-directory login-by mac-auth-mode mac-auth-password \
    http-cookie-lifetime use-radius radius-accounting radius-interim-update nas-port-type radius-default-domain \
    radius-location-id radius-location-name radius-mac-format
/ip hotspot walled-garden ip: action comment disabled dst-address dst-address-list dst-host dst-port protocol \
    server src-address
/ppp aaa: accounting interim-update use-radius use-circuit-id-in-nas-port-id
/ip dhcp-server: name interface address-pool lease-time use-radius disabled
/ip firewall filter: action chain comment disabled dst-address dst-port in-interface protocol src-address src-port \
    place-before
/ip traffic-flow: enabled interfaces cache-entries active-flow-timeout inactive-flow-timeout
/ip traffic-flow target: disabled dst-address port src-address v9-template-refresh v9-template-timeout version
/ip address: address broadcast comment disabled interface network
/system ntp client: enabled mode
/system script: comment dont-require-permissions name owner policy source
/system scheduler: comment disabled interval name on-event policy start-date start-time
""")
_ONLY_6 = _table("/system ntp client: primary-ntp secondary-ntp server-dns-names")
_ONLY_7 = _table(r"""
/radius: protocol radsec-timeout certificate
/radius incoming: vrf
/certificate: name common-name trusted
/system ntp client: servers vrf
/system ntp client servers: address auth-key disabled iburst max-poll min-poll
/interface wireguard: comment disabled listen-port mtu name private-key
/interface wireguard peers: allowed-address comment disabled endpoint-address endpoint-port interface \
    persistent-keepalive preshared-key public-key
""")
_SINCE_7_15 = _table("/radius: require-message-auth")
_NEEDED = _table("""
/radius: address
/interface wireguard peers: interface public-key
/ip address: address interface
/ip traffic-flow target: dst-address
/system ntp client servers: address
""")
_SINGLE = {"/radius incoming", "/ppp aaa", "/ip traffic-flow", "/system ntp client"}
_CLOSE = {"[": "]", "{": "}", "(": ")"}
_WORD = re.compile(r"[^\s\"\[\]{}()$?\\;]+")


class Refused(Exception):
    """What RouterOS would say no to."""


class Text(str):
    """A string literal, decoded."""


class Group(NamedTuple):
    bracket: str
    items: list[Any]


class Code(str):
    """What :parse returns."""


def menus(version: tuple[int, int]) -> dict[str, set[str]]:
    tables = [_BOTH, _ONLY_6 if version[0] == 6 else _ONLY_7, _SINCE_7_15 if version >= (7, 15) else {}]
    return {menu: {p for table in tables for p in table.get(menu, ())} for table in tables for menu in table}


def literal(text: str, start: int) -> tuple[str, int]:
    """The string whose opening quote is at `start`, and where it ends (Manual:Scripting, Constant Escape Sequences)."""
    raw, at = bytearray(), start + 1
    single = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t", "$": "$", "?": "?", "_": " "}
    while text[at : at + 1] != '"':
        if at >= len(text) or text[at] in "$?\t\r\n":
            raise Refused(f"a string that isn't closed, or a {text[at : at + 1]!r} in it: {text}")
        if text[at] != "\\":
            raw += text[at].encode()
            at += 1
        elif re.fullmatch("[0-9A-F]{2}", text[at + 1 : at + 3]):
            raw.append(int(text[at + 1 : at + 3], 16))
            at += 3
        elif text[at + 1 : at + 2] in single:
            raw += single[text[at + 1]].encode()
            at += 2
        else:
            raise Refused(f"an escape that isn't one: {text}")
    return raw.decode(), at + 1


def parse(line: str) -> list[Any]:
    """Words, strings and groups of one line; `name=` stands before the string or group that is its value."""
    stack: list[Group] = [Group("", [])]
    at = 0
    while at < len(line):
        char = line[at]
        if char == '"':
            text, at = literal(line, at)
            stack[-1].items.append(Text(text))
        elif char in _CLOSE:
            stack.append(Group(char, []))
            at += 1
        elif char in _CLOSE.values():
            group = stack.pop()
            if not stack or _CLOSE[group.bracket] != char:
                raise Refused(f"{char} without its partner: {line}")
            stack[-1].items.append(group)
            at += 1
        elif char == " ":
            at += 1
        elif match := _WORD.match(line, at):
            stack[-1].items.append(match[0])
            at = match.end()
        else:
            raise Refused(f"{char!r} can't stand here: {line}")
    if len(stack) != 1:
        raise Refused(f"{stack[-1].bracket} isn't closed: {line}")
    return stack[0].items


@dataclass
class Router:
    """`objects` by menu, in order; `said` is what :put printed."""

    version: tuple[int, int]
    objects: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def paste(self, script: str) -> None:
        for line in script.splitlines():
            if line and not line.startswith("#"):
                self.run(parse(line))

    def run(self, items: list[Any]) -> Any:
        first = items[0]
        if isinstance(first, Group) and first.bracket == "[" and len(items) == 1:
            value = self.run(first.items)
            return self.run(parse(value)) if isinstance(value, Code) else value
        if isinstance(first, Text | Group):
            raise Refused(f"no command: {items}")
        if first.startswith("/"):
            return self._command(items)
        control = {":if": self._if, ":do": self._do, ":put": self._put, ":len": self._len, ":pick": self._pick}
        if first == ":parse" and isinstance(items[1], Text):
            return Code(items[1])
        if first not in control:
            raise Refused(f"no command: {items}")
        return control[first](items[1:])

    def _if(self, items: list[Any]) -> None:
        condition, do, body = items
        assert (condition.bracket, do, body.bracket) == ("(", "do=", "{")
        if self._true(condition.items):
            self.run(body.items)

    def _true(self, items: list[Any]) -> bool:
        if "and" in items:
            left, word, right = items
            assert word == "and"
            return self._true(left.items) and self._true(right.items)
        group, operator, number = items
        assert group.bracket == "["
        assert operator in "=>"
        value = int(self.run(group.items))
        return value == int(number) if operator == "=" else value > int(number)

    def _do(self, items: list[Any]) -> None:
        body, word, other = items
        assert (body.bracket, word, other.bracket) == ("{", "on-error=", "{")
        try:
            self.run(body.items)
        except Refused:
            self.run(other.items)

    def _put(self, items: list[Any]) -> None:
        (text,) = items
        assert isinstance(text, Text)
        self.said.append(text)

    def _len(self, items: list[Any]) -> int:
        return len(self.run([items[0]]))

    def _pick(self, items: list[Any]) -> Any:
        return self.run([items[0]])[int(items[1])]

    def _command(self, items: list[Any]) -> Any:
        words: list[str] = []
        rest = list(items)
        while rest and not isinstance(rest[0], Text | Group) and rest[0] not in ("add", "set", "find", "remove"):
            words.append(rest.pop(0))
        menu = " ".join(words)
        if not rest or menu not in menus(self.version):
            raise Refused(f"there is no {menu} in RouterOS {self.version}")
        verb = rest.pop(0)
        found = [self.objects.setdefault(menu, [{}] if menu in _SINGLE else [])]
        if rest and isinstance(rest[0], Group):
            found = [self._find(menu, rest.pop(0).items)]
        values = dict(self._properties(menu, rest, verb))
        if verb == "find":
            return [one for one in found[0] if values.items() <= {"dynamic": "no", **one}.items()]
        if verb == "add":
            return self._add(menu, values)
        if menu not in _SINGLE and found[0] is self.objects[menu]:
            raise Refused(f"{verb} without saying which: {menu}")
        if verb == "remove":
            self.objects[menu] = [one for one in self.objects[menu] if all(one is not gone for gone in found[0])]
        for one in found[0]:
            one.update(values)
        return None

    def _find(self, menu: str, items: list[Any]) -> list[dict[str, str]]:
        assert items[0] == "find"
        found: list[dict[str, str]] = self._command([*menu.split(), *items])
        return found

    def _add(self, menu: str, values: dict[str, Any]) -> None:
        if menu in _SINGLE or not _NEEDED.get(menu, set()) <= set(values):
            raise Refused(f"add lacks {_NEEDED.get(menu)}: {menu} {values}")
        before = values.pop("place-before", None)
        place = len(self.objects[menu])
        if before is not None:
            place = next(n for n, one in enumerate(self.objects[menu]) if one is before)
        self.objects[menu].insert(place, values)

    def _properties(self, menu: str, items: list[Any], verb: str) -> Iterator[tuple[str, Any]]:
        rest = list(items)
        while rest:
            word = rest.pop(0)
            if isinstance(word, Text | Group) or not re.match("[a-z0-9-]+=", word):
                raise Refused(f"no property: {word} of {menu}")
            name, _, value = word.partition("=")
            if name not in menus(self.version)[menu] | (_HIDDEN if verb == "find" else set()):
                raise Refused(f"{menu} has no {name} in RouterOS {self.version}")
            if not value:
                taken = rest.pop(0)
                value = self.run([taken]) if isinstance(taken, Group) else str(taken)
            yield name, value
