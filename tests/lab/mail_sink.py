"""A mail server that keeps what it is sent: `mail_sink.py ADDRESS PORT FOLDER`, a file for each message."""

import asyncio
import sys
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session


class Sink:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self._number += 1
        new = self._folder / f"{self._number}.new"
        new.write_bytes(envelope.content if isinstance(envelope.content, bytes) else b"")
        new.rename(self._folder / f"{self._number}.eml")
        return "250 taken"


async def serve(address: str, port: int, folder: Path) -> None:
    loop, sink = asyncio.get_running_loop(), Sink(folder)
    server = await loop.create_server(lambda: SMTP(sink, loop=loop), address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
