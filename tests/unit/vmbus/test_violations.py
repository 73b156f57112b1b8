"""Who breaks a protocol is refused, and whoever watches is told what was wrong with what."""

from __future__ import annotations

import pytest

from ringminus.tap import Violation
from ringminus.vmbus import wire
from ringminus.vmbus.device import Channel, Packet
from support.bus_bed import Bed, BrokenProtocol

Told = list[tuple[int, str, str]]


@pytest.fixture
def bed() -> Bed:
    return Bed()


@pytest.fixture
def told(bed: Bed) -> Told:
    seen: Told = []
    bed.guest.partition.tap.listen(
        Violation, lambda event: seen.append((event.relid, event.device, event.reason))
    )
    return seen


def test_a_message_that_cannot_be(bed: Bed, told: Told) -> None:
    bed.driver.post(wire.RelidReleased(header=wire.MessageHeader(msgtype=0x99), child_relid=1))
    assert told == [(0, "VMBus", "message refused: message type 0x99 is none that a guest sends")]


def test_a_channel_that_a_device_does_not_open(bed: Bed, told: Told) -> None:
    bed.device.refuse = "not in this version"
    with pytest.raises(AssertionError):
        bed.open()
    assert told == [(bed.offer.child_relid, "recorder", "not opened: not in this version")]


def test_a_packet_that_cannot_be(bed: Bed, told: Told) -> None:
    channel = bed.open()
    channel.send(b"", kind=0)
    assert told == [(channel.relid, "recorder", "a packet of type 0")]


def test_a_packet_that_a_device_does_not_understand(bed: Bed, told: Told) -> None:
    def refuse(channel: Channel, packet: Packet) -> None:
        raise BrokenProtocol("what is that?")

    bed.device.answer = refuse
    channel = bed.open()
    for _ in range(3):
        channel.send(b"")
    assert told == [(channel.relid, "recorder", "what is that?")]


def test_a_guest_that_keeps_the_rules_is_not_told_of(bed: Bed, told: Told) -> None:
    channel = bed.open()
    channel.send(b"fine")
    channel.close()
    bed.driver.unload()
    assert not told


def test_a_bug_of_a_device_is_no_violation(bed: Bed, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(channel: Channel) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(bed.device, "opened", opened)
    with pytest.raises(ValueError, match="a bug"):
        bed.open()
    assert not told
