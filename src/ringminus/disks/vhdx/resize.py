"""Another size for an open disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringminus.errors import ConfigError

if TYPE_CHECKING:
    from ringminus.disks.vhdx.disk import Vhdx


def resize(disk: Vhdx, size: int) -> None:
    raise ConfigError("not yet")
