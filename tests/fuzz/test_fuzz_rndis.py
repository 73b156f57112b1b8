"""A hostile guest's RNDIS: answers that our own declarations read, or typed errors, whatever it says."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from ringminus.devices.network.control import RndisControl, State
from ringminus.devices.network.ndis_wire import (
    HASH_KEY_SIZE,
    HashType,
    ObjectHeader,
    ObjectType,
    OffloadEncapsulation,
    OffloadParameters,
    RssParameters,
)
from ringminus.devices.network.oid_wire import ConfigParameterInfo, Oid, PacketFilter
from ringminus.devices.network.rndis_wire import MessageType, SetRequest
from ringminus.devices.network.rss import ReceiveSideScaling
from ringminus.errors import GuestError
from ringminus.switch.port import ADDRESS_SIZE
from ringminus.wire import Bytes, Int, Struct
from support.effort import examples
from support.rndis import ADDRESS, decode, message

SLOW = settings(max_examples=examples(250), deadline=None, suppress_health_check=[HealthCheck.too_slow])
U32 = 0xFFFF_FFFF
QUEUES = 4

small = st.integers(0, 5) | st.sampled_from((14, 16, 20, 28, 40, 64, 128, 512))
numbers = small | st.sampled_from((0x7FFF_FFFF, U32 - 15, U32 - 1, U32)) | st.integers(0, U32)


# ------------------------------------------------------------------ what a guest may send


def _up_to(mask: int) -> st.SearchStrategy[int]:
    return numbers.map(lambda value: value & mask)


def _structures(structure: type[Struct], **fixed: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """A structure with arbitrary numbers, small ones more often than others."""
    chosen: dict[str, st.SearchStrategy[Any]] = {}
    for field in structure.FIELDS:
        if field.name in fixed:
            chosen[field.name] = fixed[field.name]
        elif isinstance(field.kind, type):
            chosen[field.name] = headers
        elif isinstance(field.kind, Bytes):
            chosen[field.name] = st.binary(max_size=field.size)
        else:
            assert isinstance(field.kind, Int)
            chosen[field.name] = _up_to((1 << 8 * field.size) - 1)
    return st.builds(structure, **chosen).map(lambda made: made.pack())


headers = st.builds(
    ObjectHeader,
    type=st.sampled_from(ObjectType) | st.integers(0, 255),
    revision=st.integers(0, 4) | st.integers(0, 255),
    size=st.sampled_from((16, 18, 20, 22, 28, 40, 112, 144, 156)) | st.integers(0, 0xFFFF),
)


def _rss(flag: int, hash_info: int, table: list[int], key: bytes, gap: int, tail: bytes) -> bytes:
    """Parameters that fit, but for what is chosen."""
    begin = RssParameters.SIZE + gap
    fixed = RssParameters(
        header=ObjectHeader(type=ObjectType.RSS_PARAMETERS, revision=2, size=RssParameters.SIZE),
        flag=flag,
        base_cpu_number=0,
        hashinfo=hash_info,
        indirect_tabsize=4 * len(table),
        indirect_taboffset=begin,
        hashkey_size=len(key),
        hashkey_offset=begin + 4 * len(table),
    )
    return fixed.pack() + bytes(gap) + struct.pack(f"<{len(table)}I", *table) + key + tail


def _parameter(name: str, value: str, kind: int, shift: int) -> bytes:
    encoded = name.encode("utf-16-le", "replace")
    raw = value.encode("utf-16-le", "replace")
    info = ConfigParameterInfo(
        parameter_name_offset=ConfigParameterInfo.SIZE,
        parameter_name_length=len(encoded),
        parameter_type=kind,
        parameter_value_offset=ConfigParameterInfo.SIZE + len(encoded) + shift,
        parameter_value_length=len(raw),
    )
    return info.pack() + encoded + raw


names = st.sampled_from(
    ("NetworkAddress", "*LsoV2IPv4", "*RscIPv6", "*TCPChecksumOffloadIPv4", "*UDPChecksumOffloadIPv6", "x")
) | st.text(max_size=8)
values = (
    st.sampled_from(("0", "1", "2", "3", "02aabbccddee", "02-aa-bb-cc-dd-ee", "ffffffffffff", "²"))
    | st.text("0123456789abcdefABCDEF-", max_size=14)
    | st.text(max_size=14)
)
rss_infos = st.builds(
    _rss,
    st.sampled_from((0, 0, 0x10)) | st.integers(0, 0x1F),
    st.sampled_from((1 | sum(HashType), 0x1701, 0, 0x1702)) | numbers,
    st.sampled_from((16, 32, 128, 0, 17, 256)).flatmap(
        lambda count: st.lists(st.integers(0, QUEUES - 1) | numbers, min_size=count, max_size=count)
    )
    | st.just([0, 1, 2, 3] * 4),
    st.just(bytes(range(HASH_KEY_SIZE))) | st.binary(max_size=HASH_KEY_SIZE + 1),
    st.sampled_from((0, 0, 1, 4)),
    st.just(b"") | st.binary(max_size=4),
)
informations = (
    st.just(b"")
    | numbers.map(lambda value: value.to_bytes(4, "little"))
    | st.sampled_from(PacketFilter).map(lambda value: int(value).to_bytes(4, "little"))
    | st.lists(st.binary(min_size=6, max_size=6), max_size=70).map(b"".join)
    | st.lists(st.sampled_from((b"\1\0\x5e\0\0\1", b"\x33\x33\0\0\0\1")), max_size=3).map(b"".join)
    | st.tuples(headers, st.binary(max_size=160)).map(lambda both: both[0].pack() + both[1])
    | _structures(OffloadParameters)
    | _structures(OffloadEncapsulation)
    | _structures(RssParameters)
    | _structures(ConfigParameterInfo)
    | rss_infos
    | st.builds(_parameter, names, values, st.integers(0, 3), st.sampled_from((0, 0, 0, 1, -1)))
    | st.binary(max_size=64)
)
oids = st.sampled_from(Oid) | numbers
parameters = st.lists(st.integers(0, 2), min_size=11, max_size=11).map(
    lambda chosen: (
        ObjectHeader(type=ObjectType.DEFAULT, revision=3, size=28).pack()
        + bytes(value % 2 if at in (5, 6, 9, 10) else value for at, value in enumerate(chosen))
        + bytes(13)
    )
)
multicast = st.binary(min_size=5, max_size=5).map(lambda rest: b"\1" + rest)
TELLING = {
    Oid.GEN_RECEIVE_SCALE_PARAMETERS: rss_infos,
    Oid.GEN_RNDIS_CONFIG_PARAMETER: st.builds(_parameter, names, values, st.just(2), st.just(0))
    | st.binary(min_size=6, max_size=6).map(lambda mac: _parameter("NetworkAddress", mac.hex(), 2, 0)),
    Oid.TCP_OFFLOAD_PARAMETERS: parameters,
    Oid.E802_3_MULTICAST_LIST: st.lists(multicast, max_size=4).map(b"".join),
    Oid.GEN_CURRENT_PACKET_FILTER: st.integers(0, 255).map(lambda value: value.to_bytes(4, "little")),
}
"""Objects and what belongs into them."""


def _request(kind: int, oid: int, info: bytes, length: int | None, offset: int | None) -> bytes:
    body = SetRequest(
        req_id=1,
        oid=oid,
        info_buflen=len(info) if length is None else length,
        info_buf_offset=SetRequest.SIZE if offset is None else offset,
    )
    return message(kind, body.pack() + info)


kinds = st.sampled_from((MessageType.QUERY, MessageType.SET, MessageType.SET_EX))
lie = st.none() | st.none() | numbers
good_sets = st.sampled_from(sorted(TELLING)).flatmap(
    lambda oid: TELLING[oid].map(lambda info: _request(MessageType.SET, oid, info, None, None))
)
whole = (
    st.builds(_request, kinds, oids, informations, lie, lie)
    | st.builds(_request, kinds, oids, informations, st.none(), st.none())
    | good_sets
    | st.builds(message, st.sampled_from(MessageType) | numbers, st.binary(max_size=40))
    | st.just(message(MessageType.INIT, struct.pack("<4I", 1, 1, 0, 0x4000)))
)
broken = (
    st.binary(max_size=80)
    | st.builds(message, st.sampled_from(MessageType), st.binary(max_size=40), numbers)
    | st.tuples(whole, st.integers(0, 100)).map(lambda both: both[0][: both[1]])
)
INIT = message(MessageType.INIT, struct.pack("<4I", 1, 1, 0, 0x4000))


# ------------------------------------------------------------------ what holds whatever it sends


class Guest:
    """A control channel that is looked at after each message."""

    def __init__(self) -> None:
        self.control = RndisControl(ADDRESS, "NIC", largest_mtu=65521, subchannels=QUEUES - 1)
        self.addresses: list[bytes] = []
        self.control.on_address = self.addresses.append

    def send(self, data: bytes) -> bool:
        """Whether it was no error."""
        before = self.control.save()
        try:
            answers = self.control.receive(memoryview(data))
        except GuestError:
            assert self.control.save() == before
            return False
        for answer in answers:
            decode(answer)
        self.check()
        return True

    def check(self) -> None:
        control = self.control
        assert len(control.address) == ADDRESS_SIZE and not control.address[0] & 1
        assert not self.addresses or control.address == self.addresses[-1]
        assert not control.packet_filter & ~sum(PacketFilter)
        assert all(len(one) == ADDRESS_SIZE and one[0] & 1 for one in control.multicast)
        if control.rss is not None:
            assert max(control.rss.table) < QUEUES
        if control.state is not State.INITIALIZED:
            assert control.packet_filter == 0 and control.rss is None
        other = RndisControl(ADDRESS, "NIC", largest_mtu=65521, subchannels=QUEUES - 1)
        state = control.save()
        other.restore(state)
        assert other.save() == state


@given(st.lists(broken, max_size=3), st.booleans())
@SLOW
def test_arbitrary_bytes(messages: list[bytes], initialized: bool) -> None:
    guest = Guest()
    if initialized:
        guest.send(INIT)
    for data in messages:
        guest.send(data)


@given(st.lists(whole | broken, max_size=12))
@SLOW
def test_messages_in_any_order(messages: list[bytes]) -> None:
    guest = Guest()
    for data in messages:
        guest.send(data)


@given(st.lists(good_sets | whole, min_size=1, max_size=12), st.booleans(), st.integers(0, 1_000_000))
@SLOW
def test_an_initialized_adapter(messages: list[bytes], up: bool, megabits: int) -> None:
    guest = Guest()
    guest.send(INIT)
    for data in messages:
        guest.send(data)
        for answer in guest.control.link_messages(up, megabits):
            decode(answer)
        up = not up


@given(oids, informations)
@SLOW
def test_every_query_is_answered(oid: int, info: bytes) -> None:
    """Whatever comes with it."""
    guest = Guest()
    guest.send(INIT)
    assert guest.send(_request(MessageType.QUERY, oid, info, None, None))


@pytest.mark.parametrize(
    "reached",
    [
        lambda control: control.rss is not None,
        lambda control: control.address != ADDRESS,
        lambda control: control.offloads.lso4,
        lambda control: len(control.multicast) > 1,
        lambda control: control.packet_filter & PacketFilter.DIRECTED,
    ],
    ids=["rss", "address", "offloads", "multicast", "filter"],
)
def test_the_guest_reaches_every_part(reached: Callable[[RndisControl], bool]) -> None:
    """Otherwise the tests here would only see refusals."""

    def reaches(data: bytes) -> bool:
        guest = Guest()
        guest.send(INIT)
        guest.send(data)
        return bool(reached(guest.control))

    quick = settings(phases=[Phase.generate], derandomize=True, database=None, max_examples=3000)
    assert find(good_sets, reaches, settings=quick)


frames = st.binary(max_size=90) | st.builds(
    lambda kind, first, rest: bytes(12) + kind + first + rest,
    st.sampled_from((b"\x08\x00", b"\x86\xdd", b"\x08\x06")),
    st.sampled_from((b"\x45", b"\x46", b"\x4f", b"\x44", b"\x60")),
    st.binary(max_size=90),
)


@given(frames, st.integers(0, sum(HashType)).map(lambda types: types & sum(HashType)))
@SLOW
def test_any_frame_has_a_channel(data: bytes, types: int) -> None:
    scaling = ReceiveSideScaling(bytes(range(HASH_KEY_SIZE)), types, (0, 1, 2, 3) * 4)
    value, kind = scaling.hash(data)
    assert 0 <= value <= U32
    assert kind == 0 or (kind & types == kind and kind.bit_count() == 1)
    assert scaling.queue(data) in range(QUEUES)
