"""Typed messages between two processes of ours over a unix stream socket.

One JSON object a line, one answer a request; whatever isn't exactly one of the messages that both sides know is
refused. The file that lists them is all that a compromised sender could say.
"""

import dataclasses
import json
import socket
import typing
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from types import UnionType
from typing import Any

from appliance.errors import Unavailable, UserError

MAX_LINE_BYTES = 16_384
TIMEOUT_S = 5.0


class BadRequest(UserError):
    """What came over the socket isn't one of the verbs."""


class Verbs:
    """The requests by name, each a frozen dataclass that raises ValueError for what can't be."""

    def __init__(self, verbs: Mapping[str, type]) -> None:
        self._verbs = dict(verbs)

    def encode(self, request: Any) -> bytes:
        """What a subclass says, such as what RADIUS granted, is its parent's verb."""
        names = {cls: name for name, cls in self._verbs.items()}
        verb = next(names[cls] for cls in type(request).__mro__ if cls in names)
        return _line({"verb": verb, **_fields(request)})

    def decode(self, line: bytes) -> Any:
        """Raises BadRequest for anything that isn't exactly one of the verbs."""
        fields = _object(line)
        cls = self._verbs.get(str(fields.pop("verb", "")))
        if cls is None:
            raise BadRequest("unknown verb")
        return _build(cls, fields)


def encode_answer(answer: Any) -> bytes:
    return _line(_fields(answer))


def encode_error(text: str) -> bytes:
    return _line({"error": text})


def decode_answer(cls: type, line: bytes) -> Any:
    """Raises UserError with the other side's own words where it refused."""
    fields = _object(line)
    if "error" in fields:
        raise UserError(str(fields["error"]))
    return _build(cls, fields)


def ask(path: Path, line: bytes, timeout_s: float, whom: str) -> bytes:
    """The answer to one line, over a fresh connection, so that a restart of the other side isn't noticed.

    Raises Unavailable when there is none in time.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(line)
            with connection.makefile("rb") as answers:
                answer = answers.readline(MAX_LINE_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"{whom} doesn't answer: {error}") from None
    if not answer.endswith(b"\n"):
        raise Unavailable(f"{whom} closed the connection without an answer")
    return answer


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _fields(message: Any) -> dict[str, object]:
    return {key: _plain(value) for key, value in dataclasses.asdict(message).items() if value is not None}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, IPv4Address) else value


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise BadRequest("line too long")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRequest("not JSON") from None
    if not isinstance(fields, dict):
        raise BadRequest("not an object")
    return fields


def _build(cls: type, fields: dict[str, Any]) -> object:
    hints = typing.get_type_hints(cls)
    if unknown := set(fields) - set(hints):
        raise BadRequest(f"unknown field {sorted(unknown)[0]!r}")
    try:
        return cls(**{key: _typed(hints[key], value) for key, value in fields.items()})
    except (TypeError, ValueError) as error:
        raise BadRequest(str(error)) from None


def _typed(hint: Any, value: object) -> object:
    hint = typing.get_args(hint)[0] if isinstance(hint, UnionType) else hint
    if hint is IPv4Address and isinstance(value, str):
        return IPv4Address(value)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_typed(typing.get_args(hint)[0], item) for item in value)
    if type(value) is not hint:
        raise ValueError(f"{getattr(hint, '__name__', hint)} is needed, not {type(value).__name__}")
    return value
