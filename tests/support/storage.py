"""The guest's side of a storage device without a guest: a channel, host threads that a test steps, disks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ringminus.clock import MockClock, ReferenceClock, TimerQueue
from ringminus.devices.storage.adapter import StorageAdapter
from ringminus.devices.storage.wire import (
    Direction,
    NtStatus,
    Operation,
    ProtocolVersion,
    SubChannelCount,
    VmscsiRequest,
    VstorPacket,
)
from ringminus.disks.disk import Buffers, Disk
from ringminus.memory import MIB, PAGE_SIZE, GuestMemory
from ringminus.tap import Tap
from ringminus.vmbus.device import Device, Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.wire import PacketType, Version

MEMORY_SIZE = 2 * MIB
BUFFER = 0x40  # page number of the buffer that requests use if they do not say
IDENTITY = UUID("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")


class MemoryDisk(Disk):
    """A disk in memory. `immediate` says whether `try_read` and `try_write` succeed; `failure` is raised by
    whatever comes next; `calls` are the names of the calls that came, in order; `stable` is what a power cut
    would leave."""

    format = "memory"

    def __init__(self, size: int = MIB, sector_size: int = 512, *, immediate: bool = True) -> None:
        self.size = size
        self.sector_size = sector_size
        self.physical_sector_size = 4096
        self.block_size = 64 << 10
        self.identity = IDENTITY
        self.data = bytearray(size)
        self.stable = bytes(size)
        self.immediate = immediate
        self.unmaps = True
        self.failure: Exception | None = None
        self.calls: list[str] = []
        self.holes: list[tuple[int, int]] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size or (offset | length) % self.sector_size:
            raise ValueError(f"{offset}+{length} is not in a disk of {self.size} bytes")

    def _copy_out(self, offset: int, buffers: Buffers) -> None:
        self._check(offset, sum(map(len, buffers)))
        for buffer in buffers:
            buffer[:] = self.data[offset : offset + len(buffer)]
            offset += len(buffer)

    def _copy_in(self, offset: int, buffers: Buffers) -> None:
        self._check(offset, sum(map(len, buffers)))
        for buffer in buffers:
            self.data[offset : offset + len(buffer)] = buffer
            offset += len(buffer)

    def read(self, offset: int, buffers: Buffers) -> None:
        self._called("read")
        self._copy_out(offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> None:
        self._called("write")
        self._copy_in(offset, buffers)

    def try_read(self, offset: int, buffers: Buffers) -> bool:
        self._called("try_read")
        if self.immediate:
            self._copy_out(offset, buffers)
        return self.immediate

    def try_write(self, offset: int, buffers: Buffers) -> bool:
        self._called("try_write")
        if self.immediate:
            self._copy_in(offset, buffers)
        return self.immediate

    def flush(self) -> None:
        self._called("flush")
        self.stable = bytes(self.data)

    def unmap(self, offset: int, length: int) -> None:
        self._called("unmap")
        self._check(offset, length)
        self.data[offset : offset + length] = bytes(length)
        self.holes.append((offset, length))

    def write_zeros(self, offset: int, length: int) -> None:
        self._called("write_zeros")
        self._check(offset, length)
        self.data[offset : offset + length] = bytes(length)

    @property
    def can_unmap(self) -> bool:
        return self.unmaps and not self.read_only

    def resize(self, size: int) -> None:
        self.data = self.data[:size].ljust(size, b"\0")
        self.size = size

    def allocated(self, offset: int, length: int) -> tuple[bool, int]:
        end = min(offset // self.block_size * self.block_size + self.block_size, offset + length)
        return any(self.data[offset:end]), end - offset

    def info(self) -> dict[str, Any]:
        return {"format": self.format, "size": self.size}

    def close(self) -> None:
        self._called("close")


class FakeServices:
    """Host threads that do nothing until `step`, in the order that the test names."""

    def __init__(self, memory: GuestMemory) -> None:
        self.memory = memory
        self.time = MockClock()
        self.clock: ReferenceClock = self.time
        self.timers = TimerQueue()
        self.tap = Tap()
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.drained = 0

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.waiting.append((work, done))

    def step(self, index: int = 0) -> None:
        """Do the work that waits at `index`, and hand its result over."""
        work, done = self.waiting.pop(index)
        try:
            result = work()
        except Exception as error:
            result = error
        done(result)

    def drain(self) -> None:
        self.drained += 1
        while self.waiting:
            self.step()


@dataclass
class FakeChannel:
    """Keeps what is sent and completed."""

    memory: GuestMemory
    index: int = 0
    version: int = Version.WIN10_V5_3
    user_data: bytes = bytes(120)
    sent: list[bytes] = field(default_factory=list)
    completed: list[tuple[int, bytes]] = field(default_factory=list)

    def send(self, payload: bytes, transaction_id: int = 0, *, wants_completion: bool = False) -> None:
        assert transaction_id == 0 and not wants_completion
        self.sent.append(payload)

    def send_transfer(self, *arguments: object, **named: object) -> None:
        raise AssertionError("storage sends no transfer pages")

    def send_gpa_direct(self, *arguments: object, **named: object) -> None:
        raise AssertionError("storage names no pages of the guest")

    def complete(self, transaction_id: int, payload: bytes = b"") -> None:
        self.completed.append((transaction_id, payload))

    def gpadl(self, handle: int) -> Sequence[GpaRange]:
        raise AssertionError("storage uses no GPADLs")

    def fail(self, reason: str) -> None:
        raise AssertionError(reason)


class FakeBus:
    """Keeps how many sub-channels were offered."""

    def __init__(self) -> None:
        self.offered: list[int] = []

    def offer_subchannels(self, device: Device, count: int) -> None:
        self.offered.append(count)

    def rescind(self, device: Device) -> None:
        raise AssertionError("storage takes no device away")


@dataclass(frozen=True)
class Result:
    """How a SCSI command ended, as the guest sees it."""

    packet: VstorPacket
    srb: VmscsiRequest

    @property
    def srb_status(self) -> int:
        return self.srb.srb_status

    @property
    def moved(self) -> int:
        return self.srb.data_transfer_length

    @property
    def sense(self) -> tuple[int, int, int] | None:
        """Key, code and qualifier, if there is sense data."""
        if not self.srb.srb_status & 0x80:
            return None
        data = self.srb.cdb
        return data[2] & 0xF, data[12], data[13]


class Guest:
    """Plays storvsc: numbers its requests, and reads their completions."""

    def __init__(self, device: StorageAdapter, memory: GuestMemory | None = None) -> None:
        self.memory = memory or GuestMemory(MEMORY_SIZE)
        self.services = FakeServices(self.memory)
        self.bus = FakeBus()
        self.device = device
        self.channel = FakeChannel(self.memory)
        self._next = 1
        device.attach(self.services, self.bus)

    # ------------------------------------------------------------ the protocol

    def open(self, index: int = 0) -> FakeChannel:
        """Open a channel; the primary one becomes `channel`."""
        channel = FakeChannel(self.memory, index)
        self.device.opened(channel)
        if index == 0:
            self.channel = channel
        return channel

    def close(self, channel: FakeChannel | None = None) -> None:
        self.device.closed(channel or self.channel)

    def post(
        self,
        payload: bytes,
        ranges: Sequence[GpaRange] = (),
        channel: FakeChannel | None = None,
        kind: PacketType | None = None,
    ) -> int:
        """Send a packet; gives its transaction id."""
        number, self._next = self._next, self._next + 1
        kind = kind or (PacketType.DATA_USING_GPA_DIRECT if ranges else PacketType.DATA_INBAND)
        self.device.packet(channel or self.channel, Packet(kind, number, True, memoryview(payload), ranges))
        return number

    def answer(self, number: int, channel: FakeChannel | None = None) -> bytes | None:
        """The completion of that packet, if it has come; never more than one."""
        found = [payload for id, payload in (channel or self.channel).completed if id == number]
        assert len(found) <= 1
        return found[0] if found else None

    def ask(self, operation: int, body: bytes = b"") -> VstorPacket:
        """Send an in-band request that is answered at once."""
        answer = self.answer(self.post(VstorPacket(operation=operation, flags=1, body=body).pack()))
        assert answer is not None
        packet = VstorPacket.unpack(answer)
        assert packet.operation == Operation.COMPLETE_IO
        return packet

    def connect(self, version: int = 0x0602, subchannels: int = 0) -> Guest:
        """Open the device and shake hands."""
        self.open()
        for operation, body in (
            (Operation.BEGIN_INITIALIZATION, b""),
            (Operation.QUERY_PROTOCOL_VERSION, ProtocolVersion(major_minor=version).pack()),
            (Operation.QUERY_PROPERTIES, b""),
            (Operation.END_INITIALIZATION, b""),
        ):
            assert self.ask(operation, body).status == NtStatus.SUCCESS
        if subchannels:
            body = SubChannelCount(count=subchannels).pack()
            assert self.ask(Operation.CREATE_SUB_CHANNELS, body).status == NtStatus.SUCCESS
        return self

    # ------------------------------------------------------------ SCSI

    def start(
        self,
        cdb: bytes,
        length: int = 0,
        direction: Direction = Direction.IN,
        *,
        lun: int = 0,
        target: int = 0,
        path: int = 0,
        range: GpaRange | None = None,
        channel: FakeChannel | None = None,
        srb_flags: int = 0,
    ) -> int:
        """Send a command with a buffer of `length` bytes at `BUFFER`; gives its transaction id."""
        if range is None and length:
            pages = -(-length // PAGE_SIZE)
            range = GpaRange(length, 0, tuple(BUFFER + page for page in _range(pages)))
        srb = VmscsiRequest(
            path_id=path,
            target_id=target,
            lun=lun,
            cdb_length=len(cdb),
            data_in=direction if length else Direction.NONE,
            data_transfer_length=length,
            cdb=cdb,
            srb_flags=srb_flags,
        )
        packet = VstorPacket(operation=Operation.EXECUTE_SRB, flags=1, body=srb.pack())
        return self.post(packet.pack(), () if range is None else (range,), channel)

    def result(self, number: int, channel: FakeChannel | None = None) -> Result:
        """How that command ended."""
        answer = self.answer(number, channel)
        assert answer is not None, "it has not ended"
        packet = VstorPacket.unpack(answer)
        assert packet.operation == Operation.COMPLETE_IO
        return Result(packet, VmscsiRequest.unpack(packet.body))

    def command(
        self, cdb: bytes, length: int = 0, direction: Direction = Direction.IN, **more: Any
    ) -> Result:
        """Send a command, let the host do what it takes, and give the result."""
        number = self.start(cdb, length, direction, **more)
        while self.answer(number, more.get("channel")) is None:
            self.services.step()
        return self.result(number, more.get("channel"))

    def read(self, cdb: bytes, length: int, **more: Any) -> bytes:
        """The data that a command gives; it has to succeed."""
        result = self.command(cdb, length, **more)
        assert (result.srb_status, result.srb.scsi_status, result.packet.status) == (1, 0, 0), result
        return self.memory.read(BUFFER * PAGE_SIZE, result.moved)

    def write(self, cdb: bytes, data: bytes, **more: Any) -> Result:
        """Send a command with data of the guest's."""
        self.memory.write(BUFFER * PAGE_SIZE, data)
        return self.command(cdb, len(data), Direction.OUT, **more)


_range = range
