"""Pages of A4 as one sends them: PDF/A-3, which is to be readable in ten years, too (ISO 19005-3, level B)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from xml.sax.saxutils import escape

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from appliance.accounts import sheets

INK, FAINT, HAIR = 25, 105, 205  # grey levels
LEFT, RIGHT, TOP, BOTTOM = 20.0, 190.0, 18.0, 24.0  # mm; DIN 5008 leaves 25 and 20 at the sides
WIDTH = RIGHT - LEFT
LINE = 4.6  # of text of 9 points
PRODUCER = "Gatehouse"

Align = Literal["L", "R"]


@dataclass(frozen=True)
class Column:
    """`width` in mm; the widths of a table's are `WIDTH` in all."""

    head: str
    width: float
    align: Align = "L"


@dataclass(frozen=True)
class Attachment:
    """`relationship` to the pages, as ISO 19005-3 (6.8) has it: the same facts, or more of them."""

    name: str
    content: bytes
    mime: str
    relationship: Literal["Alternative", "Data"]
    about: str


class Paper(FPDF):
    """Each page has `foot` below and its number; a table that goes on has its head again."""

    def __init__(self, title: str, foot: str, made_at: datetime) -> None:
        super().__init__(format="A4", enforce_compliance="PDF/A-3B")
        self._foot = foot
        self._made_at = made_at
        self.set_title(title)
        self.set_producer(PRODUCER)
        self.set_creation_date(made_at)
        self.set_lang("en")
        self.set_margins(LEFT, TOP, 210 - RIGHT)
        self.set_auto_page_break(False)
        self.c_margin = 0
        sheets.add_font(self, "sans", "", "DejaVuSans.ttf")
        sheets.add_font(self, "sans", "B", "DejaVuSans-Bold.ttf")
        self.set_draw_color(HAIR)
        self.set_line_width(0.2)
        self.add_page()

    def footer(self) -> None:
        self.set_y(-14)
        self._ink(7.5, "", FAINT)
        self.cell(WIDTH * 0.75, LINE, self._fitting(self._foot, WIDTH * 0.75))
        number = self.page_no()
        self.set_x(RIGHT - self.get_string_width(f"Page {number} of {number}"))  # how many there are isn't known yet
        self.cell(0, LINE, f"Page {number} of {{nb}}")

    def put(
        self, text: str, width: float, size: float = 9, bold: bool = False, grey: int = INK, align: Align = "L"
    ) -> None:
        """Broken into lines where the width ends, from where the pen is; the pen is below it then."""
        self._ink(size, "B" if bold else "", grey)
        x = self.x
        if self._is_one_line(text, width):
            self.cell(width, size * 0.51, text, align=align, new_x=XPos.LEFT, new_y=YPos.NEXT)
        else:
            self.multi_cell(width, size * 0.51, text, align=align, new_x=XPos.LEFT, new_y=YPos.NEXT)
        self.x = x

    def _is_one_line(self, text: str, width: float) -> bool:
        """Breaking lines takes four times as long."""
        return "\n" not in text and self.get_string_width(text) <= width

    def height(self, text: str, width: float, size: float = 9) -> float:
        self._ink(size, "", INK)
        if self._is_one_line(text, width):
            return size * 0.51
        return float(self.multi_cell(width, size * 0.51, text, dry_run=True, output="HEIGHT"))  # type: ignore[arg-type]

    def room(self, height: float) -> bool:
        return self.y + height <= self.h - BOTTOM

    @contextmanager
    def block(self, x: float, y: float) -> Iterator[None]:
        """The pen elsewhere, for a while."""
        self.set_xy(x, y)
        yield

    def rows(self, columns: Sequence[Column], cells: Sequence[Sequence[str]], size: float = 9) -> None:
        self.head(columns)
        for row in cells:
            placed = list(zip(columns, row, strict=True))
            height = max(self.height(text, column.width - 2, size) for column, text in placed) + 2.4
            if not self.room(height):
                self.add_page()
                self.head(columns)
            top, x = self.y + 1.2, LEFT
            for column, text in placed:
                with self.block(x + (2 if column.align == "R" else 0), top):
                    self.put(text, column.width - 2, size, align=column.align)
                x += column.width
            self.set_xy(LEFT, top - 1.2 + height)
            self.rule()

    def head(self, columns: Sequence[Column]) -> None:
        self.set_x(LEFT)
        self._ink(7.5, "", FAINT)
        for column in columns:
            self.cell(column.width, 5.5, column.head, align=column.align)
        self.set_xy(LEFT, self.y + 5.5)
        self.rule()

    def rule(self) -> None:
        self.line(LEFT, self.y, RIGHT, self.y)

    def done(self, attachment: Attachment | None = None, xmp: str = "") -> bytes:
        """`xmp` are more descriptions (RDF), such as Factur-X wants them."""
        if attachment is not None:
            self.embed_file(
                bytes=attachment.content,
                basename=attachment.name,
                mime_type=attachment.mime,
                associated_file_relationship=attachment.relationship,
                modification_date=self._made_at,
                desc=attachment.about,
                compress=True,
            )
        self.set_xmp_metadata(_xmp(str(self.title), self._made_at, xmp))
        return bytes(self.output())

    def _ink(self, size: float, style: Literal["", "B"], grey: int) -> None:
        self.set_font("sans", style, size)
        self.set_text_color(grey)

    def _fitting(self, text: str, width: float) -> str:
        while text and self.get_string_width(text) > width:
            text = text[:-2].rstrip() + "\u2026"
        return text


def _xmp(title: str, made_at: datetime, more: str) -> str:
    """The same facts as in the document's information dictionary, or it is no PDF/A (ISO 19005-3, 6.6.3)."""
    at = made_at.isoformat(timespec="seconds")
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:pdf="http://ns.adobe.com/pdf/1.3/" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/">
<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{escape(title)}</rdf:li></rdf:Alt></dc:title>
<xmp:CreateDate>{at}</xmp:CreateDate><pdf:Producer>{PRODUCER}</pdf:Producer>
</rdf:Description>
{more}
</rdf:RDF>
</x:xmpmeta>"""
