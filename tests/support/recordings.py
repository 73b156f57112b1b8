"""The recordings that tests replay."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.capture.reader import open_capture
from ringminus.machine.replay.devices import make
from ringminus.machine.replay.guest import GuestReplay
from ringminus.machine.replay.recording import Recording
from ringminus.machine.replay.result import Result
from ringminus.tap import Event

HERE = Path(__file__).parents[1] / "unit" / "machine" / "replay"
STORAGE, NETWORK = HERE / "storage.pcapng.gz", HERE / "network.pcapng.gz"


def unpacked(directory: Path, packed: Path = STORAGE) -> Path:
    """A recording as a capture file."""
    path = directory / packed.stem
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


@cache
def _read(packed: Path) -> tuple[Event, ...]:
    import tempfile

    with tempfile.TemporaryDirectory() as name, open_capture(unpacked(Path(name), packed)) as source:
        return tuple(source)


def events(packed: Path = STORAGE) -> list[Event]:
    """The events of a recording; they are not to be changed."""
    return list(_read(packed))


def replayed(recorded: Sequence[Event], channel: str | None = None) -> Result:
    """Play the guest's side against our own device, as the recording tells of it."""
    recording = Recording(recorded)
    device = recording.device(channel)
    made = make(device)
    player = GuestReplay(device, made.device, recording.version, made.network)
    try:
        return player.run()
    finally:
        player.close()
