"""From when until when, as people type it: `2h ago`, `yesterday`, `2027-01-31 18:00`; pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from appliance.errors import UserError
from appliance.units import parse_duration

MAX_DAYS = 3700  # of one question
_LATEST_MS = 2**37 * 1000  # in the year 6325, as of the API: far enough from what calendars can't write
USUAL_FROM, USUAL_TO = "1h ago", "now"
PRESETS = (
    ("last hour", "1h ago", "now"),
    ("last day", "1d ago", "now"),
    ("today", "today", "now"),
    ("yesterday", "yesterday", "today"),
    ("last 7 days", "7d ago", "now"),
    ("last 30 days", "30d ago", "now"),
)
_HELP = "write 2h ago, today, yesterday, 2027-01-31, or 2027-01-31 18:00 (with +01:00 or Z where it isn't the site's)"


@dataclass(frozen=True)
class Period:
    """Half-open, ms since 1970. `begin` and `end` are as they were typed."""

    since_ms: int
    until_ms: int
    begin: str = USUAL_FROM
    end: str = USUAL_TO

    @property
    def seconds(self) -> int:
        return max(1, (self.until_ms - self.since_ms) // 1000)


def period(begin: str, end: str, zone: tzinfo, now: int) -> Period:
    """Raises UserError that says which of the two is wrong. `now` is UTC seconds."""
    begin, end = begin.strip() or USUAL_FROM, end.strip() or USUAL_TO
    since, until = _named("From", begin, zone, now), _named("To", end, zone, now)
    if since >= until:
        raise UserError("From: that is not before the end of the period")
    bound("From", since, until)
    return Period(since, until, begin, end)


def bound(field: str, since_ms: int, until_ms: int) -> None:
    """A longer one has so many changes of a zone's clock that only telling them takes seconds."""
    if until_ms - since_ms > MAX_DAYS * 86_400_000:
        raise UserError(f"{field}: a period of at most {MAX_DAYS} days can be asked for")


def _named(field: str, text: str, zone: tzinfo, now: int) -> int:
    try:
        return moment(text, zone, now)
    except UserError as error:
        raise UserError(f"{field}: {error}") from None


def moment(text: str, zone: tzinfo, now: int) -> int:
    """Ms since 1970, and not before; without a zone it is the site's wall clock."""
    at = max(0, _moment(text, zone, now))
    if at > _LATEST_MS:
        raise UserError(f"{text.strip()[:60]!r} is no time that flows are of")
    return at


def _moment(text: str, zone: tzinfo, now: int) -> int:
    words = text.strip().lower()
    if words == "now":
        return now * 1000
    if words in ("today", "yesterday"):
        day = datetime.fromtimestamp(now, zone).date() - timedelta(days=words == "yesterday")
        return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
    if words.endswith("ago"):
        return (now - parse_duration(words.removesuffix("ago").replace(" ", ""))) * 1000
    return _clock(text.strip(), zone)


def _clock(text: str, zone: tzinfo) -> int:
    """datetime-local of browsers and ISO 8601 alike."""
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=zone)
        return round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise UserError(f"{text[:60]!r} is no time: {_HELP}") from None


def step_ms(of: Period, most: int = 96) -> int:
    """How long one bar of a chart is, so that there are at most `most`, and at least some, of round lengths."""
    for seconds in (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 7 * 86_400, 28 * 86_400):
        if of.seconds / seconds <= most:
            return seconds * 1000
    return 140 * 86_400_000
