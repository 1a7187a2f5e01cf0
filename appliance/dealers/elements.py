"""XML put together as it is read: elements inside of elements. What is empty leaves no element behind."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_IMPOSSIBLE = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def element(tag: str, *content: Element | str | None, **attributes: str) -> Element | None:
    """None where there is nothing in it. Pure text goes without what XML can't hold."""
    made = Element(tag, attributes)
    for part in content:
        if isinstance(part, str):
            made.text = (made.text or "") + _IMPOSSIBLE.sub(" ", part)
        elif part is not None:
            made.append(part)
    return made if made.text or len(made) else None


def document(root: Element | None, namespaces: Mapping[str, str]) -> bytes:
    """`namespaces` by prefix; the one of the empty prefix is that of elements without one."""
    if root is None:
        raise ValueError("there is nothing to write")
    for prefix, name in namespaces.items():
        root.set(f"xmlns:{prefix}" if prefix else "xmlns", name)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
