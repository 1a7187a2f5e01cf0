"""What processes of ours have in common: their configuration, their log, and how they are told to end."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import peewee

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import UserError


def run(name: str, description: str, serve: Callable[[Config, threading.Event], None]) -> None:
    """Until `serve` returns, which is to be soon after the event is set: SIGTERM or SIGINT has come then.

    Exits with one line where it raises UserError, or an error of a database.
    """
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--config", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    over = threading.Event()
    try:
        config = configuration.load(parser.parse_args().config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: over.set())
        serve(config, over)
    except (UserError, peewee.PeeweeException) as error:
        sys.exit(f"{name}: {error}")
