"""Debian's Chromium inside a network namespace, and what is asked of every page that it shows."""

import io
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import unescape
from importlib import resources
from pathlib import Path
from typing import Any

import html5lib
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from tests.lab.namespace import Namespace, wait_until
from tests.lab.world import World

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PHONE, DESKTOP = (390, 844), (1280, 900)
SERIOUS = ("serious", "critical")
AXE = (resources.files("selenium_axe_python") / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
_DRIVER_PORT = 9515
_HARMLESS = ("Failed to load resource: the server responded with a status of",)  # pages that refuse, which is asked for
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--lang=en",
    "--hide-scrollbars",
)


class Browser:
    """One Chromium; what it opens it asks for from inside of the namespace."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    # How it looks

    def begin(self) -> None:
        """As it comes out of the box: a phone, light, English, with scripts and without cookies."""
        self.scripts(True)
        self.size(PHONE)
        self.scheme("light")
        self.language("en")
        self.forget()
        self.complaints()  # those of what was done to get here

    def size(self, size: tuple[int, int]) -> None:
        """Of a phone or of a desk; the viewport is exactly that."""
        width, height = size
        values = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self._tell("Emulation.setDeviceMetricsOverride", **values)

    def scheme(self, name: str) -> None:
        self._tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def scripts(self, run: bool) -> None:
        """Those of pages; a test's own run all the same."""
        self._tell("Emulation.setScriptExecutionDisabled", value=not run)

    def language(self, codes: str) -> None:
        agent = self.driver.execute_script("return navigator.userAgent")
        self._tell("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=codes)

    def forget(self) -> None:
        self._tell("Network.clearBrowserCookies")

    def save(self, name: str) -> None:
        """What is seen, for the handbook; few colours make it small."""
        seen = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        seen.quantize(128, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)

    def _tell(self, command: str, **values: Any) -> None:
        self.driver.execute_cdp_cmd(command, values)

    # What people do

    def open(self, url: str) -> None:
        self.driver.get(url)

    @property
    def url(self) -> str:
        return str(self.driver.current_url)

    @property
    def text(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def all(self, css: str) -> Sequence[WebElement]:
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, css)
        return found

    def one(self, css: str) -> WebElement:
        (found,) = self.all(css)
        return found

    def type(self, name: str, text: str) -> None:
        field = self.one(f"main [name='{name}']")
        field.clear()
        field.send_keys(text)

    def choose(self, name: str, option: str) -> None:
        Select(self.one(f"main select[name='{name}']")).select_by_visible_text(option)

    def press(self, css: str) -> None:
        """A button or link; returns on the page that it leads to."""
        before = self.driver.find_element(By.TAG_NAME, "html")
        self.one(css).click()
        self._await_leaving(before)

    def key(self, *keys: str) -> None:
        """To what has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def enter(self) -> None:
        """The Enter key, which sends a form."""
        before = self.driver.find_element(By.TAG_NAME, "html")
        self.key(Keys.ENTER)
        self._await_leaving(before)

    def _await_leaving(self, before: WebElement) -> None:
        wait_until(lambda: _gone(before), 15, f"another page than {self.url}")
        wait_until(lambda: self.script("return document.readyState") == "complete", 15, self.url)

    def focused(self) -> dict[str, Any]:
        """What has the focus: its name or text, and whether one can see that."""
        found: dict[str, Any] = self.script(_FOCUSED)
        return found

    def script(self, text: str, *values: object) -> Any:
        return self.driver.execute_script(text, *values)

    # What is asked of a page

    def complaints(self) -> list[str]:
        """Of the console since the last look."""
        lines = [str(entry["message"]) for entry in self.driver.get_log("browser")]
        return [line for line in lines if not any(harmless in line for harmless in _HARMLESS)]

    def barriers(self, *rules: str) -> list[str]:
        """axe-core's serious and critical findings, by these rules or by all."""
        if not self.script("return typeof axe != 'undefined'"):
            self.script(AXE)
        found = self.driver.execute_async_script(_AXE_RUN, list(rules))
        return [
            f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}"
            for rule in found
            if rule["impact"] in SERIOUS
            for node in rule["nodes"]
        ]

    def too_wide(self) -> int:
        """Pixels by which the page itself has to be pushed sideways."""
        return int(self.script("return document.documentElement.scrollWidth - window.innerWidth"))

    def source(self) -> str:
        """As it came from the server."""
        return str(self._fetch(self.url)[1])

    def look(self, url: str) -> tuple[str, list[str]]:
        """Of another page of the same site, without going there: its media type, and the paths of its links."""
        kind, text = self._fetch(url)
        return kind, [unescape(link) for link in re.findall(r'href="(/[^"]*)"', text)]

    def _fetch(self, url: str) -> tuple[str, str]:
        kind, text = self.driver.execute_async_script(_FETCH, url)
        return str(kind), str(text)

    def requests(self) -> list[str]:
        """What the page has loaded beside itself."""
        names: list[str] = self.script("return performance.getEntriesByType('resource').map(e => e.name)")
        return names


