"""What the API has, described as data: the routes, the checks, the record and the OpenAPI document all read this."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from appliance import modules
from appliance.admin import audit
from appliance.api.shapes import BODY, Maybe, Object, Part, Shape
from appliance.config import Config
from appliance.errors import UserError

ROOT = "/api/v1"
MAX_BODY_BYTES = 64 * 1024

Values = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """`new` and `change` say when it may be given, `needed` that a new one can't do without.

    `shown` ones stand in each answer, `once` ones only in the answer to who had them made up.
    """

    name: str
    shape: Shape
    about: str
    new: bool = False
    change: bool = False
    needed: bool = False
    shown: bool = True
    once: bool = False


@dataclass(frozen=True)
class Call:
    """What a resource's functions are given beside values: who asks, and when (UTC seconds)."""

    config: Config
    who: str
    now: int

    def record(self, action: str, subject: str, before: Mapping[str, object], after: Mapping[str, object]) -> None:
        audit.record(self.who, action, subject, before, after)


@dataclass(frozen=True)
class Resource:
    """Things of one kind below /api/v1/NAME.

    `query` selects rows by the filters that were given (without one there is no list), `order` are the whole numbers
    that they are ordered and paged by; `show` makes what answers have of some rows. `find` gives the row of a key, None
    where there is none.
    `add` returns the new key, `add` and `change` also what is shown only once, `remove` what `removed` describes.
    They run in one transaction with the record of what was changed, unless `records` says that they see to both; what
    isn't in the core database has its own, `alone`, which the record ends.
    `applies` asks root to apply it, once it is on disk, and returns the wish's id, which all three answers have.
    `sample` is what makes a new one, for people to begin with.
    """

    name: str
    one: str
    about: str
    fields: tuple[Field, ...]
    query: Callable[[Call, Values], Any] | None
    order: tuple[Any, ...]
    show: Callable[[Call, Sequence[Any]], list[Values]]
    newest_first: bool = False
    filters: tuple[Part, ...] = ()
    key: str = "name"
    find: Callable[[Call, str], Any] | None = None
    add: Callable[[Call, Values], tuple[str, Values]] | None = None
    change: Callable[[Call, Any, Values], Values] | None = None
    remove: Callable[[Call, Any], Values] | None = None
    sample: Mapping[str, object] = field(default_factory=dict)
    removed: tuple[Part, ...] = ()
    ends: str = "Remove"
    records: bool = False
    alone: Callable[[Call], AbstractContextManager[Any]] | None = None
    applies: Callable[[Call], str] | None = None
    reads: str = "reader"
    changes: str = "operator"

    def given(self, new: bool) -> Object:
        """What may be sent to make or to change one."""
        fields = [f for f in self.fields if (f.new if new else f.change)]
        needed = tuple(f.name for f in fields if f.needed and new)
        return Object(tuple(Part(f.name, f.shape, f.about) for f in fields), needed)

    def answer(self, once: bool = False) -> Object:
        shown = [f for f in self.fields if f.shown]
        extra = [Part(f.name, f.shape, f.about) for f in self.fields if f.once] if once else []
        parts = (*(Part(f.name, f.shape, f.about) for f in shown), *extra)
        return Object(parts, tuple(f.name for f in shown))

    def audited(self, shown: Values) -> Values:
        """What can be changed of it, one level deep."""
        flat: Values = {}
        for f in self.fields:
            if f.shown and (f.new or f.change) and f.name != self.key:
                value = shown[f.name]
                flat |= value if isinstance(value, dict) else {f.name: value}
        return flat


@dataclass(frozen=True)
class Report:
    """An answer that is made for a question and kept nowhere, at /api/v1/NAME.

    `parts` are what the URL may ask and `read` is given; each of the answer's `items` has all of `fields`, or null.
    `beside` them stands what is about all of it.
    """

    name: str
    one: str
    about: str
    parts: tuple[Part, ...]
    fields: tuple[Part, ...]
    read: Callable[[Call, Values], Values]
    beside: tuple[Part, ...] = ()
    reads: str = "reader"

    def item(self) -> Object:
        shapes = (Part(part.name, Maybe(part.shape), part.about) for part in self.fields)
        return Object(tuple(shapes), tuple(part.name for part in self.fields))


def resources(config: Config) -> list[Resource]:
    """Of the modules that are enabled."""
    return [resource for name in _names(config) for resource in importlib.import_module(name).RESOURCES]


def reports(config: Config) -> list[Report]:
    """A file of a room needn't have any."""
    return [one for name in _names(config) for one in getattr(importlib.import_module(name), "REPORTS", ())]


def _names(config: Config) -> list[str]:
    fleet = ["appliance.sites.api"] if config.fleet else []
    return list(dict.fromkeys([name for module in modules.enabled(config) for name in module.api] + fleet))


# Reading what was sent


def read_body(body: bytes, shape: Object) -> Values:
    """Strictly: no key twice, no NaN. Raises UserError."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise UserError(f"{BODY}: it is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{BODY}: that is no JSON: {error}") from None
    return shape.read(value, BODY)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON (RFC 8259, 6)")
