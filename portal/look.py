"""The operator's own look: a colour that can be read wherever it stands, and a logo that is part of the page."""

import base64
from pathlib import Path

from appliance.config import Config
from appliance.errors import ConfigError

LOGO_KINDS = {
    "svg": ("image/svg+xml", (b"<svg", b"<?xml")),
    "png": ("image/png", (b"\x89PNG\r\n\x1a\n",)),
    "jpg": ("image/jpeg", (b"\xff\xd8\xff",)),
    "webp": ("image/webp", (b"RIFF",)),
}
MAX_LOGO_BYTES = 3500  # it travels in each page, which is to stay below 15 kB
RENDERED_LOGO = "portal.logo"  # below `run`
LIGHT_CARD, DARK_CARD = "#fffefb", "#192226"  # what style.css has behind text
READABLE = 4.5  # WCAG 2.2, 1.4.3
_STEPS = 100


def logo_file(config: Config) -> Path | None:
    files = (config.paths.state / "portal" / f"logo.{kind}" for kind in LOGO_KINDS)
    return next((file for file in files if file.is_file()), None)


def read_logo(config: Config) -> str:
    """The operator's logo as a data: URI (RFC 2397), empty where there is none; raises ConfigError."""
    file = logo_file(config)
    if file is None:
        return ""
    content = file.read_bytes()
    kind, beginnings = LOGO_KINDS[file.suffix[1:]]
    if not content.lstrip(b"\xef\xbb\xbf \n").startswith(beginnings):
        raise ConfigError(f"{file}: this is no {file.suffix[1:].upper()} image")
    if len(content) > MAX_LOGO_BYTES:
        raise ConfigError(f"{file}: {len(content)} bytes are too many, {MAX_LOGO_BYTES} are possible: make it smaller")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def style(accent: str) -> str:
    """CSS that puts `accent` in place of style.css's own colour, lighter or darker where it couldn't be read."""
    if not accent:
        return ""
    light, dark = readable(accent, LIGHT_CARD), readable(accent, DARK_CARD)
    return (
        f":root{{{_variables(light, LIGHT_CARD)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_variables(dark, DARK_CARD)}}}}}"
    )


def _variables(colour: str, card: str) -> str:
    tint = _mix(card, colour, 0.1)
    return f"--main:{colour};--main-text:{text_on(colour)};--focus:{colour};--note-page:{tint}"


def readable(colour: str, background: str) -> str:
    """The nearest shade of `colour` that can be read on `background`."""
    goal = text_on(background)
    shades = (_mix(colour, goal, step / _STEPS) for step in range(_STEPS + 1))
    return next(shade for shade in shades if contrast(shade, background) >= READABLE)


def text_on(colour: str) -> str:
    """Black or white, of which one can be read on any colour."""
    return max("#ffffff", "#000000", key=lambda text: contrast(text, colour))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio": 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [part / 255 for part in _rgb(colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mix(one: str, other: str, share: float) -> str:
    pairs = zip(_rgb(one), _rgb(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _rgb(colour: str) -> tuple[int, ...]:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    return tuple(int(digits[place : place + 2], 16) for place in (0, 2, 4))
