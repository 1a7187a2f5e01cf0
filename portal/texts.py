"""Numbers for guests, in their language."""

from portal.languages import Language

NO_BREAK = "\u00a0"  # a number and its unit stay on one line


def duration(language: Language, seconds: int) -> str:
    """The two largest units: 2 d 5 h, 1 h 23 min, 4 min 10 s, 12 s."""
    days, hours, minutes, rest = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60
    units = (
        language.pgettext("days", "d"),
        language.pgettext("hours", "h"),
        language.pgettext("minutes", "min"),
        language.pgettext("seconds", "s"),
    )
    parts = list(zip((days, hours, minutes, rest), units, strict=True))
    first = next((place for place, (number, _) in enumerate(parts) if number), len(parts) - 1)
    shown = [f"{number}{NO_BREAK}{unit}" for number, unit in parts[first : first + 2] if number]
    return " ".join(shown) or f"0{NO_BREAK}{units[-1]}"


def octets(language: Language, number: int) -> str:
    """Powers of 1000 with three digits, as phones count them: 999 B, 1.23 MB, 45.6 GB, 789 TB."""
    value = float(number)
    units = [
        language.pgettext("data", "B"),
        language.pgettext("data", "kB"),
        language.pgettext("data", "MB"),
        language.pgettext("data", "GB"),
        language.pgettext("data", "TB"),
    ]
    digits = 0 if value < 999.5 else 2
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    if digits and value >= 9.995:
        digits = 0 if value >= 99.95 else 1
    point = language.pgettext("decimal separator", ".")
    return f"{f'{value:.{digits}f}'.replace('.', point)}{NO_BREAK}{units[0]}"
