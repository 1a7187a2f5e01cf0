"""How a benchmark tells its result: a table for people, with JSON=1 one object a line for programs."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Comparison:
    """Ours and a peer's value of one metric, medians of `n` rounds that took turns on the same machine."""

    metric: str
    peer: str
    unit: str
    ours: float
    theirs: float
    n: int

    @property
    def ratio(self) -> float:
        return self.ours / (self.theirs or 1)  # where none is allowed, how many there are


def show(comparisons: Sequence[Comparison]) -> None:
    if os.environ.get("JSON") == "1":
        for c in comparisons:
            print(json.dumps(asdict(c) | {"ratio": round(c.ratio, 4)}))
        return
    heading = ("metric", "peer", "unit", "ours", "theirs", "ours/theirs", "n")
    rows = [(c.metric, c.peer, c.unit, _text(c.ours), _text(c.theirs), f"{c.ratio:.2f}", str(c.n)) for c in comparisons]
    _table([heading, *rows])


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        words = [text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
        print("  ".join((*words, *numbers)))


def progress(text: str) -> None:
    """On stderr, so that it never mixes with the result."""
    print(text, file=sys.stderr, flush=True)