_AXE_RUN = """
const [rules, done] = arguments, options = {resultTypes: ["violations"]};
if (rules.length) options.runOnly = rules;
axe.run(options).then(result => done(result.violations));
"""
_FETCH = """
const [url, done] = arguments;
fetch(url).then(async answer => done([answer.headers.get("content-type"), await answer.text()]));
"""
_FOCUSED = """
const at = document.activeElement, style = getComputedStyle(at);
return {name: at.name || at.innerText || at.value || at.tagName, tag: at.tagName,
        seen: parseFloat(style.outlineWidth) > 0 && style.outlineStyle != 'none'};
"""


def _gone(element: WebElement) -> bool:
    try:
        element.is_enabled()
    except Exception:  # of several kinds, by what the page is doing
        return True
    return False


def faults(page: str) -> list[str]:
    """What a strict reader of HTML finds wrong (https://html.spec.whatwg.org/#parse-errors), and ids given twice."""
    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    tree = parser.parse(page)
    found = [f"line {place[0]}: {code} {values}" for place, code, values in parser.errors]
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    found += [f"two elements with the id {one}" for one in sorted({one for one in ids if ids.count(one) > 1})]
    aims = {element.get("for") for element in tree.iter("label")} - {None}
    return found + [f"a label for {aim}, which isn't there" for aim in sorted(aims - set(ids))]


def fill(page: Browser, **typed: str) -> None:
    for name, text in typed.items():
        page.type(name, text)


def whole(page: Browser, where: str) -> list[str]:
    """What is wrong with the page that is shown, at this size."""
    page.scheme("light")
    found = [f"{where}: HTML: {fault}" for fault in faults(page.source())]
    if (pixels := page.too_wide()) > 0:
        found.append(f"{where}: {pixels} pixels too wide")
    for scheme, rules in (("light", []), ("dark", ["color-contrast"])):  # nothing else is another one in the dark
        page.scheme(scheme)
        found += [f"{where}, {scheme}: {barrier}" for barrier in page.barriers(*rules)]
    return found + [f"{where}: console: {line}" for line in page.complaints()]


@contextmanager
def browser(world: World, machine: Namespace) -> Iterator[Browser]:
    """Started inside `machine`; chromedriver listens in there and is spoken to through a relay."""
    folder = machine.directory / "chromium"
    folder.mkdir()
    environment = {"HOME": str(folder), "TMPDIR": str(folder)}
    words = "chromedriver", f"--port={_DRIVER_PORT}"
    process = machine.popen(*words, env=environment)
    machine.await_listener(_DRIVER_PORT)
    port = _free_port()
    world.relay(port, machine, f"127.0.0.1:{_DRIVER_PORT}")
    driver = webdriver.Remote(f"http://127.0.0.1:{port}", options=_options(folder))
    try:
        driver.set_page_load_timeout(30)
        yield Browser(_with_devtools(driver))
    finally:
        driver.quit()
        process.terminate()
        shutil.rmtree(folder, ignore_errors=True)


def _options(folder: Path) -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (*_ARGUMENTS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.accept_insecure_certs = True
    return options


def _with_devtools(driver: Any) -> Any:
    """Commands of chromedriver's own that a remote driver doesn't know."""
    commands = driver.command_executor._commands
    commands["cdp"] = ("POST", "/session/$sessionId/goog/cdp/execute")
    commands["getLog"] = ("POST", "/session/$sessionId/se/log")
    driver.execute_cdp_cmd = lambda name, values: driver.execute("cdp", {"cmd": name, "params": values})["value"]
    driver.get_log = lambda kind: driver.execute("getLog", {"type": kind})["value"]
    return driver


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
