"""What one storage request costs: from the packet to its completion, through the device alone.

The channel takes completions and does nothing with them; the disk is either a raw file whose pages the host
has in memory, or does nothing at all. Requests are 4 KiB long.

python bench/storage.py
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ringminus.devices.storage.cdb_wire import Cdb6, ReadWrite10, ReadWrite16, SynchronizeCache10
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import Direction, Operation, VmscsiRequest, VstorPacket
from ringminus.disks.disk import Buffers, Disk
from ringminus.disks.open import open_disk
from ringminus.memory import MIB, GuestMemory
from ringminus.vmbus.device import Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.wire import PacketType
from ringminus.wire import Struct
from support.storage import FakeChannel, Guest, MemoryDisk

SIZE, BLOCK, COUNT, ROUNDS = 64 * MIB, 4096, 20_000, 5


class Nothing(MemoryDisk):
    """Succeeds at once."""

    def try_read(self, offset: int, buffers: Buffers) -> bool:
        return True

    def try_write(self, offset: int, buffers: Buffers) -> bool:
        return True


class Silent(FakeChannel):
    """Counts completions."""

    count = 0

    def complete(self, transaction_id: int, payload: bytes = b"") -> None:
        self.count += 1


def packets(make: Callable[[int], Struct], direction: Direction, length: int = BLOCK) -> list[Packet]:
    """Requests for random places of the disk, each with a page of its own."""
    generator, made = random.Random(1), []
    for number in range(1000):
        lba = generator.randrange(SIZE // BLOCK) * (BLOCK // 512)
        srb = VmscsiRequest(data_in=direction, data_transfer_length=length, cdb=make(lba).pack())
        payload = VstorPacket(operation=Operation.EXECUTE_SRB, flags=1, body=srb.pack()).pack()
        ranges = (GpaRange(length, 0, (number + 16,)),) if length else ()
        kind = PacketType.DATA_USING_GPA_DIRECT if ranges else PacketType.DATA_INBAND
        made.append(Packet(kind, number + 1, True, memoryview(payload), ranges))
    return made


KINDS: dict[str, list[Packet]] = {
    "READ(10)": packets(
        lambda lba: ReadWrite10(opcode=0x28, flags=0, lba=lba, transfer_length=8), Direction.IN
    ),
    "READ(16)": packets(
        lambda lba: ReadWrite16(opcode=0x88, flags=0, lba=lba, transfer_length=8), Direction.IN
    ),
    "WRITE(10)": packets(
        lambda lba: ReadWrite10(opcode=0x2A, flags=0, lba=lba, transfer_length=8), Direction.OUT
    ),
    "WRITE(16)": packets(
        lambda lba: ReadWrite16(opcode=0x8A, flags=0, lba=lba, transfer_length=8), Direction.OUT
    ),
    "TEST UNIT READY": packets(lambda lba: Cdb6(opcode=0), Direction.NONE, 0),
    "SYNCHRONIZE CACHE": packets(
        lambda lba: SynchronizeCache10(opcode=0x35, flags=0, lba=0, number_of_blocks=0), Direction.NONE, 0
    ),
}


def seconds(disk: Disk, requests: list[Packet]) -> float:
    """The best time of one request."""
    memory = GuestMemory(16 * MIB)
    # as with the software processor: somebody wants to know what we write
    memory.code_pages, memory.invalidate = bytearray(memory.size >> 12), lambda gpa, length: None
    controller = ScsiController()
    controller.attach_disk(0, disk)
    guest = Guest(controller, memory).connect()
    controller.units[0].flushed = controller.units[0].changes
    channel = Silent(memory)
    controller.closed(guest.channel)
    guest.connect()
    controller._channels[0] = channel
    best = 1.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(COUNT // len(requests)):
            for request in requests:
                controller.packet(channel, request)
        best = min(best, (time.perf_counter() - started) / COUNT)
    assert channel.count == COUNT * ROUNDS
    return best


def main() -> None:
    print(f"{'one request':<20}{'no disk':>12}{'raw file':>12}   µs")
    with tempfile.NamedTemporaryFile(suffix=".raw") as file:
        file.write(random.Random(2).randbytes(SIZE))
        file.flush()
        for name, requests in KINDS.items():
            with open_disk(Path(file.name), "raw") as raw:
                times = [seconds(disk, requests) * 1e6 for disk in (Nothing(SIZE), raw)]
            print(f"{name:<20}" + "".join(f"{one:>12.2f}" for one in times))


if __name__ == "__main__":
    main()
