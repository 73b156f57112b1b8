"""Mirror destinations are shown what mirror sources send and get, each frame once."""

from __future__ import annotations

import pytest

from ringminus.switch.drops import Drop
from ringminus.switch.frame import Frame
from ringminus.switch.port import BROADCAST, PortSettings
from support.endpoints import Bed, RecordingEndpoint, access, frame, mac, trunk
from support.ip_packets import DHCP_OFFER, tagged

SOURCE, DESTINATION = PortSettings(mirror="source"), PortSettings(mirror="destination")


@pytest.fixture
def bed() -> Bed:
    return Bed()


def guest(bed: Bed, number: int, mirror: str = "") -> RecordingEndpoint:
    return bed.plug(PortSettings(address=mac(number), mirror=mirror))[0]


def test_both_directions_of_a_source_are_shown(bed: Bed) -> None:
    first, second, other = guest(bed, 1, "source"), guest(bed, 2), guest(bed, 3)
    capture, port = bed.plug(DESTINATION)
    out, back, elsewhere = frame(mac(2), mac(1)), frame(mac(1), mac(2)), frame(mac(3), mac(2))
    first.port.send(out)
    second.port.send(back)
    second.port.send(elsewhere)
    assert capture.frames == [out, back]
    assert (second.frames, first.frames, other.frames) == ([out], [back], [elsewhere])
    assert (port.counters.sent_frames, port.counters.sent_bytes) == (2, 42)
    second.port.flush()
    assert capture.calls[-1] == "flush"


def test_a_frame_between_sources_is_shown_once(bed: Bed) -> None:
    endpoints = [guest(bed, number, "source") for number in (1, 2, 3)]
    captures = [bed.plug(DESTINATION)[0] for _ in range(2)]
    endpoints[0].port.send(frame(mac(2), mac(1)))
    endpoints[0].port.send(frame(BROADCAST, mac(1)))
    assert [len(one.frames) for one in captures] == [2, 2]


def test_a_frame_that_reaches_several_sources_is_shown_once(bed: Bed) -> None:
    sender, *_ = guest(bed, 1), guest(bed, 2, "source"), guest(bed, 3, "source")
    capture, _ = bed.plug(DESTINATION)
    sender.port.send(frame(BROADCAST, mac(1)))
    assert len(capture.frames) == 1


def test_a_question_is_shown_before_its_answer(bed: Bed) -> None:
    nat = RecordingEndpoint(answer=lambda one: answer())
    bed.plug(endpoint=nat)
    capture, _ = bed.plug(DESTINATION)
    asker = guest(bed, 1, "source")

    def answer() -> None:
        nat.port.send(frame(mac(1), mac(2)))

    asker.port.send(frame(BROADCAST, mac(1)))
    assert [one.data[6:12] for one in capture.frames] == [mac(1), mac(2)]


def test_a_capture_gets_nothing_but_what_it_is_shown_and_sends_nothing(bed: Bed) -> None:
    first, second = guest(bed, 1), guest(bed, 2)
    capture, port = bed.plug(DESTINATION)
    first.port.send(frame())
    first.port.send(frame(mac(9), mac(1)))
    capture.port.send(frame(BROADCAST, mac(9)))
    assert capture.frames == second.frames[1:] == []
    assert port.counters.dropped == {Drop.VLAN: 1}


def test_a_guest_that_is_a_destination_keeps_its_own_traffic(bed: Bed) -> None:
    """What it would get anyhow, or sent itself, is not shown to it again."""
    source, watcher, other = guest(bed, 1, "source"), guest(bed, 2, "destination"), guest(bed, 3)
    for sender, destination in ((source, mac(2)), (source, BROADCAST), (other, mac(2)), (source, mac(3))):
        sender.port.send(frame(destination, mac(1) if sender is source else mac(3)))
    assert len(watcher.taken()) == 4
    watcher.port.send(frame(mac(1), mac(2)))
    watcher.port.send(frame(BROADCAST, mac(2)))
    assert watcher.frames == []
    assert len(source.frames) == 2


def test_destinations_that_watch_each_other_make_no_loop(bed: Bed) -> None:
    first, second = guest(bed, 1, "destination"), guest(bed, 2, "destination")
    third = guest(bed, 3, "source")
    third.port.send(frame(mac(1), mac(3)))
    first.port.send(frame(mac(2), mac(1)))
    assert [len(one.frames) for one in (first, second, third)] == [1, 2, 0]


