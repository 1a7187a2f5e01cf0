"""What root makes of wishes: each as a whole or not at all, whatever is wrong with it or goes wrong meanwhile.

Changes become the file's once they work, so a power cut leaves the old configuration and the wish, to be granted anew.
"""

import contextlib
import logging
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from appliance import apply as applying
from appliance import config as configuration
from appliance import core, modules, supervise, systemd_units, wishes
from appliance.config import Config
from appliance.errors import UserError
from appliance.files import written
from appliance.wishes import Wish

PAGES_BACK_S = 30.0  # the admin's process starts anew when modules come or go

log = logging.getLogger(__name__)


def grant(file: Path) -> list[str]:
    """All that wait; a line each."""
    applying.must_be_root()
    state, said = configuration.salvage_paths(file).state, []
    with wishes.folder(state) as folder:
        while numbers := wishes.waiting(folder):
            for number in numbers:
                who, refusal = _granted(file, folder, number)
                said.append(f"wish of {who}: {refusal or 'granted'}")
                wishes.answer(state, number, refusal)
                wishes.remove(folder, f"{number}.json")
    return said


def grant_own(file: Path, wish: Wish) -> str:
    """What root itself wants done in the same way: why it wasn't, in a line, or nothing."""
    try:
        _do(configuration.load(file), wish)
    except UserError as error:
        return " ".join(str(error).split()).removeprefix(f"{file}: ")
    except (OSError, ValueError, RecursionError, subprocess.SubprocessError) as error:
        log.exception("a wish couldn't be granted")
        return f"that went wrong, and all is as it was: {type(error).__name__}; the journal says more"
    return ""


def _granted(file: Path, folder: int, number: str) -> tuple[str, str]:
    """Who has wished, and why it wasn't granted, in a line; whoever waits for an answer gets one."""
    try:
        wish = wishes.read(folder, number)
    except UserError as error:
        return "nobody", str(error)
    return ascii(wish.who), grant_own(file, wish)


def _do(config: Config, wish: Wish) -> None:
    """Raises UserError; then all is as before."""
    after = wishes.edited(config, {**wish.settings, **wishes.placed(config, wish)})
    wanted = wishes.wanted(wish)
    before = {module: module in modules.enabled(config) for module in wanted}
    with _files(config, wish):
        try:
            applying.switch(after, wanted)
            _pages_answer(after)
            if after.text != config.text:
                _keep(after)
        except BaseException:
            with contextlib.suppress(Exception):
                applying.switch(config, before)
            raise


@contextmanager
def _files(config: Config, wish: Wish) -> Iterator[None]:
    """In their places; those that were there before, if the block fails."""
    after: dict[Path, bytes] = {}
    groups: dict[Path, str] = {}
    for name, data in wish.files.items():
        upload = wishes.uploads()[name]
        places = [config.paths.state / path for path in upload.paths]
        groups |= dict.fromkeys(places, upload.group)
        after |= dict.fromkeys(places, b"")
        if data:
            after[config.paths.state / upload.place(data)] = data
    before = {path: _content(path) for path in after}
    try:
        _put(after, groups)
        yield
    except BaseException:
        _put(before, groups)
        raise


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _put(files: Mapping[Path, bytes], groups: Mapping[Path, str]) -> None:
    for path, data in files.items():
        if not data:
            path.unlink(missing_ok=True)
            continue
        group = groups[path]
        with written(path, 0o600 if group == "root" else 0o640, "root", group) as file:
            file.write(data)


def _keep(config: Config) -> None:
    config.file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    mode = stat.S_IMODE(config.file.stat().st_mode) if config.file.exists() else 0o644
    with written(config.file, mode, "root", "root") as file:
        file.write(config.text.encode())


def _pages_answer(config: Config) -> None:
    """What would leave its owner before a dead page is refused."""
    if not systemd_units.is_running() and not supervise.is_running(config):
        return
    until = time.monotonic() + PAGES_BACK_S
    while found := list(core.problems(config)):
        if time.monotonic() > until:
            raise UserError(f"with that, {found[0]}")
        time.sleep(0.5)
