"""What one frame costs: from the guest's packet to the port, and from the port to the guest's packet, through
the adapter alone.

The channel takes packets and completions and does nothing with them; the port takes frames and does nothing.
The guest completes what it receives at once, which is counted.

python bench/network_requests.py
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.network.wire import MessageType
from ringminus.memory import GuestMemory
from ringminus.switch.frame import Checksum, Frame
from ringminus.vmbus.device import Channel, Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.wire import PacketType
from support.network import (
    ALL_OFFLOADS,
    MAC,
    NO_SECTION,
    PEER,
    NetworkBed,
    checksum_info,
    large_send_info,
    rndis_packet,
)
from support.packets import Packet as IpPacket

COUNT, ROUNDS = 20_000, 5
LARGE = 62_000
DONE = memoryview(struct.pack("<II", MessageType.SEND_RNDIS_PKT_COMPLETE, 1))


class Silent:
    """A channel that keeps nothing; what it sends is completed by `complete_all`."""

    index, version, user_data = 0, 0, b""

    def __init__(self, memory: GuestMemory, nic: SyntheticNic) -> None:
        self.memory = memory
        self.nic = nic

    def complete(self, transaction_id: int, payload: bytes = b"") -> None:
        pass

    def send_transfer(
        self,
        pageset: int,
        ranges: Sequence[tuple[int, int]],
        payload: bytes,
        transaction_id: int,
        *,
        wants_completion: bool = True,
    ) -> None:
        self.nic.completion(self, transaction_id, DONE)  # type: ignore[arg-type]


class Nowhere:
    """A port that takes everything."""

    def send(self, frame: Frame) -> bool:
        return True

    def flush(self) -> None:
        pass

    def set_address(self, address: bytes) -> None:
        pass


def tcp(size: int, to: bytes, source: bytes) -> bytes:
    """A TCP frame of `size` bytes."""
    data = IpPacket(payload=bytes(size - 54)).data
    return to + source + data[12:]


def best(work: Callable[[], None], count: int) -> float:
    """Microseconds of one call, in the best round."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(count):
            work()
        found.append((time.perf_counter() - started) / count * 1e6)
    return min(found)


def bed() -> tuple[NetworkBed, Silent]:
    """An adapter whose guest is connected, on a channel that does nothing."""
    made = NetworkBed()
    made.guest.connect(offloads=ALL_OFFLOADS, receive_pages=256)
    memory = made.machine.memory
    # as with the software processor: somebody wants to know what we write
    memory.code_pages, memory.invalidate = bytearray(memory.size >> 12), lambda gpa, length: None
    silent = Silent(memory, made.nic)
    made.nic._channels[0] = silent  # type: ignore[assignment]
    made.nic.plugged(Nowhere())
    return made, silent


def sending(frame: bytes, infos: bytes, *, pages: bool = False, batch: int = 1) -> float:
    """From the guest."""
    made, channel = bed()
    guest, message = made.guest, rndis_packet(frame, infos, -len(frame) % 8)
    ranges: tuple[GpaRange, ...] = ()
    if pages:
        # as Linux does: the RNDIS header, the linear part, and fragments of 32 KiB
        at = len(message) - len(frame) - -len(frame) % 8
        ends = [at, at + 66, *range(at + 66 + 32768, len(message), 32768), len(message)]
        parts = [message[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        ranges = tuple(GpaRange(*guest.place(part, 64)) for part in parts)
        section, size = NO_SECTION, 0
    else:
        guest.write_section(0, message * batch)
        section, size = 0, len(message) * batch
    payload = struct.pack("<4I", MessageType.SEND_RNDIS_PKT, 0, section, size).ljust(40, b"\0")
    kind = PacketType.DATA_USING_GPA_DIRECT if ranges else PacketType.DATA_INBAND
    packet = Packet(kind, 1, True, memoryview(payload), ranges)
    nic, open_channel = made.nic, _as_channel(channel)
    cost = best(lambda: nic.packet(open_channel, packet), COUNT if len(frame) < 9000 else COUNT // 10)
    assert not made.nic.counters.sending_dropped and made.nic.counters.sent_frames
    return cost / batch


def receiving(frame: Frame) -> float:
    """To the guest, its completion included."""
    made, _ = bed()
    nic = made.nic
    cost = best(lambda: nic.deliver(frame), COUNT if len(frame) < 9000 else COUNT // 10)
    assert not nic.counters.receiving_dropped and nic.counters.receive_slots_used == 0
    return cost


def _as_channel(channel: Silent) -> Channel:
    return channel  # type: ignore[return-value]


def main() -> None:
    to_host, to_guest = (PEER, MAC), (MAC, PEER)
    rows = [
        ("60 bytes, section", sending(tcp(60, *to_host), checksum_info())),
        ("60 bytes, section, 8 in one", sending(tcp(60, *to_host), checksum_info(), batch=8)),
        ("1514 bytes, section", sending(tcp(1514, *to_host), checksum_info())),
        ("1514 bytes, pages", sending(tcp(1514, *to_host), checksum_info(), pages=True)),
        (f"{LARGE} bytes, pages, large", sending(tcp(LARGE, *to_host), large_send_info(1460), pages=True)),
    ]
    print("one frame from the guest, µs")
    for name, cost in rows:
        print(f"  {name:<36}{cost:8.2f}")
    small, full, large = (tcp(size, *to_guest) for size in (60, 1514, LARGE))
    rows = [
        ("60 bytes", receiving(Frame(small))),
        ("60 bytes, checksum valid", receiving(Frame(small, None, Checksum.VALID))),
        ("1514 bytes, checksum valid", receiving(Frame(full, None, Checksum.VALID))),
        ("1514 bytes, checksum missing", receiving(Frame(full, None, Checksum.MISSING))),
        (f"{LARGE} bytes, coalesced", receiving(Frame(large, None, Checksum.VALID, 1460))),
    ]
    print("one frame to the guest, its completion included, µs")
    for name, cost in rows:
        print(f"  {name:<36}{cost:8.2f}")


if __name__ == "__main__":
    main()
