"""Making a dynamic VHD larger: a longer table if need be, then the footers."""

from __future__ import annotations

from ringminus.disks.files import HostFile
from ringminus.disks.vhd.blocks import Blocks
from ringminus.disks.vhd.footer import sealed, set_size
from ringminus.disks.vhd.table import BlockTable, empty_table
from ringminus.disks.vhd.wire import BAT_ENTRY_SIZE, SECTOR, DynamicHeader, Footer


def _room(table: BlockTable) -> int:
    """How many entries the table can have where it is, up to the first thing behind it."""
    starts = [begin for begin, _ in table.reserved] + [
        place - table.bitmap_size for place in table.data_offsets() if place
    ]
    behind = min((start for start in starts if start > table.offset), default=0)
    used = -(-table.capacity * BAT_ENTRY_SIZE // SECTOR) * SECTOR
    return (max(used, behind - table.offset) if behind else used) // BAT_ENTRY_SIZE


def grow(file: HostFile, footer: Footer, header: DynamicHeader, blocks: Blocks, size: int) -> None:
    """Make it a disk of `size` bytes. `blocks` must be steady.

    A killed process leaves the old size or the new one: a table may have more entries than the disk needs,
    so it grows first; of the two footers the last one counts and is written last.
    """
    old = BlockTable(file, footer, header)
    needed = -(-size // header.block_size)
    if needed > old.capacity:
        table = bytearray(empty_table(needed))
        stored = file.read_at(old.offset, len(old.entries) * BAT_ENTRY_SIZE)
        table[: len(stored)] = stored
        if needed <= _room(old):
            offset = old.offset
            file.write_at(offset + len(stored), table[len(stored) :])
        else:
            # the old table's place stays unused; it is at most 4 MiB
            offset = blocks.append(bytes(table))
        file.flush()
        header.table_offset, header.max_table_entries = offset, needed
        file.write_at(footer.data_offset, sealed(header).pack())
        file.flush()
    set_size(footer, size)
    blocks.write_footers()
    file.flush()
    blocks.grow_to(BlockTable(file, footer, header))
