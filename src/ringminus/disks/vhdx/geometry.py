"""Where in the BAT a block's entry is ([MS-VHDX] 2.4 and 2.5)."""

from __future__ import annotations

from dataclasses import dataclass

from ringminus.disks.vhdx.wire import SECTORS_PER_CHUNK


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes in bytes. Payload blocks come in chunks, each with one sector bitmap block, whose entry follows
    the chunk's; blocks are counted without those."""

    size: int
    block_size: int
    sector_size: int
    differencing: bool

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks in a chunk."""
        return SECTORS_PER_CHUNK * self.sector_size // self.block_size

    @property
    def blocks(self) -> int:
        """Payload blocks of the disk; the last one may reach beyond the disk's end."""
        return -(-self.size // self.block_size)

    @property
    def chunks(self) -> int:
        return -(-self.blocks // self.chunk_ratio)

    @property
    def entries(self) -> int:
        """Entries that the BAT must have."""
        if self.differencing:
            return self.chunks * (self.chunk_ratio + 1)
        return self.blocks + (self.blocks - 1) // self.chunk_ratio

    def index_of(self, block: int) -> int:
        """A payload block's entry."""
        return block + block // self.chunk_ratio

    def bitmap_index_of(self, chunk: int) -> int:
        """The entry of a chunk's sector bitmap block."""
        return chunk * (self.chunk_ratio + 1) + self.chunk_ratio

    def unused_entries(self) -> range:
        """Entries among those of the disk that belong to no block: the rest of a differencing disk's last
        chunk."""
        return range(self.index_of(self.blocks - 1) + 1, self.entries - self.differencing)

    def resized(self, size: int) -> Geometry:
        """The same with another size."""
        return Geometry(size, self.block_size, self.sector_size, self.differencing)
