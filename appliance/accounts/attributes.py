"""Free attributes of a plan, for experts: lines such as `Mikrotik-Group = "kids"`, held against the dictionary."""

import re
from dataclasses import dataclass, field
from functools import cache
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from appliance.errors import UserError

DICTIONARY = Path("/usr/share/freeradius/dictionary")
MAX_VALUE_BYTES = 247  # of a vendor's attribute (RFC 2865, 5.26)
MAX_CODE = 255  # what has a higher number never leaves the server
# What the server itself has to give, or what a reply mustn't carry.
_OURS = ("Class", "Message-Authenticator", "State", "Proxy-State", "EAP-Message", "User-Password", "User-Name")
_LINE = re.compile(r'([A-Za-z0-9_.-]+)\s*:?=\s*(?:"([^"\\]*)"|(\S.*?))\s*')
_NUMBERS = {"byte": 2**8, "short": 2**16, "integer": 2**32, "integer64": 2**64}


@dataclass
class Known:
    """One attribute of the dictionary: its type, and its values that have names."""

    kind: str
    names: set[str] = field(default_factory=set)


def parse(text: str) -> str:
    """The line as it is stored, `Name = value`; raises UserError for what FreeRADIUS couldn't send."""
    match = _LINE.fullmatch(text.strip())
    if not match:
        raise UserError(f'{text!r} is no attribute: write a line such as Mikrotik-Group = "kids"')
    name, value = match[1], match[2] if match[2] is not None else match[3]
    attribute = dictionary().get(name)
    if attribute is None:
        raise UserError(f"{name}: FreeRADIUS's dictionary has no such attribute, or it never leaves the server")
    if name in _OURS:
        raise UserError(f"{name}: the server itself gives this one")
    if not _fits(attribute, value):
        names = f" (one of {', '.join(sorted(attribute.names)[:8])})" if attribute.names else ""
        raise UserError(f"{name} = {value}: {attribute.kind} is needed{names}")
    return f"{name} = {value}"


def _fits(attribute: Known, value: str) -> bool:
    if value in attribute.names:
        return True
    if attribute.kind in _NUMBERS:
        return value.isascii() and value.isdecimal() and int(value) < _NUMBERS[attribute.kind]
    if attribute.kind == "ipaddr":
        return _is_address(value)
    if attribute.kind == "octets":
        return re.fullmatch(r"0x([0-9a-fA-F]{2})+", value) is not None and len(value) <= 2 + 2 * MAX_VALUE_BYTES
    return attribute.kind == "string" and value.isprintable() and 0 < len(value.encode()) <= MAX_VALUE_BYTES


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


@cache
def dictionary() -> dict[str, Known]:
    """Attributes by name, as dictionary(5) has them. Raises UserError where FreeRADIUS isn't installed."""
    found: dict[str, Known] = {}
    try:
        _read(DICTIONARY, found, in_vendor=False)
    except OSError as error:
        raise UserError(f"{DICTIONARY}: can't be read: {error.strerror}: install freeradius") from None
    return found


def _read(path: Path, found: dict[str, Known], in_vendor: bool) -> None:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] == "$INCLUDE":
            _read(path.parent / words[1], found, in_vendor)
        elif words[0] in ("BEGIN-VENDOR", "END-VENDOR"):
            in_vendor = words[0] == "BEGIN-VENDOR"
        elif words[0] == "ATTRIBUTE" and len(words) >= 4 and (in_vendor or _is_sent(words[2])):
            found[words[1]] = Known(words[3].partition("[")[0])
        elif words[0] == "VALUE" and words[1] in found:
            found[words[1]].names.add(words[2])


def _is_sent(number: str) -> bool:
    return number.isdecimal() and int(number) <= MAX_CODE
