"""From the guest's packets to frames: sections, pages, batches, and what the guest leaves to the adapter."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from ringminus.switch.checksum import complete, verify
from ringminus.switch.frame import Checksum
from support.network import (
    MAC,
    PEER,
    VLAN,
    NetworkBed,
    checksum_info,
    ethernet,
    large_send_info,
    packet_info,
    rndis_packet,
)
from support.packets import TCP, UDP, Packet, ones_complement_sum


def ip(packet: Packet) -> bytes:
    """The packet in a frame from the guest."""
    return PEER + MAC + packet.data[12:]


def sent(bed: NetworkBed, frame: bytes, infos: bytes = b"") -> tuple[bytes, Checksum, int, int | None]:
    """The one frame that the port gets of it."""
    bed.guest.send(frame, infos)
    (found,) = bed.port.taken()
    return found.data, found.checksum, found.segment_size, found.tci


def dropped(bed: NetworkBed) -> dict[str, int]:
    assert bed.port.taken() == []
    return bed.nic.counters.sending_dropped


# ------------------------------------------------------------------ where the bytes are


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("size", [14, 60, 1514])
def test_a_frame_in_a_section(scattered: bool, size: int) -> None:
    bed = NetworkBed(scattered=scattered)
    bed.guest.connect()
    for index in (0, 1, 7, 20):
        frame = ethernet(size)
        bed.guest.complete_of(bed.guest.send_section(rndis_packet(frame), index))
        assert bed.port.data() == [frame]
    counters = bed.nic.counters
    assert (counters.sent_frames, counters.sent_bytes) == (4, 4 * size)


def test_a_frame_in_pages(bed: NetworkBed) -> None:
    """As Linux names them: RNDIS's header, then the parts of the frame."""
    frame = ethernet(1514)
    message = rndis_packet(frame)
    pieces = message[:44], message[44:110], message[110:]
    bed.guest.complete_of(bed.guest.send_pages_of(*pieces))
    assert bed.port.data() == [frame]


def test_a_batch_in_a_section(bed: NetworkBed) -> None:
    """All but the last are padded, and the padding counts."""
    frames = [ethernet(60 + number) for number in range(8)]
    batch = b"".join(rndis_packet(frame, padding=-(44 + len(frame)) % 8) for frame in frames[:-1])
    bed.guest.complete_of(bed.guest.send_section(batch + rndis_packet(frames[-1])))
    assert bed.port.data() == frames


def test_a_batch_whose_last_frame_is_in_pages(bed: NetworkBed) -> None:
    """A partial copy: RNDIS's header of the last one is in the section still."""
    small, large = ethernet(64), ethernet(1500)
    message = rndis_packet(large)
    section = rndis_packet(small, padding=4) + message[:44]
    bed.guest.complete_of(bed.guest.send_pages_of(message[44:700], message[700:], section=section))
    assert bed.port.data() == [small, large]


def test_the_port_is_told_when_there_is_no_more(bed: NetworkBed) -> None:
    frames = [ethernet(60), ethernet(61)]
    for index, frame in enumerate(frames):
        bed.guest.write_section(index, rndis_packet(frame))
    before = bed.port.flushes
    bed.guest.channel.out.set(8, 1)  # no doorbell
    numbers = [bed.guest.rndis_send(index, 44 + len(frame)) for index, frame in enumerate(frames)]
    bed.guest.channel.signal()
    for number in numbers:
        bed.guest.complete_of(number)
    assert bed.port.data() == frames
    assert bed.port.flushes == before + 1


def test_what_the_guest_changes_afterwards_does_not_matter(bed: NetworkBed) -> None:
    frame = ethernet(1000)
    bed.guest.complete_of(bed.guest.send_section(rndis_packet(frame)))
    bed.guest.write_section(0, bytes(2000))
    assert bed.port.data() == [frame]


# ------------------------------------------------------------------ what is left to the adapter


