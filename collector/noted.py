"""What the decoder has noticed of an exporter over the last days, and the router doctor's judgement of it; pure.

The sealer adds each batch (`added`) and keeps the result in the catalogue, as JSON under NAME.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from appliance.doctor.findings import BAD, WARN
from appliance.units import format_duration

NAME = "noted"
WRONG_ORDER = "sampling in the wrong byte order"  # as collector/decoding/batch.py says it, which needs numpy
DAYS = 2  # today and yesterday, by UTC
HOURS = 48  # of which the clock is known
MOST_REASONS = 32
DRIFT_MS = 2_000  # a day
SKEW_MS = 5_000  # a clock may be as wrong before it is worth a word
WRONG_MS = 60_000
ENOUGH = 200  # flows, for a share to say something
WAITING_S = 120
LOST_SHARE = 0.001
MOST_RESTARTS = 3
MOST_JUMPS = 3
FLOWS_MISSING = 2.0  # times as much was counted by RADIUS
MUCH_BYTES = 100_000_000
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000

Kept = dict[str, Any]


class Seen(Protocol):
    """Of one exporter in one batch, as the decoder tells it. `skew_ms` is by how much its clock is behind.

    `jumps`, the times that its clock was set, are counted since the decoder's state began.
    """

    @property
    def flows(self) -> int: ...
    @property
    def suspect(self) -> int: ...
    @property
    def timeless(self) -> int: ...
    @property
    def sampling(self) -> int: ...
    @property
    def skew_ms(self) -> int: ...
    @property
    def versions(self) -> tuple[int, ...]: ...
    @property
    def waiting(self) -> int: ...
    @property
    def jumps(self) -> int: ...


def added(
    kept: Mapping[str, Any],
    seen: Mapping[int, Seen],
    refused: Mapping[tuple[int, str], int],
    notes: Mapping[tuple[int, str], int],
    interfaces: Mapping[int, Mapping[int, str]],
    now_ms: int,
) -> Kept:
    """By exporter's number, as text; what is older than DAYS goes. `interfaces` are names by number."""
    after: Kept = {number: dict(one) for number, one in kept.items()}
    for number, of in seen.items():
        after[str(number)] = _with(after.get(str(number), {}), of, now_ms)
    for kind, counts in (("refused", refused), ("notes", notes)):
        for (number, reason), count in counts.items():
            day = _today(after.setdefault(str(number), {}), now_ms)
            known = day.setdefault(kind, {})
            if reason in known or len(known) < MOST_REASONS:
                known[reason] = known.get(reason, 0) + count
    for number, names in interfaces.items():
        one = after.setdefault(str(number), {})
        one["interfaces"] = one.get("interfaces", {}) | {str(key): name for key, name in names.items()}
    return after


