"""What a guest can read, taken from the portal's sources, and written into its catalogues: `make messages`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jinja2
import polib
from jinja2.ext import extract_from_ast

from portal import languages

ROOM = Path(languages.__file__).parent
MARKS = ("_", "N_", "gettext", "ngettext", "pgettext")
_PLURALS = {
    "cs": "nplurals=3; plural=(n==1) ? 0 : (n>=2 && n<=4) ? 1 : 2;",
    "sk": "nplurals=3; plural=(n==1) ? 0 : (n>=2 && n<=4) ? 1 : 2;",
    "pl": "nplurals=3; plural=(n==1) ? 0 : (n%10>=2 && n%10<=4 && (n%100<12 || n%100>14)) ? 1 : 2;",
    "uk": "nplurals=3; plural=(n%10==1 && n%100!=11) ? 0 : (n%10>=2 && n%10<=4 && (n%100<12 || n%100>14)) ? 1 : 2;",
    "de": "nplurals=2; plural=(n != 1);",
    "es": "nplurals=2; plural=(n != 1);",
    "fr": "nplurals=2; plural=(n > 1);",
}


class Message(NamedTuple):
    context: str | None
    text: str
    plural: str | None


def marked() -> dict[Message, list[str]]:
    """Each text with the files that show it."""
    found: dict[Message, list[str]] = {}
    for path in sorted([*ROOM.rglob("*.py"), *(ROOM / "templates").glob("*.html")]):
        where = str(path.relative_to(ROOM.parent))
        for message in _in_python(path) if path.suffix == ".py" else _in_template(path):
            if where not in found.setdefault(message, []):
                found[message].append(where)
    return found


def _in_python(path: Path) -> Iterator[Message]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        if name in MARKS and texts:
            yield _message(name, texts)


def _in_template(path: Path) -> Iterator[Message]:
    tree = jinja2.Environment(autoescape=True).parse(path.read_text(encoding="utf-8"))
    for _line, name, texts in extract_from_ast(tree, MARKS):
        yield _message(name, [texts] if isinstance(texts, str) else [text for text in texts or () if text])


def _message(name: str, texts: list[str]) -> Message:
    if name == "pgettext":
        context, text = texts
        return Message(context, text, None)
    return Message(None, texts[0], texts[1] if name == "ngettext" else None)


def update(code: str) -> int:
    """Adds what is new, empty, and takes away what nobody shows any more; returns how many wait for a translation."""
    path = languages.catalogue_file(code)
    old = polib.pofile(str(path)) if path.exists() else polib.POFile()
    new = polib.POFile(wrapwidth=120)
    new.metadata = {
        "Language": code,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": _PLURALS[code],
    }
    for message, files in sorted(marked().items(), key=lambda item: (item[1][0], item[0].text, item[0].context or "")):
        new.append(_entry(message, files, old.find(message.text, msgctxt=message.context or False), code))
    path.parent.mkdir(parents=True, exist_ok=True)
    new.save(str(path))
    return len(new.untranslated_entries())


def _entry(message: Message, files: list[str], known: polib.POEntry | None, code: str) -> polib.POEntry:
    entry = polib.POEntry(msgid=message.text, msgctxt=message.context, occurrences=[(file, "") for file in files])
    if "{" in message.text:
        entry.flags = ["python-brace-format"]
    if message.plural is None:
        entry.msgstr = known.msgstr if known else ""
        return entry
    entry.msgid_plural = message.plural
    forms = int(_PLURALS[code].partition("nplurals=")[2][0])
    entry.msgstr_plural = known.msgstr_plural if known else dict.fromkeys(range(forms), "")
    return entry


if __name__ == "__main__":
    for code in languages.NAMES:
        if code != languages.SOURCE and (missing := update(code)):
            sys.stderr.write(f"{languages.catalogue_file(code)}: {missing} texts wait for a translation\n")