def test_without_infos_nothing_is_known_of_a_frame(bed: NetworkBed) -> None:
    frame = ethernet(100)
    assert sent(bed, frame) == (frame, Checksum.UNKNOWN, 0, None)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_checksum_that_is_left_to_the_adapter_is_missing(
    bed: NetworkBed, version: int, protocol: int
) -> None:
    frame = ip(Packet(version, protocol, b"payload"))
    infos = checksum_info(ipv6=version == 6, udp=protocol == UDP)
    assert sent(bed, frame, infos) == (frame, Checksum.MISSING, 0, None)


def test_a_checksum_behind_extension_headers(bed: NetworkBed) -> None:
    frame = ip(Packet(6, TCP, b"payload", extensions=((0, bytes(8)),)))
    infos = checksum_info(ipv6=True, offset=62)
    assert sent(bed, frame, infos) == (frame, Checksum.MISSING, 0, None)


def test_the_header_checksum_is_computed_when_it_is_asked_for(bed: NetworkBed) -> None:
    frame = ip(Packet(4, UDP, b"payload", ip_options=bytes([1, 1, 1, 0])))
    spoilt = frame[:24] + b"\xab\xcd" + frame[26:]
    data, checksum, _, _ = sent(bed, spoilt, checksum_info(udp=True, header=True, offset=38))
    assert (data, checksum) == (frame, Checksum.MISSING)
    only_header = packet_info(0, 1 | 16)
    assert sent(bed, spoilt, only_header)[:2] == (frame, Checksum.UNKNOWN)


@pytest.mark.parametrize(("version", "info_version"), [(4, 1), (4, 2), (6, 2)])
def test_a_large_frame_is_handed_on_as_one(bed: NetworkBed, version: int, info_version: int) -> None:
    """Linux leaves its IP length and header checksum zero. Version 1 of the info is IPv4 only."""
    frame = ip(Packet(version, TCP, bytes(range(256)) * 40, options=bytes(12)))
    bare = bytearray(frame)
    if version == 4:
        bare[16:18] = bare[24:26] = b"\0\0"
    else:
        bare[18:20] = b"\0\0"
    infos = large_send_info(1448, ipv6=version == 6, version=info_version)
    message = rndis_packet(bytes(bare), infos)
    bed.guest.complete_of(bed.guest.send_pages_of(message[:60], message[60:150], message[150:]))
    (found,) = bed.port.taken()
    assert (found.data, found.checksum, found.segment_size) == (frame, Checksum.MISSING, 1448)
    if version == 4:
        assert ones_complement_sum(found.data[14:34]) == 0xFFFF
    assert verify(complete(found).data)


def test_a_large_frame_that_is_none_is_an_ordinary_one(bed: NetworkBed) -> None:
    frame = ip(Packet(4, TCP, b"x" * 100))
    assert sent(bed, frame, large_send_info(100)) == (frame, Checksum.MISSING, 0, None)
    assert sent(bed, frame, large_send_info(99)) == (frame, Checksum.MISSING, 99, None)


@pytest.mark.parametrize("tci", [0, 1, 4094, 0x3005, 0xF123, 0x1000])
def test_a_tag_goes_beside_the_frame(bed: NetworkBed, tci: int) -> None:
    frame = ethernet(100)
    word = tci >> 13 | (tci >> 12 & 1) << 3 | (tci & 0xFFF) << 4
    assert sent(bed, frame, packet_info(VLAN, word)) == (frame, Checksum.UNKNOWN, 0, tci)


def test_a_tag_in_the_frame_is_taken_out_of_it(bed: NetworkBed) -> None:
    frame = ethernet(1514)
    tagged = frame[:12] + struct.pack(">HH", 0x8100, 0x2007) + frame[12:]
    assert sent(bed, tagged) == (frame, Checksum.UNKNOWN, 0, 0x2007)
    # one beside the frame counts, and what is in it is the guest's matter
    assert sent(bed, tagged[:100], packet_info(VLAN, 9 << 4)) == (tagged[:100], Checksum.UNKNOWN, 0, 9)


