"""A hostile guest's storage requests: typed errors only, one completion each, no foreign memory touched."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, find, given, settings
from hypothesis import strategies as st

from ringminus.devices.storage.commands import COMMANDS, decode
from ringminus.devices.storage.handshake import Handshake, OutOfOrder, State
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.scsi_wire import DeviceType
from ringminus.devices.storage.wire import Operation, VmscsiRequest, VstorPacket
from ringminus.disks.disk import DiskError
from ringminus.errors import GuestError
from ringminus.memory import PAGE_SIZE, GuestMemory
from ringminus.vmbus.device import Packet
from ringminus.vmbus.gpa import BadRange, GpaRange
from ringminus.vmbus.wire import PacketType
from ringminus.wire import ReadableBuffer
from support.effort import examples
from support.storage import FakeChannel, Guest, MemoryDisk

MEMORY = GuestMemory(64 * PAGE_SIZE)
PAGES = MEMORY.size // PAGE_SIZE
FILL = 0xEE
U8, U16, U32, U64 = 0xFF, 0xFFFF, 0xFFFFFFFF, (1 << 64) - 1
DISK_SIZE = 1 << 18

SLOW = settings(max_examples=examples(250), deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ------------------------------------------------------------------ what a guest may send

small = st.integers(0, 16) | st.just(0x40)
numbers = small | st.sampled_from((0x1FF, 0x200, 0x201, U8, U16, U32, 1 << 63, U64)) | st.integers(0, U64)


def _cdb_of(index: int, values: list[int], tail: bytes) -> bytes:
    """A CDB of the table with arbitrary fields, or arbitrary bytes after an opcode."""
    command = COMMANDS[index % len(COMMANDS)]
    data = bytearray()
    for field, value in zip(command.structure.FIELDS, values, strict=False):
        data += (value & ((1 << 8 * field.size) - 1)).to_bytes(field.size, "big")
    data = data.ljust(16, b"\0")[:16]
    data[0] = command.opcode
    if command.service_action is not None:
        data[1] = command.service_action
    return bytes(data)[: 16 - len(tail)] + tail


cdbs = st.builds(
    _cdb_of,
    st.integers(0, len(COMMANDS) - 1),
    st.lists(numbers, min_size=9, max_size=9),
    st.just(b"") | st.binary(max_size=3),
) | st.binary(min_size=16, max_size=16)


@st.composite
def ranges(draw: st.DrawFn) -> GpaRange | None:
    """A range that the bus would let through; its pages need not be memory."""
    pfns = draw(st.lists(st.integers(0, PAGES - 1) | st.integers(0, U64), max_size=8))
    offset = draw(st.integers(0, PAGE_SIZE - 1) | st.just(0))
    room = max(0, (len(pfns) << 12) - offset)
    count = draw(st.integers(0, room) | st.just(room))
    try:
        return GpaRange(count, offset, tuple(pfns))
    except BadRange:
        return None


lengths = st.sampled_from((0, 4, 18, 36, 96, 255, 512, 4096, 8192)) | st.integers(0, 40000) | st.just(U32)
requests = st.builds(
    lambda cdb, lun, address, direction, length, flags: VstorPacket(
        operation=Operation.EXECUTE_SRB,
        flags=1,
        body=VmscsiRequest(
            lun=lun,
            path_id=address[0],
            target_id=address[1],
            data_in=direction,
            data_transfer_length=length,
            cdb=cdb,
            srb_flags=flags,
        ).pack(),
    ).pack(),
    cdbs,
    st.sampled_from((0, 0, 0, 1, 1, 2, 9, U8)),
    st.sampled_from(((0, 0), (0, 0), (0, 0), (0, 1), (7, 0))),
    st.sampled_from((0, 1, 1, 2, U8)),
    lengths,
    st.sampled_from((0, 0x20)),
)
others = st.builds(
    lambda operation, body: struct.pack("<III", operation, 1, 0) + body,
    st.integers(0, 15) | st.integers(0, U32),
    st.binary(max_size=60),
)
packets = st.tuples(
    requests | requests | others | st.binary(max_size=80),
    st.lists(ranges(), max_size=2).map(lambda found: [one for one in found if one is not None]),
)
steps = st.one_of(
    st.tuples(st.just("packet"), packets),
    st.tuples(st.just("packet"), packets),
    st.tuples(st.just("step"), small),
    st.tuples(
        st.just("host"), st.sampled_from(("resize", "fail", "heal", "attach", "detach", "insert", "eject"))
    ),
    st.tuples(st.just("slow"), st.booleans()),
)


# ------------------------------------------------------------------ the machine around it


class World:
    """A connected guest with a disk at LUN 0 and a DVD drive at LUN 1."""

    def __init__(self) -> None:
        MEMORY.view(0, MEMORY.size)[:] = bytes([FILL]) * MEMORY.size
        self.disk = MemoryDisk(DISK_SIZE)
        self.controller = ScsiController(subchannels=4)
        self.controller.attach_disk(0, self.disk)
        self.controller.attach_dvd(1)
        self.guest = Guest(self.controller, MEMORY).connect()
        self.allowed: set[int] = set()
        self.expected: set[int] = set()
        self.failed = False

    def packet(self, payload: bytes, found: list[GpaRange]) -> None:
        for one in found:
            self.allowed.update(pfn for pfn in one.pfns if pfn < PAGES)
        number = len(self.expected) + 1000
        kind = PacketType.DATA_USING_GPA_DIRECT if found else PacketType.DATA_INBAND
        try:
            self.controller.packet(
                self.guest.channel, Packet(kind, number, True, memoryview(payload), tuple(found))
            )
        except GuestError:
            # the bus would fail the channel, and that closes it
            assert len(payload) < 12
            self.failed = True
            self.guest.close()
            return
        self.expected.add(number)

    def host(self, what: str) -> None:
        controller, disk = self.controller, self.disk
        if what == "resize":
            disk.resize(DISK_SIZE // 2 if disk.size == DISK_SIZE else DISK_SIZE)
            if 0 in controller.units:
                controller.resized(0)
        elif what in ("fail", "heal"):
            disk.failure = DiskError("no", 28) if what == "fail" else None
        elif what == "attach" and 2 not in controller.units:
            controller.attach_disk(2, MemoryDisk(DISK_SIZE))
        elif what == "detach" and 2 in controller.units:
            controller.detach(2)
        elif what == "insert" and controller.units[1].disk is None:
            controller.insert(1, MemoryDisk(DISK_SIZE))
        elif what == "eject":
            controller.eject(1, force=True)

    def do(self, step: tuple[Any, ...]) -> None:
        name, argument = step
        if name == "packet":
            self.packet(*argument)
        elif name == "step" and self.guest.services.waiting:
            self.guest.services.step(argument % len(self.guest.services.waiting))
        elif name == "host":
            self.host(argument)
        elif name == "slow":
            self.disk.immediate = not argument

    def check(self) -> None:
        """Everything wanted was completed once, as vmstor has it, and only named pages have changed."""
        self.guest.services.drain()
        completed = [number for number, _ in self.guest.channel.completed if number >= 1000]
        assert len(completed) == len(set(completed))
        assert set(completed) <= self.expected
        assert self.failed or set(completed) == self.expected
        for number, payload in self.guest.channel.completed:
            assert number < 1000 or (12 <= len(payload) <= 64 and payload[:4] == b"\1\0\0\0")
            if len(payload) == 64:
                assert payload[12 + 9] <= 20
        assert all(len(payload) <= 64 for payload in self.guest.channel.sent)
        memory = MEMORY.view(0, MEMORY.size)
        untouched = bytes([FILL]) * PAGE_SIZE
        for page in set(range(PAGES)) - self.allowed:
            assert memory[page << 12 : (page + 1) << 12] == untouched


@given(st.lists(steps, max_size=25))
@SLOW
def test_any_requests_in_any_order_are_each_answered_once(sequence: list[tuple[Any, ...]]) -> None:
    world = World()
    for step in sequence:
        if world.failed:
            break
        world.do(step)
    world.check()


@given(st.lists(packets, min_size=1, max_size=8))
@SLOW
def test_a_channel_that_closes_leaves_memory_and_ring_alone(
    found: list[tuple[bytes, list[GpaRange]]],
) -> None:
    world = World()
    world.disk.immediate = False
    for payload, where in found:
        if not world.failed:
            world.packet(payload, where)
    if not world.failed:
        world.guest.close()
    assert world.guest.services.waiting == []
    answered = len(world.guest.channel.completed)
    world.guest.services.drain()
    assert len(world.guest.channel.completed) == answered


@given(cdbs, ranges(), lengths, st.integers(0, 2))
@SLOW
def test_a_request_changes_only_the_bytes_that_it_names(
    cdb: bytes, where: GpaRange | None, length: int, direction: int
) -> None:
    assume(where is not None and all(pfn < PAGES for pfn in where.pfns))
    assert where is not None
    world = World()
    body = VmscsiRequest(data_in=direction, data_transfer_length=length, cdb=cdb).pack()
    payload = VstorPacket(operation=Operation.EXECUTE_SRB, flags=1, body=body).pack()
    world.packet(payload, [where])
    world.check()
    named = bytearray(MEMORY.size)
    for gpa, size in where.extents():
        named[gpa : gpa + size] = b"\1" * size
    memory = bytes(MEMORY.view(0, MEMORY.size))
    assert all(named[at] for at, byte in enumerate(memory) if byte != FILL)
    if direction != 1:
        assert memory == bytes([FILL]) * MEMORY.size


def ends_well(world: World, cdb: bytes) -> bool:
    """Whether a command with a page for its data succeeds on the disk."""
    for direction in (0, 1, 2):
        body = VmscsiRequest(data_in=direction, data_transfer_length=4096, cdb=cdb).pack()
        payload = VstorPacket(operation=Operation.EXECUTE_SRB, flags=1, body=body).pack()
        world.packet(payload, [GpaRange(4096, 0, (5,))])
        world.guest.services.drain()
        if world.guest.channel.completed[-1][1][14] == 1:
            return True
    return False


@pytest.mark.parametrize("index", [i for i, c in enumerate(COMMANDS) if DeviceType.DISK in c.types])
def test_the_commands_reach_successes_too(index: int) -> None:
    """Otherwise the tests here would only see refusals."""
    world, name = World(), COMMANDS[index].name
    own = st.builds(_cdb_of, st.just(index), st.lists(small, min_size=9, max_size=9), st.just(b""))
    quick = settings(phases=[Phase.generate], derandomize=True, database=None, max_examples=3000)
    assert find(
        own,
        lambda cdb: decode(DeviceType.DISK, cdb)[0] == name and ends_well(world, cdb),
        settings=quick,
    )


@given(st.lists(others, max_size=12), others)
def test_any_reachable_state_of_the_handshake_behaves_the_same_when_restored(
    sequence: list[bytes], then: bytes
) -> None:
    one, two = Handshake(4), Handshake(4)
    for payload in sequence:
        _shake(one, payload)
    two.restore(one.save())
    assert _shake(one, then) == _shake(two, then)
    assert one.save() == two.save()
    assert (one.version is None) == (one.state in (State.BEGIN, State.VERSION))


def _shake(handshake: Handshake, payload: ReadableBuffer) -> object:
    try:
        return handshake.receive(VstorPacket.unpack(bytes(payload).ljust(64, b"\0")))
    except OutOfOrder as error:
        return str(error)


@given(st.binary(max_size=20))
def test_any_bytes_can_be_shown_as_a_command(data: bytes) -> None:
    for kind in (DeviceType.DISK, DeviceType.DVD):
        name, fields = decode(kind, data[:16])
        assert name and (fields is None or repr(fields))


def test_a_packet_during_which_the_channel_closes_is_not_answered() -> None:
    """A completion may fail the channel, and that closes it within the request."""
    world = World()

    class Failing(FakeChannel):
        def complete(self, transaction_id: int, payload: bytes = b"") -> None:
            super().complete(transaction_id, payload)
            world.controller.closed(self)

    world.guest.close()
    world.guest.connect()
    channel = Failing(MEMORY)
    world.controller._channels[0] = channel
    world.disk.immediate = False
    body = VmscsiRequest(data_in=1, data_transfer_length=512, cdb=b"\x28" + bytes(7) + b"\1\0").pack()
    payload = VstorPacket(operation=Operation.EXECUTE_SRB, flags=1, body=body).pack()
    for number in (1, 2):
        world.controller.packet(
            channel,
            Packet(
                PacketType.DATA_USING_GPA_DIRECT,
                number,
                True,
                memoryview(payload),
                (GpaRange(512, 0, (number,)),),
            ),
        )
    world.guest.services.step()
    assert [number for number, _ in channel.completed] == [1]
    assert world.guest.services.waiting == []
