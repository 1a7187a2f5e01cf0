"""RouterOS 7's User Manager: `/user-manager export show-sensitive`, and the CSV of `generate-voucher`.

Menus and their properties: RouterOS manual, User Manager. An export is a script: `/menu` lines, then `add key=value`
lines, broken by a backslash at the end of a line.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from appliance.accounts import imports_attributes as attributes
from appliance.accounts.imports import Found, FoundAccount, FoundBatch, is_voucher, plan_name
from appliance.errors import UserError
from rlm_python.speed_limits import format_bits_per_second, parse_rate_limit
from rlm_python.time_windows import DAY_NAMES

Row = dict[str, str]
Menus = dict[str, list[Row]]

# One word of a script; text in quotes has escapes of two characters.
_WORD = re.compile(r'[^\s="\\;]+|"(?:[^"\\]|\\.)*"|=|\\.', re.S)
_ESCAPE = re.compile(r"\\([0-9A-F]{2}|.)", re.S)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "_": " ", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_PERIODS = {"daily": "day", "weekly": "week", "monthly": "month"}
_UNIT_S = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_RATES = ("rate-limit", "rate-limit-burst", "rate-limit-burst-threshold", "rate-limit-burst-time")


def read(text: bytes, passwords: Mapping[str, str], plan: str | None, zone: ZoneInfo, found: Found) -> set[str]:
    """Adds what an export holds and returns its users' names; raises UserError for another file.

    `passwords` are for users whose own the export leaves out, `plan` is for those who have no profile.
    """
    # Bytes above 127 are left alone until a value is whole: an export writes them as escapes, one by one.
    menus = _menus(text.decode("latin-1"))
    if any(menu.startswith("tool user-manager") for menu in menus):
        raise UserError(
            "this is an export of RouterOS 6: migrate it on the router first"
            " (/user-manager database migrate-legacy-db), then export that"
        )
    if not any(menu.startswith("user-manager") for menu in menus):
        raise UserError("there is no /user-manager in it: on the router write /user-manager export show-sensitive")
    profiles = _plans(menus, found)
    for user in menus.get("user-manager user", []):
        user.setdefault("password", passwords.get(user.get("name", ""), ""))
    _users(menus, profiles, plan, zone, found)
    return {user.get("name", "") for user in menus.get("user-manager user", [])}


# The script


def _menus(text: str) -> Menus:
    menus: Menus = {}
    menu = ""
    for line in _lines(text):
        words = [match[0] for match in _WORD.finditer(line)]
        if words and words[0].startswith("/"):
            verb = next((i for i, word in enumerate(words) if word in ("add", "set")), len(words))
            menu = " ".join(words[:verb]).lstrip("/").replace("/", " ")
            words = words[verb:]
        if words and words[0] == "add":
            menus.setdefault(menu, []).append(_values(words[1:]))
    return menus


def _lines(text: str) -> Iterator[str]:
    """Whole commands: a backslash at a line's end goes on in the next one, behind its indentation."""
    for line in re.sub(r"\\\r?\n[ \t]*", "", text).splitlines():
        if not line.startswith("#"):
            yield line.strip()


def _values(words: list[str]) -> Row:
    row = {}
    for i, word in enumerate(words[1:-1], 1):
        if word == "=" and words[i + 1] != "=":
            row[words[i - 1]] = _text(words[i + 1])
    return row


def _text(word: str) -> str:
    if word.startswith('"'):
        word = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if len(m[1]) == 2 else _ESCAPES.get(m[1], m[1]), word[1:-1])
    raw = word.encode("latin-1", "replace")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def seconds(text: str) -> int:
    """`4w3d`, `1d12:00:00`, `00:30:00`, `5h30m`; raises ValueError."""
    match = re.fullmatch(r"((?:\d+[wdhms])*)(?:(\d+):(\d\d)(?::(\d\d))?)?", text)
    if not match or not text:
        raise ValueError(text)
    parts = sum(int(number) * _UNIT_S[unit] for number, unit in re.findall(r"(\d+)([wdhms])", match[1]))
    return parts + sum(int(match[i] or 0) * size for i, size in ((2, 3600), (3, 60), (4, 1)))