def test_infos_that_nobody_knows_are_passed_over(bed: NetworkBed) -> None:
    frame = ip(Packet(4, TCP, b"payload"))
    strange = struct.pack("<III", 12, 9, 12) + packet_info(8, 0x1234) + packet_info(0x80000001, 7)
    assert sent(bed, frame, strange + checksum_info()) == (frame, Checksum.MISSING, 0, None)
    longer = struct.pack("<IIIIII", 24, 0, 20, 0, 0, 1 | 4 | 34 << 16)
    assert sent(bed, frame, longer) == (frame, Checksum.MISSING, 0, None)


# ------------------------------------------------------------------ what is dropped, and counted


def test_frames_of_impossible_sizes_are_dropped(bed: NetworkBed) -> None:
    for size in (0, 1, 13):
        bed.guest.send(ethernet(60)[:size])
    bed.guest.send(ethernet(1515))
    assert dropped(bed) == {"too short": 3, "too long": 1}
    assert sent(bed, ethernet(1514))[0] == ethernet(1514)


@pytest.mark.parametrize(
    ("frame", "infos"),
    [
        (ethernet(100), checksum_info()),
        (ethernet(20), checksum_info()),
        (ip(Packet(4, UDP)), checksum_info()),
        (ip(Packet(4, TCP)), checksum_info(udp=True)),
        (ip(Packet(4, TCP)), checksum_info(ipv6=True)),
        (ip(Packet(6, TCP)), checksum_info()),
        (ip(Packet(6, TCP)), checksum_info(ipv6=True, header=True)),
        (ip(Packet(6, 58, b"x" * 30)), checksum_info(ipv6=True)),
    ],
)
def test_a_frame_that_is_not_what_the_guest_says_is_dropped(
    bed: NetworkBed, frame: bytes, infos: bytes
) -> None:
    bed.guest.send(frame, infos)
    assert dropped(bed) == {"bad offload": 1}


LARGE = Packet(4, TCP, bytes(4000))


@pytest.mark.parametrize(
    ("packet", "infos"),
    [
        (LARGE, large_send_info(0)),
        (LARGE, large_send_info(7)),
        (LARGE, large_send_info(1460, offset=30)),
        (LARGE, large_send_info(1460, offset=1023)),
        (LARGE, large_send_info(1460, ipv6=True)),
        (replace(LARGE, version=6), large_send_info(1460)),
        (replace(LARGE, protocol=UDP), large_send_info(1460)),
        (replace(LARGE, fragment=0x2000), large_send_info(1460)),
        (replace(LARGE, payload=b""), large_send_info(1460, offset=40)),
    ],
)
def test_a_large_frame_that_makes_no_sense_is_dropped(bed: NetworkBed, packet: Packet, infos: bytes) -> None:
    bed.guest.send(ip(packet), infos)
    assert dropped(bed) == {"bad offload": 1}
    bed.assert_alive()


@pytest.mark.parametrize("version", [4, 6])
def test_a_large_frame_has_an_ip_packet_at_most(bed: NetworkBed, version: int) -> None:
    frame = ip(Packet(version, TCP, bytes(100)))
    frame += bytes(14 + 65535 - len(frame))
    for extra in (b"", b"\0"):
        message = rndis_packet(frame + extra, large_send_info(1460, ipv6=version == 6))
        bed.guest.complete_of(bed.guest.send_pages_of(message[:100], message[100:]))
    assert [len(data) for data in bed.port.data()] == [len(frame)]
    assert dropped(bed) == {"bad offload": 1}


def test_a_batch_goes_on_after_a_frame_that_is_dropped(bed: NetworkBed) -> None:
    batch = rndis_packet(ethernet(60), padding=0) + rndis_packet(b"short") + rndis_packet(ethernet(61))
    bed.guest.complete_of(bed.guest.send_section(batch))
    assert bed.port.data() == [ethernet(60), ethernet(61)]
    assert dropped(bed) == {"too short": 1}
