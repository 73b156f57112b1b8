"""What becomes of an adapter's frames and RNDIS messages when somebody changes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import pytest

from ringminus.devices.network.watched import BY_ADDON
from ringminus.switch.frame import Checksum, Frame
from ringminus.tap import DeviceMessage, Event, NetworkFrame
from support.network import MAC, PEER, NetworkBed, ethernet, rndis_packet

E = TypeVar("E", bound=Event)
SECOND = 10_000_000


@pytest.fixture
def bed() -> NetworkBed:
    made = NetworkBed()
    made.guest.connect()
    return made


def change(bed: NetworkBed, kind: type[E], act: Callable[[E], None]) -> list[E]:
    """Changes events; gives what listeners are told."""
    told: list[E] = []
    bed.machine.tap.change(kind, act, lambda _event, error: pytest.fail(str(error)))
    bed.machine.tap.listen(kind, told.append)
    return told


def to_guest(size: int = 60) -> bytes:
    return ethernet(size, to=MAC, source=PEER)


def test_a_frame_of_the_guest_can_be_changed(bed: NetworkBed) -> None:
    def act(event: NetworkFrame) -> None:
        event.data = event.data + b"tail"

    told = change(bed, NetworkFrame, act)
    bed.guest.send(ethernet(60))
    assert bed.port.data() == [ethernet(60) + b"tail"]
    assert [one.changed for one in told] == ["changed"]
    assert bed.nic.counters.sent_bytes == 64


def test_a_dropped_frame_is_counted_and_its_packet_completed(bed: NetworkBed) -> None:
    change(bed, NetworkFrame, lambda event: event.drop())
    number = bed.guest.send_section(rndis_packet(ethernet(60)), 0)
    bed.deliver(to_guest())
    bed.guest.poll()
    assert bed.port.data() == [] and bed.guest.data() == []
    assert number in bed.guest.completions
    counters = bed.nic.counters
    assert (counters.sending_dropped, counters.receiving_dropped) == ({BY_ADDON: 1}, {BY_ADDON: 1})
    assert (counters.sent_frames, counters.received_frames) == (0, 0)


def test_a_delayed_frame_comes_after_later_ones_both_ways(bed: NetworkBed) -> None:
    change(bed, NetworkFrame, lambda event: event.delay(1) if len(event.data) == 60 else None)
    bed.guest.send(ethernet(60))
    bed.guest.send(ethernet(61))
    bed.deliver(to_guest(60), to_guest(62))
    assert (bed.port.data(), bed.guest.data()) == ([ethernet(61)], [to_guest(62)])
    bed.machine.pass_time(SECOND)
    assert (bed.port.data(), bed.guest.data()) == ([ethernet(60)], [to_guest(60)])
    bed.assert_alive()


def test_a_frame_that_is_held_back_while_the_link_goes_down_is_counted(bed: NetworkBed) -> None:
    change(bed, NetworkFrame, lambda event: event.delay(1))
    bed.guest.send(ethernet(60))
    bed.nic.set_link(False, 10_000)
    bed.machine.pass_time(SECOND)
    assert bed.port.data() == [] and bed.nic.counters.sending_dropped == {"link down": 1}


def test_a_valid_checksum_is_unknown_once_the_data_was_changed(bed: NetworkBed) -> None:
    seen: list[Checksum] = []

    def act(event: NetworkFrame) -> None:
        event.data = event.data[:-1] + b"x"

    bed.machine.tap.change(NetworkFrame, act, lambda _event, error: pytest.fail(str(error)))
    bed.nic.receiver.deliver = lambda frame: seen.append(frame.checksum)  # type: ignore[method-assign]
    bed.deliver(Frame(to_guest(), checksum=Checksum.VALID), Frame(to_guest(), checksum=Checksum.MISSING))
    assert seen == [Checksum.UNKNOWN, Checksum.MISSING]


def test_an_rndis_message_of_the_guest_can_be_changed_without_its_frame(bed: NetworkBed) -> None:
    """The frame is no part of the payload, and follows what becomes of it."""

    def act(event: DeviceMessage) -> None:
        assert ethernet(60) not in event.payload and event.size > len(event.payload) + 59
        event.payload = event.payload[:12] + (50).to_bytes(4, "little") + event.payload[16:]

    told = change(bed, DeviceMessage, act)
    bed.guest.send(ethernet(60))
    assert bed.port.data() == [ethernet(60)[:50]]
    assert [one.changed for one in told] == ["changed"]


def test_a_dropped_rndis_message_never_arrives(bed: NetworkBed) -> None:
    change(bed, DeviceMessage, lambda event: event.drop())
    number = bed.guest.send_section(rndis_packet(ethernet(60)), 0)
    bed.deliver(to_guest())
    bed.guest.poll()
    assert number in bed.guest.completions
    assert bed.port.data() == [] and bed.guest.data() == []
    assert bed.nic.counters.receive_slots_used == 0


def test_a_lie_about_lengths_fails_the_channel_as_the_guests_own_would(bed: NetworkBed) -> None:
    def act(event: DeviceMessage) -> None:
        event.payload = event.payload[:12] + (60_000).to_bytes(4, "little") + event.payload[16:]

    change(bed, DeviceMessage, act)
    bed.guest.send_section(rndis_packet(ethernet(60)), 0)
    (why,) = bed.violations
    assert re.fullmatch(
        r"a frame of 60000 bytes at 36 in an RNDIS packet of \d+ \(addons have changed 1 events\)", why
    )
    bed.assert_neighbour_lives()
