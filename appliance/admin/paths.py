"""Names as parts of addresses: any name has a page of its own, also one with a slash, or one that is a page's word."""

from urllib.parse import quote, unquote

TAKEN = frozenset((".", "..", "cut", "import", "many", "new", "plan", "sessions", "tokens"))
"""Words that stand in paths of pages beside names (a test looks for all of them)."""


def part(name: object) -> str:
    """Escaped once for us, where need be, and once for the web server, which reads only the second."""
    text = str(name)
    ours = "".join(f"%{ord(letter):02X}" if letter in "%/" else letter for letter in text)
    return quote(f"%{ord(text[0]):02X}{text[1:]}" if text in TAKEN else ours, safe="")


def name(part: str) -> str:
    """Of what the web server has read already."""
    return unquote(part)
