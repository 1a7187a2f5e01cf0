"""The first run, step by step: each is saved on its own, so it can be left and gone on with at any time."""

from collections.abc import Iterator, Mapping
from typing import Any

from appliance import config as configuration
from appliance import modules, wishes
from appliance.admin import drafts, people, settings, way_in
from appliance.admin.devices import devices
from appliance.admin.frame import Ask, Page
from appliance.admin.switches import waiting_url
from appliance.config import Config, Site
from appliance.errors import UserError
from appliance.service import Setting, Step

HOME = "/setup"
GATEWAY = "gateway.enabled"
SITE_KEYS = ("site.name", "site.timezone", "site.contact", "portal.languages")


OWN = (
    Step("/users/new?first=1", "Your own log-in", lambda config: people.has_owner()),
    Step("/setup/site", "The site", lambda config: config.site != Site()),
    Step("/setup/modules", "What this box does", lambda config: bool(modules.enabled(config))),
)


def steps(config: Config) -> Iterator[Step]:
    yield from OWN
    for module in modules.enabled(config):
        yield from module.steps


def next_url(config: Config, after: str = "") -> str:
    """Of the first step that isn't done, of those after `after` if it is given."""
    left = list(steps(config))
    paths = [step.path for step in left]
    begin = paths.index(after) + 1 if after in paths else 0
    return next((step.path for step in left[begin:] if not step.done(config)), HOME)


def overview(ask: Ask) -> Any:
    config = settings.current(ask.config)
    listed = [(step, step.done(config)) for step in steps(config)]
    going_on = next((step.path for step, done in listed if not done), "")
    after = [end for module in modules.enabled(config) for end in module.after_setup]
    return ask.page("setup.html", steps=listed, going_on=going_on, after=after)


def site(ask: Ask) -> Any:
    return _site(ask, *drafts.refused(ask))


def _site(ask: Ask, typed: Mapping[str, str], error: str) -> Any:
    return _form(ask, "setup_site.html", [s for key in SITE_KEYS if (s := wishes.settings().get(key))], typed, error)


def save_site(ask: Ask) -> Any:
    form = ask.form()
    wanted = [setting for key in SITE_KEYS if (setting := wishes.settings().get(key))]
    try:
        number = settings.ask_for(ask, wanted, form)
    except UserError as error:
        return _site(ask, form, str(error))
    return _go_on(ask, number, "/setup/site")


def what(ask: Ask) -> Any:
    return _what(ask, *drafts.refused(ask))


def _what(ask: Ask, typed: Mapping[str, str], error: str, unsure: bool = False) -> Any:
    enabled = modules.enabled(ask.config)
    chosen = [m.name for m in enabled or modules.MODULES[:1]]
    if error:
        chosen = [m.name for m in modules.MODULES if f"{drafts.MODULE}{m.name}" in typed]
    more: dict[str, Any] = {"modules": modules.MODULES, "enabled": enabled, "chosen": chosen, "devices": devices()}
    more |= {"unsure": unsure, "here": way_in.here()}
    if not error:
        typed = {"gateway": "yes" if settings.current(ask.config).gateway.enabled else "no"}
    return _form(ask, "setup_modules.html", _device_settings(), typed, error, **more)


def save_what(ask: Ask) -> Any:
    form = ask.form()
    enabled = modules.enabled(ask.config)
    on = [m.name for m in modules.MODULES if f"{drafts.MODULE}{m.name}" in form and m not in enabled]
    own = form.get("gateway", "yes") == "yes"
    form |= {GATEWAY: "yes" if own else "no"}
    wanted = [setting for setting in _gateway_settings() if own or setting.kind != "device"]
    try:
        if not on and not enabled:
            raise UserError("Choose at least one: without any, this box does nothing.")
        number = settings.ask_for(ask, wanted, form, on)
    except UserError as error:
        return _what(ask, form, str(error), isinstance(error, way_in.Unsure))
    return _go_on(ask, number, "/setup/modules")


def _device_settings() -> list[Setting]:
    return [setting for setting in wishes.settings().values() if setting.kind == "device"]


def _gateway_settings() -> list[Setting]:
    """Whether this box is one, and by which devices; none where no module has them."""
    return [setting for setting in wishes.settings().values() if setting.key == GATEWAY or setting.kind == "device"]


def _form(ask: Ask, template: str, of: list[Setting], typed: Mapping[str, str], error: str, **more: Any) -> Any:
    config = settings.current(ask.config)
    now = {setting.key: settings.typed(configuration.value(config, setting.key)) for setting in of}
    return ask.page(
        template,
        400 if error else 200,
        settings=of,
        typed=now | dict(typed),
        error=error,
        options=settings.options,
        proposals=settings.proposals,
        default=settings.default,
        **more,
    )


def _go_on(ask: Ask, number: str, here: str) -> Any:
    """By way of the step list, as what comes next may be a module's that only now becomes active."""
    where = f"{HOME}/next?after={here}"
    return ask.done(waiting_url(number, where)) if number else ask.done(where)


def go_on(ask: Ask) -> Any:
    return ask.done(next_url(settings.current(ask.config), ask.query().get("after", "")))


PAGES = (
    Page(HOME, overview, role="owner"),
    Page("/setup/site", site, role="owner"),
    Page("/setup/site", save_site, "POST", role="owner"),
    Page("/setup/modules", what, role="owner"),
    Page("/setup/modules", save_what, "POST", role="owner"),
    Page("/setup/next", go_on, role="owner"),
)