def test_frames_are_shown_as_they_are_at_the_source(bed: Bed) -> None:
    uplink, _ = bed.plug(PortSettings(vlan=trunk(5), mirror="source"))
    inside, _ = bed.plug(PortSettings(vlan=access(5)))
    capture, _ = bed.plug(DESTINATION)
    sent = Frame(tagged(frame().data, 5))
    uplink.port.send(sent)
    inside.port.send(frame(BROADCAST, mac(2)))
    assert capture.frames[0] is sent
    assert capture.frames[1].tci == 5


def test_what_the_switch_refuses_is_not_shown(bed: Bed) -> None:
    endpoint, _ = bed.plug(PortSettings(address=mac(1), dhcp_guard=True, mirror="source"))
    guest(bed, 2)
    capture, _ = bed.plug(DESTINATION)
    for sent in (frame(BROADCAST, mac(7)), Frame(DHCP_OFFER), frame(tci=9)):
        endpoint.port.send(sent)
    assert capture.frames == []


def test_mirroring_begins_and_ends_under_traffic(bed: Bed) -> None:
    first, second = guest(bed, 1), guest(bed, 2)
    capture, port = bed.plug(DESTINATION)
    source = bed.switch.ports()[0]
    shown = []
    for mirror in ("", "source", ""):
        source.configure(PortSettings(address=mac(1), mirror=mirror))
        first.port.send(frame(mac(2), mac(1)))
        second.port.send(frame(mac(1), mac(2)))
        shown.append(len(capture.taken()))
    assert shown == [0, 2, 0]
    source.configure(PortSettings(address=mac(1), mirror="source"))
    port.configure(PortSettings(mirror="destination", link=False))
    first.port.send(frame(mac(2), mac(1)))
    bed.switch.unplug(port)
    first.port.send(frame(mac(2), mac(1)))
    assert capture.frames == []
    assert len(second.frames) == 5


def test_a_watcher_that_is_unplugged_while_another_is_shown_a_frame_gets_none(bed: Bed) -> None:
    first = guest(bed, 1, "source")
    guest(bed, 2)
    bed.plug(DESTINATION, RecordingEndpoint(lambda _: bed.switch.unplug(bed.switch.ports()[-1])))
    last, _ = bed.plug(DESTINATION)
    first.port.send(frame(mac(2), mac(1)))
    assert last.frames == []


def test_a_port_that_becomes_a_capture_is_nowhere_known_any_more(bed: Bed) -> None:
    endpoint, port = bed.plug()
    other, _ = bed.plug()
    for one, number in ((endpoint, 1), (other, 2)):
        one.port.send(frame(BROADCAST, mac(number)))
    endpoint.taken()
    other.taken()
    port.configure(DESTINATION)
    other.port.send(frame(mac(1), mac(2)))
    endpoint.port.send(frame(mac(2), mac(1)))
    assert endpoint.frames == other.frames == []


# ------------------------------------------------------------------ watching ports by number


def test_a_destination_may_watch_all_ports_and_those_that_come(bed: Bed) -> None:
    first, _ = guest(bed, 1), guest(bed, 2)
    capture, port = bed.plug(DESTINATION)
    bed.switch.watch(port)
    first.port.send(frame(mac(2), mac(1)))
    third = guest(bed, 3)
    third.port.send(frame(mac(2), mac(3)))
    assert len(capture.frames) == 2


def test_a_destination_may_watch_one_port(bed: Bed) -> None:
    first, second, third = (guest(bed, number) for number in (1, 2, 3))
    capture, port = bed.plug(DESTINATION)
    bed.switch.watch(port, 2)
    first.port.send(frame(mac(2), mac(1)))
    second.port.send(frame(mac(3), mac(2)))
    third.port.send(frame(mac(1), mac(3)))
    assert [one.data[6:12] for one in capture.frames] == [mac(1), mac(2)]


def test_nothing_but_a_destination_watches(bed: Bed) -> None:
    first, _ = guest(bed, 1), guest(bed, 2)
    plain, port = bed.plug(PortSettings(address=mac(9)))
    bed.switch.watch(port)
    first.port.send(frame(mac(2), mac(1)))
    assert plain.frames == []
