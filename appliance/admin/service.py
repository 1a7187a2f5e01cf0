"""The admin pages as a service."""

import sys

from appliance.service import Directory, Service

ADMIN = Service(
    name="admin",
    description="the admin's pages",
    user="gatehouse-admin",
    groups=("gatehouse-core",),
    command=lambda config: [sys.executable, "-m", "appliance.admin.web"],
    reads=("site", "paths", "database"),
    writes=lambda config: [config.paths.state / "core", config.paths.state / "admin", config.paths.run / "admin"],
)
DIRECTORIES = (
    Directory("state", "admin", "gatehouse-admin", "gatehouse-admin", 0o700),
    Directory("run", "admin", "gatehouse-admin", "gatehouse-admin", 0o2750),
)
