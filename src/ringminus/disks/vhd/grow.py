"""Making a dynamic VHD larger: a longer table if need be, then the footers."""

from __future__ import annotations

from ringminus.disks.files import HostFile
from ringminus.disks.vhd.blocks import Blocks
from ringminus.disks.vhd.footer import sealed, set_size
from ringminus.disks.vhd.table import BlockTable, empty_table
from ringminus.disks.vhd.wire import BAT_ENTRY_SIZE, DynamicHeader, Footer


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
        if len(table) <= len(empty_table(old.capacity)):
            offset = old.offset
            file.write_at(offset + len(stored), table[len(stored) :])
        else:
            # not into the space behind the old table, even if it is free: a call may be writing to a block
            # that gave it up. The old table's place stays unused; it is at most 4 MiB
            offset = blocks.append(bytes(table))
        file.flush()
        header.table_offset, header.max_table_entries = offset, needed
        file.write_at(footer.data_offset, sealed(header).pack())
        file.flush()
    set_size(footer, size)
    blocks.write_footers()
    file.flush()
    blocks.grow_to(BlockTable(file, footer, header))