def _octets(text: str) -> int:
    """Bytes or bits as an export writes them: `1000000B`, in the console also `10M`."""
    match = re.fullmatch(r"(\d{1,16})(?:([kMGT]?)i?B?)", text)
    if not match:
        raise ValueError(text)
    return int(match[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[match[2]]


# Profiles


def _plans(menus: Menus, found: Found) -> dict[str, tuple[str, Row]]:
    """The plan made of each profile, with the profile."""
    limitations = {row.get("name", ""): row for row in menus.get("user-manager limitation", [])}
    links = menus.get("user-manager profile-limitation", [])
    profiles = {}
    for profile in menus.get("user-manager profile", []):
        name = profile.get("name", "")
        plan = plan_name(name, found.plans)
        if plan != name:
            found.change(f"profile {name!r} becomes plan", plan)
        values: dict[str, Any] = {}
        own = [(link, limitations.get(link.get("limitation", ""), {})) for link in links if link.get("profile") == name]
        if own:
            values |= _limitation(own[0][1], plan, found)
            values |= _windows(own, plan, found)
        values |= _validity(profile, plan, found)
        values["simultaneous"] = _sharing(menus, profile)
        found.plans[plan] = values
        profiles[name] = (plan, profile)
    return profiles


def _limitation(row: Row, plan: str, found: Found) -> dict[str, Any]:
    values: dict[str, Any] = {}
    try:
        values |= _rate(row)
        values |= _quota(row, plan, found)
    except (ValueError, UserError):
        found.change(f"limitation {row.get('name', '')!r} has a value that can't be: see its speeds and data", plan)
    if row.get("uptime-limit", "0s") not in ("0s", "00:00:00"):
        found.change(f"uptime-limit={row['uptime-limit']}: no plan here limits time online, only validity", plan)
    return values


def _rate(row: Row) -> dict[str, Any]:
    """The fields of a Mikrotik-Rate-Limit; rx is what the router receives from the guest."""

    def pair(key: str, parse: Any) -> str:
        return f"{parse(row.get(f'{key}-rx', '0'))}/{parse(row.get(f'{key}-tx', '0'))}"

    rate, burst, threshold = (pair(key, _octets) for key in _RATES[:3])
    if rate == "0/0":
        return {}
    if burst == "0/0":
        return attributes.rate_limit(rate)
    text = f"{rate} {burst} {threshold} {pair(_RATES[3], lambda t: 0 if t == '0' else seconds(t))}"
    priority = row.get("rate-limit-priority", "8")
    least = pair("rate-limit-min", _octets)
    text += f" {priority}" + (f" {least}" if least != "0/0" else "")
    parse_rate_limit(text)
    return attributes.rate_limit(text)


def _quota(row: Row, plan: str, found: Found) -> dict[str, Any]:
    both, down, up = (_octets(row.get(f"{key}-limit", "0")) for key in ("transfer", "download", "upload"))
    if not both and (down or up):
        both = down + up
        found.change("limits of download and upload count together here", plan)
    period = row.get("reset-counters-interval", "disabled")
    if period not in (*_PERIODS, "disabled"):
        found.change(f"counters that begin anew {period} don't here: the quota is for all time", plan)
    return {"quota_bytes": both, "quota_period": _PERIODS.get(period, "total")} if both else {}


def _windows(own: list[tuple[Row, Row]], plan: str, found: Found) -> dict[str, Any]:
    """When it is open; with limitations for several times of the week each time has its own speed."""
    try:
        hours = [_hours(link) for link, _ in own]
        if len(own) == 1:
            return {"windows": hours[0]}
        if "" in hours or len(set(hours)) < len(hours):
            found.change("the profile has several limitations at a time: only the first one counts here", plan)
            return {"windows": hours[0]}
        found.change("the profile has limitations for several times: speeds follow them, data is the first one's", plan)
        speeds = [_speed(_rate(limitation)) for _, limitation in own]
        pieces = [f"{piece}{speed}" for text, speed in zip(hours, speeds, strict=True) for piece in text.split(", ")]
        return {"windows": attributes.windows(", ".join(pieces))}
    except (ValueError, UserError):
        found.change("its hours can't be read: it is open always", plan)
        return {}


def _speed(rate: dict[str, Any]) -> str:
    words = (format_bits_per_second(rate[column]) for column in ("rate_down_bps", "rate_up_bps")) if rate else ()
    return " @" + "/".join(words) if rate else ""


def _hours(link: Row) -> str:
    """Empty for always; raises ValueError or UserError."""
    start, end = seconds(link.get("from-time", "0s")) // 60, seconds(link.get("till-time", "23:59:59")) // 60
    names = link.get("weekdays", "").split(",") if link.get("weekdays") else list(DAY_NAMES)
    days = "+".join(day.strip()[:3] for day in names)
    last = "24:00" if end >= 1439 else f"{end // 60:02}:{end % 60:02}"
    return attributes.windows(f"{days} {start // 60:02}:{start % 60:02}-{last}")


def _validity(profile: Row, plan: str, found: Found) -> dict[str, Any]:
    text = profile.get("validity", "unlimited")
    if text == "unlimited":
        return {}
    if profile.get("starts-when", "assigned") == "assigned":
        found.change("its validity began when it was assigned, here it begins with the first login", plan)
    try:
        return {"validity_s": seconds(text) or None}
    except ValueError:
        found.change(f"validity={text!r} can't be read: it is valid for ever", plan)
        return {}


def _sharing(menus: Menus, profile: Row) -> int | None:
    """What the profile says, else what most of its users have."""
    override = profile.get("override-shared-users", "off")
    if override != "off":
        return int(override) if override.isdecimal() else None
    users = {
        row.get("user")
        for row in menus.get("user-manager user-profile", [])
        if row.get("profile") == profile.get("name")
    }
    shares = Counter(_shared(row) for row in menus.get("user-manager user", []) if row.get("name") in users)
    return shares.most_common(1)[0][0] if shares else 1


def _shared(user: Row) -> int | None:
    text = user.get("shared-users", "1")
    return int(text) if text.isdecimal() and int(text) else None


# Users


def _users(menus: Menus, profiles: dict[str, tuple[str, Row]], plan: str | None, zone: ZoneInfo, found: Found) -> None:
    chosen: dict[str, str] = {}
    for link in menus.get("user-manager user-profile", []):
        name = link.get("user", "")
        if name in chosen:
            found.change("has several profiles, of which the export doesn't tell the one in use: the last counts", name)
        chosen[name] = link.get("profile", "")
    groups = {row.get("name", ""): row for row in menus.get("user-manager user group", [])}
    for user in menus.get("user-manager user", []):
        name = user.get("name", "")
        own, profile = profiles.get(chosen.get(name, ""), (plan, {}))
        if own is None:
            found.leave_out("has no profile: say --plan for those", name)
        elif not user.get("password"):
            found.leave_out("has no password in the file: export with show-sensitive", name)
        elif user.get("otp-secret"):
            found.leave_out("logs in with one-time passwords, which there are none of here", name)
        else:
            _user(user, groups.get(user.get("group", ""), {}), own, profile, zone, found)


def _user(user: Row, group: Row, plan: str, profile: Row, zone: ZoneInfo, found: Found) -> None:
    name = user["name"]
    terms = attributes.Terms()
    for row in (group, user):
        for pair in filter(None, row.get("attributes", "").split(",")):
            attribute, _, value = pair.partition(":")
            attributes.take(terms, attribute.strip(), value.strip(), zone, reply=True)
    for note in terms.notes:
        found.change(note, name)
    if user.get("caller-id"):
        found.change("caller-id (only from one device) can't be taken over", name)
    overrides = dict(terms.plan)
    own = plan in found.plans and profile.get("override-shared-users", "off") == "off"
    if own and _shared(user) != found.plans[plan]["simultaneous"]:
        overrides["simultaneous"] = _shared(user)
    values = {**terms.account, "enabled": user.get("disabled", "no") != "yes"}
    account = FoundAccount(name, user["password"], plan, values, overrides)
    if is_voucher(account, found) and plan in found.plans:
        account.batch = f"{plan}-imported"
        found.batches.setdefault(account.batch, FoundBatch(account.batch, plan))
    found.add(account)


# CSV

_NAME, _PASSWORD, _PROFILE = ("username", "user", "name", "login"), ("password", "pass"), ("profile", "plan")


def is_csv(text: bytes) -> bool:
    return b"/user-manager" not in text and b"," in text.split(b"\n", 1)[0]


def read_csv(text: bytes) -> list[Row]:
    """Rows with name, password and profile; a first line that names the columns is understood."""
    lines = list(csv.reader(text.decode("utf-8-sig", "replace").splitlines()))
    heads = [head.strip().lower() for head in lines[0]] if lines else []
    places = [
        next((heads.index(word) for word in words if word in heads), None) for words in (_NAME, _PASSWORD, _PROFILE)
    ]
    if places[0] is None or places[1] is None:
        places, heads = [0, 1, None], []
    return [
        {
            key: line[place].strip() if place is not None and place < len(line) else ""
            for key, place in zip(("name", "password", "profile"), places, strict=True)
        }
        for line in lines[bool(heads) :]
        if line
    ]


def add_csv(row: Row, plan: str | None, found: Found) -> None:
    own = row["profile"] or plan
    if not own:
        found.leave_out("has no profile: say --plan for those", row["name"])
    elif not row["password"]:
        found.leave_out("has no password in the file", row["name"])
    else:
        found.add(FoundAccount(row["name"], row["password"], own))
