"""Text files from jinja2 templates that lie beside the code; a name that isn't given is an error."""

from functools import cache
from importlib import resources

import jinja2


def render(package: str, name: str, **values: object) -> str:
    """`package` is the dotted folder of the template; pages have their own, escaping environments."""
    return _environment(package).get_template(name).render(**values)


@cache
def _environment(package: str) -> jinja2.Environment:
    room, _, folder = package.partition(".")
    root = resources.files(room) / folder if folder else resources.files(room)
    return jinja2.Environment(  # noqa: S701 (configuration files: HTML escaping would break them)
        loader=jinja2.FunctionLoader(lambda name: (root / name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
