"""The guest's languages: the catalogues are whole, the right one is chosen, and the rules' refusals are in them."""

import ast
import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, parse
from appliance.errors import ConfigError
from portal.languages import MAX_WANTED, NAMES, SOURCE, catalogue_file, choose, language, offered
from portal.refusals import translate
from portal.texts import duration, octets
from rlm_python import authorization
from rlm_python.authorization import Reject, authorize, devices_message
from tests.messages import marked
from tests.unit.test_authorization import FREE

RULES = Path(authorization.__file__).parent
OTHERS = [code for code in NAMES if code != SOURCE]
ALL = tuple(NAMES)
PLACEHOLDER = re.compile(r"\{[a-z]*\}")


def forms(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


@pytest.mark.parametrize("code", OTHERS)
class TestCatalogue:
    def test_it_has_what_a_guest_can_read_and_nothing_else(self, code: str) -> None:
        there = {
            (entry.msgctxt, entry.msgid, entry.msgid_plural or None) for entry in polib.pofile(catalogue_file(code))
        }
        assert there == set(marked())  # else run `make messages`

    def test_all_is_translated(self, code: str) -> None:
        catalogue = polib.pofile(catalogue_file(code))
        assert not catalogue.fuzzy_entries() and not catalogue.obsolete_entries()
        for entry in catalogue:
            assert all(forms(entry)), entry.msgid
            if not entry.msgctxt:
                assert entry.msgid not in forms(entry)

    def test_placeholders_and_ends_stay(self, code: str) -> None:
        for entry in polib.pofile(catalogue_file(code)):
            for form in forms(entry):
                assert sorted(PLACEHOLDER.findall(form)) == sorted(PLACEHOLDER.findall(entry.msgid)), entry.msgid
                if not entry.msgctxt:
                    assert form[-1:] == entry.msgid[-1:] or form[-1].isalpha() == entry.msgid[-1].isalpha(), form
                assert "<" not in form and form == form.strip()

    def test_plurals_have_all_their_forms(self, code: str) -> None:
        catalogue = polib.pofile(catalogue_file(code))
        wanted = int(catalogue.metadata["Plural-Forms"].partition("nplurals=")[2][0])
        counted = [len(entry.msgstr_plural) for entry in catalogue if entry.msgid_plural]
        assert counted and set(counted) == {wanted}


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        ("en", 1, "wait 1 second,"),
        ("en", 2, "wait 2 seconds,"),
        ("cs", 1, "1 sekundu"),
        ("cs", 3, "3 sekundy"),
        ("cs", 5, "5 sekund "),
        ("pl", 22, "22 sekundy"),
        ("pl", 12, "12 sekund "),
        ("uk", 21, "21 секунду"),
        ("uk", 11, "11 секунд "),
        ("fr", 1, "1 seconde,"),
        ("de", 2, "2 Sekunden"),
    ],
)
def test_plurals(code: str, number: int, words: str) -> None:
    one = "Too many tries. Please wait {seconds} second, then try again."
    text = language(code).ngettext(one, one.replace("second,", "seconds,"), number)
    assert words in text.format(seconds=number)


# -- which one


@pytest.mark.parametrize(
    ("asked", "accept", "chosen"),
    [
        ((), "", "en"),
        ((), "cs-CZ,cs;q=0.9,en;q=0.8", "cs"),
        ((), "en;q=0.1, uk ; q=0.9", "uk"),
        ((), "DE-at", "de"),
        ((), "de;q=0,fr;q=0.2", "fr"),
        ((), "zh,ja;q=0.9,*;q=0.5", "en"),
        ((), "de;q=high,sk;q=0.1", "sk"),
        (("pl", "de"), "cs", "pl"),
        (("xx", "de"), "cs", "de"),
        (("", ""), "es", "es"),
        ((), ",".join(["xx"] * MAX_WANTED) + ",cs", "en"),
    ],
)
def test_choice(asked: tuple[str, ...], accept: str, chosen: str) -> None:
    assert choose(asked, accept, ALL) == chosen


def test_the_operators_first_language_is_the_default() -> None:
    assert choose((), "en,zh", ("sk", "cs")) == "sk"


@given(st.text(max_size=200))
def test_any_wish_is_answered(accept: str) -> None:
    assert choose((accept,), accept, ALL) in ALL


