"""Names for banks, whose systems know few letters. Pure."""

import re
import unicodedata

_OTHER = "[^A-Za-z0-9/?:().,'+ -]"  # all that banks in SEPA have to take (EPC217-08, 6.2)
_LETTERS = {
    "ж": "zh", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ь": "", "ю": "yu", "я": "ya",
    "є": "ye", "ђ": "dj", "ћ": "c", "љ": "lj", "њ": "nj", "џ": "dz", "ß": "ss", "ø": "o", "ł": "l", "đ": "d", "æ": "ae",
    "œ": "oe", "þ": "th", "ð": "d", "ı": "i", "–": "-", "—": "-", "’": "'", "&": "+",
    **dict(zip("абвгдезийклмнопрстуфыэіјґ", "abvgdeziyklmnoprstufyeijg", strict=True)),
    **dict(zip("αβγδεζηικλμνξοπρσςτυφω", "avgdeziiklmnxoprsstyfo", strict=True)), "θ": "th", "χ": "ch", "ψ": "ps",
}  # fmt: skip


def latin(text: str, most: int) -> str:
    """`Žofie Дворжак` as `Zofie Dvorzhak`; a full stop for what has no such letter."""
    spelled = "".join(_letter(letter) for letter in unicodedata.normalize("NFC", text))
    bare = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    return re.sub(r"\s+", " ", re.sub(_OTHER, ".", bare)).strip()[:most].strip()


def _letter(letter: str) -> str:
    base = unicodedata.normalize("NFD", letter)[0]  # й is и with a breve, ό is ο with an accent
    own = _LETTERS.get(letter.lower(), _LETTERS.get(base.lower()))
    if own is None:
        return letter if unicodedata.normalize("NFKD", letter).encode("ascii", "ignore") else "."
    return own.capitalize() if letter.isupper() else own
