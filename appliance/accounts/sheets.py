"""Vouchers on paper: cards on A4 with lines to cut along, and slips for receipt printers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import segno

from appliance.accounts import vouchers, wording
from appliance.config import Config
from appliance.errors import UserError

if TYPE_CHECKING:
    from fpdf import FPDF

FONTS = Path("/usr/share/fonts/truetype/dejavu")  # Debian: fonts-dejavu-core; Latin, Cyrillic, Greek
QUIET_MODULES = 4  # ISO/IEC 18004, 6.3.8: the light margin that a reader needs
INK, FAINT, HAIR, PAPER = 25, 110, 190, 240  # grey levels


@dataclass(frozen=True)
class Sheet:
    """What stands on every voucher of a batch."""

    site: str
    plan: tuple[str, ...]
    price: str
    use_by: str
    contact: str


class Voucher(NamedTuple):
    code: str  # in groups, as it is typed
    url: str


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float

    def inside(self, margin: float) -> "_Box":
        return _Box(self.x + margin, self.y + margin, self.width - 2 * margin, self.height - 2 * margin)


def pdf(batch: Any, codes: Iterable[str], form: str, config: Config) -> bytes:
    """A batch's vouchers in one of `vouchers.FORMATS`."""
    sheet = of(batch, config)
    printed = [Voucher(vouchers.grouped(code), vouchers.login_url(config, code)) for code in codes]
    return a4(sheet, printed) if form == "a4" else roll(sheet, printed, int(form[:2]))


def of(batch: Any, config: Config) -> Sheet:
    return Sheet(
        site=config.site.name,
        plan=wording.plan(batch.plan),
        price=vouchers.format_price(batch.price_minor, batch.currency),
        use_by=vouchers.last_day(batch.unused_until, config),
        contact=config.site.contact,
    )


