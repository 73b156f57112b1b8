"""Access ports, trunks and native VLANs; tags beside the data and within it."""

from __future__ import annotations

import pytest

from ringminus.switch.drops import Drop
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.port import BROADCAST, PortSettings, VlanMode
from support.endpoints import Bed, RecordingEndpoint, access, frame, mac, trunk
from support.ip_packets import tagged

PRIORITY_5, DEI = 5 << 13, 1 << 12


@pytest.fixture
def bed() -> Bed:
    return Bed()


def plug(bed: Bed, mode: VlanMode) -> RecordingEndpoint:
    return bed.plug(PortSettings(vlan=mode))[0]


def within(tci: int, **more: int) -> Frame:
    """A frame whose tag is in its data."""
    return Frame(tagged(frame().data, tci, **more))


def test_access_ports_reach_those_of_their_vlan_untagged(bed: Bed) -> None:
    first, second, other, none = (plug(bed, access(n)) for n in (5, 5, 6, 0))
    sent = frame()
    first.port.send(sent)
    assert second.frames == [sent]
    assert second.frames[0].tci is None
    assert other.frames == none.frames == []


def test_ports_of_no_vlan_reach_each_other(bed: Bed) -> None:
    first, second, other = (plug(bed, access(n)) for n in (0, 0, 5))
    first.port.send(frame())
    assert (len(second.frames), len(other.frames)) == (1, 0)


def test_an_address_may_be_in_two_vlans_at_two_ports(bed: Bed) -> None:
    five, six = (plug(bed, access(n)) for n in (5, 6))
    both = plug(bed, trunk(5, 6))
    five.port.send(frame(BROADCAST, mac(1)))
    six.port.send(frame(BROADCAST, mac(1)))
    both.port.send(frame(mac(1), mac(2), tci=5))
    assert (len(five.frames), len(six.frames)) == (1, 0)
    assert [(row.vlan, row.address, row.port) for row in bed.switch.addresses()] == [
        (5, mac(1), 1),
        (5, mac(2), 3),
        (6, mac(1), 2),
    ]


@pytest.mark.parametrize("sent", [frame(tci=5), frame(tci=6), within(5), within(6)])
def test_tagged_frames_of_an_access_port_are_dropped(bed: Bed, sent: Frame) -> None:
    endpoint, port = bed.plug(PortSettings(vlan=access(5)))
    others = [plug(bed, mode) for mode in (access(5), access(6), trunk(5, 6))]
    endpoint.port.send(sent)
    assert [other.frames for other in others] == [[], [], []]
    assert port.counters.dropped == {Drop.VLAN: 1}


@pytest.mark.parametrize("mode", [access(5), trunk(6, native=5)])
@pytest.mark.parametrize("inner", [None, 6, 0])
@pytest.mark.parametrize("tci", [None, 5, 7, 0])
def test_tags_are_minded_between_ports_that_know_each_other(
    bed: Bed, mode: VlanMode, tci: int | None, inner: int | None
) -> None:
    first, second, six = (plug(bed, one) for one in (mode, access(5), access(6)))
    first.port.send(frame(BROADCAST, mac(1)))
    second.port.send(frame(mac(1), mac(2)))
    second.taken()
    data = frame(mac(2), mac(1)).data
    first.port.send(Frame(data if inner is None else tagged(data, inner), tci))
    passes = (tci, inner) in {(None, None), (None, 0), (0, None)}
    assert [(one.data, one.tci) for one in second.frames] == [(data, None)] * passes
    assert len(six.frames) == ((tci, inner, len(mode.trunk)) == (None, 6, 1))


@pytest.mark.parametrize("make", [lambda tci: frame(tci=tci), within])
def test_priority_of_an_access_port_is_kept_where_a_tag_goes_out(bed: Bed, make: type[Frame]) -> None:
    first, second, uplink = plug(bed, access(5)), plug(bed, access(5)), plug(bed, trunk(5))
    first.port.send(make(PRIORITY_5 | DEI))  # type: ignore[arg-type]
    assert [(one.data, one.tci) for one in second.frames] == [(frame().data, None)]
    assert [(one.data, one.tci) for one in uplink.frames] == [(frame().data, PRIORITY_5 | DEI | 5)]


def test_a_trunk_carries_its_vlans_tagged(bed: Bed) -> None:
    five, six = plug(bed, access(5)), plug(bed, access(6))
    uplink, port = bed.plug(PortSettings(vlan=trunk(5, 7)))
    five.port.send(frame())
    six.port.send(frame())
    assert [one.tci for one in uplink.taken()] == [5]
    for vlan in (5, 6, 7):
        uplink.port.send(frame(BROADCAST, mac(9), tci=vlan))
    assert (len(five.frames), len(six.frames)) == (1, 0)
    assert five.frames[0].tci is None
    assert port.counters.dropped == {Drop.VLAN: 1, Drop.NOBODY: 1}


