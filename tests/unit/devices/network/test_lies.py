"""A guest that lies gets its channel failed, with a reason, and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from ringminus.devices.network.wire import MessageType
from ringminus.memory import PAGE_SIZE
from ringminus.switch.frame import Checksum, Frame
from support.guest_ring import READ_INDEX
from support.network import (
    CONTROL,
    DATA,
    MAC,
    NO_SECTION,
    OID_OFFLOADS,
    PACKET,
    PEER,
    NetworkBed,
    ethernet,
    offload_parameters,
    packet_info,
    rndis_packet,
)
from support.packets import Packet

MESSAGE = rndis_packet(ethernet(60), packet_info(6, 1))
WORDS = {"length": 4, "data_offset": 8, "data_len": 12, "infos_at": 28, "infos_size": 32}


def changed(**words: int) -> bytes:
    """A packet message with other words in its header."""
    message = bytearray(MESSAGE)
    for name, value in words.items():
        struct.pack_into("<I", message, WORDS[name], value & 0xFFFFFFFF)
    return bytes(message)


def with_info(size: int, kind: int, offset: int, tail: bytes = bytes(4)) -> bytes:
    return rndis_packet(ethernet(60), struct.pack("<III", size, kind, offset) + tail)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (MESSAGE[:4], "an RNDIS packet of 4 bytes"),
        (MESSAGE[:43], "an RNDIS packet of 43 bytes"),
        (MESSAGE + b"\0", "an RNDIS packet of 1 bytes"),
        (MESSAGE + bytes(44), "an RNDIS message of type 0x0 among data"),
        (struct.pack("<I", 2) + MESSAGE[4:], "an RNDIS message of type 0x2 among data"),
        (struct.pack("<I", 7) + MESSAGE[4:], "an RNDIS message of type 0x7 among data"),
        (changed(length=0), "an RNDIS packet of 0 bytes"),
        (changed(length=43), "an RNDIS packet of 43 bytes"),
        (changed(length=len(MESSAGE) + 1), f"an RNDIS packet of {len(MESSAGE) + 1} bytes"),
        (changed(length=-1), "an RNDIS packet of 4294967295 bytes"),
        (changed(data_offset=0), "a frame of 60 bytes at 0"),
        (changed(data_offset=35), "a frame of 60 bytes at 35"),
        (changed(data_offset=53), "a frame of 60 bytes at 53"),
        (changed(data_offset=-20), "a frame of 60 bytes at 4294967276"),
        (changed(data_len=61), "a frame of 61 bytes at 52"),
        (changed(data_len=-1), "a frame of 4294967295 bytes"),
        (changed(infos_at=0), "infos of 16 bytes at 0"),
        (changed(infos_at=-8), "infos of 16 bytes at 4294967288"),
        (changed(infos_size=200), "infos of 200 bytes at 36"),
        (changed(infos_size=-1), "infos of 4294967295 bytes at 36"),
        (changed(infos_size=11), "11 bytes after the last per-packet info"),
        (with_info(0, 6, 12), "a per-packet info of 0 bytes"),
        (with_info(11, 6, 12), "a per-packet info of 11 bytes"),
        (with_info(17, 6, 12), "a per-packet info of 17 bytes, 16 are there"),
        (with_info(0xFFFFFFFF, 6, 12), "a per-packet info of 4294967295 bytes"),
        (with_info(16, 6, 13), "a per-packet info of 16 bytes with its value at 13"),
        (with_info(16, 0, 0), "a per-packet info of 16 bytes with its value at 0"),
        (with_info(12, 2, 12, b""), "a per-packet info of 12 bytes with its value at 12"),
        (with_info(16, 6, 0xFFFFFFFF), "with its value at 4294967295"),
        (with_info(12, 99, 12), "4 bytes after the last per-packet info"),
    ],
)
def test_lengths_and_offsets_of_a_packet_message(bed: NetworkBed, message: bytes, why: str) -> None:
    bed.guest.send_section(message)
    assert bed.port.taken() == []
    bed.assert_failed(why)


def test_what_came_before_the_lie_in_a_batch_is_not_sent(bed: NetworkBed) -> None:
    """A packet is whole or it is nothing."""
    bed.guest.send_section(MESSAGE + changed(length=0))
    assert bed.port.taken() == []
    bed.assert_failed("an RNDIS packet of 0 bytes")


@pytest.mark.parametrize(
    ("index", "size", "why"),
    [
        (21, 60, "60 bytes of section 21: there are 21 of 6144 bytes"),
        (0xFFFFFFFE, 60, "section 4294967294"),
        (0, 6145, "6145 bytes of section 0"),
        (0, 0xFFFFFFFF, "4294967295 bytes of section 0"),
        (NO_SECTION, 60, "60 bytes of no section"),
    ],
)
def test_sections_that_are_not_there(bed: NetworkBed, index: int, size: int, why: str) -> None:
    bed.guest.rndis_send(index, size)
    bed.assert_failed(why)


def test_a_packet_of_nothing_is_nothing(bed: NetworkBed) -> None:
    bed.guest.complete_of(bed.guest.rndis_send(NO_SECTION, 0))
    bed.guest.complete_of(bed.guest.rndis_send(3, 0))
    bed.assert_alive()


def test_pages_that_are_no_memory(bed: NetworkBed) -> None:
    bed.guest.rndis_send(NO_SECTION, 0, [(100, 0, [1 << 40])])
    bed.assert_failed("is not RAM")


def test_more_bytes_than_a_packet_has(bed: NetworkBed) -> None:
    """The same page again and again."""
    bed.guest.rndis_send(NO_SECTION, 0, [(20 * PAGE_SIZE, 0, [300] * 20)] * 4)
    bed.assert_failed("a packet of more than 262144 bytes")


def sends(channel_type: int, body: bytes, *, wants_completion: bool = True) -> Callable[[NetworkBed], None]:
    def act(bed: NetworkBed) -> None:
        bed.guest.write_section(0, body)
        payload = struct.pack("<4I", MessageType.SEND_RNDIS_PKT, channel_type, 0, len(body))
        bed.guest.channel.send(payload, 5, wants_completion=wants_completion)

    return act


def posts(payload: bytes) -> Callable[[NetworkBed], None]:
    return lambda bed: bed.guest.channel.send(payload, 5, wants_completion=True)


def posts_pages(payload: bytes) -> Callable[[NetworkBed], None]:
    return lambda bed: bed.guest.channel.send_gpa_direct(payload, [(100, 0, [300])], 5)


QUERY = struct.pack("<7I", 4, 28, 1, 0x00010106, 0, 20, 0)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (sends(DATA, MESSAGE, wants_completion=False), "wants no completion"),
        (sends(2, MESSAGE), "channel type 2 on channel 0"),
        (sends(0xFFFFFFFF, MESSAGE), "channel type 4294967295"),
        (sends(CONTROL, MESSAGE), "an RNDIS packet among control messages"),
        (sends(CONTROL, QUERY[:7]), "an RNDIS message of 7 bytes"),
        (sends(CONTROL, QUERY[:27]), "an RNDIS message of 28 bytes, 27 are there"),
        (sends(CONTROL, QUERY + b"\0\0"), "an RNDIS message of 2 bytes"),
        (sends(CONTROL, struct.pack("<II", 4, 7) + QUERY[8:]), "an RNDIS message of 7 bytes"),
        (sends(CONTROL, struct.pack("<II", 77, 28) + QUERY[8:]), "0x4d"),
        (posts(b""), "MessageHeader needs 4 bytes, 0 are there"),
        (posts(struct.pack("<II", MessageType.SEND_RNDIS_PKT, 0)), "SEND_RNDIS_PKT in state READY"),
        (posts(struct.pack("<I", MessageType.INIT) + bytes(36)), "INIT in state READY"),
        (posts(struct.pack("<I", 1000) + bytes(36)), "message 1000 in state READY"),
        (posts_pages(struct.pack("<I", MessageType.OID_QUERY_EX) + bytes(36)), "an NVSP message in a packet"),
        (
            lambda bed: bed.guest.channel.send_transfer(bytes(40), 0xCAFE, [(0, 60)], 7),
            "an NVSP message in a packet of type 7",
        ),
    ],
)
def test_messages_that_cannot_be(bed: NetworkBed, act: Callable[[NetworkBed], None], why: str) -> None:
    act(bed)
    bed.assert_failed(why)


def test_a_frame_in_a_packet_as_only_the_host_sends_them(bed: NetworkBed) -> None:
    payload = struct.pack("<4I", MessageType.SEND_RNDIS_PKT, DATA, 0, len(MESSAGE))
    bed.guest.write_section(0, MESSAGE)
    bed.guest.channel.send_transfer(payload, 0xCAFE, [(0, 60)], 7)
    assert bed.port.taken() == []
    bed.assert_failed("SEND_RNDIS_PKT in a packet of type 7")


def test_several_control_messages_in_one_packet(bed: NetworkBed) -> None:
    sends(CONTROL, QUERY * 3)(bed)
    bed.guest.poll()
    assert len(bed.guest.answers) == 3
    bed.assert_alive()


def test_control_messages_are_for_the_first_channel(bed: NetworkBed) -> None:
    bed.guest.ask_for_subchannels(1)
    (channel,) = bed.guest.open_subchannels()
    bed.guest.write_section(0, QUERY)
    bed.guest.rndis_send(0, len(QUERY), channel=channel, channel_type=CONTROL)
    bed.assert_failed("channel type 1 on channel 1")
    bed.guest.subchannels.clear()
    bed.assert_alive()


def test_there_is_no_handshake_on_a_sub_channel(bed: NetworkBed) -> None:
    bed.guest.ask_for_subchannels(1)
    (channel,) = bed.guest.open_subchannels()
    channel.send(struct.pack("<I", MessageType.REVOKE_RECV_BUF) + bytes(36), 5)
    bed.assert_failed("REVOKE_RECV_BUF in state READY on sub-channel 1")
    bed.guest.subchannels.clear()
    bed.deliver(ethernet(60, to=MAC, source=PEER))
    assert len(bed.guest.frames()) == 1


def test_frames_before_the_buffers_are_there() -> None:
    bed = NetworkBed()
    bed.guest.open()
    bed.guest.rndis_send(0, 60)
    bed.assert_failed("SEND_RNDIS_PKT in state INIT")


# ------------------------------------------------------------------ completions


def held(bed: NetworkBed, count: int = 1) -> list[int]:
    """Transaction ids of frames that the guest has not completed."""
    bed.guest.holds = True
    bed.deliver(*[ethernet(60, to=MAC, source=PEER)] * count)
    assert len(bed.guest.frames()) == count
    return [one.transaction_id for one in bed.guest.held]


DONE = struct.pack("<II", MessageType.SEND_RNDIS_PKT_COMPLETE, 1)


def test_a_completion_of_what_is_not_underway(bed: NetworkBed) -> None:
    held(bed)
    bed.guest.channel.complete(0xDEAD, DONE)
    bed.assert_failed("0xdead, which is not underway")


def test_a_second_completion(bed: NetworkBed) -> None:
    first, _ = held(bed, 2)
    bed.guest.channel.complete(first, DONE)
    assert bed.counters() == (1, 0)
    bed.guest.channel.complete(first, DONE)
    bed.assert_failed("which is not underway")
    assert bed.counters() == (0, 0)


def test_a_completion_on_another_channel(bed: NetworkBed) -> None:
    bed.guest.ask_for_subchannels(1)
    (channel,) = bed.guest.open_subchannels()
    (number,) = held(bed)
    channel.complete(number, DONE)
    bed.assert_failed("which is not underway there")
    assert bed.counters() == (1, 0)
    bed.guest.subchannels.clear()
    bed.guest.give_back()
    assert bed.counters() == (0, 0)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "a completion of 0 bytes"),
        (struct.pack("<II", PACKET, 1), "a completion of type 1"),
        (struct.pack("<II", MessageType.SEND_RNDIS_PKT, 1), "a completion of type 107"),
    ],
)
def test_a_completion_that_says_something_else(bed: NetworkBed, payload: bytes, why: str) -> None:
    (number,) = held(bed)
    bed.guest.channel.complete(number, payload)
    bed.assert_failed(why)


@pytest.mark.parametrize("index", [0x7FFFFFF8, 3])
def test_a_ring_that_breaks_while_frames_are_delivered(bed: NetworkBed, index: int) -> None:
    """It is the switch that is told nothing: it goes on with others."""
    bed.guest.set(OID_OFFLOADS, offload_parameters(checksum=0, large=0, coalesce=1))
    bed.guest.channel.incoming.set(READ_INDEX, index)
    frame = MAC + PEER + Packet(4, 6, bytes(4000)).right[12:]
    bed.deliver(Frame(frame, None, Checksum.VALID, 1460))
    bed.deliver(frame[:60])
    bed.assert_failed("READ_INDEX is")
    assert bed.nic.counters.receiving_dropped == {"not ready": 3}


def test_after_a_failure_the_guest_may_begin_anew(bed: NetworkBed) -> None:
    held(bed, 3)
    bed.guest.rndis_send(99, 1)
    bed.assert_failed("section 99")
    assert bed.counters() == (0, 0)
    bed.guest.held.clear()
    bed.guest.holds = False
    bed.guest.channel.close()
    bed.guest.connect()
    bed.deliver(ethernet(60, to=MAC, source=PEER))
    assert bed.guest.data() == [ethernet(60, to=MAC, source=PEER)]
    bed.assert_alive()
