"""Fixed VHDs: the disk's bytes, and the footer behind them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.files import HostFile
from ringminus.disks.raw import Raw
from ringminus.disks.vhd.facts import footer_facts
from ringminus.disks.vhd.footer import FoundFooter, set_size
from ringminus.disks.vhd.wire import LARGEST_DISK, SECTOR
from ringminus.errors import ConfigError


class FixedVhd(Raw):
    """A raw disk with a footer, which no guest can reach."""

    format = "vhd"

    def __init__(self, file: HostFile, found: FoundFooter) -> None:
        """Raises `CorruptDisk` if the file is shorter than the disk."""
        super().__init__(file, SECTOR)
        self._footer = footer = found.footer
        if footer.current_size + SECTOR > -(-file.size // SECTOR) * SECTOR:
            raise CorruptDisk(f"{file.path} is cut off: its disk has {footer.current_size} bytes")
        self._take_size(footer.current_size)
        self.physical_sector_size = SECTOR
        self.identity = UUID(bytes_le=footer.unique_id)

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    def resize(self, size: int) -> None:
        self._must_write()
        if size <= 0 or size % SECTOR or size > LARGEST_DISK:
            raise ConfigError(f"a size of {size} bytes: a VHD has whole sectors of 512 bytes, at most 2040G")
        old = self.size
        set_size(self._footer, size)
        # a footer ends the file at every moment; what the old one leaves in the disk is cleared afterwards
        self._file.write_at(size, self._footer.pack())
        self._file.truncate(size + SECTOR)
        if size > old:
            self._file.zero(old, min(SECTOR, size - old))
        self._take_size(size)
        self._file.flush()

    def info(self) -> dict[str, Any]:
        facts = super().info()
        facts["kind"] = "fixed"
        return facts | footer_facts(self._footer)
