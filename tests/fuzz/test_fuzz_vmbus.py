"""A hostile guest at the bus's own door: hypercalls with anything in them, in any order.

What the control plane makes of messages is fuzzed in test_fuzz_control_plane.py, and what lies in rings in
test_fuzz_rings.py. Here both are reached as a guest reaches them, with devices behind.
"""

from __future__ import annotations

import struct
from collections import Counter
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from ringminus.cpu.engine import GuestException
from ringminus.hypervisor import wire as hypervisor
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.synic import QUEUE_LIMIT
from ringminus.memory import GuestMemory
from ringminus.vmbus.bus import VmBus
from ringminus.vmbus.control.messages import MESSAGES
from ringminus.vmbus.outbox import OUTBOX_LIMIT
from ringminus.vmbus.wire import MESSAGE_SINT, PAYLOAD_LIMIT, Version
from support.bus_bed import Recorder, add, echo
from support.bus_driver import GuestDriver
from support.effort import LONG, examples
from support.hypervisor import EOM, MEMORY_SIZE, SCONTROL, SIM_PAGE, FakeEngine, Guest

MEMORY = GuestMemory(MEMORY_SIZE)
SLOT = SIM_PAGE + MESSAGE_SINT * hypervisor.MESSAGE_SIZE
POST_MESSAGE, SIGNAL_EVENT = 0x5C, 0x5D
RING_PAGE, RING_PAGES = 0x200, 4
U32, U64 = (1 << 32) - 1, (1 << 64) - 1
STATUSES = {
    HvStatus.SUCCESS,
    HvStatus.INVALID_PARAMETER,
    HvStatus.INVALID_CONNECTION_ID,
    HvStatus.INVALID_PORT_ID,
    HvStatus.INSUFFICIENT_BUFFERS,
}

Step = tuple[object, ...]


def _ring(relid: int, handle: int, first: int) -> bytes:
    pages = range(first, first + RING_PAGES)
    head = struct.pack("<IIIIHH", 8, 0, relid, handle, 8 + 8 * RING_PAGES, 1)
    return head + struct.pack(f"<II{RING_PAGES}Q", 4096 * RING_PAGES, 0, *pages)


def _numbered(number: int, *values: int) -> bytes:
    return struct.pack(f"<II{len(values)}I", number, 0, *values)


def _opening(relid: int, handle: int, split: int) -> bytes:
    return _numbered(5, relid, 1, handle, 0, split).ljust(148, b"\0")


CONTACT = struct.pack("<IIIIQQQ", 14, 0, Version.WIN10_V5_3, 0, 2, 0, 0)
relids, few = st.integers(0, 3), st.integers(1, 4)
contacts = st.builds(
    lambda version, vp, words: struct.pack("<IIIIQQQ", 14, 0, version, vp, *words),
    st.sampled_from([int(version) for version in Version]) | st.integers(0, U32),
    st.integers(0, 3) | st.integers(0, U32),
    st.tuples(st.just(2) | st.integers(0, U64), st.just(0) | st.integers(0, U64), st.integers(0, U64)),
)
sensible = st.one_of(
    st.just(CONTACT),
    st.just(_numbered(3)),
    st.builds(_ring, relids, few, st.integers(0, 8).map(lambda number: RING_PAGE + RING_PAGES * number)),
    st.builds(_opening, relids, few, st.integers(0, RING_PAGES)),
    st.builds(lambda relid: _numbered(7, relid), relids),
    st.builds(lambda relid, handle: _numbered(11, relid, handle), relids, few),
    st.builds(lambda relid: _numbered(13, relid), relids),
    st.builds(lambda relid, vp: _numbered(22, relid, vp), relids, st.integers(0, 2)),
)
anything = st.one_of(
    contacts,
    st.just(_numbered(16)),
    st.builds(
        lambda number, body: _numbered(number) + body,
        st.sampled_from(sorted(MESSAGES)) | st.integers(0, U32),
        st.binary(max_size=PAYLOAD_LIMIT + 2),
    ),
    st.binary(max_size=PAYLOAD_LIMIT + 10),
)
kinds = st.sampled_from((1,) * 8 + (2, 0, U32))
steps = st.one_of(
    st.tuples(st.just("connect")),
    st.tuples(st.just("open"), st.integers(1, 3), few),
    st.tuples(st.just("post"), st.sampled_from((1, 4)), st.just(1), sensible),
    st.tuples(st.just("post"), st.sampled_from((1, 4)), st.just(1), sensible),
    st.tuples(st.just("post"), st.sampled_from((1, 4)) | st.integers(0, U32), kinds, anything),
    st.tuples(st.just("signal"), relids.map(lambda relid: relid | 0x2000) | st.integers(0, U32)),
    st.tuples(st.just("scribble"), st.integers(0, 8 * RING_PAGES), st.integers(0, 511), st.integers(0, U64)),
    st.tuples(st.just("take")),
    st.tuples(st.just("take")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("synic"), st.sampled_from((0, 1, 1, 1))),
    st.tuples(st.just("rescind")),
    st.tuples(st.just("add")),
)
sequences = st.lists(steps, max_size=60)


