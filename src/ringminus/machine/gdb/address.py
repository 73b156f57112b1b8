"""Where gdb can find us."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import ConfigError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class GdbAddress:
    """A TCP port of a host's address, 0 for a free one; or the path of a Unix socket."""

    host: str = LOOPBACK
    port: int = 0
    path: Path | None = None


def parse_gdb(text: str) -> GdbAddress:
    """`:PORT`, `HOST:PORT`, `[HOST]:PORT` or `unix:PATH`; raises `ConfigError`. Without a host only
    programs of this one can come."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return GdbAddress(path=Path(text.removeprefix("unix:")))
    host, colon, port = text.removeprefix("tcp:").rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"--gdb {text}: say :PORT, HOST:PORT or unix:PATH, such as --gdb :1234")
    return GdbAddress(host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port))
