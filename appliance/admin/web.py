"""The admin's pages as a service: behind nginx, on a unix socket."""

import argparse
import importlib
import logging
import sys
from pathlib import Path

import waitress

from appliance import config as configuration
from appliance import db, modules
from appliance.accounts.models import core_db
from appliance.admin.frame import Frame
from appliance.errors import UserError

THREADS = 4


def main() -> int:
    parser = argparse.ArgumentParser(prog="gatehouse-admin")
    parser.add_argument("--config", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        config = configuration.load(parser.parse_args().config)
        core_db.initialize(db.connect(config.database_url))
        app = Frame(config).app()
        for name in (name for module in modules.enabled(config) for name in module.beside_pages):
            importlib.import_module(name).start(config)
        if config.fleet:
            importlib.import_module("appliance.sites.follower").start(config)
    except UserError as error:
        print(f"gatehouse-admin: {error}", file=sys.stderr)
        return 1
    socket = config.paths.run / "admin" / "admin.sock"
    socket.unlink(missing_ok=True)
    waitress.serve(app, unix_socket=str(socket), unix_socket_perms="660", threads=THREADS, ident=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