class Door:
    """A guest, the bus with two devices on it, and what one step of the guest or the host does."""

    def __init__(self) -> None:
        self.guest = Guest(vp_count=2, engine=FakeEngine(memory=MEMORY))
        self.bus = VmBus(self.guest.partition)
        self.devices: list[Recorder] = []
        self.taken: Counter[int] = Counter()
        for address in (SIM_PAGE, *range(RING_PAGE << 12, (RING_PAGE + 10 * RING_PAGES) << 12, 4096)):
            MEMORY.write(address, bytes(4096))
        self.guest.name_itself()
        self.guest.enable_synic()
        self.add()
        self.add()
        self.step("connect")

    def add(self) -> None:
        device = Recorder(len(self.devices) + 1, echo)
        self.devices.append(device)
        add(self.bus, self.guest, device)

    def take(self) -> None:
        kind, number = struct.unpack("<I12xI", MEMORY.read(SLOT, 20))
        if kind:
            self.taken[number] += 1
        MEMORY.write(SLOT, bytes(4))
        self.guest.write(EOM, 0)

    def step(self, name: object, *arguments: object) -> None:
        if name == "take":
            self.take()
        elif name == "connect":
            self.post(CONTACT)
            self.post(_numbered(3))
        elif name == "open":
            relid, handle = (int(str(one)) for one in arguments)
            self.post(_ring(relid, handle, RING_PAGE + RING_PAGES * handle))
            self.post(_opening(relid, handle, RING_PAGES // 2))
        elif name == "wait":
            self.guest.pass_time(100_000)
        elif name == "rescind":
            offered = self.bus.devices()
            if offered:
                self.bus.rescind(offered[0])
        elif name == "add":
            if len(self.devices) < 6:
                self.add()
        elif name == "synic":
            self.guest.write(SCONTROL, int(str(arguments[0])))
        elif name == "scribble":
            page, word, value = (int(str(one)) for one in arguments)
            MEMORY.write((RING_PAGE + page << 12) + 8 * word, struct.pack("<Q", value))
        else:
            self.call(name, arguments)

    def post(self, payload: bytes) -> None:
        self.call("post", (4, 1, payload))

    def call(self, name: object, arguments: tuple[object, ...]) -> None:
        try:
            if name == "signal":
                status = self.guest.hypercall(SIGNAL_EVENT | 1 << 16, int(str(arguments[0])))
            else:
                connection, kind, payload = arguments
                assert isinstance(payload, bytes)
                header = struct.pack("<IIII", connection, 0, kind, len(payload))
                status = self.guest.call_with(POST_MESSAGE, (header + payload).ljust(256, b"\0"))
        except GuestException:
            return
        assert status in STATUSES, status

    def drain(self) -> None:
        """The guest hears again, and takes all that waits."""
        self.guest.write(SCONTROL, 1)
        for _ in range(2 * OUTBOX_LIMIT):
            self.take()
            self.guest.pass_time(100_000)
            if not self.bus.outbox and not self.guest.vp.synic.queued(MESSAGE_SINT):
                break
        self.take()

    def check(self) -> None:
        assert self.guest.vp.synic.queued(MESSAGE_SINT) <= QUEUE_LIMIT
        assert len(self.bus.outbox) <= OUTBOX_LIMIT + len(self.devices) + 4
        assert set(self.bus.control.received) <= {kind.name for kind in MESSAGES.values()}
        for device in self.devices:
            opened, closed = (sum(one.startswith(word) for one in device.history) for word in ("o", "c"))
            assert opened - closed in (0, 1)

    def play(self, sequence: list[Step]) -> None:
        for one in sequence:
            self.step(*one)
            self.check()


QUICK = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(sequences)
@QUICK
def test_a_hostile_guest_cannot_break_the_bus_through_its_hypercalls(sequence: list[Step]) -> None:
    door = Door()
    door.play(sequence)

    door.drain()
    door.add()
    # whatever came before, a kernel that takes over finds the devices and can use them
    driver = GuestDriver(door.guest)
    assert driver.connect()
    offers = driver.request_offers()
    assert {offer.offer.if_instance for offer in offers} == {
        device.instance.bytes_le for device in door.bus.devices()
    }
    channel = driver.open(offers[-1])
    channel.send(b"hello", 7, wants_completion=True)
    (answer,) = channel.receive()
    assert answer.payload[:5] == b"hello"
    driver.unload()
    assert not any(device.open for device in door.devices)


def reaches(what: str, sequence: list[Step]) -> bool:
    door = Door()
    door.play(sequence)
    door.drain()
    history = {entry for device in door.devices for entry in device.history}
    return what in history or what in {MESSAGES[number].name for number in door.taken}


@pytest.mark.parametrize(
    "what",
    [
        *("opened 0", "closed 0", "gone", "OPEN_CHANNEL_RESULT", "UNLOAD_RESPONSE"),
        pytest.param("GPADL_TORNDOWN", marks=pytest.mark.skipif(not LONG, reason="RINGMINUS_LONG_TESTS=1")),
    ],
)
def test_the_sequences_get_as_far_as_an_open_channel(what: str) -> None:
    """Otherwise the test here would only see refusals."""
    quick = settings(
        phases=[Phase.generate], derandomize=True, database=None, max_examples=10_000, deadline=None
    )
    assert find(sequences, partial(reaches, what), settings=quick)
