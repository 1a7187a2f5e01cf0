"""Instants in these tests are written as local time with an offset, so that they are independent."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appliance.errors import UserError
from rlm_python import time_windows
from rlm_python.time_windows import Window, closes_at, describe, is_open, opens_at, parse

PRAGUE = ZoneInfo("Europe/Prague")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
ZONES = (
    PRAGUE,
    NEW_YORK,
    LORD_HOWE,
    ZoneInfo("UTC"),
    ZoneInfo("Asia/Kathmandu"),
    ZoneInfo("Pacific/Kiritimati"),
    ZoneInfo("Pacific/Pago_Pago"),
    ZoneInfo("America/Havana"),  # changes its clocks at midnight
)
WEEKDAYS = (0, 1, 2, 3, 4)
DAILY = tuple(range(7))
WORK = Window(WEEKDAYS, 480, 1200)
MINUTE_S = 60
FORTNIGHT_S = 14 * 86400


def at(text: str) -> int:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None
    return int(moment.timestamp())


def on_the_wall(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> bool:
    """Membership by reading the clock, the way a person at the site would."""
    wall = datetime.fromtimestamp(now, zone)
    today, yesterday, minute = wall.weekday(), (wall.weekday() - 1) % 7, wall.hour * 60 + wall.minute
    for window in windows:
        overnight = window.end <= window.start
        if today in window.days and window.start <= minute and (overnight or minute < window.end):
            return True
        if yesterday in window.days and overnight and minute < window.end:
            return True
    return False


def clock_changes_near(zone: ZoneInfo, day: date) -> bool:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone)
    return len({(noon + timedelta(days=days)).utcoffset() for days in (-3, -2, -1, 0, 1, 2, 3)}) > 1


week_days = st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days)))
some_windows = st.lists(
    st.builds(Window, week_days, st.integers(0, 1439), st.integers(1, 1440)), min_size=1, max_size=4
).map(tuple)
some_days = st.dates(date(2005, 1, 1), date(2035, 12, 31))
change_days = st.sampled_from(
    [date(2024, month, day) for month, day in ((3, 10), (3, 31), (4, 7), (10, 6), (10, 27), (11, 3))]
)


# --- text


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("", ()),
        (" \t", ()),
        ("Mo-Fr 08:00-20:00", (WORK,)),
        ("daily 08:00-20:00", (Window(DAILY, 480, 1200),)),
        ("Daily 0:00-24:00", (Window(DAILY, 0, 1440),)),
        ("Mo+We+Fr 08:00-12:30", (Window((0, 2, 4), 480, 750),)),
        ("Fr-Mo 08:00-20:00", (Window((0, 4, 5, 6), 480, 1200),)),
        ("Mo-Tu+Sa 08:00-20:00", (Window((0, 1, 5), 480, 1200),)),
        ("Mo-Mo 08:00-20:00", (Window((0,), 480, 1200),)),
        ("Mo-Su 08:00-08:00", (Window(DAILY, 480, 480),)),
        ("Sa 10:00-02:00", (Window((5,), 600, 120),)),
        ("Sa 10:00-00:00", (Window((5,), 600, 1440),)),
        ("monday - FRI\t08:00 – 20:00 ,\n su 1:05-2:00", (WORK, Window((6,), 65, 120))),
        ("thu+Thursday+th 08:00-09:00", (Window((3,), 480, 540),)),
        ("Sa 08:00-09:00, Mo 08:00-09:00", (Window((0, 5), 480, 540),)),
    ],
)
def test_parse(text: str, windows: tuple[Window, ...]) -> None:
    assert parse(text) == windows


@pytest.mark.parametrize(
    "piece",
    [
        "Mo",
        "08:00-20:00",
        "Mo 08:00",
        "Mo 8-20",
        "Mo 24:00-02:00",
        "Mo 08:00-24:01",
        "Mo 08:60-09:00",
        "Mo 25:00-26:00",
        "Mx 08:00-20:00",
        "Mond 08:00-20:00",
        "Mo-Tu-We 08:00-20:00",
        "Mo- 08:00-20:00",
        "Mo+ 08:00-20:00",
        "daily+Mo 08:00-20:00",
        "Mo 08:00-20:00 Tu 08:00-20:00",
        "Mo ٠٨:00-20:00",
        "-5 08:00-20:00",
    ],
)
def test_a_wrong_piece_is_named(piece: str) -> None:
    with pytest.raises(UserError) as error:
        parse(f"Su 10:00-11:00, {piece}")
    assert repr(piece) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_piece_is_wrong() -> None:
    with pytest.raises(UserError):
        parse("Mo 08:00-20:00,")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        ("sunday 0:00 – 24:00, MON-fri 8:00-20:00", "Mo-Fr 08:00-20:00, Su 00:00-24:00"),
        ("Fr+Sa+Su+Mo 22:00-02:00", "Fr-Mo 22:00-02:00"),
        ("Mo+We+Th+Sa 08:00-09:00", "Mo+We-Th+Sa 08:00-09:00"),
        ("Mo-Su 08:00-00:00", "daily 08:00-24:00"),
    ],
)
def test_format(text: str, canonical: str) -> None:
    assert time_windows.format(parse(text)) == canonical


@given(some_windows)
def test_parse_reads_back_what_format_writes(windows: tuple[Window, ...]) -> None:
    text = time_windows.format(windows)
    assert time_windows.format(parse(text)) == text
    assert {(day, w.start, w.end) for w in parse(text) for day in w.days} == {
        (day, w.start, w.end) for w in windows for day in w.days
    }


@given(some_windows)
def test_normalised_windows_survive_the_round_trip(windows: tuple[Window, ...]) -> None:
    normalised = parse(time_windows.format(windows))
    assert parse(time_windows.format(normalised)) == normalised


@given(st.text() | st.text(alphabet="MoTuSadaily0123456789:-–+, \n", max_size=30))
def test_no_text_raises_anything_but_user_error(text: str) -> None:
    try:
        windows = parse(text)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert parse(time_windows.format(windows)) == windows


# --- open or not, and the next edges


def test_no_windows_are_always_open() -> None:
    now = at("2024-06-05T12:00+02:00")
    assert is_open((), PRAGUE, now)
    assert closes_at((), PRAGUE, now) is None
    assert opens_at((), PRAGUE, now) is None


def test_a_working_day() -> None:
    windows = parse("Mo-Fr 08:00-20:00")
    opening, closing = at("2024-06-05T08:00+02:00"), at("2024-06-05T20:00+02:00")
    assert [is_open(windows, PRAGUE, now) for now in (opening - 1, opening, closing - 1, closing)] == [
        False,
        True,
        True,
        False,
    ]
    assert closes_at(windows, PRAGUE, opening) == closing
    assert opens_at(windows, PRAGUE, opening - 1) == opening
    assert opens_at(windows, PRAGUE, opening) == at("2024-06-06T08:00+02:00")
    assert closes_at(windows, PRAGUE, closing) == at("2024-06-06T20:00+02:00")


def test_the_week_ends_on_friday_and_begins_on_monday() -> None:
    windows = parse("Mo-Fr 08:00-20:00")
    assert opens_at(windows, PRAGUE, at("2024-06-07T20:00+02:00")) == at("2024-06-10T08:00+02:00")


def test_sunday_night_lasts_into_monday() -> None:
    windows = parse("Su 22:00-02:00")
    assert is_open(windows, PRAGUE, at("2024-06-10T01:59+02:00"))
    assert not is_open(windows, PRAGUE, at("2024-06-10T02:00+02:00"))
    assert not is_open(windows, PRAGUE, at("2024-06-09T01:00+02:00"))
    assert closes_at(windows, PRAGUE, at("2024-06-09T23:00+02:00")) == at("2024-06-10T02:00+02:00")


def test_a_night_lasts_on_when_the_utc_date_is_two_days_on() -> None:
    windows = parse("Su 22:00-21:30")
    assert is_open(windows, NEW_YORK, at("2024-06-03T21:29-04:00"))
    assert closes_at(windows, NEW_YORK, at("2024-06-03T21:29-04:00")) == at("2024-06-03T21:30-04:00")


def test_twenty_four_hours_from_eight_to_eight() -> None:
    windows = parse("Sa 08:00-08:00")
    saturday, sunday = at("2024-06-08T08:00+02:00"), at("2024-06-09T08:00+02:00")
    assert opens_at(windows, PRAGUE, saturday - 1) == saturday
    assert closes_at(windows, PRAGUE, saturday) == sunday


@pytest.mark.parametrize(
    "text",
    [
        "daily 00:00-24:00",
        "daily 08:00-08:00",
        "daily 00:00-12:00, daily 12:00-24:00",
        "daily 20:00-21:00, daily 21:00-20:00",
        "Mo-Fr 00:00-24:00, Sa 00:00-12:00, Sa 12:00-00:00, Su 00:00-00:00",
    ],
)
@pytest.mark.parametrize("zone", ZONES, ids=str)
def test_adjacent_windows_have_no_edge_between_them(text: str, zone: ZoneInfo) -> None:
    windows = parse(text)
    for month in range(1, 13):
        now = at(f"2024-{month:02}-28T11:59:59+00:00")
        assert is_open(windows, zone, now)
        assert closes_at(windows, zone, now) is None
        assert opens_at(windows, zone, now) is None


def test_two_days_that_touch_at_midnight() -> None:
    windows = parse("Sa 10:00-24:00, Su 00:00-18:00")
    assert closes_at(windows, PRAGUE, at("2024-06-08T10:00+02:00")) == at("2024-06-09T18:00+02:00")


def test_overlapping_windows_close_at_the_later_end() -> None:
    windows = parse("daily 08:00-20:00, We 10:00-12:00")
    assert closes_at(windows, PRAGUE, at("2024-06-05T11:00+02:00")) == at("2024-06-05T20:00+02:00")


# --- clock changes


SPRING = [
    # Prague skips 02:00 to 03:00 on 2024-03-31.
    (PRAGUE, "Su 01:30-02:30", "2024-03-31T01:30+01:00", "2024-03-31T03:00+02:00"),
    (PRAGUE, "Su 02:30-04:00", "2024-03-31T03:00+02:00", "2024-03-31T04:00+02:00"),
    (PRAGUE, "Su 01:00-05:00", "2024-03-31T01:00+01:00", "2024-03-31T05:00+02:00"),
    (PRAGUE, "Su 08:00-20:00", "2024-03-31T08:00+02:00", "2024-03-31T20:00+02:00"),
    (PRAGUE, "Sa 22:00-22:00", "2024-03-30T22:00+01:00", "2024-03-31T22:00+02:00"),
    # New York skips 02:00 to 03:00 on 2024-03-10.
    (NEW_YORK, "Su 01:30-02:30", "2024-03-10T01:30-05:00", "2024-03-10T03:00-04:00"),
    (NEW_YORK, "Su 02:01-04:00", "2024-03-10T03:00-04:00", "2024-03-10T04:00-04:00"),
    # Lord Howe skips 02:00 to 02:30 on 2024-10-06.
    (LORD_HOWE, "Su 01:00-02:15", "2024-10-06T01:00+10:30", "2024-10-06T02:30+11:00"),
    (LORD_HOWE, "Su 02:15-02:45", "2024-10-06T02:30+11:00", "2024-10-06T02:45+11:00"),
]

AUTUMN = [
    # Prague shows 02:00 to 03:00 twice on 2024-10-27.
    (PRAGUE, "Su 01:00-02:30", "2024-10-27T01:00+02:00", "2024-10-27T02:30+01:00"),
    (PRAGUE, "Su 02:30-04:00", "2024-10-27T02:30+02:00", "2024-10-27T04:00+01:00"),
    (PRAGUE, "Su 02:10-02:20", "2024-10-27T02:10+02:00", "2024-10-27T02:20+01:00"),
    (PRAGUE, "Su 01:00-03:00", "2024-10-27T01:00+02:00", "2024-10-27T03:00+01:00"),
    (PRAGUE, "Sa 22:00-06:00", "2024-10-26T22:00+02:00", "2024-10-27T06:00+01:00"),
    # New York shows 01:00 to 02:00 twice on 2024-11-03.
    (NEW_YORK, "Su 00:30-01:30", "2024-11-03T00:30-04:00", "2024-11-03T01:30-05:00"),
    (NEW_YORK, "Su 01:30-03:00", "2024-11-03T01:30-04:00", "2024-11-03T03:00-05:00"),
    # Lord Howe shows 01:30 to 02:00 twice on 2024-04-07.
    (LORD_HOWE, "Su 01:00-01:45", "2024-04-07T01:00+11:00", "2024-04-07T01:45+10:30"),
    (LORD_HOWE, "Su 01:45-03:00", "2024-04-07T01:45+11:00", "2024-04-07T03:00+10:30"),
]


@pytest.mark.parametrize(("zone", "text", "opening", "closing"), SPRING + AUTUMN)
def test_clock_changes(zone: ZoneInfo, text: str, opening: str, closing: str) -> None:
    windows, long_before = parse(text), at(opening) - 12 * 3600
    assert not is_open(windows, zone, long_before)
    assert opens_at(windows, zone, long_before) == at(opening)
    assert closes_at(windows, zone, at(opening)) == at(closing)


def test_a_window_that_the_clock_skips_waits_for_the_next_week() -> None:
    windows = parse("Su 02:10-02:50")
    last = at("2024-03-24T02:50+01:00")
    assert opens_at(windows, PRAGUE, last) == at("2024-04-07T02:10+02:00")


def test_a_break_that_the_clock_skips_does_not_hide_the_next_one() -> None:
    windows = (Window(DAILY[:6], 0, 1440), Window((6,), 0, 130), Window((6,), 170, 1440))
    reopened = at("2024-03-24T02:50+01:00")
    assert closes_at(windows, PRAGUE, reopened) == at("2024-04-07T02:10+02:00")


def test_midnight_itself_may_be_skipped() -> None:
    havana = ZoneInfo("America/Havana")  # 2024-03-10: 00:00 becomes 01:00
    windows = parse("Sa 20:00-24:00")
    assert closes_at(windows, havana, at("2024-03-09T21:00-05:00")) == at("2024-03-10T01:00-04:00")


# --- properties


@settings(max_examples=60, deadline=None)
@given(some_windows, st.sampled_from(ZONES), some_days)
def test_is_open_agrees_with_the_wall_clock(windows: tuple[Window, ...], zone: ZoneInfo, day: date) -> None:
    assume(not clock_changes_near(zone, day))
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    for now in range(midnight, midnight + 86400, MINUTE_S):
        assert is_open(windows, zone, now) == on_the_wall(windows, zone, now)


@settings(max_examples=60, deadline=None)
@given(some_windows, st.sampled_from(ZONES), change_days)
def test_no_clock_change_cuts_a_window_short(windows: tuple[Window, ...], zone: ZoneInfo, day: date) -> None:
    noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
    for now in range(noon - 86400, noon + 86400, MINUTE_S):
        assert is_open(windows, zone, now) or not on_the_wall(windows, zone, now)


@settings(max_examples=60, deadline=None)
@given(some_windows, st.sampled_from(ZONES), some_days | change_days, st.integers(0, 86399))
def test_edges_are_the_next_instants_of_change(
    windows: tuple[Window, ...], zone: ZoneInfo, day: date, second: int
) -> None:
    now = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + second
    first_minute = now - now % MINUTE_S + MINUTE_S
    minutes = [now, *range(first_minute, now + FORTNIGHT_S, MINUTE_S)]
    states = [(instant, is_open(windows, zone, instant)) for instant in minutes]
    changes = [(instant, opened) for (_, before), (instant, opened) in pairwise(states) if before != opened]
    closings = [instant for instant, opened in changes if not opened]
    openings = [instant for instant, opened in changes if opened]
    assert closes_at(windows, zone, now) == next(iter(closings), None)
    assert opens_at(windows, zone, now) == next(iter(openings), None)


# --- words for a guest


@pytest.mark.parametrize(
    ("text", "now", "words"),
    [
        ("", "2024-06-05T07:00+02:00", "always"),
        ("Mo-Fr 08:00-20:00", "2024-06-05T07:00+02:00", "08:00–20:00"),
        ("Mo-Fr 08:00-12:00, Mo-Fr 14:00-18:00", "2024-06-05T13:00+02:00", "08:00–12:00, 14:00–18:00"),
        ("Sa 08:00-12:00, Mo-Fr 14:00-18:00", "2024-06-05T13:00+02:00", "14:00–18:00"),
        ("Mo-Fr 08:00-20:00", "2024-06-07T21:00+02:00", "Mo–Fr 08:00–20:00"),
        ("Mo-Fr 08:00-20:00", "2024-06-08T12:00+02:00", "Mo–Fr 08:00–20:00"),
        ("daily 08:00-20:00", "2024-06-05T21:00+02:00", "daily 08:00–20:00"),
        ("We 22:00-02:00", "2024-06-05T00:30+02:00", "22:00–02:00"),
    ],
)
def test_describe(text: str, now: str, words: str) -> None:
    assert describe(parse(text), PRAGUE, at(now)) == words
