"""The filter language, in nfdump's manner: `host 10.1.2.3 and dst port 25 and bytes > 1M`. Text in, a tree out; pure.

    expression = term {"or" term}
    term       = factor {"and" factor}
    factor     = "not" factor | "(" expression ")" | condition

What a condition may look like stands in `vocabulary.py`, by its words.
"""

from appliance.errors import UserError
from collector.filters.conditions import All, Either, Everything, Filter, Node, Not
from collector.filters.vocabulary import condition
from collector.filters.words import Reader

MOST_CHARACTERS = 8192
MOST_CONDITIONS = 500  # each costs time with every flow
MOST_DEPTH = 30


def parse(text: str) -> Filter:
    """Raises UserError with one line: the position, what was expected there, and how it is written."""
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"the filter is too long: at most {MOST_CHARACTERS} characters")
    reader = Reader(text)
    if reader.now.kind == "end":
        return Filter(text, Everything())
    root = _expression(reader, 0)
    if reader.now.kind != "end":
        hint = "close each ( once" if reader.now.text == ")" else "join conditions by 'and', 'or'"
        raise reader.error("'and' or 'or'", hint)
    return Filter(text, root)


def _expression(reader: Reader, depth: int) -> Node:
    parts = [_term(reader, depth)]
    while reader.took("or"):
        parts.append(_term(reader, depth))
    return parts[0] if len(parts) == 1 else Either(tuple(parts))


def _term(reader: Reader, depth: int) -> Node:
    parts = [_factor(reader, depth)]
    while reader.took("and"):
        parts.append(_factor(reader, depth))
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _factor(reader: Reader, depth: int) -> Node:
    if depth > MOST_DEPTH:
        raise UserError(f"filter, position {reader.now.position}: more than {MOST_DEPTH} ( or not within each other")
    if reader.took("not"):
        return Not(_factor(reader, depth + 1))
    if reader.took("("):
        inside = _expression(reader, depth + 1)
        reader.need(")", "close each ( once")
        return inside
    reader.conditions += 1
    if reader.conditions > MOST_CONDITIONS:
        raise UserError(f"the filter has more than {MOST_CONDITIONS} conditions: use lists, as in port in [80, 443]")
    return condition(reader)
