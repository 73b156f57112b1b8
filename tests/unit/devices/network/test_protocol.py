"""What an adapter and its guest say is shown by name: every NVSP message, every RNDIS message with the object
or the infos in it."""

from __future__ import annotations

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.devices.network import wire
from ringminus.devices.network.control import RndisControl, encode
from ringminus.devices.network.ndis_wire import RssParameters
from ringminus.devices.network.oid_wire import ConfigParameterInfo, Oid, ParameterType
from ringminus.devices.network.rndis_wire import (
    Fragment,
    InfoType,
    InitializeRequest,
    MessageType,
    QueryRequest,
    ReceiveChecksum,
    SetRequest,
    packet_header,
    packet_id_word,
    vlan_word,
)
from ringminus.lens.decode import flat
from ringminus.protocol import PADDING, PROTOCOLS, REST, Layer, dissect
from support.network import ALL_OFFLOADS, MAC, ethernet, large_send_info, rndis_packet

NVSP, RNDIS = PROTOCOLS["nvsp"], PROTOCOLS["rndis"]


def texts(layer: Layer) -> dict[str, str]:
    return {one.name: one.text for one in layer.values}


def whole(layer: Layer) -> list[Layer]:
    """All layers, of which none lacks a byte or has one too many."""
    found = list(flat([layer]))
    assert not any(one.missing for one in found)
    assert not any(value.name == REST for one in found for value in one.values)
    return found


@pytest.fixture
def control() -> RndisControl:
    made = RndisControl(MAC, "NIC", largest_mtu=65521, subchannels=3)
    made.receive(encode(MessageType.INIT, InitializeRequest(req_id=1, max_xfer_size=0x4000)))
    return made


def query(oid: int, info: bytes = b"") -> bytes:
    body = QueryRequest(req_id=5, oid=oid, info_buflen=len(info), info_buf_offset=QueryRequest.SIZE)
    return encode(MessageType.QUERY, body, info)


def change(oid: int, info: bytes) -> Layer:
    """A set's object."""
    body = SetRequest(req_id=5, oid=oid, info_buflen=len(info), info_buf_offset=SetRequest.SIZE)
    return whole(dissect(RNDIS, encode(MessageType.SET, body, info)))[1]


@pytest.mark.parametrize("oid", Oid)
def test_the_answer_to_every_query_is_shown_whole(control: RndisControl, oid: Oid) -> None:
    asked = query(oid)
    (answer,) = control.receive(asked)
    layers = whole(dissect(RNDIS, answer, to_guest=True, request=dissect(RNDIS, asked)))
    if len(answer) > 24:
        assert [one.message for one in layers] == ["QUERY_C", oid.name]
        assert layers[1].values


def test_an_answer_to_an_unknown_question_is_bytes(control: RndisControl) -> None:
    (answer,) = control.receive(query(Oid.GEN_LINK_SPEED))
    (layer,) = whole(dissect(RNDIS, answer, to_guest=True))
    assert layer.get("object") == answer[24:]


def test_settings_by_name_are_text_or_numbers() -> None:
    size = ConfigParameterInfo.SIZE
    name = "NetworkAddress".encode("utf-16-le")
    told = {"parameter_name_offset": size, "parameter_name_length": len(name)}
    text = "00155D".encode("utf-16-le")
    for kind, value, shown in (
        (ParameterType.STRING, text, {"text": "00155D"}),
        (ParameterType.INTEGER, b"\x07\0\0\0", {"value": "7"}),
    ):
        parameter = ConfigParameterInfo(
            **told,
            parameter_type=kind,
            parameter_value_offset=size + len(name),
            parameter_value_length=len(value),
        )
        found = texts(change(Oid.GEN_RNDIS_CONFIG_PARAMETER, parameter.pack() + name + value))
        assert found["name"] == "NetworkAddress" and found.items() >= shown.items()


def test_objects_of_older_revisions_are_whole() -> None:
    short = change(Oid.TCP_OFFLOAD_PARAMETERS, ALL_OFFLOADS[:20])
    assert texts(short)["tcp_ip_v4_csum"] == "TX_RX_ENABLED" and short.get("rsc_ip_v4") is None


def test_receive_side_scaling_has_its_table_and_its_key() -> None:
    size = RssParameters.SIZE
    head = bytes.fromhex("8902") + size.to_bytes(2, "little") + bytes(4) + (0x701).to_bytes(4, "little")
    head += (16).to_bytes(4, "little") + size.to_bytes(4, "little") + (40).to_bytes(4, "little")
    head += (size + 16).to_bytes(4, "little")
    table = b"".join(queue.to_bytes(4, "little") for queue in (0, 1, 2, 3))
    found = change(Oid.GEN_RECEIVE_SCALE_PARAMETERS, head.ljust(size, b"\0") + table + bytes(range(40)))
    assert found.get("indirection_table") == (0, 1, 2, 3) and found.get("hash_key") == bytes(range(40))
    assert texts(found)["hashinfo.types"] == "IPV4|TCP_IPV4|IPV6" and found.get("hashinfo.function") == 1


