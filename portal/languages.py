"""Which languages a guest can read, and which one this guest wants.

The texts stand in English where they are used, `_("…")`; `locale/` has the others, gettext catalogues that
translators' tools can read. They are read as they are, so there is nothing to compile and nothing to forget.
"""

import gettext
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import polib

from appliance.config import Config
from appliance.errors import ConfigError

LOCALE = Path(__file__).with_name("locale")
SOURCE = "en"
NAMES = {
    "en": "English",
    "cs": "Čeština",
    "sk": "Slovenčina",
    "de": "Deutsch",
    "pl": "Polski",
    "es": "Español",
    "fr": "Français",
    "uk": "Українська",
}
MAX_WANTED = 20  # languages that one browser may ask for


@dataclass(frozen=True)
class Language:
    """A text in this language; one that the catalogue doesn't have stays English."""

    code: str
    catalogue: gettext.NullTranslations

    @property
    def name(self) -> str:
        return NAMES[self.code]

    def gettext(self, text: str) -> str:
        return self.catalogue.gettext(text) if text else ""

    def ngettext(self, one: str, many: str, number: int) -> str:
        return self.catalogue.ngettext(one, many, number)

    def pgettext(self, context: str, text: str) -> str:
        """For a word that could be anything, such as a unit."""
        return self.catalogue.pgettext(context, text)

    def day(self, day: date) -> str:
        return day.strftime(self.pgettext("date, as strftime writes it", "%Y-%m-%d"))


def N_(text: str) -> str:
    """Marks a text for the catalogues that is translated elsewhere."""
    return text


@cache
def language(code: str) -> Language:
    if code == SOURCE:
        return Language(code, gettext.NullTranslations())
    file = polib.pofile(str(catalogue_file(code)))
    return Language(code, gettext.GNUTranslations(io.BytesIO(file.to_binary())))


def catalogue_file(code: str) -> Path:
    return LOCALE / code / "LC_MESSAGES" / "portal.po"


def offered(config: Config) -> tuple[Language, ...]:
    for code in config.portal.languages:
        if code not in NAMES:
            raise ConfigError(f"{config.file}: [portal] languages: there is no {code!r}, only {', '.join(NAMES)}")
    return tuple(map(language, config.portal.languages))


def choose(asked: Iterable[str], accept: str, offered: Sequence[str]) -> str:
    """The first of `asked` that is offered, else what the browser likes best (RFC 9110, 12.5.4), else the first one."""
    for code in (*asked, *_wanted(accept)):
        if code in offered:
            return code
    return offered[0]


def _wanted(accept: str) -> list[str]:
    """Languages of an Accept-Language, best first and without their countries; what is malformed is passed over."""
    weighed: list[tuple[float, int, str]] = []
    for part in accept.lower().split(",", MAX_WANTED)[:MAX_WANTED]:
        tag, _, weight = part.strip().partition(";")
        code = tag.strip().partition("-")[0]
        if (quality := _quality(weight)) > 0:
            weighed.append((-quality, len(weighed), code))
    return [code for _, _, code in sorted(weighed)]


def _quality(weight: str) -> float:
    if not weight.strip():
        return 1.0
    name, _, number = weight.strip().partition("=")
    digits = number.replace(".", "", 1)
    return float(number) if name.strip() == "q" and digits.isascii() and digits.isdigit() else 0.0
