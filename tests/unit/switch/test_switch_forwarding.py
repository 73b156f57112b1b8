"""Which ports a frame goes to."""

from __future__ import annotations

import pytest

from ringminus.switch.addresses import AGEING, SWEEP
from ringminus.switch.drops import Drop
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.port import BROADCAST, PortSettings
from support.endpoints import Bed, RecordingEndpoint, frame, mac, trunk

GROUP = bytes.fromhex("01005e000001")


@pytest.fixture
def bed() -> Bed:
    return Bed()


def learning(bed: Bed, count: int = 3) -> list[RecordingEndpoint]:
    return [bed.plug()[0] for _ in range(count)]


def secured(bed: Bed, count: int = 3) -> list[RecordingEndpoint]:
    """Endpoints with addresses mac(1), …, as guests have them."""
    return [bed.plug(PortSettings(address=mac(number + 1)))[0] for number in range(count)]


@pytest.mark.parametrize("destination", [BROADCAST, GROUP])
def test_a_frame_for_a_group_goes_to_all_others(bed: Bed, destination: bytes) -> None:
    for first, second, third in (learning(bed), secured(Bed())):
        sent = frame(destination, mac(1))
        assert first.port.send(sent) is True
        assert second.taken() == third.taken() == [sent]
        assert first.frames == []


def test_a_frame_for_an_unknown_address_goes_to_all_others(bed: Bed) -> None:
    first, second, third = learning(bed)
    first.port.send(frame(mac(9), mac(1)))
    assert len(second.frames) == len(third.frames) == 1
    assert first.frames == []


def test_a_frame_for_a_known_address_goes_there_alone(bed: Bed) -> None:
    first, second, third = learning(bed)
    second.port.send(frame(BROADCAST, mac(2)))
    third.taken()
    sent = frame(mac(2), mac(1), checksum=Checksum.MISSING, segment_size=1448)
    for _ in range(2):  # as a stranger, then as one who is known
        first.port.send(sent)
    assert second.taken() == [sent, sent]
    assert third.frames == []


def test_the_frame_is_handed_on_as_it_is(bed: Bed) -> None:
    first, second = secured(bed, 2)
    sent = frame(mac(2), mac(1), checksum=Checksum.VALID, segment_size=1000)
    first.port.send(sent)
    assert second.frames[0] is sent


def test_nothing_goes_back_to_where_it_came_from(bed: Bed) -> None:
    endpoint, port = bed.plug()
    other, _ = bed.plug()
    for number in (1, 2):
        endpoint.port.send(frame(BROADCAST, mac(number)))
    other.taken()
    endpoint.port.send(frame(mac(2), mac(1)))  # both are behind it
    assert endpoint.frames == other.frames == []
    assert port.counters.dropped == {Drop.SAME_PORT: 1}


def test_an_address_that_moved_is_found_at_its_new_port(bed: Bed) -> None:
    first, second, third = learning(bed)
    first.port.send(frame(BROADCAST, mac(1)))
    second.port.send(frame(BROADCAST, mac(1)))
    for endpoint in (first, second, third):
        endpoint.taken()
    third.port.send(frame(mac(1), mac(3)))
    assert len(second.taken()) == 1
    assert first.frames == []


def test_an_address_moves_with_a_frame_for_one_that_is_known(bed: Bed) -> None:
    first, second, third = learning(bed)
    for endpoint, number in ((first, 1), (third, 3)):
        endpoint.port.send(frame(BROADCAST, mac(number)))
    second.port.send(frame(mac(3), mac(1)))
    first.taken()
    second.taken()
    third.port.send(frame(mac(1), mac(3)))
    assert [len(one.frames) for one in (first, second)] == [0, 1]


