"""What one packet costs in a ring, ours alone: packets and megabytes a second, written and read.

A packet is read in place, so reading touches its headers and not its payload. `python bench/rings.py`
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from ringminus.memory import MIB, PAGE_SIZE, GuestMemory
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.ring import IncomingRing, OutgoingRing, RingEmpty, RingFull
from ringminus.vmbus.wire import PacketType

RING_PAGES = 32  # as hv_storvsc asks for
FIRST_PAGE = 1024
SECONDS = 0.5
BUFFER = GpaRange(PAGE_SIZE, 0, [77])
GPA_HEADER = struct.pack("<IIIIQ", 0, 1, BUFFER.byte_count, BUFFER.byte_offset, BUFFER.pfns[0])
PACKETS = (
    ("in-band, 64 bytes", PacketType.DATA_INBAND, bytes(64), b""),
    ("GPA-direct, 64 bytes and a page", PacketType.DATA_USING_GPA_DIRECT, bytes(64), GPA_HEADER),
    ("in-band, 4 KiB", PacketType.DATA_INBAND, bytes(4096), b""),
    ("in-band, 32 KiB", PacketType.DATA_INBAND, bytes(32768), b""),
)


def fill(ring: OutgoingRing, kind: int, payload: bytes, header: bytes) -> int:
    """Write until the ring is full; gives the number of packets."""
    count = 0
    try:
        while True:
            ring.write(kind, count, payload, False, header)
            count += 1
    except RingFull:
        ring.publish()
        return count


def drain(ring: IncomingRing) -> int:
    """Read until the ring is empty; gives the number of packets."""
    count = 0
    try:
        while True:
            ring.read()
            count += 1
    except RingEmpty:
        ring.publish()
        return count


def timed(work: Callable[[], int]) -> tuple[int, float]:
    started = time.perf_counter()
    count = work()
    return count, time.perf_counter() - started


def measure(kind: int, payload: bytes, header: bytes) -> tuple[float, float]:
    """Seconds for one packet, written and read."""
    memory = GuestMemory(64 * MIB)
    pages = GpaRange(RING_PAGES * PAGE_SIZE, 0, range(FIRST_PAGE, FIRST_PAGE + RING_PAGES))
    # both ends of one ring
    writer, reader = OutgoingRing(memory, pages, 0, RING_PAGES), IncomingRing(memory, pages, 0, RING_PAGES)
    packets = 0
    writing = reading = 0.0
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        count, seconds = timed(lambda: fill(writer, kind, payload, header))
        writing += seconds
        count, seconds = timed(lambda: drain(reader))
        reading += seconds
        packets += count
    return writing / packets, reading / packets


def main() -> None:
    head = "".join(
        f"{what:>{width}}{'packets/s':>11}{'MB/s':>8}" for what, width in (("write µs", 9), ("read µs", 10))
    )
    print(f"{'one ring of 128 KiB':<34}{head}")
    for name, kind, payload, header in PACKETS:
        write, read = measure(kind, payload, header)
        line = f"{name:<34}"
        for seconds, width in ((write, 9), (read, 10)):
            line += f"{seconds * 1e6:>{width}.2f}{1 / seconds:>11,.0f}{len(payload) / seconds / 1e6:>8,.0f}"
        print(line)


if __name__ == "__main__":
    main()
