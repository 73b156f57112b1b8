"""What a person asks of a machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import ConfigError
from ringminus.memory import GIB, MIB

SMALLEST_MEMORY = 64 * MIB
LARGEST_MEMORY = 8 * GIB
DEFAULT_MEMORY = 512 * MIB
UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": GIB}


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """A machine to build: `memory` in bytes, the rest as on the command line."""

    kernel: Path
    initrd: Path | None = None
    command_line: str = ""
    memory: int = DEFAULT_MEMORY


def parse_memory(text: str) -> int:
    """A size such as `512M` or `2G` in bytes; raises `ConfigError` for what is none or is out of range."""
    body = text.strip().upper().removesuffix("IB").removesuffix("B")
    number, unit = (body[:-1], body[-1:]) if body[-1:] in UNITS and body[-1:] else (body, "")
    if not number.isascii() or not number.isdigit():
        raise ConfigError(f"{text!r} is not a size: say for example 512M or 2G")
    size = int(number) * UNITS[unit]
    if not SMALLEST_MEMORY <= size <= LARGEST_MEMORY:
        raise ConfigError(f"{text} of memory: a guest has 64M to 8G")
    if size % MIB:
        raise ConfigError(f"{text} of memory is not a whole number of MiB")
    return size
