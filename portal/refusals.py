"""What the rules say to a guest, in the guest's language.

They answer in English, as routers of any make show it too; a sentence that isn't known here stays as it is.
"""

import re
from datetime import date

from portal.languages import N_, Language

WRONG = N_("Wrong name or password.")
_PLAIN = (
    WRONG,
    N_("This account is blocked. Please ask the operator."),
    N_("Your data allowance is used up."),
    N_("Your data allowance is used up. It starts anew tomorrow."),
    N_("Your data allowance is used up. It starts anew on Monday."),
    N_("Your data allowance is used up. It starts anew on the 1st."),
    N_("This account is online on another device. Please log out there first."),
    N_("All addresses of your plan are in use. Please try again later."),
    N_("The login server is busy. Please try again."),
    N_("Please enter your name."),
    N_("Name and password can't contain control characters."),
    N_("That name is too long."),
    N_("That password is too long."),
)
_DATED = (
    N_("This account expired on {date} at {time}."),
    N_("This voucher had to be used before {date} at {time}."),
)
_HOURS = N_("Your plan allows {hours}.")
_DAYS = ("daily", "Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")  # of rlm_python/time_windows.py


def translate(language: Language, sentence: str) -> str:
    return known(language, sentence) or sentence


def known(language: Language, sentence: str) -> str:
    """Empty for a sentence that isn't one of the rules'."""
    if sentence in _PLAIN:
        return language.gettext(sentence)
    for template in _DATED:
        if found := _match(template, sentence, date=r"\d{4}-\d\d-\d\d", time=r"\d\d:\d\d"):
            day = _date(found["date"])
            return language.gettext(template).format(date=language.day(day), time=found["time"]) if day else ""
    if found := _match(_HOURS, sentence, hours=r"[A-Za-z0-9:,+– ]+"):
        return language.gettext(_HOURS).format(hours=_hours(language, found["hours"]))
    if found := re.fullmatch(r"This account is online on (\d{1,6}) other devices\. .*", sentence):
        return _devices(language, int(found[1]))
    return ""


def _match(template: str, sentence: str, **parts: str) -> re.Match[str] | None:
    pattern = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    groups = {name: f"(?P<{name}>{part})" for name, part in parts.items()}
    return re.fullmatch(pattern.format(**groups), sentence)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _devices(language: Language, number: int) -> str:
    text = language.ngettext(
        "This account is online on {number} other device. Please log out on one of them first.",
        "This account is online on {number} other devices. Please log out on one of them first.",
        number,
    )
    return text.format(number=number)


def _hours(language: Language, text: str) -> str:
    """Each day's name by itself; the numbers are the same everywhere."""
    names = _day_names(language)
    return re.sub(r"[A-Za-z]+", lambda word: names.get(word[0], word[0]), text)


def _day_names(language: Language) -> dict[str, str]:
    names = (
        language.pgettext("hours", "daily"),
        language.pgettext("weekday", "Mo"),
        language.pgettext("weekday", "Tu"),
        language.pgettext("weekday", "We"),
        language.pgettext("weekday", "Th"),
        language.pgettext("weekday", "Fr"),
        language.pgettext("weekday", "Sa"),
        language.pgettext("weekday", "Su"),
    )
    return dict(zip(_DAYS, names, strict=True))
