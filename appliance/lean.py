"""`python -m appliance.lean MODULE …`: a process of ours that doesn't load what a library loads for others.

peewee imports each database driver that is installed, 2.5 MB in every process of the machine. Whoever has PostgreSQL
gets its driver from appliance/postgresql.py.
"""

import runpy
import sys
from importlib.abc import MetaPathFinder
from typing import Any


class WithoutDrivers(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        peewee = sys.modules.get("peewee")
        if fullname == "psycopg2" and peewee is not None and not hasattr(peewee, "Model"):
            raise ImportError("not while peewee is being imported")


if __name__ == "__main__":
    sys.meta_path.insert(0, WithoutDrivers())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
