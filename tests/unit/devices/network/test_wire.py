"""The codecs of the hot path decode what the structures beside them declare; messages are as long as their
version has them."""

from __future__ import annotations

import pytest

from ringminus.devices.network import rndis_wire, wire
from ringminus.devices.network.wire import MessageType, Version

DATA = bytes(range(1, 61))


def test_codecs_are_their_structures() -> None:
    header = wire.MessageHeader.unpack(DATA)
    sent = wire.SendRndisPacket.unpack(DATA, wire.MessageHeader.SIZE)
    assert wire.HOT_SEND.unpack_from(DATA) == (
        header.msg_type,
        sent.channel_type,
        sent.send_buf_section_index,
        sent.send_buf_section_size,
    )
    done = wire.SendRndisPacketComplete.unpack(DATA, wire.MessageHeader.SIZE)
    assert wire.HOT_COMPLETE.unpack_from(DATA) == (header.msg_type, done.status)


def test_the_codec_of_a_frame_from_the_guest_is_its_structure() -> None:
    header = rndis_wire.MessageHeader.unpack(DATA)
    packet = rndis_wire.Packet.unpack(DATA, rndis_wire.HEADER_SIZE)
    assert rndis_wire.HOT_PACKET.unpack_from(DATA) == (
        header.ndis_msg_type,
        header.msg_len,
        packet.data_offset,
        packet.data_len,
        packet.per_pkt_info_offset,
        packet.per_pkt_info_len,
    )
    assert rndis_wire.HOT_PACKET.size == rndis_wire.PACKET_SIZE


@pytest.mark.parametrize(
    ("version", "size"), [(0, 28), (Version.V1, 28), (Version.V6, 28), (Version.V61, 40)]
)
def test_a_message_is_as_long_as_its_version_has_it(version: int, size: int) -> None:
    body = wire.SubchannelComplete(status=1, num_subchannels=2)
    message = wire.message(MessageType.SUBCHANNEL, body, version)
    assert message == b"\x85\0\0\0\1\0\0\0\2\0\0\0".ljust(size, b"\0")


def test_the_numbers_have_no_gap() -> None:
    assert sorted(MessageType) == [0, 1, 2, *range(100, 137)]
