"""Any bytes into one decoder, for long: what the quick and the slow test have in common."""

from collector.decode import Decoder, State
from collector.decoding import state
from tests.fuzz.seeds import EXPORT_S

EVERY = 500  # datagrams between two batches taken


class Target:
    """Five exporters whose states go on, so that templates of one datagram meet the data of another."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.fed = self.flows = 0
        self.recent: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.fed += 1
        self.recent.append(data)
        now_ms = EXPORT_S * 1000 + self.fed
        self.decoder.feed(self.fed % 5, [(now_ms, "192.0.2.1", data)])
        if self.fed % EVERY == 0:
            self.take()

    def take(self) -> None:
        decoded = self.decoder.take()
        flows = decoded.flows
        self.flows += len(flows)
        assert ((flows["family"] == 4) | (flows["family"] == 6)).all()
        assert (flows["first"] <= flows["last"]).all()
        assert (flows["last"] > 0).all()
        assert all(loss.flows > 0 for loss in decoded.losses)
        assert sum(stream.parked_bytes for stream in self.streams()) <= state.PARKED_BYTES
        self.recent.clear()

    def streams(self) -> list[state.Stream]:
        exporters = self.decoder.state.exporters.values()
        return [stream for exporter in exporters for stream in exporter.streams.values()]

    def reload(self) -> None:
        """As if the process had been restarted."""
        kept = State.load(self.decoder.state.dump())
        assert kept == self.decoder.state
        self.decoder = Decoder(kept)