def test_multicast_addresses_are_shown_as_addresses() -> None:
    found = change(Oid.E802_3_MULTICAST_LIST, bytes.fromhex("333300000001") + bytes.fromhex("01005e0000fb"))
    assert texts(found) == {"addresses": "33:33:00:00:00:01,01:00:5e:00:00:fb"}


# ---------------------------------------------------------------- packets


def test_infos_of_a_packet_to_the_guest_have_their_bits() -> None:
    header = packet_header(InfoType.CHECKSUM, InfoType.VLAN, InfoType.HASH_VALUE)
    data = header.pack(60, ReceiveChecksum.TCP_SUCCEEDED, vlan_word(0x700A), 0xABCD) + ethernet()
    _, checksum, vlan, hashed, frame = whole(dissect(RNDIS, data, to_guest=True))
    assert texts(checksum)["receive_checksum"] == "TCP_SUCCEEDED"
    assert (vlan.get("vlan.id"), vlan.get("vlan.priority"), vlan.get("vlan.dei")) == (10, 3, 1)
    assert texts(hashed)["hash_value"] == "0xabcd"
    assert (frame.protocol, frame.offset, frame.size) == ("ethernet", header.size, 60)


def test_infos_from_the_guest_say_other_things() -> None:
    infos = bytes.fromhex("10000000 00000000 0c000000 0d002200".replace(" ", "")) + large_send_info(1448)
    _, checksum, large, _ = whole(dissect(RNDIS, rndis_packet(ethernet(), infos)))
    assert texts(checksum)["transmit_checksum"] == "IPV4|TCP|UDP"
    assert checksum.get("transmit_checksum.header_offset") == 34
    assert (large.get("large_send.segment_size"), large.get("large_send.version_2")) == (1448, 1)


def test_an_info_whose_value_lies_elsewhere_is_bytes() -> None:
    info = b"".join(word.to_bytes(4, "little") for word in (20, InfoType.VLAN, 16, 0, 7))
    _, vlan, _ = whole(dissect(RNDIS, rndis_packet(ethernet(), info)))
    assert (vlan.message, vlan.get("value")) == ("VLAN", b"\7\0\0\0")


def test_a_later_piece_of_a_large_frame_is_no_frame() -> None:
    first, last = Fragment.SUB_ALLOCATION | Fragment.FIRST, Fragment.SUB_ALLOCATION | Fragment.LAST
    header = packet_header(InfoType.PACKET_ID)
    pieces = [header.pack(60, packet_id_word(flags)) + ethernet() for flags in (first, last)]
    layers = [whole(dissect(RNDIS, piece, to_guest=True)) for piece in pieces]
    assert [[one.protocol for one in some] for some in layers] == [
        ["rndis", "rndis_info", "ethernet"],
        ["rndis", "rndis_info"],
    ]
    assert layers[1][0].get("fragment") == ethernet()


def test_a_message_without_its_frame_lacks_nothing_that_was_meant_to_be_there() -> None:
    data = rndis_packet(ethernet())
    (layer,) = flat([dissect(RNDIS, data[:44], cut=len(data) - 44)])
    assert layer.missing == 0
    assert dissect(RNDIS, data[:44]).missing == 60


# ---------------------------------------------------------------- NVSP


def test_every_nvsp_message_has_a_name() -> None:
    for kind in wire.MessageType:
        data = wire.MessageHeader(msg_type=kind).pack().ljust(wire.MESSAGE_SIZE, b"\0")
        layer = dissect(NVSP, data)
        assert layer.message == kind.name and layer.missing == 0
        assert not any(one.name == REST for one in layer.values)


def test_what_a_guest_left_in_a_messages_padding_is_there() -> None:
    body = wire.SendNdisVersion(ndis_major_ver=6, ndis_minor_ver=30)
    data = wire.message(wire.MessageType.SEND_NDIS_VER, body, wire.Version.V61)
    layer = dissect(NVSP, data[:12] + b"\xde\xad".ljust(28, b"\0"))
    assert texts(layer)[PADDING].startswith("dead00")


def test_the_table_of_channels_lies_where_the_message_says() -> None:
    table = wire.SendTable(channels=tuple(range(16))).pack()
    body = wire.SendIndirectionTable(count=16, offset=wire.MESSAGE_SIZE)
    data = wire.message(wire.MessageType.SEND_INDIRECTION_TABLE, body, wire.Version.V61) + table
    (layer,) = whole(dissect(NVSP, data, to_guest=True))
    assert layer.get("table") == tuple(range(16))


def test_the_same_message_says_other_things_each_way() -> None:
    kind = wire.MessageType.SUBCHANNEL
    asked = wire.message(kind, wire.SubchannelRequest(op=1, num_subchannels=4), wire.Version.V5)
    told = wire.message(kind, wire.SubchannelComplete(status=1, num_subchannels=3), wire.Version.V5)
    assert texts(dissect(NVSP, asked))["op"] == "ALLOCATE"
    assert texts(dissect(NVSP, told, to_guest=True))["status"] == "SUCCESS"