def test_a_trunk_gets_tagged_frames_for_what_is_known_behind_it(bed: Bed) -> None:
    five, uplink, other = plug(bed, access(5)), plug(bed, trunk(5, native=6)), plug(bed, trunk(5))
    uplink.port.send(frame(BROADCAST, mac(9), tci=5))
    five.port.send(frame(BROADCAST, mac(1)))
    for endpoint in (five, uplink, other):
        endpoint.taken()
    five.port.send(frame(mac(9), mac(1)))
    uplink.port.send(frame(mac(1), mac(9), tci=5))
    assert [one.tci for one in uplink.frames] == [5]
    assert [one.tci for one in five.frames] == [None]
    assert other.frames == []


def test_between_trunks_a_tagged_frame_goes_on_as_it_is(bed: Bed) -> None:
    first, second = plug(bed, trunk(5)), plug(bed, trunk(5, 6))
    sent = frame(tci=PRIORITY_5 | 5)
    first.port.send(sent)
    assert second.frames[0] is sent


def test_the_native_vlan_of_a_trunk_is_untagged(bed: Bed) -> None:
    two, uplink = plug(bed, access(2)), plug(bed, trunk(5, native=2))
    two.port.send(frame(tci=PRIORITY_5))
    assert [one.tci for one in uplink.frames] == [None]
    uplink.port.send(frame(BROADCAST, mac(9)))
    assert len(two.taken()) == 1
    uplink.port.send(frame(BROADCAST, mac(9), tci=2))
    assert two.frames == [], "its tag is not among those that pass"


def test_the_native_vlan_may_pass_tagged_too_if_it_is_named(bed: Bed) -> None:
    two, uplink = plug(bed, access(2)), plug(bed, trunk(2, 5, native=2))
    uplink.port.send(frame(BROADCAST, mac(9), tci=2))
    assert [one.tci for one in two.frames] == [None]


def test_a_tag_within_the_data_of_a_trunk_counts_as_one_beside_it(bed: Bed) -> None:
    uplink, other, five = plug(bed, trunk(5, 6)), plug(bed, trunk(5)), plug(bed, access(5))
    sent = Frame(tagged(frame().data, PRIORITY_5 | 5), None, Checksum.MISSING, 1000)
    uplink.port.send(sent)
    for endpoint, tci in ((other, PRIORITY_5 | 5), (five, None)):
        (got,) = endpoint.frames
        assert (got.data, got.tci, got.checksum, got.segment_size) == (
            frame().data,
            tci,
            Checksum.MISSING,
            1000,
        )


@pytest.mark.parametrize("length", [14, 15, 16, 17])
def test_a_tag_within_that_is_cut_off_is_dropped(bed: Bed, length: int) -> None:
    uplink, port = bed.plug(PortSettings(vlan=trunk(5)))
    plug(bed, trunk(5))
    uplink.port.send(Frame(within(5).data[:length]))
    assert port.counters.dropped == {Drop.VLAN: 1}


# ------------------------------------------------------------------ from one VLAN into another


@pytest.mark.parametrize("sent", [Frame(within(6).data, tci=0), Frame(tagged(within(6).data, 0))])
def test_a_tag_behind_one_of_priority_does_not_choose_the_vlan(bed: Bed, sent: Frame) -> None:
    for mode in (access(5), trunk(5, 6, native=5)):
        endpoint, port = bed.plug(PortSettings(vlan=mode))
        others = [plug(bed, trunk(5, 6)), plug(bed, access(5)), plug(bed, access(6))]
        endpoint.port.send(sent)
        assert [other.frames for other in others] == [[], [], []]
        assert port.counters.dropped == {Drop.VLAN: 1}


def test_a_second_tag_passes_only_behind_the_first(bed: Bed) -> None:
    """Taking off the outer tag at a native VLAN or an access port would turn VLAN 5's frame into VLAN 6's."""
    sender, far = plug(bed, trunk(5, 6)), plug(bed, trunk(5))
    native, native_port = bed.plug(PortSettings(vlan=trunk(6, native=5)))
    inside, inside_port = bed.plug(PortSettings(vlan=access(5)))
    sender.port.send(Frame(within(6).data, tci=5))
    assert [(one.data, one.tci) for one in far.frames] == [(within(6).data, 5)]
    assert native.frames == inside.frames == []
    assert native_port.counters.dropped == inside_port.counters.dropped == {Drop.TAG: 1}


def test_every_vlan_of_a_trunk_knows_a_secured_ports_address(bed: Bed) -> None:
    guest, _ = bed.plug(PortSettings(address=mac(1), vlan=trunk(5, 6)))
    tap, uplink = plug(bed, trunk(5, 6)), plug(bed, trunk(5, 6))
    for vlan in (5, 6):
        tap.port.send(frame(mac(1), mac(9), tci=vlan))
    assert [one.tci for one in guest.frames] == [5, 6]
    assert uplink.frames == []