def _with(one: Kept, of: Seen, now_ms: int) -> Kept:
    day = _today(one, now_ms)
    for name in ("flows", "suspect", "timeless"):
        day[name] = day.get(name, 0) + getattr(of, name)
    day["jumps"] = day.get("jumps", 0) + max(0, of.jumps - one.get("jumps", of.jumps))
    hour = str(now_ms // _HOUR_MS)
    skews = {key: value for key, value in one.get("skews", {}).items() if int(key) > now_ms // _HOUR_MS - HOURS}
    skews[hour] = min(of.skew_ms, skews.get(hour, of.skew_ms))
    since = one.get("waiting_since_ms") or now_ms
    return one | {
        "versions": list(of.versions),
        "sampling": of.sampling,
        "skews": skews,
        "jumps": of.jumps,
        "waiting": of.waiting,
        "waiting_since_ms": since if of.waiting else 0,
    }


def _today(one: Kept, now_ms: int) -> Kept:
    """The counts of this day, in `one`."""
    today = now_ms // _DAY_MS
    days = {key: value for key, value in one.get("days", {}).items() if int(key) > today - DAYS}
    one["days"] = days | {str(today): dict(days.get(str(today), {}))}
    found: Kept = one["days"][str(today)]
    return found


# What it comes to


@dataclass(frozen=True)
class Noted:
    """Counts are of today and yesterday. `behind_ms` is its clock against ours, `drift_ms` its change in a day.

    `lost` and what is below it are told by others than the decoder. None is what isn't known.
    """

    versions: Sequence[int] = ()
    sampling: int = 0
    flows: int = 0
    suspect: int = 0
    timeless: int = 0
    jumps: int = 0
    waiting: int = 0
    waiting_since_ms: int = 0
    behind_ms: int | None = None
    drift_ms: int | None = None
    refused: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    interfaces: Mapping[str, str] = field(default_factory=dict)
    lost: int = 0
    inside: float | None = None  # share of flows whose client has a private address
    flow_bytes: int = 0
    radius_bytes: int = 0

    @property
    def speaks(self) -> str:
        return ", ".join("IPFIX" if version == 10 else f"NetFlow {version}" for version in self.versions)

    @property
    def clock(self) -> str:
        if self.behind_ms is None:
            return "not known yet"
        if abs(self.behind_ms) <= SKEW_MS:
            return "right, within seconds"
        return f"{format_duration(abs(self.behind_ms) // 1000)} {'behind' if self.behind_ms > 0 else 'ahead'}"


def read(one: Mapping[str, Any]) -> Noted:
    """Of what the catalogue has for one exporter."""
    days = list(one.get("days", {}).values())
    skews = sorted((int(hour), skew) for hour, skew in one.get("skews", {}).items())
    return Noted(
        versions=tuple(one.get("versions", ())),
        sampling=one.get("sampling", 0),
        **{name: sum(day.get(name, 0) for day in days) for name in ("flows", "suspect", "timeless", "jumps")},
        waiting=one.get("waiting", 0),
        waiting_since_ms=one.get("waiting_since_ms", 0),
        behind_ms=min(skew for _, skew in skews[-2:]) if skews else None,
        drift_ms=_drift(skews),
        refused=_together(day.get("refused", {}) for day in days),
        notes=_together(day.get("notes", {}) for day in days),
        interfaces=one.get("interfaces", {}),
    )


def _drift(skews: Sequence[tuple[int, int]]) -> int | None:
    """Of a day, from at least six hours."""
    if len(skews) < 2 or skews[-1][0] - skews[0][0] < 6:
        return None
    return (skews[-1][1] - skews[0][1]) * 24 // (skews[-1][0] - skews[0][0])


def _together(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            sums[name] = sums.get(name, 0) + count
    return sums


# The doctor


class Doubt(NamedTuple):
    """A finding before it has its subject's name."""

    state: str
    sentence: str
    remedy: str = ""
    commands: tuple[str, ...] = ()


def doubts(noted: Noted, target: str, now: int) -> Iterator[Doubt]:
    """`target` is how RouterOS finds this collector among its own; "" for what isn't RouterOS."""
    for check in (_unread, _clock, _times, _numbers, _missing):
        for doubt in check(noted, now):
            lines = tuple(line.replace("TARGET", f"[find {target}]") for line in doubt.commands) if target else ()
            yield doubt._replace(commands=lines)


UPDATE = ("/system package update check-for-updates", "/system package update install")
NTP = ("/system ntp client set enabled=yes", "/system ntp client servers add address=pool.ntp.org")


def _unread(noted: Noted, now: int) -> Iterator[Doubt]:
    if noted.waiting and now - noted.waiting_since_ms / 1000 > WAITING_S:
        sentence = "Some of its flows wait for a template that it hasn't sent."
        line = "/ip traffic-flow target set TARGET v9-template-refresh=20 v9-template-timeout=1m"
        yield Doubt(BAD, sentence, "Let it send its templates more often.", (line,))
    if total := sum(noted.refused.values()):
        why, most = max(noted.refused.items(), key=lambda item: item[1])
        sentence = f"{total:,} pieces of what it sent couldn't be read since yesterday; {most:,} of them: {why}."
        yield Doubt(WARN, sentence, "Update its firmware.", UPDATE)


def _clock(noted: Noted, now: int) -> Iterator[Doubt]:
    behind, drift = noted.behind_ms, noted.drift_ms
    if behind is not None and abs(behind) > SKEW_MS:
        state = BAD if abs(behind) > WRONG_MS else WARN
        sentence = f"Its clock is {noted.clock}: its flows have wrong times."
        yield Doubt(state, sentence, "Let it take its time by NTP.", NTP)
    if drift is not None and abs(drift) > DRIFT_MS:
        sentence = f"Its clock goes wrong by {abs(drift) / 1000:.0f} seconds a day."
        yield Doubt(WARN, sentence, "Let it take its time by NTP.", NTP)
    if noted.jumps > MOST_JUMPS:
        sentence = f"Its clock was set {noted.jumps} times since yesterday, by seconds or more."
        yield Doubt(WARN, sentence, "Let it take its time by NTP, and from one server only.", NTP)


def _times(noted: Noted, now: int) -> Iterator[Doubt]:
    if noted.timeless and noted.timeless * 2 >= noted.flows:
        sentence = "Its flows have no absolute time: they are shown as of their receipt."
        line = "/ip traffic-flow target set TARGET version=9"
        yield Doubt(WARN, sentence, "Let it send NetFlow 9, or update its firmware.", (line,))
    if (restarts := noted.notes.get("restart", 0)) > MOST_RESTARTS:
        yield Doubt(WARN, f"It was started anew {restarts} times since yesterday.", "See why.", ("/log print",))


def _numbers(noted: Noted, now: int) -> Iterator[Doubt]:
    if noted.notes.get(WRONG_ORDER):
        sentence = "It sends some numbers with their bytes the wrong way round; they are put right here."
        line = "/ip traffic-flow target set TARGET version=ipfix"
        yield Doubt(WARN, sentence, "Update its firmware, or let it send IPFIX.", (*UPDATE, line))
    if noted.suspect:
        sentence = f"{noted.suspect:,} of its flows have counters or times that can't be: they are kept, and in no sum."
        yield Doubt(WARN, sentence, "Update its firmware.", UPDATE)
    if noted.sampling > 1:
        sentence = f"It looks at one packet in {noted.sampling} only: most short flows are missing."
        line = "/ip traffic-flow set packet-sampling=no"
        yield Doubt(WARN, sentence, "Switch sampling off, if it can carry that.", (line,))


def _missing(noted: Noted, now: int) -> Iterator[Doubt]:
    if noted.inside is not None and noted.flows >= ENOUGH and noted.inside == 0:
        sentence = "None of its flows has a private address: it sees them after NAT, where all clients look alike."
        line = "/ip traffic-flow set interfaces=bridge  # the clients' interface in place of bridge"
        yield Doubt(BAD, sentence, "Let it look at the clients' side.", (line,))
    if noted.radius_bytes > max(MUCH_BYTES, FLOWS_MISSING * noted.flow_bytes):
        times = noted.radius_bytes / max(1, noted.flow_bytes)
        sentence = f"RADIUS counted {times:,.1f} times as much for its guests: FastTrack may pass its flows by."
        line = "/ip firewall filter disable [find action=fasttrack-connection]"
        yield Doubt(BAD, sentence, "Take the FastTrack rule away.", (line,))
    if noted.lost > max(100, (noted.flows + noted.lost) * LOST_SHARE):
        share = noted.lost / (noted.flows + noted.lost)
        sentence = f"{noted.lost:,} of its flows ({share:.2%}) were lost on the way since yesterday."
        yield Doubt(WARN, sentence, "Look at the line between it and here, and at what drops UDP.")
