"""Template sets of NetFlow v9 and IPFIX: read with hard limits, as they come from the network."""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from collector.decoding.fields import SCOPE, VARIABLE, Field, packed

FIELDS = 512  # of a template, at most
OCTETS = 65_507  # of a record: what a UDP datagram can carry

V9_TEMPLATES, V9_OPTIONS, IPFIX_TEMPLATES, IPFIX_OPTIONS = 0, 1, 2, 3
FIRST_DATA = 256

_INTERFACE_SCOPE, _INGRESS_INTERFACE = 2, 10  # v9's scope (RFC 3954 6.1), and the element that means the same


class Announced(NamedTuple):
    """A template as it was sent: `spec` is `fields.packed`; `options`: its records are about the exporter."""

    id: int
    spec: bytes
    options: bool


class Refusal(NamedTuple):
    reason: str


@lru_cache(maxsize=64)  # routers send the same ones again with each twentieth datagram
def announced(version: int, set_id: int, body: bytes) -> tuple[Announced | Refusal, ...]:
    """The templates of a set; those behind one that can't be read are lost, as nothing says where they start.

    Withdrawals (of no fields) yield nothing: over UDP they are to be ignored (RFC 7011 section 8.4).
    """
    return tuple(_announced(version, set_id, body))


def _announced(version: int, set_id: int, body: bytes) -> Iterator[Announced | Refusal]:
    options = set_id in (V9_OPTIONS, IPFIX_OPTIONS)
    position = 0
    while len(body) - position >= 4:
        template_id, count = struct.unpack_from(">HH", body, position)
        if template_id < FIRST_DATA:
            if any(body[position:]):  # else it's padding
                yield Refusal("template's number")
            return
        position += 4
        if count == 0 and version == 10:
            continue
        scopes = 0
        if options:
            if len(body) - position < 2:
                yield Refusal("template cut")
                return
            (second,) = struct.unpack_from(">H", body, position)
            position += 2
            scopes, count = (second, count) if version == 10 else (count // 4, (count + second) // 4)
        if not 0 < count <= FIELDS:
            yield Refusal("template's fields")
            return
        fields, position = _fields(version, body, position, count, scopes)
        if len(fields) < count:
            yield Refusal("template cut")
            return
        yield _checked(template_id, fields, options)


def _fields(version: int, body: bytes, position: int, count: int, scopes: int) -> tuple[list[Field], int]:
    fields: list[Field] = []
    while len(fields) < count and len(body) - position >= 4:
        number, length = struct.unpack_from(">HH", body, position)
        position += 4
        enterprise = 0
        if version == 10 and number & 0x8000:
            if len(body) - position < 4:
                break
            number, enterprise = number & 0x7FFF, int.from_bytes(body[position : position + 4], "big")
            position += 4
        if version == 9 and len(fields) < scopes:
            number, enterprise = (_INGRESS_INTERFACE, 0) if number == _INTERFACE_SCOPE else (number, SCOPE)
        fields.append(Field(number, length, enterprise))
    return fields, position


def _checked(template_id: int, fields: list[Field], options: bool) -> Announced | Refusal:
    octets = sum(1 if field.length == VARIABLE else field.length for field in fields)
    if not 0 < octets <= OCTETS:
        return Refusal("template's length")
    return Announced(template_id, packed(fields), options)