def test_a_silent_address_is_forgotten_and_a_busy_one_is_not(bed: Bed) -> None:
    first, second, third = learning(bed)
    first.port.send(frame(BROADCAST, mac(1)))
    second.port.send(frame(BROADCAST, mac(2)))
    passed = 0
    while passed < AGEING + 2 * SWEEP:
        bed.advance(SWEEP // 2)
        passed += SWEEP // 2
        second.port.send(frame(mac(3), mac(2)))
    assert [(row.address, row.port) for row in bed.switch.addresses()] == [(mac(2), 2)]
    for endpoint in (first, second, third):
        endpoint.taken()
    third.port.send(frame(mac(1), mac(3)))
    assert len(first.taken()) == len(second.taken()) == 1, "an unknown address again"
    third.port.send(frame(mac(2), mac(3)))
    assert (len(first.taken()), len(second.taken())) == (0, 1)


def test_addresses_that_only_talk_to_each_other_are_not_forgotten(bed: Bed) -> None:
    first, second, third = learning(bed)
    for endpoint, number in ((first, 1), (second, 2)):
        endpoint.port.send(frame(BROADCAST, mac(number)))
    third.taken()
    for _ in range(100):
        bed.advance(SWEEP)
        first.port.send(frame(mac(2), mac(1)))
        second.port.send(frame(mac(1), mac(2)))
    assert third.frames == []


@pytest.mark.parametrize("last", [0x00, 0x01, 0x0E, 0x0F])
def test_what_is_for_the_bridge_itself_is_not_forwarded(bed: Bed, last: int) -> None:
    endpoint, port = bed.plug()
    other, _ = bed.plug()
    endpoint.port.send(frame(bytes.fromhex("0180c20000") + bytes((last,))))
    assert other.frames == []
    assert port.counters.dropped == {Drop.RESERVED: 1}


def test_groups_beside_those_of_the_bridge_are_forwarded(bed: Bed) -> None:
    first, second = learning(bed, 2)
    for destination in ("0180c2000010", "0180c2000100", "0180c3000000"):
        first.port.send(frame(bytes.fromhex(destination)))
    assert len(second.frames) == 3


@pytest.mark.parametrize(
    "sent, reason",
    [
        (frame(source=BROADCAST), Drop.SOURCE),
        (frame(source=GROUP), Drop.SOURCE),
        (frame(source=bytes(6)), Drop.SOURCE),
        (Frame(b""), Drop.SHORT),
        (Frame(BROADCAST + mac(1) + b"\x08"), Drop.SHORT),
    ],
)
def test_broken_frames_are_dropped_and_counted(bed: Bed, sent: Frame, reason: Drop) -> None:
    endpoint, port = bed.plug()
    other, _ = bed.plug()
    endpoint.port.send(sent)
    assert other.frames == []
    assert port.counters.dropped == {reason: 1}
    assert port.counters.received_bytes == len(sent.data)
    assert bed.switch.addresses() == []


@pytest.mark.parametrize("length", [12, 13])
def test_short_frames_are_dropped_between_ports_that_know_each_other_too(bed: Bed, length: int) -> None:
    first, second = secured(bed, 2)
    first.port.send(Frame(frame(mac(2), mac(1)).data[:length]))
    assert second.frames == []
    assert bed.switch.ports()[0].counters.dropped == {Drop.SHORT: 1}


def test_a_frame_of_only_a_header_passes(bed: Bed) -> None:
    first, second = learning(bed, 2)
    first.port.send(frame(payload=b""))
    assert [len(one) for one in second.frames] == [14]


def test_alone_on_a_switch_frames_are_counted_as_for_nobody(bed: Bed) -> None:
    endpoint, port = bed.plug()
    endpoint.port.send(frame())
    endpoint.port.send(frame(mac(5)))
    assert port.counters.dropped == {Drop.NOBODY: 2}


# ------------------------------------------------------------------ secured ports


def test_a_secured_port_sends_only_from_its_address(bed: Bed) -> None:
    endpoint, port = bed.plug(PortSettings(address=mac(1)))
    other, _ = bed.plug()
    endpoint.port.send(frame(BROADCAST, mac(2)))
    assert other.frames == []
    assert port.counters.dropped == {Drop.SPOOFED: 1}
    endpoint.port.send(frame(BROADCAST, mac(1)))
    assert len(other.frames) == 1


def test_a_secured_port_is_known_before_it_sends(bed: Bed) -> None:
    first, second, third = secured(bed)
    tap, _ = bed.plug()
    first.port.send(frame(mac(2), mac(1)))
    assert [len(one.frames) for one in (second, third, tap)] == [1, 0, 0]


def test_a_secured_port_gets_no_frames_for_addresses_that_nobody_knows(bed: Bed) -> None:
    first, second, _ = secured(bed)
    tap, _ = bed.plug()
    spoofing, _ = bed.plug(PortSettings(address=mac(8), spoofing=True))
    first.port.send(frame(mac(9), mac(1)))
    assert [len(one.frames) for one in (second, tap, spoofing)] == [0, 1, 1]


def test_nobody_takes_the_address_of_a_secured_port(bed: Bed) -> None:
    first, second = secured(bed, 2)
    thief, _ = bed.plug(PortSettings(address=mac(8), spoofing=True))
    thief.port.send(frame(BROADCAST, mac(1)))
    assert len(second.taken()) == 1, "from such a port it is no offence"
    second.port.send(frame(mac(1), mac(2)))
    assert len(first.frames) == 2
    assert thief.frames == []


def test_what_was_learned_elsewhere_gives_way_to_a_secured_port(bed: Bed) -> None:
    tap, _ = bed.plug()
    other, _ = bed.plug()
    tap.port.send(frame(BROADCAST, mac(1)))
    endpoint, _ = bed.plug(PortSettings(address=mac(1)))
    other.port.send(frame(mac(1), mac(2)))
    assert (len(endpoint.frames), len(tap.frames)) == (1, 0)


def test_that_holds_in_every_vlan_at_once(bed: Bed) -> None:
    tap, _ = bed.plug(PortSettings(vlan=trunk(5, 6)))
    tap.port.send(frame(BROADCAST, mac(1), tci=5))
    tap.port.send(frame(BROADCAST, mac(1), tci=6))
    bed.plug(PortSettings(address=mac(1), vlan=trunk(5)))
    assert [(row.vlan, row.port) for row in bed.switch.addresses()] == [(0, 2), (5, 2), (6, 1)]


def test_an_address_that_may_be_spoofed_is_learned_at_such_a_port(bed: Bed) -> None:
    spoofing, port = bed.plug(PortSettings(address=mac(8), spoofing=True))
    first, _ = secured(bed, 2)
    spoofing.port.send(frame(BROADCAST, mac(0x99)))
    first.taken()
    first.port.send(frame(mac(0x99), mac(1)))
    assert len(spoofing.frames) == 1
    assert port.counters.dropped == {}


def test_a_guest_that_says_it_has_another_address_cannot_use_it_on_a_secured_port(bed: Bed) -> None:
    endpoint, port = bed.plug(PortSettings(address=mac(1)))
    bed.plug()
    endpoint.port.set_address(mac(7))
    endpoint.port.send(frame(BROADCAST, mac(7)))
    assert port.counters.dropped == {Drop.SPOOFED: 1}
    assert port.describe()["address"] == mac(7).hex(":")
    endpoint.port.send(frame(BROADCAST, mac(1)))
    assert port.counters.dropped == {Drop.SPOOFED: 1}


def test_a_changed_address_is_not_behind_the_port_any_more(bed: Bed) -> None:
    endpoint, _ = bed.plug(PortSettings(address=mac(1), spoofing=True))
    other, _ = bed.plug()
    for number in (1, 5):
        endpoint.port.send(frame(BROADCAST, mac(number)))
    endpoint.port.set_address(mac(7))
    assert [row.address for row in bed.switch.addresses()] == [mac(5)]
    other.port.send(frame(mac(1), mac(2)))
    assert len(endpoint.frames) == 1, "flooded"
