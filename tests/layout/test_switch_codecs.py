"""The codecs for frames decode what the structures beside them declare."""

from __future__ import annotations

import struct

import pytest

from ringminus.switch import pcap_wire, tap_wire, wire
from ringminus.wire import Struct

DATA = bytes(range(1, 129))  # every byte is another


@pytest.mark.parametrize(
    ("codec", "structure"),
    [(tap_wire.VNET, tap_wire.VnetHeader), (pcap_wire.RECORD, pcap_wire.PcapRecord)],
)
def test_a_codec_is_its_structure(codec: struct.Struct, structure: type[Struct]) -> None:
    decoded = structure.unpack(DATA)
    assert codec.unpack_from(DATA) == tuple(getattr(decoded, field.name) for field in structure.FIELDS)
    assert codec.size == structure.SIZE


def test_headers_of_ipv4_are_decoded_in_one_go() -> None:
    ethernet = wire.EthernetHeader.unpack(DATA)
    ip = wire.Ipv4Header.unpack(DATA, wire.EthernetHeader.SIZE)
    assert wire.HOT_IPV4.size == wire.EthernetHeader.SIZE + wire.Ipv4Header.SIZE
    assert wire.HOT_IPV4.unpack_from(DATA) == (
        ethernet.type,
        ip.version_and_length,
        ip.total_length,
        ip.fragment,
        ip.protocol,
    )


def test_headers_of_ipv6_are_decoded_in_one_go() -> None:
    ip = wire.Ipv6Header.unpack(DATA, wire.EthernetHeader.SIZE)
    assert wire.HOT_IPV6.size == wire.EthernetHeader.SIZE + wire.Ipv6Header.SIZE
    assert wire.HOT_IPV6.unpack_from(DATA) == (
        ip.version_class_flow >> 24,
        ip.payload_length,
        ip.next_header,
    )
