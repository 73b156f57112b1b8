"""Frames for the guest: which it wants, what it is told of them, how large ones come, and where they wait."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from ringminus.devices.network import receive
from ringminus.devices.network.ndis_wire import ObjectHeader, RssParameters
from ringminus.switch.checksum import verify
from ringminus.switch.frame import Checksum, Frame
from support.network import (
    ALL_OFFLOADS,
    CHECKSUM,
    CONTROL,
    GROUP,
    HASH,
    MAC,
    OID_FILTER,
    OID_OFFLOADS,
    OID_RSS,
    PEER,
    VLAN,
    Arrived,
    NetworkBed,
    ethernet,
    offload_parameters,
)
from support.packets import TCP, UDP, Packet

BROADCAST = b"\xff" * 6
OTHER = bytes.fromhex("00155d000099")
TCP_SUCCEEDED, UDP_SUCCEEDED = 1 << 3, 1 << 4


def to_guest(size: int = 60, to: bytes = MAC) -> bytes:
    return ethernet(size, to=to, source=PEER)


def ip(packet: Packet) -> bytes:
    """The packet in a frame for the guest."""
    return MAC + PEER + packet.data[12:]


def right(packet: Packet) -> bytes:
    """The same with its right checksum."""
    return MAC + PEER + packet.right[12:]


def one(bed: NetworkBed, frame: Frame) -> Arrived:
    bed.deliver(frame)
    (found,) = bed.guest.frames()
    return found


def dropped(bed: NetworkBed) -> dict[str, int]:
    return bed.nic.counters.receiving_dropped


# ------------------------------------------------------------------ plain frames


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("size", [14, 60, 1514])
def test_a_frame_arrives(scattered: bool, size: int) -> None:
    bed = NetworkBed(scattered=scattered)
    bed.guest.connect()
    for _ in range(40):  # more than there are sub-allocations
        assert one(bed, Frame(to_guest(size))) == Arrived(to_guest(size), {})
    counters = bed.nic.counters
    assert (counters.received_frames, counters.received_bytes) == (40, 40 * size)
    assert counters.receive_slots == 16 and bed.counters() == (0, 0)


def test_a_jumbo_frame_arrives_in_one_piece() -> None:
    bed = NetworkBed(scattered=True)
    bed.guest.connect(mtu=9000)
    assert one(bed, Frame(to_guest(9014))) == Arrived(to_guest(9014), {})
    bed.deliver(to_guest(9015))
    assert bed.guest.data() == [] and dropped(bed) == {"too long": 1}


def test_the_largest_frame_of_all_arrives() -> None:
    bed = NetworkBed(scattered=True)
    bed.guest.connect(mtu=65521, receive_pages=64)
    assert one(bed, Frame(to_guest(65535))) == Arrived(to_guest(65535), {})


def test_frames_that_are_none_are_dropped(bed: NetworkBed) -> None:
    for size in (0, 5, 13):
        bed.deliver(to_guest()[:size])
    bed.deliver(to_guest(1515))
    assert bed.guest.frames() == []
    assert dropped(bed) == {"too short": 3, "too long": 1}


@pytest.mark.parametrize(
    ("packet_filter", "wanted"),
    [
        (0x01, {MAC}),
        (0x01 | 0x08, {MAC, BROADCAST}),
        (0x04, {GROUP}),
        (0x01 | 0x04 | 0x08, {MAC, BROADCAST, GROUP}),
        (0x20, {MAC, BROADCAST, GROUP, OTHER}),
    ],
)
def test_the_guest_gets_what_it_wants(bed: NetworkBed, packet_filter: int, wanted: set[bytes]) -> None:
    bed.guest.set_filter(packet_filter)
    for address in (MAC, BROADCAST, GROUP, OTHER):
        bed.deliver(to_guest(to=address))
    assert {frame[:6] for frame in bed.guest.data()} == wanted
    assert dropped(bed) == ({"filtered": 4 - len(wanted)} if len(wanted) < 4 else {})


def test_without_a_filter_nothing_comes() -> None:
    bed = NetworkBed()
    bed.deliver(to_guest())
    bed.guest.set_up()
    bed.deliver(to_guest())
    bed.guest.start_rndis()
    bed.deliver(to_guest())
    assert bed.guest.frames() == [] and dropped(bed) == {"not ready": 3}
    bed.guest.set_filter(1)
    bed.deliver(to_guest())
    assert bed.guest.data() == [to_guest()]


def test_the_filter_takes_along_what_waits(bed: NetworkBed) -> None:
    bed.guest.holds = True
    bed.deliver(*[to_guest()] * 20)
    assert len(bed.guest.frames()) == 16 and bed.counters() == (16, 4)
    closed = struct.pack("<8I", 5, 32, 99, OID_FILTER, 4, 20, 0, 0)
    bed.guest.complete_of(bed.guest.send_pages_of(closed, channel_type=CONTROL))
    assert dropped(bed) == {"filtered": 4} and bed.counters() == (16, 0)
    bed.guest.give_back()
    assert bed.guest.frames() == [] and len(bed.guest.answers) == 1


# ------------------------------------------------------------------ what the guest is told


@pytest.mark.parametrize("state", Checksum)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_checksum_that_is_right_is_vouched_for(
    bed: NetworkBed, state: Checksum, version: int, protocol: int
) -> None:
    """Where it is missing it is computed: a guest may look at it without telling us."""
    packet = Packet(version, protocol, b"some payload")
    data = ip(packet) if state is Checksum.MISSING else right(packet)
    arrived = one(bed, Frame(data, None, state))
    word = TCP_SUCCEEDED if protocol == TCP else UDP_SUCCEEDED
    assert arrived == Arrived(right(packet), {} if state is Checksum.UNKNOWN else {CHECKSUM: word})


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_nothing_is_said_of_checksums_to_a_guest_that_did_not_ask(version: int, protocol: int) -> None:
    bed = NetworkBed()
    bed.guest.connect()
    packet = Packet(version, protocol, b"some payload")
    for data, state in ((ip(packet), Checksum.MISSING), (right(packet), Checksum.VALID)):
        assert one(bed, Frame(data, None, state)) == Arrived(right(packet), {})


def test_a_checksum_behind_extension_headers(bed: NetworkBed) -> None:
    packet = Packet(6, TCP, b"some payload", extensions=((60, bytes(16)),))
    assert one(bed, Frame(right(packet), None, Checksum.VALID)).infos == {CHECKSUM: TCP_SUCCEEDED}


def test_nothing_is_said_of_what_has_no_checksum(bed: NetworkBed) -> None:
    for data in (to_guest(), to_guest(14), ip(Packet(4, 1, bytes(8))), ip(Packet(6, 58, bytes(8)))):
        assert one(bed, Frame(data, None, Checksum.VALID)) == Arrived(data, {})


@pytest.mark.parametrize("tci", [0, 1, 4094, 0x3005, 0xF123])
def test_a_tag_comes_beside_the_frame(bed: NetworkBed, tci: int) -> None:
    data = right(Packet(4, UDP))
    arrived = one(bed, Frame(data, tci, Checksum.VALID))
    assert (arrived.data, arrived.tci) == (data, tci)
    assert arrived.infos.keys() == {VLAN, CHECKSUM}


def test_a_tag_comes_in_the_frame_for_a_guest_that_knows_no_other() -> None:
    bed = NetworkBed()
    bed.guest.connect(capability=0)
    frame = to_guest(1514)
    assert one(bed, Frame(frame, 0x2007)).data == frame[:12] + b"\x81\0\x20\x07" + frame[12:]


# ------------------------------------------------------------------ large frames


LARGE = Packet(4, TCP, bytes(range(256)) * 200, options=bytes(12))


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("state", Checksum)
def test_a_large_frame_comes_in_pieces(scattered: bool, version: int, state: Checksum) -> None:
    bed = NetworkBed(scattered=scattered)
    bed.guest.connect(offloads=ALL_OFFLOADS)
    packet = replace(LARGE, version=version)
    data = ip(packet) if state is Checksum.MISSING else right(packet)
    arrived = one(bed, Frame(data, 5, state, 1448))
    assert (arrived.data, arrived.tci, arrived.ranges) == (right(packet), 5, 4)
    assert arrived.infos.get(CHECKSUM, 0) == (0 if state is Checksum.UNKNOWN else TCP_SUCCEEDED)
    assert bed.counters() == (0, 0)
    assert bed.nic.counters.received_frames == 1


def test_a_large_frame_that_fits_comes_in_one_piece(bed: NetworkBed) -> None:
    packet = replace(LARGE, payload=bytes(16 * 1024 - 256 - 66))
    assert one(bed, Frame(right(packet), None, Checksum.VALID, 1448)).ranges == 1
    packet = replace(LARGE, payload=bytes(16 * 1024 - 256 - 65))
    assert one(bed, Frame(right(packet), None, Checksum.VALID, 1448)).ranges == 2


def segments_of(bed: NetworkBed, frame: Frame) -> list[Arrived]:
    bed.guest.holds = True
    bed.deliver(frame)
    found = bed.guest.frames()
    while bed.guest.held:
        bed.guest.give_back()
        found += bed.guest.frames()
    return found


@pytest.mark.parametrize("state", Checksum)
def test_a_guest_that_wants_no_large_frames_gets_segments(bed: NetworkBed, state: Checksum) -> None:
    bed.guest.set(OID_OFFLOADS, offload_parameters(checksum=0, large=0, coalesce=1))
    data = ip(LARGE) if state is Checksum.MISSING else right(LARGE)
    found = segments_of(bed, Frame(data, 5, state, 1448))
    assert b"".join(one.data[66:] for one in found) == LARGE.payload
    assert all(len(one.data) <= 1514 and verify(one.data) and one.tci == 5 for one in found)
    assert all(one.infos[CHECKSUM] == TCP_SUCCEEDED for one in found)
    assert bed.counters() == (0, 0)


def test_one_ip_version_alone_may_be_coalesced(bed: NetworkBed) -> None:
    parameters = bytearray(offload_parameters(checksum=0, large=0, coalesce=2))
    parameters[23] = 1  # rsc_ip_v6
    assert bed.guest.set(OID_OFFLOADS, bytes(parameters)) == 0
    assert len(segments_of(bed, Frame(right(LARGE), None, Checksum.VALID, 1448))) == 1
    version6 = replace(LARGE, version=6)
    assert len(segments_of(bed, Frame(right(version6), None, Checksum.VALID, 1428))) == 36


def test_a_large_frame_larger_than_the_buffer_comes_in_segments() -> None:
    bed = NetworkBed()
    bed.guest.connect(offloads=ALL_OFFLOADS, receive_pages=12)  # three sub-allocations
    found = segments_of(bed, Frame(right(LARGE), None, Checksum.VALID, 1448))
    assert len(found) == 36 and b"".join(one.data[66:] for one in found) == LARGE.payload


def test_a_frame_that_cannot_be_cut_and_is_too_long_is_dropped(bed: NetworkBed) -> None:
    bed.guest.set(OID_OFFLOADS, offload_parameters(checksum=0, large=0, coalesce=1))
    bed.deliver(Frame(to_guest(3000), None, Checksum.UNKNOWN, 1000))
    assert bed.guest.frames() == [] and dropped(bed) == {"too long": 1}


# ------------------------------------------------------------------ room


def test_each_completion_gives_back_its_own_sub_allocations(bed: NetworkBed) -> None:
    bed.guest.holds = True
    bed.deliver(*[to_guest()] * 3, Frame(right(LARGE), None, Checksum.VALID, 1448), to_guest())
    assert [frame.ranges for frame in bed.guest.frames()] == [1, 1, 1, 4, 1]
    assert bed.counters() == (8, 0)
    held, bed.guest.held = bed.guest.held, []
    for index, left in ((3, 4), (0, 3), (4, 2), (2, 1), (1, 0)):
        bed.guest.complete(held[index])
        assert bed.counters() == (left, 0)


def test_what_finds_no_room_waits_in_order(bed: NetworkBed) -> None:
    bed.guest.holds = True
    frames = [to_guest(60 + number) for number in range(50)]
    bed.deliver(*frames)
    assert bed.guest.data() == frames[:16] and bed.counters() == (16, 34)
    assert bed.nic.counters.queued_bytes == sum(len(frame) for frame in frames[16:])
    bed.guest.give_back(1)
    assert bed.guest.data() == frames[16:17]
    bed.deliver(to_guest(200))
    bed.guest.holds = False
    bed.guest.give_back()
    found = bed.guest.data()
    while bed.counters() != (0, 0):
        found += bed.guest.data()
    assert found + bed.guest.data() == [*frames[17:], to_guest(200)]
    assert dropped(bed) == {} and bed.nic.counters.queued_bytes == 0


def test_a_large_frame_waits_until_all_of_it_has_room(bed: NetworkBed) -> None:
    bed.guest.holds = True
    bed.deliver(*[to_guest()] * 14, Frame(right(LARGE), None, Checksum.VALID, 1448), to_guest(70))
    assert len(bed.guest.frames()) == 14 and bed.counters() == (14, 2), "nothing overtakes it"
    bed.guest.give_back(1)
    assert bed.guest.frames() == []
    bed.guest.give_back(1)
    assert [frame.ranges for frame in bed.guest.frames()] == [4]
    bed.guest.give_back()
    assert bed.guest.data() == [to_guest(70)]


def test_the_queue_has_an_end(bed: NetworkBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "QUEUE_FRAMES", 5)
    bed.guest.holds = True
    bed.deliver(*[to_guest()] * 25)
    assert bed.counters() == (16, 5) and dropped(bed) == {"queue full": 4}


def test_the_queue_is_bounded_in_bytes_too(bed: NetworkBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "QUEUE_BYTES", 3000)
    bed.guest.holds = True
    bed.deliver(*[to_guest(1400)] * 20)
    assert bed.counters() == (16, 2) and dropped(bed) == {"queue full": 2}
    assert bed.nic.counters.queued_bytes == 2800


def test_answers_of_the_control_plane_go_before_frames(bed: NetworkBed) -> None:
    bed.guest.holds = True
    bed.deliver(*[to_guest()] * 20)
    assert len(bed.guest.frames()) == 16
    number = bed.guest.send_pages_of(
        struct.pack("<7I", 4, 28, 99, 0x00010106, 0, 20, 0), channel_type=CONTROL
    )
    bed.guest.complete_of(number)
    assert bed.guest.answers == []
    bed.guest.give_back(1)
    bed.guest.poll()
    assert len(bed.guest.answers) == 1 and bed.guest.frames() == []
    bed.guest.give_back()
    assert len(bed.guest.frames()) == 4


def test_a_guest_that_asks_without_listening_is_stopped(bed: NetworkBed) -> None:
    bed.guest.holds = True
    bed.deliver(*[to_guest()] * 16)
    bed.guest.poll()
    query = struct.pack("<7I", 4, 28, 99, 0x00010106, 0, 20, 0)
    for _ in range(receive.QUEUE_CONTROL):
        bed.guest.write_section(0, query)
        bed.guest.rndis_send(0, len(query), channel_type=CONTROL)
        bed.guest.poll()
    assert bed.violations == []
    bed.guest.rndis_send(0, len(query), channel_type=CONTROL)
    bed.assert_failed("257 answers of RNDIS wait")


def test_what_the_guest_refuses_is_counted(bed: NetworkBed) -> None:
    bed.guest.holds = True
    bed.deliver(to_guest())
    bed.guest.poll()
    bed.guest.complete(bed.guest.held.pop(), status=2)
    assert bed.nic.counters.refused_by_guest == 1 and bed.counters() == (0, 0)


# ------------------------------------------------------------------ several channels


def rss_parameters(table: list[int]) -> bytes:
    """As rndis_set_rss_param_msg makes them."""
    head = RssParameters(
        header=ObjectHeader(type=0x89, revision=2, size=RssParameters.SIZE),
        flag=0,
        base_cpu_number=0,
        hashinfo=0x1 | 0x100 | 0x200,
        indirect_tabsize=512,
        indirect_taboffset=RssParameters.SIZE,
        hashkey_size=40,
        hashkey_offset=RssParameters.SIZE + 512,
    )
    return head.pack() + struct.pack("<128I", *(table * 128)[:128]) + bytes(range(40))


def spread_bed(table: list[int]) -> NetworkBed:
    bed = NetworkBed()
    bed.guest.connect(offloads=ALL_OFFLOADS)
    assert bed.guest.ask_for_subchannels(2).num_subchannels == 2
    bed.guest.open_subchannels()
    assert bed.guest.set(OID_RSS, rss_parameters(table)) == 0
    return bed


def test_frames_come_on_the_channel_that_the_guest_wants() -> None:
    bed = spread_bed([2])
    arrived = one(bed, Frame(right(LARGE), None, Checksum.VALID, 1448))
    assert arrived.channel == 2 and arrived.infos.keys() == {CHECKSUM, HASH}
    arrived = one(bed, Frame(right(Packet(4, TCP)), None, Checksum.VALID))
    assert arrived.channel == 2 and arrived.infos.keys() == {CHECKSUM, HASH}
    arrived = one(bed, Frame(to_guest()))
    assert arrived.channel == 0 and HASH not in arrived.infos
    assert bed.counters() == (0, 0)


def test_a_channel_that_is_not_open_leaves_frames_to_the_first() -> None:
    bed = spread_bed([9])
    assert one(bed, Frame(right(Packet(4, TCP)))).channel == 0


def test_a_sub_channel_that_closes_gives_back_what_was_underway() -> None:
    bed = spread_bed([1])
    bed.guest.holds = True
    bed.deliver(right(Packet(4, TCP)), to_guest(), right(Packet(4, TCP)))
    assert [frame.channel for frame in bed.guest.frames()] == [0, 1, 1]
    assert bed.counters() == (3, 0)
    bed.guest.subchannels[0].close_only()
    assert bed.counters() == (1, 0)
    assert one(bed, Frame(right(Packet(4, TCP)))).channel == 0
