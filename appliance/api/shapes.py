"""What values look like in JSON and in URLs: a shape reads one strictly, and says itself as JSON Schema (2020-12)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from appliance.errors import UserError

MAX_TIME = 2**37  # in the year 6325: far enough from what calendars can't write
MAX_NUMBER = 2**53 - 1  # what every JSON parser keeps exactly (RFC 8259, 6)


class Shape(Protocol):
    """`read` gives the value or raises UserError that begins with `where`; `parse` is for what a URL says."""

    def read(self, value: object, where: str) -> Any: ...

    def parse(self, text: str, where: str) -> Any: ...

    def schema(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Text:
    """Printable, on one line unless `lines`; `choices` are all there are."""

    max: int = 255
    min: int = 1
    choices: tuple[str, ...] = ()
    lines: bool = False

    def read(self, value: object, where: str) -> str:
        if not isinstance(value, str):
            raise UserError(f"{where}: a string is needed, not {_kind(value)}")
        if self.choices and value not in self.choices:
            raise UserError(f"{where}: {value!r} is none of {', '.join(self.choices)}")
        if not self.min <= len(value) <= self.max:
            raise UserError(f"{where}: {self.min} to {self.max} characters are needed, it has {len(value)}")
        if not (value.replace("\n", "") if self.lines else value).isprintable():
            raise UserError(f"{where}: it has characters that can't be printed")
        return value

    def parse(self, text: str, where: str) -> str:
        return self.read(text, where)

    def schema(self) -> dict[str, Any]:
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        return {"type": "string", "minLength": self.min, "maxLength": self.max}


@dataclass(frozen=True)
class Number:
    """A whole one."""

    low: int = 0
    high: int = MAX_NUMBER

    def read(self, value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"{where}: a whole number is needed, not {_kind(value)}")
        if not self.low <= value <= self.high:
            raise UserError(f"{where}: {self.low} to {self.high} is possible")
        return value

    def parse(self, text: str, where: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise UserError(f"{where}: a whole number is needed")
        return self.read(int(text), where)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


TIME = Number(0, MAX_TIME)  # UTC seconds since 1970


@dataclass(frozen=True)
class Flag:
    """`only` is for what can be done and not undone."""

    only: bool | None = None

    def read(self, value: object, where: str) -> bool:
        if not isinstance(value, bool):
            raise UserError(f"{where}: true or false is needed, not {_kind(value)}")
        if self.only not in (None, value):
            raise UserError(f"{where}: only {str(self.only).lower()} is possible")
        return value

    def parse(self, text: str, where: str) -> bool:
        if text not in ("true", "false"):
            raise UserError(f"{where}: true or false is needed")
        return self.read(text == "true", where)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"} | ({} if self.only is None else {"enum": [self.only]})


@dataclass(frozen=True)
class Day:
    """YYYY-MM-DD of the site's calendar; read as the number YYYYMMDD."""

    def read(self, value: object, where: str) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value, re.A):
            raise UserError(f"{where}: a day such as 2027-01-31 is needed")
        return int(value.replace("-", ""))

    def parse(self, text: str, where: str) -> int:
        return self.read(text, where)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}


def day(number: int) -> str:
    """The other way round."""
    return f"{number // 10_000:04}-{number // 100 % 100:02}-{number % 100:02}"


@dataclass(frozen=True)
class Maybe:
    """Or null."""

    of: Shape

    def read(self, value: object, where: str) -> Any:
        return None if value is None else self.of.read(value, where)

    def parse(self, text: str, where: str) -> Any:
        return self.of.parse(text, where)

    def schema(self) -> dict[str, Any]:
        inner = self.of.schema()
        if "enum" in inner:
            inner["enum"] = [*inner["enum"], None]
        return inner | {"type": [inner["type"], "null"]}


@dataclass(frozen=True)
class Many:
    """A list, in answers only."""

    of: Shape

    def read(self, value: object, where: str) -> Any:
        raise UserError(f"{where}: it can't be given")

    parse = read

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.of.schema()}


@dataclass(frozen=True)
class Part:
    """One member of an object."""

    name: str
    shape: Shape
    about: str = ""


@dataclass(frozen=True)
class Object:
    """Any of its members unless `needed` says which must be there; others are an error that names them."""

    parts: tuple[Part, ...]
    needed: tuple[str, ...] = ()

    def read(self, value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise UserError(f"{where}: an object is needed, not {_kind(value)}")
        shapes = {part.name: part.shape for part in self.parts}
        refuse_unknown(value, list(shapes), where)
        if missing := [name for name in self.needed if name not in value]:
            raise UserError(f"{where}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        prefix = "" if where == BODY else f"{where}."
        return {name: shapes[name].read(item, f"{prefix}{name}") for name, item in value.items()}

    def parse(self, text: str, where: str) -> Any:
        raise UserError(f"{where}: an object can't stand in a URL")

    def schema(self) -> dict[str, Any]:
        properties = {p.name: p.shape.schema() | ({"description": p.about} if p.about else {}) for p in self.parts}
        found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        return found | ({"required": list(self.needed)} if self.needed else {})


BODY = "body"


def refuse_unknown(given: Mapping[str, object], known: Sequence[str], where: str) -> None:
    if unknown := sorted(given.keys() - set(known)):
        names = ", ".join(repr(name[:60]) for name in unknown[:5])
        raise UserError(f"{where}: {names} can't be given; there are: {', '.join(known) or 'none'}")


def _kind(value: object) -> str:
    words = {type(None): "null", bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return words.get(type(value), "a number")