def test_only_languages_that_are_there() -> None:
    assert [one.code for one in offered(Config())] == list(NAMES)
    with pytest.raises(ConfigError, match=r"\[portal\] languages: there is no 'xx'"):
        offered(parse('[portal]\nlanguages = ["en", "xx"]'))
    with pytest.raises(ConfigError, match=r"\[portal\] languages: name at least one"):
        parse("[portal]\nlanguages = []")


# -- numbers


@pytest.mark.parametrize(
    ("code", "seconds", "text"), [("de", 90_061, "1 T. 1 Std."), ("pl", 3_660, "1 godz. 1 min"), ("uk", 5, "5 с")]
)
def test_durations(code: str, seconds: int, text: str) -> None:
    assert duration(language(code), seconds).replace("\u00a0", " ") == text


@pytest.mark.parametrize(("code", "text"), [("cs", "1,23 MB"), ("fr", "1,23 Mo"), ("uk", "1,23 МБ"), ("en", "1.23 MB")])
def test_octets(code: str, text: str) -> None:
    assert octets(language(code), 1_230_000).replace("\u00a0", " ") == text


# -- what the rules say

ZONE = ZoneInfo("Europe/Prague")
NOW = int(datetime(2026, 11, 23, 12, 0, tzinfo=ZONE).timestamp())  # a Monday
EMPTY = FREE._replace(quota_bytes=10, used_bytes=10)
REFUSED = {
    "blocked": FREE._replace(enabled=False),
    "unused": FREE._replace(batch_id=1, unused_until=NOW - 1),
    "expired": FREE._replace(valid_until=NOW - 1),
    "hours": FREE._replace(windows="daily 13:00-14:00"),
    "week": FREE._replace(windows="Mo-Fr 08:00-12:00, Sa+Su 09:00-10:00"),
    "total": EMPTY._replace(quota_period="total"),
    "day": EMPTY._replace(quota_period="day"),
    "monthly": EMPTY._replace(quota_period="month"),
    "weekly": EMPTY._replace(quota_period="week"),
    "one device": FREE._replace(simultaneous=1, other_sessions=1),
    "devices": FREE._replace(simultaneous=3, other_sessions=3),
}


def calls(file: str, name: str) -> list[ast.Call]:
    tree = ast.parse(RULES.joinpath(file).read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in found if isinstance(call.func, ast.Name) and call.func.id == name]


def texts_of_rules() -> set[str]:
    verdicts = [authorize(account, ZONE, NOW) for account in REFUSED.values()]
    said = {verdict.message for verdict in verdicts if isinstance(verdict, Reject)}
    rules = {verdict.rule for verdict in verdicts if isinstance(verdict, Reject)}
    assert len(said) == len(REFUSED)
    assert len(rules) == len(calls("authorization.py", "Reject"))  # each kind of refusal is among them
    for call in calls("hotspot.py", "_refused"):
        said.add(str(call.args[0].value) if isinstance(call.args[0], ast.Constant) else devices_message(2))
    policy = (RULES / "raddb" / "policy.conf").read_text()
    return said | set(re.findall(r'Reply-Message := "([^"%]+)"', policy))


@pytest.mark.parametrize("code", OTHERS)
def test_each_refusal_of_the_rules_is_translated(code: str) -> None:
    said = texts_of_rules()
    assert len(said) > 12
    for sentence in said:
        assert translate(language(code), sentence) != sentence
        assert translate(language(SOURCE), sentence) == sentence


def test_what_a_refusal_names_is_in_the_guests_language_too() -> None:
    czech = language("cs")
    assert (
        translate(czech, "This account expired on 2026-03-01 at 14:00.")
        == "Platnost tohoto účtu skončila 1. 3. 2026 v 14:00."
    )
    assert translate(czech, "Your plan allows Mo–Fr 08:00–20:00, Sa+Su 09:00–10:00.").endswith(
        "Po–Pá 08:00–20:00, So+Ne 09:00–10:00."
    )
    assert "2 dalších zařízeních" in translate(czech, devices_message(2))


@pytest.mark.parametrize(
    "sentence",
    ["", "Ask Bob.", "Your plan allows <b>.", "This account expired on 2026-13-01 at 14:00.", "Your plan allows {x}."],
)
def test_what_is_not_known_stays(sentence: str) -> None:
    assert translate(language("cs"), sentence) == sentence
