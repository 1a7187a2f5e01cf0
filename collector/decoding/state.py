"""What a decoder knows of exporters from earlier datagrams. Plain data, bounded in each direction, kept as bytes."""

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, TypeVar

from collector.decoding.sequences import Counting, Sequence

EXPORTERS = 1024
STREAMS = 32  # of an exporter
TEMPLATES = 256  # of a stream
TEMPLATE_OCTETS = 32_768  # of a stream: eight for each field
ALL_TEMPLATE_OCTETS = 32 * 2**20
SAMPLERS = 256  # of a stream
INTERFACES = 1024  # names of them, of an exporter
PARKED_BYTES = 4 * 2**20
PARKED_BYTES_EACH = 2**20  # of a stream
PARKED_MS = 3_600_000

_FORMAT = 1

_T = TypeVar("_T")


# Facts of the datagram that a set came in, named by the first of `records.SET`: received, exported, reference, shift,
# uptime, marks. A plain tuple, as one is made for each datagram.
Context = tuple[int, int, int, int, int, int]


@dataclass(slots=True)
class Template:
    spec: bytes
    options: bool
    heard_ms: int
    changes: int = 0  # so often it was replaced by a different one under its number


class Parked(NamedTuple):
    """A set whose template hasn't come."""

    template: int
    context: Context
    body: bytes

    @property
    def received_ms(self) -> int:
        return self.context[0]


@dataclass(slots=True)
class Stream:
    """One observation domain (source id, engine) of an exporter in one version."""

    version: int
    domain: int
    heard_ms: int = 0
    templates: dict[int, Template] = field(default_factory=dict)
    stale: dict[int, Template] = field(default_factory=dict)  # of before a restart
    parked: list[Parked] = field(default_factory=list)
    parked_bytes: int = 0
    sequence: Sequence = field(default_factory=Sequence)
    counting: Counting = field(default_factory=Counting)
    boot_ms: int = 0  # smoothed in v9; in IPFIX as options tell; 0: unknown
    uptime_ms: int = -1
    restarts: int = 0
    jumps: int = 0  # so often the clock was set
    sampling: int = 0
    samplers: dict[int, int] = field(default_factory=dict)

    def rate(self) -> int:
        """One packet in so many, for records that don't tell: the exporter's options', or those of its only sampler."""
        if self.sampling or len(self.samplers) != 1:
            return self.sampling
        return next(iter(self.samplers.values()))

    def template_octets(self) -> int:
        return sum(len(template.spec) for template in (*self.templates.values(), *self.stale.values()))


@dataclass(slots=True)
class Exporter:
    heard_ms: int = 0
    streams: dict[tuple[int, int], Stream] = field(default_factory=dict)
    interfaces: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    exporters: dict[int, Exporter] = field(default_factory=dict)

    def dump(self) -> bytes:
        exporters = {
            str(number): {
                "heard_ms": exporter.heard_ms,
                "interfaces": exporter.interfaces,
                "streams": [asdict(stream) for stream in exporter.streams.values()],
            }
            for number, exporter in self.exporters.items()
        }
        text = json.dumps({"format": _FORMAT, "exporters": exporters}, default=_octets)
        return zlib.compress(text.encode(), 1)

    @staticmethod
    def load(data: bytes) -> "State":
        """Of nothing: a new one. Raises ValueError for what isn't a state."""
        state = State()
        if not data:
            return state
        try:
            value = json.loads(zlib.decompress(data))
            if value["format"] == _FORMAT:  # another one's content is not worth a translation: templates come again
                for number, exporter in value["exporters"].items():
                    state.exporters[int(number)] = _exporter(exporter)
        except (zlib.error, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a decoder's state: {error}") from error
        return state


def _octets(value: bytes) -> str:
    return base64.b85encode(value).decode()


def _exporter(value: dict[str, Any]) -> Exporter:
    streams = [_stream(stream) for stream in value["streams"]]
    return Exporter(
        value["heard_ms"],
        {(stream.version, stream.domain): stream for stream in streams},
        _by_number(value["interfaces"], str),
    )


def _stream(value: dict[str, Any]) -> Stream:
    counting = value["counting"]
    return Stream(
        **value
        | {
            "templates": _by_number(value["templates"], _template),
            "stale": _by_number(value["stale"], _template),
            "parked": [Parked(id, _context(context), base64.b85decode(body)) for id, context, body in value["parked"]],
            "sequence": Sequence(**value["sequence"]),
            "counting": Counting(**counting | {"advances": tuple(counting["advances"])}),
            "samplers": _by_number(value["samplers"], int),
        }
    )


def _context(value: list[int]) -> Context:
    received_ms, exported_ms, reference_ms, shift_ms, uptime_ms, marks = value
    return received_ms, exported_ms, reference_ms, shift_ms, uptime_ms, marks


def _template(value: dict[str, Any]) -> Template:
    return Template(**value | {"spec": base64.b85decode(value["spec"])})


def _by_number(value: dict[str, Any], of: Callable[[Any], _T]) -> dict[int, _T]:
    return {int(number): of(item) for number, item in value.items()}
