"""Filter `to_toml`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: to_toml
short_description: TOML of tables in tables, or a text as it is
description: For configuration files from inventory variables. Text is taken to be TOML already.
options:
  _input:
    description: A dictionary of strings, numbers, truth values, lists of these, dictionaries and lists of dictionaries.
    type: raw
    required: true
"""
EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ {'gateway': {'lan': 'eth1'}} | gatehouse.appliance.to_toml }}"
"""
RETURN = """
_value:
  description: The text.
  type: str
"""


def to_toml(value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise AnsibleFilterError(f"to_toml: a dictionary or a text is needed, not {value!r}")
    return "\n".join(_table(value, ())).strip() + "\n"


def _table(table: Mapping[str, Any], name: tuple[str, ...]) -> Iterator[str]:
    """Lines; a table's own keys have to come before the tables in it."""
    inner = [key for key, value in table.items() if _is_table(value)]
    yield from (f"{_key(key)} = {_scalar(value)}" for key, value in table.items() if key not in inner)
    for key in inner:
        path = (*name, _key(key))
        several = not isinstance(table[key], Mapping)
        for each in table[key] if several else [table[key]]:
            yield from ("", f"[[{'.'.join(path)}]]" if several else f"[{'.'.join(path)}]")
            yield from _table(each, path)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def _key(key: object) -> str:
    text = str(key)
    bare = text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    return text if bare else _text(text)


def _scalar(value: object) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    raise AnsibleFilterError(f"to_toml: {value!r} has no place in TOML")


def _text(text: str) -> str:
    """A JSON string is one of TOML too, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"to_toml": to_toml}