def a4(sheet: Sheet, vouchers: Iterable[Voucher]) -> bytes:
    """Twelve cards a page; the dashed lines run from edge to edge, for scissors and for a guillotine."""
    pdf = _document(sheet.site, "A4")
    columns, rows, width, height, left, top = 2, 6, 95.0, 47.0, 10.0, 7.5
    for number, voucher in enumerate(vouchers):
        place = number % (columns * rows)
        if place == 0:
            pdf.add_page()
            _cut_lines(pdf, [left + width * i for i in range(columns + 1)], [top + height * i for i in range(rows + 1)])
        box = _Box(left + width * (place % columns), top + height * (place // columns), width, height)
        _card(pdf, box.inside(5), sheet, voucher)
    return bytes(pdf.output())


def roll(sheet: Sheet, vouchers: Iterable[Voucher], paper_mm: int) -> bytes:
    """One slip a page, as high as it needs; receipt printers of 58 and 80 mm print 48 and 72 mm of it."""
    margin = {58: 5.0, 80: 4.0}[paper_mm]
    qr = min(paper_mm - 2 * margin, 44.0)
    height = qr + 24 + 4.5 * len(sheet.plan) + 7 * bool(sheet.price) + 5 * bool(sheet.use_by) + 5 * bool(sheet.contact)
    pdf = _document(sheet.site, (paper_mm, height))
    for voucher in vouchers:
        pdf.add_page()
        _slip(pdf, _Box(margin, 4, paper_mm - 2 * margin, height), qr, sheet, voucher)
    return bytes(pdf.output())


def _document(site: str, page: str | tuple[float, float]) -> "FPDF":
    from fpdf import FPDF  # it loads numpy where there is one, which the pages needn't carry until a sheet is asked for

    pdf = FPDF(format=page)
    pdf.set_auto_page_break(False)
    pdf.set_margin(0)
    pdf.c_margin = 0
    pdf.set_title(site)
    for style, file in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
        add_font(pdf, "sans", style, file)
    add_font(pdf, "mono", "B", "DejaVuSansMono-Bold.ttf")
    return pdf


def add_font(pdf: "FPDF", family: str, style: str, file: str) -> None:
    try:
        pdf.add_font(family, style, FONTS / file)
    except FileNotFoundError:
        raise UserError(f"{FONTS / file} is missing: install the Debian package fonts-dejavu-core") from None


def _cut_lines(pdf: "FPDF", xs: list[float], ys: list[float]) -> None:
    pdf.set_draw_color(HAIR)
    pdf.set_line_width(0.15)
    pdf.set_dash_pattern(dash=1.2, gap=1.2)
    for x in xs:
        pdf.line(x, 0, x, pdf.h)
    for y in ys:
        pdf.line(0, y, pdf.w, y)
    pdf.set_dash_pattern()


def _card(pdf: "FPDF", box: _Box, sheet: Sheet, voucher: Voucher) -> None:
    """Words on the left, the QR code on the right, the code to type below them over the whole width."""
    qr, panel = 28.0, 10.5
    draw_qr(pdf, box.x + box.width - qr + 2, box.y - 3, qr, voucher.url)
    words = _Box(box.x, box.y - 1, box.width - qr, box.height - panel - 1)
    y = _line(pdf, words._replace(height=6), sheet.site, "B", 11) + 0.5
    small = [text for text in (_use_by(sheet), sheet.contact) if text]
    height = min(4.2, (words.y + words.height - y) / max(1, len(sheet.plan) + len(small)))
    for text in sheet.plan:
        y = _line(pdf, _Box(box.x, y, words.width, height), text, "", height * 1.9)
    for text in small:
        y = _line(pdf, _Box(box.x, y, words.width, height), text, "", height * 1.7, FAINT)
    _panel(pdf, _Box(box.x - 1, box.y + box.height - panel + 1, box.width + 2, panel), sheet, voucher)


def _panel(pdf: "FPDF", box: _Box, sheet: Sheet, voucher: Voucher) -> None:
    pdf.set_fill_color(PAPER)
    pdf.rect(*box, style="F", round_corners=True, corner_radius=1.5)
    inner = _Box(box.x + 3, box.y, box.width - 6, box.height)
    price = 22.0 if sheet.price else 0.0
    _line(pdf, inner._replace(width=inner.width - price), voucher.code, "B", 16, family="mono")
    if sheet.price:
        _line(
            pdf, inner._replace(x=inner.x + inner.width - price + 3, width=price - 3), sheet.price, "B", 10, align="R"
        )


def _slip(pdf: "FPDF", box: _Box, qr: float, sheet: Sheet, voucher: Voucher) -> None:
    """All centred, one thing below the other."""
    x, y, width, _ = box
    y = _line(pdf, _Box(x, y, width, 7), sheet.site, "B", 13, align="C") + 1
    for text in sheet.plan:
        y = _line(pdf, _Box(x, y, width, 4.5), text, "", 8.5, align="C")
    draw_qr(pdf, x + (width - qr) / 2, y, qr, voucher.url)
    y = _line(pdf, _Box(x, y + qr, width, 8), voucher.code, "B", 18, align="C", family="mono")
    if sheet.price:
        y = _line(pdf, _Box(x, y, width, 7), sheet.price, "B", 12, align="C")
    for text in (_use_by(sheet), sheet.contact):
        y = _line(pdf, _Box(x, y, width, 5), text, "", 8, align="C") if text else y


def _use_by(sheet: Sheet) -> str:
    return f"First login by {sheet.use_by}" if sheet.use_by else ""


def _line(
    pdf: "FPDF", box: _Box, text: str, style: str, size: float, grey: int = INK, align: str = "L", family: str = "sans"
) -> float:
    """Writes one line, smaller where it wouldn't fit; returns where the next one begins."""
    pdf.set_text_color(grey)
    pdf.set_font(family, style, size)
    wide = pdf.get_string_width(text)
    if wide > box.width:
        pdf.set_font(family, style, size * box.width / wide)
    pdf.set_xy(box.x, box.y)
    pdf.cell(box.width, box.height, text, align=align)
    return box.y + box.height


def draw_qr(pdf: "FPDF", x: float, y: float, side: float, content: str | bytes) -> None:
    """Dark modules of a row that touch are one rectangle: no hairlines between them, and a small file."""
    runs, modules = _runs(content)
    module = side / (modules + 2 * QUIET_MODULES)
    left, top = x + QUIET_MODULES * module, y + QUIET_MODULES * module
    pdf.set_fill_color(0)
    for row, first, length in runs:
        pdf.rect(left + first * module, top + row * module, length * module, module * 1.02, style="F")


def _runs(content: str | bytes) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """Row, first column and length of each dark run, and how many modules the code is wide."""
    runs = []
    code = segno.make(content, error="m", micro=False)
    for row, line in enumerate(code.matrix):
        column = 0
        while column < len(line):
            length = next((n for n, dark in enumerate(line[column:]) if not dark), len(line) - column)
            if length:
                runs.append((row, column, length))
            column += length or 1
    return tuple(runs), len(code.matrix)


def qr_path(url: str) -> tuple[str, int]:
    """The dark modules as an SVG path, and how wide the code is with its light margin."""
    runs, modules = _runs(url)
    moves = "".join(f"M{QUIET_MODULES + x} {QUIET_MODULES + y}h{length}v1h-{length}z" for y, x, length in runs)
    return moves, modules + 2 * QUIET_MODULES
