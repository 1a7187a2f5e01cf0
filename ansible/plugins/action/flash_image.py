"""Shows how far the module of the same name is, while it runs on this machine."""

import tempfile
import threading
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        with tempfile.TemporaryDirectory(prefix="gatehouse-flash-") as folder:
            progress = Path(folder) / "progress"
            ended = threading.Event()
            shower = threading.Thread(target=_show, args=(progress, ended), daemon=True)
            shower.start()
            try:
                arguments = {**self._task.args, "progress": str(progress)}
                result: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
            finally:
                ended.set()
                shower.join()
        return result


def _show(progress: Path, ended: threading.Event) -> None:
    shown = 0
    last = False
    while not last:
        last = ended.wait(1)
        lines = progress.read_text(encoding="ascii").splitlines() if progress.exists() else []
        for line in lines[shown:]:
            display.display(f"  {line}")
        shown = len(lines)
