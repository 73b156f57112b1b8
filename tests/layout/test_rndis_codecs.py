"""The codecs of a network adapter's data path decode and encode what the structures beside them declare."""

from __future__ import annotations

import struct

import pytest

from ringminus.devices.network import ndis_wire, rndis_wire
from ringminus.devices.network.rndis_wire import (
    Fragment,
    InfoType,
    MessageHeader,
    MessageType,
    Packet,
    PacketId,
    PacketInfo,
    packet_header,
)
from ringminus.switch.wire import EthernetHeader, Ipv4Header, Ipv6Header, TcpHeader
from ringminus.wire import Struct

DATA = bytes(range(1, 129))  # every byte is another


def values(structure: Struct) -> tuple[int, ...]:
    return tuple(getattr(structure, field.name) for field in structure.FIELDS)


@pytest.mark.parametrize(
    ("codec", "structure"),
    [(rndis_wire.HEADER, MessageHeader), (rndis_wire.INFO_HEADER, PacketInfo)],
)
def test_a_codec_is_its_structure(codec: struct.Struct, structure: type[Struct]) -> None:
    assert codec.unpack_from(DATA) == values(structure.unpack(DATA))
    assert codec.size == structure.SIZE


def test_a_packet_message_is_decoded_in_one_go() -> None:
    header, packet = MessageHeader.unpack(DATA), Packet.unpack(DATA, MessageHeader.SIZE)
    assert rndis_wire.PACKET.unpack_from(DATA) == values(header) + values(packet)
    assert rndis_wire.PACKET_SIZE == MessageHeader.SIZE + Packet.SIZE


def test_an_info_and_its_word() -> None:
    (word,) = rndis_wire.INFO_WORD.unpack_from(DATA, PacketInfo.SIZE)
    assert rndis_wire.INFO.unpack_from(DATA) == (*values(PacketInfo.unpack(DATA)), word)
    assert PacketInfo.SIZE + rndis_wire.INFO_WORD.size == rndis_wire.INFO_SIZE


@pytest.mark.parametrize(
    "infos",
    [
        (),
        ((InfoType.CHECKSUM, 8),),
        ((InfoType.VLAN, 0x51), (InfoType.HASH_VALUE, 0xFFFF_FFFF)),
        ((InfoType.CHECKSUM, 8), (InfoType.VLAN, 0x51), (InfoType.HASH_VALUE, 7), (InfoType.PACKET_ID, 9)),
    ],
)
def test_a_packets_header_is_its_structures_one_after_another(infos: tuple[tuple[int, int], ...]) -> None:
    types, words = [kind for kind, _ in infos], [word for _, word in infos]
    listed = b"".join(
        PacketInfo(size=16, type=kind, ppi_offset=12).pack() + word.to_bytes(4, "little")
        for kind, word in infos
    )
    offset = Packet.SIZE + len(listed)
    expected = (
        MessageHeader(ndis_msg_type=MessageType.PACKET, msg_len=8 + offset + 60).pack()
        + Packet(
            data_offset=offset,
            data_len=60,
            per_pkt_info_offset=Packet.SIZE if infos else 0,
            per_pkt_info_len=len(listed),
        ).pack()
        + listed
    )
    header = packet_header(*types)
    assert header.pack(60, *words) == expected
    assert header.size == len(expected)
    buffer = bytearray(b"\xee" * (len(expected) + 10))
    header.pack_into(buffer, 5, 60, *words)
    assert buffer == b"\xee" * 5 + expected + b"\xee" * 5


def test_a_packets_id_is_a_word() -> None:
    flags = Fragment.SUB_ALLOCATION | Fragment.LAST
    assert rndis_wire.packet_id_word(flags, 0x1234).to_bytes(4, "little") == (
        PacketId(flag=flags, pkt_id=0x1234).pack()
    )


@pytest.mark.parametrize("tci", [0, 1, 0xFFF, 0x1000, 0x2000, 0xE000, 0xB123, 0xFFFF])
def test_a_vlans_word_and_its_tag_control_information(tci: int) -> None:
    word = rndis_wire.vlan_word(tci)
    assert (word & 7, word >> 3 & 1, word >> 4) == (tci >> 13, tci >> 12 & 1, tci & 0xFFF)
    assert rndis_wire.vlan_tci(word) == rndis_wire.vlan_tci(word | 0xFFFF_0000) == tci


def test_words_of_offloads_are_made_and_read() -> None:
    word = rndis_wire.large_send_word(rndis_wire.LargeSend.VERSION_2, 1448, 54)
    assert rndis_wire.large_send(word) == (1448, 54)
    assert word & rndis_wire.LargeSend.VERSION_2 and not word & rndis_wire.LargeSend.IPV6
    word = rndis_wire.checksum_word(rndis_wire.TransmitChecksum.TCP, 54)
    assert rndis_wire.checksum_offset(word) == 54
    assert word & 0xFF == rndis_wire.TransmitChecksum.TCP


def test_what_is_hashed_of_ipv4_is_addresses_and_ports() -> None:
    ethernet = EthernetHeader.unpack(DATA)
    ip = Ipv4Header.unpack(DATA, EthernetHeader.SIZE)
    tcp = TcpHeader.unpack(DATA, EthernetHeader.SIZE + Ipv4Header.SIZE)
    flow = ip.source + ip.destination + struct.pack(">HH", tcp.source_port, tcp.destination_port)
    assert ndis_wire.HOT_FLOW4.unpack_from(DATA) == (
        ethernet.type,
        ip.version_and_length,
        ip.fragment,
        ip.protocol,
        flow,
    )


def test_what_is_hashed_of_ipv6_is_addresses_and_ports() -> None:
    ethernet = EthernetHeader.unpack(DATA)
    ip = Ipv6Header.unpack(DATA, EthernetHeader.SIZE)
    tcp = TcpHeader.unpack(DATA, EthernetHeader.SIZE + Ipv6Header.SIZE)
    flow = ip.source + ip.destination + struct.pack(">HH", tcp.source_port, tcp.destination_port)
    assert ndis_wire.HOT_FLOW6.unpack_from(DATA) == (
        ethernet.type,
        ip.version_class_flow >> 24,
        ip.next_header,
        flow,
    )
