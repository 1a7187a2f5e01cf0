"""The configuration's keys as forms: what is typed becomes a wish, which root grants or refuses."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import available_timezones

import bottle

from appliance import config as configuration
from appliance import first_boot, modules, wishes
from appliance.accounts.models import core_db
from appliance.admin import audit, drafts, reach, way_in
from appliance.admin.frame import Ask, Page
from appliance.admin.switches import waiting_url
from appliance.config import Config
from appliance.config_portal import Texts
from appliance.errors import UserError
from appliance.service import Group, Setting

_LANGUAGE = r"^\[([a-z]{2,3})\][ \t]*$\n?"


def groups(ask: Ask) -> Sequence[Group]:
    """Those that whoever asks may change."""
    every = [group for module in reversed(modules.running(ask.config)) for group in module.settings]
    return [group for group in reach.groups_of(ask.person, every) if group.settings]


def current(config: Config) -> Config:
    """As it is now: the admin's process isn't started anew for each key."""
    return configuration.load(config.file)


def show(ask: Ask, name: str = "site") -> Any:
    group, config = _group(ask, name), current(ask.config)
    now = {s.key: typed(configuration.value(config, s.key)) for s in group.settings}
    wanted, refusal = drafts.refused(ask)
    return _page(ask, group, now | dict(wanted), refusal)


def change(ask: Ask, name: str) -> Any:
    group, form = _group(ask, name), ask.form()
    try:
        number = ask_for(ask, group.settings, form, files=_files(group, form))
    except UserError as error:
        return _page(ask, group, form, str(error), isinstance(error, way_in.Unsure))
    where = f"/settings/{name}"
    return ask.done(waiting_url(number, where)) if number else ask.done(where, "Nothing was changed.")


def _files(group: Group, form: Mapping[str, str]) -> dict[str, bytes]:
    """What the browser brought; empty is to go."""
    found = {upload.name: b"" for upload in group.uploads if f"remove {upload.name}" in form}
    for upload in group.uploads:
        sent = bottle.request.files.get(upload.name)
        if sent is not None and (content := sent.file.read(upload.max_bytes + 1)):
            found[upload.name] = content
    return found


def ask_for(
    ask: Ask,
    settings: Sequence[Setting],
    form: Mapping[str, str],
    on: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> str:
    """The wish's id, empty where all is so already; raises UserError with what the form's page is to say.

    `on` are modules to switch on with it.
    """
    config = current(ask.config)
    before = {s.key: typed(configuration.value(config, s.key)) for s in settings if s.key in form}
    after = {key: form[key].strip().replace("\r\n", "\n") for key in before}
    changes = {key: meant(key, after[key]) for key in before if after[key] != before[key]}
    if not changes and not on and not files:
        return ""
    try:
        meant_so = wishes.edited(config, changes)
    except UserError as error:
        raise UserError(str(error).removeprefix(f"{config.file}: ")) from None
    way_in.verify(config, meant_so, on, form)
    with core_db.atomic():
        audit.record(
            ask.person.name, "changed", "settings", before, after | dict.fromkeys([*on, *(files or ())], "new")
        )
        number = wishes.wish(config, ask.person.name, changes, dict.fromkeys(on, True), files)
    drafts.keep(ask, number, form)
    return number


def typed(value: object) -> str:
    """As it stands in a form."""
    if isinstance(value, bool):
        return _word(value)
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, Texts):
        texts = dict(value.by_language)
        return texts[""] if texts.keys() == {""} else "\n".join(f"[{code}]\n{text}" for code, text in texts.items())
    return "" if value is None else str(value)


def meant(key: str, text: str) -> object:
    """What TOML is to have for it; None, the default, for nothing. Raises UserError."""
    hint = configuration.hint(key)
    if not text:
        return None
    if hint is bool:
        return text == "yes"
    if hint is Texts:
        return _texts(text)
    if hint is int:
        if not text.isascii() or not text.isdecimal():
            raise UserError(f"{_title(key)}: a whole number is needed, not {text!r}")
        return int(text)
    if getattr(hint, "__origin__", None) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _texts(text: str) -> object:
    """One, or by the language that is in a line of its own before each."""
    if not re.match(_LANGUAGE, text, re.M):
        return text
    _, *parts = re.split(_LANGUAGE, text, flags=re.M)
    return {code: part.strip() for code, part in zip(parts[::2], parts[1::2], strict=True)}


def options(setting: Setting) -> Sequence[str]:
    """What may be chosen; none where anything may be typed."""
    if "|" in setting.kind:
        return setting.kind.split("|")
    return ("yes", "no") if configuration.hint(setting.key) is bool else ()


def proposals(setting: Setting) -> Sequence[str]:
    """What is offered while somebody types."""
    if setting.kind == "zone":
        return sorted(available_timezones())
    return first_boot.ethernet() if setting.kind == "device" else ()


def default(setting: Setting) -> str:
    return typed(configuration.value(Config(), setting.key))


def _page(ask: Ask, group: Group, values: Mapping[str, str], error: str, unsure: bool = False) -> str:
    return ask.page(
        "settings.html",
        400 if error else 200,
        group=group,
        groups=groups(ask),
        typed=values,
        error=error,
        unsure=unsure,
        here=way_in.here() if any(s.kind == "device" for s in group.settings) else None,
        options=options,
        proposals=proposals,
        default=default,
    )


def _group(ask: Ask, name: str) -> Group:
    for group in groups(ask):
        if group.name == name:
            return group
    raise UserError(f"there are no settings {name!r}")


def _title(key: str) -> str:
    return wishes.settings()[key].title


def _word(on: bool) -> str:
    return "yes" if on else "no"


PAGES = (
    Page("/settings", show, role="owner", nav="Settings"),
    Page("/settings/<name>", show, role="owner"),
    Page("/settings/<name>", change, "POST", role="owner"),
)
