"""A hostile guest's network: arbitrary bytes and arbitrary orders. Its channel may fail, and nothing else; no
frame is lost without a counter, no sub-allocation either, and no memory is touched that was not shared."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringminus.devices.network.counters import AdapterCounters
from ringminus.devices.network.transmit import BadMessage, control_messages, frames, parse_infos
from ringminus.devices.network.wire import MessageType, Version
from ringminus.memory import PAGE_SIZE
from ringminus.switch.frame import LARGEST_FRAME, Checksum, Frame
from support.bus_driver import GuestChannel
from support.effort import examples
from support.guest_ring import READ_INDEX, WRITE_INDEX, GuestRingFull
from support.network import (
    ALL_OFFLOADS,
    CONTROL,
    GROUP,
    MAC,
    OID_OFFLOADS,
    PEER,
    NetworkBed,
    ethernet,
    offload_parameters,
    packet_info,
    rndis_packet,
)
from support.packets import Packet

U32 = 0xFFFFFFFF
SLOW = settings(
    max_examples=examples(200),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
small = st.integers(0, 64)
words = small | st.sampled_from((0x7FFFFFFF, 0x80000000, U32 - 7, U32)) | st.integers(0, U32)


# ------------------------------------------------------------------ what a guest may send

ip_packets = st.builds(
    Packet,
    version=st.sampled_from((4, 6)),
    protocol=st.sampled_from((6, 17, 1, 58)),
    payload=st.binary(max_size=40) | st.just(3000).map(bytes),
    fragment=st.sampled_from((0, 0, 0x2000, 5)),
)
data = st.one_of(
    ip_packets.map(lambda packet: PEER + MAC + packet.data[12:]),
    st.builds(ethernet, small),
    st.binary(max_size=80),
)
infos = st.lists(
    st.builds(packet_info, st.sampled_from((0, 0, 2, 2, 6, 8, 9, 0x80000001)), words), max_size=3
).map(b"".join)


def _spoilt(message: bytes, changes: list[tuple[int, int]], cut: int | None) -> bytes:
    spoilt = bytearray(message)
    for at, value in changes:
        if 4 * at + 4 <= len(spoilt):
            struct.pack_into("<I", spoilt, 4 * at, value)
    return bytes(spoilt[:cut])


whole = st.builds(rndis_packet, data, infos, st.integers(0, 9))
spoilt = st.builds(
    _spoilt,
    whole,
    st.lists(st.tuples(st.integers(0, 20), words), max_size=3),
    st.none() | st.integers(0, 200),
)
batches = st.lists(whole | spoilt, max_size=4).map(b"".join) | st.binary(max_size=100)
controls = st.one_of(
    st.builds(
        lambda kind, body: struct.pack("<II", kind, 8 + len(body)) + body,
        st.integers(0, 10) | words,
        st.lists(words, max_size=8).map(lambda found: struct.pack(f"<{len(found)}I", *found)),
    ),
    st.binary(max_size=60),
)


@given(
    st.lists(whole | spoilt, max_size=4).map(b"".join) | st.binary(max_size=200),
    st.sampled_from((1514, 65535)),
)
@settings(max_examples=examples(800), deadline=None)
def test_any_bytes_are_frames_or_a_typed_error(message: bytes, largest: int) -> None:
    counters = AdapterCounters()
    try:
        found = frames(message, largest, counters)
    except BadMessage:
        return
    for frame in found:
        assert 14 <= len(frame.data) <= (LARGEST_FRAME if frame.segment_size else max(largest, 14))
        assert frame.tci is None or 0 <= frame.tci <= 0xFFFF
        assert frame.segment_size == 0 or (frame.segment_size >= 8 and frame.checksum is Checksum.MISSING)
        if frame.checksum is Checksum.MISSING:
            assert frame.data[12:14] in (b"\x08\0", b"\x86\xdd")


@given(st.binary(max_size=80) | infos)
@settings(max_examples=examples(800), deadline=None)
def test_any_infos_are_understood_or_a_typed_error(block: bytes) -> None:
    with contextlib.suppress(BadMessage):
        tci, checksum, large_send, _ = parse_infos(block)
        assert tci is None or 0 <= tci <= 0xFFFF
        assert 0 <= checksum <= U32 and 0 <= large_send <= U32


@given(st.lists(controls, max_size=3).map(b"".join))
def test_control_messages_are_whole_or_a_typed_error(message: bytes) -> None:
    with contextlib.suppress(BadMessage):
        assert b"".join(control_messages(message)) == message


# ------------------------------------------------------------------ a machine around it

nvsp = st.builds(
    lambda kind, body: struct.pack("<I", kind) + body,
    st.sampled_from([int(kind) for kind in MessageType]) | words,
    st.lists(words, max_size=9).map(lambda found: struct.pack(f"<{len(found)}I", *found)),
) | st.binary(max_size=44)
host_frames = st.builds(
    Frame,
    st.one_of(
        st.sampled_from((MAC, GROUP, b"\xff" * 6, PEER)).map(lambda to: ethernet(60, to=to, source=PEER)),
        ip_packets.map(lambda packet: MAC + PEER + packet.data[12:]),
        st.binary(max_size=40),
    ),
    st.none() | st.sampled_from((0, 5, 0xFFFF)),
    st.sampled_from(Checksum),
)
large_frames = st.builds(
    lambda version, length, size, state: Frame(
        MAC + PEER + Packet(version, payload=bytes(length)).data[12:], None, state, size
    ),
    st.sampled_from((4, 6)),
    st.sampled_from((4000, 60000)),
    st.sampled_from((8, 536, 1460, 70000)),
    st.sampled_from(Checksum),
)
steps = st.one_of(
    st.tuples(st.just("nvsp"), nvsp, st.booleans()),
    st.tuples(st.just("data"), batches, st.sampled_from((0, 0, 1, 1, 20, 21, U32))),
    st.tuples(st.just("data"), batches, st.sampled_from((0, 0, 1, 1, 20))),
    st.tuples(st.just("pages"), batches, st.integers(0, 300)),
    st.tuples(st.just("partial"), batches, st.integers(0, 300)),
    st.tuples(st.just("control"), controls),
    st.tuples(st.just("claim"), words, words, words),
    st.tuples(st.just("deliver"), st.lists(host_frames, max_size=25)),
    st.tuples(st.just("deliver"), st.lists(host_frames | large_frames, max_size=3)),
    st.tuples(st.just("complete"), small | words, st.sampled_from((107, 108, 108, 108)), words),
    st.tuples(st.just("give_back"), small),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("port"), st.booleans()),
    st.tuples(st.just("resume")),
    st.tuples(st.just("link"), st.booleans()),
    st.tuples(
        st.just("orderly"),
        st.sampled_from(("halt", "revoke", "rndis", "filter", "quiet", "buffers", "offloads")),
    ),
    st.tuples(st.just("subchannels"), small),
    st.tuples(st.just("indices"), st.booleans(), st.sampled_from((WRITE_INDEX, READ_INDEX)), words),
    st.tuples(st.just("tear_down"), st.booleans()),
    st.tuples(st.just("reopen"), st.sampled_from(Version)),
)


class World:
    """A connected guest that keeps count. `alive` is while its primary channel has not failed."""

    def __init__(self) -> None:
        self.bed = NetworkBed()
        self.guest = self.bed.guest
        self.canaries = self.canary()
        self.guest.connect(offloads=ALL_OFFLOADS, receive_pages=20)
        self.canaries += self.canary()
        self.delivered = 0
        self.numbers: list[tuple[GuestChannel, int]] = []

    def canary(self) -> list[int]:
        """Pages that nobody was told of."""
        pfns = self.bed.driver.allocate(2)
        for pfn in pfns:
            self.bed.machine.memory.write(pfn * PAGE_SIZE, b"\xc3" * PAGE_SIZE)
        return pfns

    @property
    def alive(self) -> bool:
        return not self.bed.violations

    def do(self, step: tuple[Any, ...]) -> None:
        with contextlib.suppress(GuestRingFull):
            getattr(self, f"do_{step[0]}")(*step[1:])

    def sent(self, number: int) -> None:
        self.numbers.append((self.guest.channel, number))

    def do_nvsp(self, payload: bytes, wants: bool) -> None:
        self.guest.channel.send(payload, self.guest.number(), wants_completion=wants)

    def do_data(self, message: bytes, index: int) -> None:
        message = message[: self.guest.section_size]
        if index < 21:
            self.guest.write_section(index, message)
        self.sent(self.guest.rndis_send(index, len(message)))

    def do_pages(self, message: bytes, cut: int) -> None:
        pieces = [piece for piece in (message[:cut], message[cut:]) if piece]
        if pieces:
            self.sent(self.guest.send_pages_of(*pieces))

    def do_partial(self, message: bytes, cut: int) -> None:
        head, tail = message[:cut], message[cut:]
        if head and tail:
            self.sent(self.guest.send_pages_of(tail, section=head[: self.guest.section_size]))

    def do_control(self, message: bytes) -> None:
        if message:
            self.sent(self.guest.send_pages_of(message, channel_type=CONTROL))

    def do_claim(self, channel_type: int, index: int, size: int) -> None:
        self.sent(self.guest.rndis_send(index, size, channel_type=channel_type))

    def do_deliver(self, found: list[Frame]) -> None:
        self.bed.deliver(*found)
        self.delivered += sum(not frame.segment_size for frame in found)

    def do_complete(self, index: int, kind: int, status: int) -> None:
        self.guest.poll()
        if index < len(self.guest.held):
            self.guest.complete(self.guest.held.pop(index), kind, status)
        elif index > 64:
            self.guest.channel.complete(index, struct.pack("<II", kind, status))

    def do_give_back(self, count: int) -> None:
        self.guest.poll()
        self.guest.give_back(count)

    def do_hold(self, holds: bool) -> None:
        self.guest.holds = holds

    def do_port(self, takes: bool) -> None:
        self.bed.port.takes = takes

    def do_resume(self) -> None:
        self.bed.nic.resumed()

    def do_link(self, up: bool) -> None:
        self.bed.nic.set_link(up, 1000)

    def do_orderly(self, what: str) -> None:
        """What a driver does, at any time."""
        guest = self.guest
        acts: dict[str, Callable[[], Any]] = {
            "halt": lambda: self.do_control(struct.pack("<III", 3, 12, 1)),
            "revoke": guest.revoke,
            "rndis": lambda: self.do_control(struct.pack("<6I", 2, 24, 1, 1, 0, 0x4000)),
            "filter": lambda: self.do_control(struct.pack("<8I", 5, 32, 1, 0x0001010E, 4, 20, 0, 0x0D)),
            "quiet": lambda: self.do_control(struct.pack("<8I", 5, 32, 1, 0x0001010E, 4, 20, 0, 0)),
            "offloads": lambda: self.do_control(_set(OID_OFFLOADS, offload_parameters(coalesce=1))),
            "buffers": lambda: (guest.give_receive_buffer(20), guest.give_send_buffer()),
        }
        with contextlib.suppress(KeyError):  # there is no answer after a failure
            acts[what]()

    def do_indices(self, incoming: bool, field: int, value: int) -> None:
        """An index of a ring that the guest writes over; nothing can be said of its packets then."""
        channel = self.guest.channel
        (channel.incoming if incoming else channel.out).set(field, value)
        channel.signal()
        self.bed.deliver(ethernet(60, to=MAC, source=PEER))
        self.delivered += 1
        if self.alive:
            channel.close_only()
            self.bed.violations.append("the guest closed it")

    def do_subchannels(self, count: int) -> None:
        with contextlib.suppress(KeyError):
            self.guest.ask_for_subchannels(count)
        opened = []
        for offer in self.bed.driver.offers()[:3]:
            with contextlib.suppress(AssertionError):
                opened.append(self.bed.driver.open(offer, 4))
        self.guest.subchannels += opened

    def do_tear_down(self, receive: bool) -> None:
        guest = self.guest
        gpadl = guest.receive_gpadl if receive else guest.send_gpadl
        with contextlib.suppress(AssertionError):  # it may be gone already
            self.bed.driver.teardown_gpadl(guest.channel.relid, gpadl)

    def do_reopen(self, version: int) -> None:
        self.settle()
        guest = self.guest
        if guest.channel.relid in self.bed.driver.channels:
            guest.channel.close_only()
        self.bed.driver.teardown_gpadl(guest.channel.relid, guest.channel.gpadl)
        for channel in guest.subchannels:
            self.bed.driver.release(channel.relid)
        guest.forget()
        self.bed.violations.clear()
        self.numbers.clear()
        self.bed.nic.set_link(True, 1000)
        guest.connect(version, receive_pages=20, offloads=ALL_OFFLOADS if version > Version.V1 else b"")

    def settle(self) -> None:
        """All that can come to an end does: then everything is accounted for."""
        guest, bed = self.guest, self.bed
        bed.port.takes = True
        bed.nic.resumed()
        guest.holds = False
        if self.alive:
            guest.give_back()
        before = len(guest.arrived) + len(guest.answers) if not self.alive else -1
        while len(guest.arrived) + len(guest.answers) != before:
            before = len(guest.arrived) + len(guest.answers)
            guest.poll()
        counters = bed.nic.counters
        if self.alive:
            assert counters.receive_slots_used == 0 and counters.queued_frames == 0
            assert counters.waiting_packets == 0
            for channel, number in self.numbers:
                assert channel is not guest.channel or number in guest.completions
        assert all(
            bed.machine.memory.read(pfn * PAGE_SIZE, PAGE_SIZE) == b"\xc3" * PAGE_SIZE
            for pfn in self.canaries
        )

    def check(self) -> None:
        counters = self.bed.nic.counters
        assert 0 <= counters.receive_slots_used <= counters.receive_slots
        assert counters.queued_bytes >= 0


def _set(oid: int, info: bytes) -> bytes:
    return struct.pack("<7I", 5, 28 + len(info), 1, oid, len(info), 20, 0) + info


@given(st.lists(steps, max_size=20))
@SLOW
def test_a_guest_that_does_anything_in_any_order(sequence: list[tuple[Any, ...]]) -> None:
    world = World()
    for step in sequence:
        if world.alive or step[0] in ("deliver", "link", "resume", "port", "reopen"):
            world.do(step)
            world.check()
    world.settle()
    world.bed.assert_neighbour_lives()


@given(st.lists(st.tuples(st.lists(host_frames, max_size=12), st.integers(0, 8), st.booleans()), max_size=12))
@SLOW
def test_no_frame_is_lost_without_a_counter(rounds: list[tuple[list[Frame], int, bool]]) -> None:
    """Whatever the guest completes, and whenever."""
    world = World()
    world.guest.holds = True
    before = world.bed.nic.counters.received_frames
    arrived = 0
    for found, count, reads in rounds:
        world.do_deliver(found)
        if reads:
            arrived += len(world.guest.frames())
        world.guest.give_back(count)
        counters = world.bed.nic.counters
        dropped = sum(counters.receiving_dropped.values())
        assert counters.received_frames - before + dropped + counters.queued_frames == world.delivered
    world.settle()
    arrived += len(world.guest.frames())
    counters = world.bed.nic.counters
    assert arrived == counters.received_frames - before and world.alive
    assert arrived + sum(counters.receiving_dropped.values()) == world.delivered


@given(
    st.lists(st.tuples(whole, st.sampled_from(("section", "pages", "partial")), st.booleans()), max_size=15)
)
@SLOW
def test_each_packet_is_completed_once_however_the_port_behaves(
    packets: list[tuple[bytes, str, bool]],
) -> None:
    world = World()
    for message, way, takes in packets:
        world.bed.port.takes = takes
        if takes:
            world.bed.nic.resumed()
        if way == "section":
            world.do_data(message, len(world.numbers) % 21)
        elif way == "pages":
            world.do_pages(message, 52)
        else:
            world.do_partial(message, 44)
        if not world.alive:
            break
    world.settle()
