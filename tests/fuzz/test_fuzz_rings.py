"""A guest that lies in its rings: indices, descriptors, ranges and data are anything at any time.

The channel fails, or goes on; the host writes nothing but the rings, the bus and other channels live, and
the channel can be closed and opened again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ringminus.memory import PAGE_SIZE, BadGuestAddress
from ringminus.vmbus.device import Channel, Packet
from ringminus.vmbus.gpa import BadRange
from support.bus_bed import Bed, Recorder, echo
from support.bus_driver import GuestChannel
from support.effort import examples
from support.guest_ring import (
    FEATURES,
    INTERRUPT_MASK,
    PENDING_SEND_SIZE,
    READ_INDEX,
    WRITE_INDEX,
    GuestRing,
    GuestRingFull,
)
from support.hypervisor import MEMORY_SIZE

U16, U32, U64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1
FIELDS = (WRITE_INDEX, READ_INDEX, INTERRUPT_MASK, PENDING_SEND_SIZE, FEATURES)
GPA_DIRECT, TRANSFER_PAGES, COMPLETION = 9, 7, 11


class Hostile:
    """A channel whose guest lies, one beside it whose guest does not, and what a step does to the first.

    `reached` are the names of what happened, to see that the steps reach it.
    """

    def __init__(self, *, scattered: bool = True) -> None:
        self.bed = Bed(scattered=scattered)
        self.bed.device.answer = self.answer
        _, self.neighbour = self.bed.second()
        self.first_page = self.bed.driver.allocate(1)[0]
        self.opened: list[GuestChannel] = []
        self.reached: set[str] = set()
        self.channel = self.open()

    def open(self, pages: int = 2) -> GuestChannel:
        channel = GuestChannel(self.bed.driver, self.bed.offer, pages, pages)
        self.opened.append(channel)
        assert channel.open() == 0
        return channel

    def answer(self, channel: Channel, packet: Packet) -> None:
        """As a device does: reads what the guest points to, and completes."""
        self.reached.add(f"type {int(packet.kind)}")
        try:
            for one in packet.ranges:
                self.reached.add("ranges")
                assert sum(len(view) for view in one.views(channel.memory)) == one.byte_count
        except (BadRange, BadGuestAddress):
            self.reached.add("bad range")
            raise
        if packet.wants_completion:
            channel.complete(packet.transaction_id, bytes(packet.payload[:3000]))

    def step(self, what: str, *values: object) -> None:
        STEPS[what](self, *values)
        if self.bed.bus.failures:
            self.reached.add("failed")
        if self.bed.device.completions:
            self.reached.add("completion")

    # ------------------------------------------------------------ what the guest does

    def ring(self, outgoing: bool) -> GuestRing:
        return self.channel.out if outgoing else self.channel.incoming

    def poke(self, outgoing: bool, field: int, value: int) -> None:
        self.ring(outgoing).set(field, value)

    def scribble(self, outgoing: bool, offset: int, data: bytes) -> None:
        self.ring(outgoing).copy_to(offset * 8 % self.ring(outgoing).size, data[: len(data) // 8 * 8])

    def send(self, descriptor: tuple[int, int, int, int], body: bytes) -> None:
        """A packet that says of itself what it likes, added as the rules of rings say."""
        body += bytes(-len(body) % 8)
        try:
            if self.channel.out.write_raw(struct.pack("<HHHHQ", *descriptor, 1) + body):
                self.channel.signal()
        except (GuestRingFull, ValueError, struct.error):
            self.reached.add("no room")  # or indices that we have poked ourselves

    def signal(self) -> None:
        self.channel.signal()

    def give_back(self) -> None:
        """Read everything, whatever it is."""
        self.channel.incoming.set(READ_INDEX, self.channel.incoming.get(WRITE_INDEX))
        self.channel.signal()

    def device_sends(self, length: int) -> None:
        if 0 in self.bed.device.open:
            self.bed.device.channel.send(bytes(length))
            if self.channel.incoming.get(PENDING_SEND_SIZE) == -(-length // 8) * 8 + 24:
                self.reached.add("waits for room")

    def reopen(self, outgoing: bool, field: int, value: int) -> None:
        """On the same memory, cleared but for one lie."""
        self.close()
        self.channel.out.clear()
        self.channel.incoming.clear()
        self.poke(outgoing, field, value)
        if self.channel.open_with(self.channel.gpadl, self.channel.send_pages) != 0:
            self.reached.add("refused")

    def close(self) -> None:
        if self.channel.relid in self.bed.driver.channels:
            self.channel.close_only()

    # ------------------------------------------------------------ what must hold

    def check(self) -> None:
        history = self.bed.device.history
        assert history == ["opened 0", "closed 0"] * (len(history) // 2) + ["opened 0"] * (len(history) % 2)
        self.neighbour.send(b"still there?", 7, wants_completion=True)
        assert [packet.payload[:12] for packet in self.neighbour.receive()] == [b"still there?"]
        assert not self.bed.bus.refused.keys() - {"open"}
        self.check_memory()
        self.close()
        self.bed.device.answer = echo
        again = self.open()
        again.send(b"honest", 8, wants_completion=True)
        assert [packet.payload[:6] for packet in again.receive()] == [b"honest"]

    def check_memory(self) -> None:
        """Pages between those of the rings, which lie apart, are as they were."""
        mine = {pfn for channel in self.opened for pfn in channel.pfns}
        for pfn in range(self.first_page, max(mine) + 2):
            if pfn not in mine:
                assert not any(self.bed.guest.memory.read(pfn * PAGE_SIZE, PAGE_SIZE)), f"page {pfn:#x}"


STEPS: dict[str, Callable[..., None]] = {
    "poke": Hostile.poke,
    "scribble": Hostile.scribble,
    "send": Hostile.send,
    "signal": Hostile.signal,
    "give back": Hostile.give_back,
    "device sends": Hostile.device_sends,
    "reopen": Hostile.reopen,
}

DATA_SIZE = PAGE_SIZE
indices = st.integers(0, DATA_SIZE // 8 + 1).map(lambda index: index * 8)
words = indices | st.integers(0, U32) | st.sampled_from((0, 1, U32, 1 << 31, DATA_SIZE, DATA_SIZE - 8))
kinds = st.sampled_from((6, 7, 9, 9, 9, 11)) | st.integers(0, U16)
units = st.integers(0, 20) | st.sampled_from((2, 3, U16, DATA_SIZE // 8)) | st.integers(0, U16)
flags = st.sampled_from((0, 1)) | st.integers(0, U16)


def packet(kind: int, offset8: int, flag: int, header: bytes, payload: bytes) -> tuple[object, ...]:
    """A packet that tells the truth of its length; only its header may lie."""
    header += bytes(-len(header) % 8)
    payload += bytes(-len(payload) % 8)
    begin = 2 + len(header) // 8 + offset8
    return "send", (kind, begin, 2 + (len(header) + len(payload)) // 8, flag), header + payload


def ranges(claimed: int | None, made: list[tuple[int, int, list[int]]]) -> bytes:
    """The header of a GPA-direct packet; `claimed` ranges, or as many as there are."""
    header = struct.pack("<II", 0, len(made) if claimed is None else claimed)
    for count, offset, pfns in made:
        header += struct.pack(f"<II{len(pfns)}Q", count, offset, *pfns)
    return header


page_numbers = st.integers(0, MEMORY_SIZE // PAGE_SIZE + 1) | st.integers(0, U64)
one_range = st.tuples(
    st.integers(0, 3 * PAGE_SIZE) | st.integers(0, U32),
    st.integers(0, PAGE_SIZE) | st.integers(0, U32),
    st.lists(page_numbers, max_size=4),
)
enough_pages = st.builds(
    lambda count, pfns: (count, 0, (pfns * 3)[: -(-count // PAGE_SIZE)]),
    st.integers(1, 3 * PAGE_SIZE),
    st.lists(page_numbers | st.integers(0, 99), min_size=1, max_size=3),
)
whole_headers = st.builds(ranges, st.none(), st.lists(enough_pages, min_size=1, max_size=3))
range_headers = st.builds(
    ranges,
    st.none() | st.integers(0, 9) | st.integers(0, U32),
    st.lists(one_range | enough_pages, max_size=4),
)
transfer_headers = st.builds(
    lambda claimed, tail: struct.pack("<HBBI", 1, 0, 0, claimed) + tail,
    st.integers(0, 4) | st.integers(0, U32),
    st.binary(max_size=64),
)
zero_or_lie = st.sampled_from((0,) * 20 + (-1, 1, 4))  # else channels would fail before they live
payloads = st.binary(max_size=300)
lies = st.one_of(
    st.tuples(st.just("send"), st.tuples(kinds, units, units, flags), st.binary(max_size=64)),
    st.tuples(st.just("poke"), st.booleans(), st.sampled_from(FIELDS), words),
    st.tuples(st.just("scribble"), st.booleans(), st.integers(0, DATA_SIZE // 8), st.binary(max_size=128)),
)
steps = st.one_of(
    st.builds(packet, st.just(6), zero_or_lie, flags, st.just(b""), payloads),
    st.builds(packet, st.just(6), zero_or_lie, flags, st.just(b""), payloads),
    st.builds(packet, st.just(GPA_DIRECT), st.just(0), flags, whole_headers, payloads),
    st.builds(packet, st.just(GPA_DIRECT), zero_or_lie, flags, range_headers, payloads),
    st.builds(packet, st.just(TRANSFER_PAGES), zero_or_lie, flags, transfer_headers, payloads),
    st.builds(packet, st.just(COMPLETION), zero_or_lie, flags, st.just(b""), payloads),
    st.tuples(st.just("poke"), st.booleans(), st.sampled_from(FIELDS[2:]), words),
    lies,
    st.tuples(st.just("signal")),
    st.tuples(st.just("give back")),
    st.tuples(st.just("device sends"), st.integers(0, 3000)),
    st.tuples(st.just("device sends"), st.integers(1400, 3000)),
    st.tuples(st.just("reopen"), st.booleans(), st.sampled_from(FIELDS), st.just(0) | words),
)
sequences = st.lists(steps, min_size=4, max_size=30)


def play(sequence: list[tuple[str, ...]], *, scattered: bool = True) -> Hostile:
    hostile = Hostile(scattered=scattered)
    for what, *values in sequence:
        hostile.step(what, *values)
    return hostile


@given(sequences, st.booleans())
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_guest_that_lies_harms_its_own_channel_only(
    sequence: list[tuple[str, ...]], scattered: bool
) -> None:
    play(sequence, scattered=scattered).check()


def test_the_sequences_reach_what_they_are_for() -> None:
    """Otherwise the test here would only see channels that have failed at once."""
    reached: set[str] = set()

    @settings(phases=[Phase.generate], derandomize=True, database=None, max_examples=400, deadline=None)
    @given(sequences)
    def gather(sequence: list[tuple[str, ...]]) -> None:
        reached.update(play(sequence).reached)

    gather()
    packets = {"type 6", "type 7", "type 9", "completion", "ranges", "bad range"}
    assert reached >= packets | {"failed", "refused", "waits for room", "no room"}


@given(st.binary(min_size=16, max_size=PAGE_SIZE), st.integers(0, PAGE_SIZE // 8 - 1), indices)
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_ring_of_arbitrary_bytes_is_read_to_its_end(data: bytes, read: int, write: int) -> None:
    """At any place of the ring: what is read has an end, and lies within what the guest says is there."""
    bed = Bed(scattered=True)
    device: Recorder = bed.device
    channel = GuestChannel(bed.driver, bed.offer, 3, 3)
    channel.out.clear()
    channel.incoming.clear()
    channel.out.copy_to(read * 8, data[: len(data) // 8 * 8])
    channel.out.set(READ_INDEX, read * 8)
    channel.out.set(WRITE_INDEX, read * 8)
    channel.gpadl, _ = bed.driver.establish_gpadl(channel.relid, [(6 * PAGE_SIZE, 0, channel.pfns)])
    assert channel.open_with(channel.gpadl, 3) == 0
    channel.out.set(WRITE_INDEX, write)
    channel.signal()
    taken = sum(24 + len(payload) for _, _, payload in device.packets)
    assert taken <= (write - read * 8) % channel.out.size
    if 0 in device.open:
        assert channel.out.get(READ_INDEX) == write
