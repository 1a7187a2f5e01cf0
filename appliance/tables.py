"""What commands print: a table for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence


def show(rows: Sequence[Mapping[str, object]], columns: Sequence[str], as_json: bool) -> str:
    """One line a row with the named columns; JSON has all that a row holds."""
    if as_json:
        return json.dumps(rows, indent=2)
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    heads = [column.replace("_", " ").upper() for column in columns]
    widths = [max(len(line[i]) for line in (heads, *cells)) for i in range(len(columns))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in (heads, *cells)]
    return "\n".join(line.rstrip() for line in lines)


def harmless(value: object) -> object:
    """A text that a spreadsheet would take for a formula stays a text (OWASP, "CSV Injection")."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def printable(text: str) -> str:
    """What somebody else has written gives the terminal no orders."""
    return text if text.isprintable() else ascii(text)[1:-1]
