"""What others ask of the process that seals, over its socket: legal holds, to decode anew, to load history."""

from dataclasses import dataclass
from pathlib import Path

from appliance import verbs
from appliance.config import Config
from collector import places

SOCKET = f"{places.RUN}/flows.sock"
MAX_REASON = 1000
TIMEOUT_S = 30.0  # it may be at work on a segment


@dataclass(frozen=True)
class Held:
    """Nothing of that time goes until it is released."""

    since_ms: int
    until_ms: int
    reason: str
    who: str

    def __post_init__(self) -> None:
        if self.since_ms >= self.until_ms:
            raise ValueError("the end lies before the beginning")
        if not self.reason.strip() or len(self.reason) > MAX_REASON:
            raise ValueError(f"a reason is needed, of at most {MAX_REASON} characters")
        if not self.who:
            raise ValueError("who holds it?")


@dataclass(frozen=True)
class Released:
    id: int
    who: str


@dataclass(frozen=True)
class Anew:
    """The datagrams of that time are to be decoded again."""

    since_ms: int
    until_ms: int
    who: str


@dataclass(frozen=True)
class Load:
    """What was kept of that time before there was a cluster is to be loaded into it."""

    since_ms: int
    until_ms: int
    who: str


@dataclass(frozen=True)
class Done:
    """`number` is the hold's, that of the rows that will be read, or of the flows that will be loaded."""

    number: int


VERBS = verbs.Verbs({"hold": Held, "release": Released, "redecode": Anew, "load": Load})


def add(config: Config, since_ms: int, until_ms: int, reason: str, who: str) -> int:
    """Its number. Raises UserError where it can't be."""
    return _ask(config, Held(since_ms, until_ms, reason, who))


def release(config: Config, id: int, who: str) -> int:
    return _ask(config, Released(id, who))


def redecode(config: Config, since_ms: int, until_ms: int, who: str) -> int:
    """How many of the journal's rows are of that time; they are decoded afterwards."""
    return _ask(config, Anew(since_ms, until_ms, who))


def load(config: Config, since_ms: int, until_ms: int, who: str) -> int:
    """How many flows of that time will be loaded into the cluster, by and by."""
    return _ask(config, Load(since_ms, until_ms, who))


def _ask(config: Config, request: Held | Released | Anew | Load) -> int:
    path: Path = config.paths.run / SOCKET
    answer = verbs.ask(path, VERBS.encode(request), TIMEOUT_S, "the process that keeps flows")
    done: Done = verbs.decode_answer(Done, answer)
    return done.number
