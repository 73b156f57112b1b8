"""The life of channels: opened, failed, closed, opened again, rescinded, and gone with the guest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringminus.errors import GuestError
from ringminus.hypervisor.status import HvStatus
from ringminus.memory import PAGE_SIZE
from ringminus.vmbus import wire
from ringminus.vmbus.device import Channel, Packet
from ringminus.vmbus.wire import Version
from support.bus_bed import Bed, BrokenProtocol, Recorder, add, echo
from support.bus_driver import GuestChannel, GuestDriver
from support.guest_ring import INTERRUPT_MASK, PENDING_SEND_SIZE, READ_INDEX, WRITE_INDEX
from support.hypervisor import MEMORY_SIZE

SMALL = 2
CONNECTION_GONE = HvStatus.INVALID_CONNECTION_ID


@pytest.fixture
def bed() -> Bed:
    return Bed()


def echoes(channel: GuestChannel) -> bool:
    """Whether a channel's device answers."""
    channel.send(b"are you there?", 99, wants_completion=True)
    return [(packet.transaction_id, packet.payload[:14]) for packet in channel.receive()] == [
        (99, b"are you there?")
    ]


# ---------------------------------------------------------------- open and close


@pytest.mark.parametrize("version", Version)
def test_a_channel_opens_with_what_the_guest_says_of_it(version: Version) -> None:
    bed = Bed()
    bed.driver.connect(version)
    (bed.offer,) = bed.driver.request_offers()
    bed.driver.open(bed.offer, user_data=b"for the device")
    channel = bed.device.channel
    assert (channel.index, channel.version) == (0, version)
    assert channel.user_data == b"for the device".ljust(120, b"\0")


def test_a_closed_channel_takes_and_gives_nothing(bed: Bed) -> None:
    guest_side = bed.open()
    channel = bed.device.channel
    guest_side.close()
    assert bed.device.history == ["opened 0", "closed 0"]
    channel.send(b"too late")
    guest_side.out.write(6, b"too late", 0)
    assert guest_side.signal() is CONNECTION_GONE
    assert guest_side.receive() == [] and not bed.device.packets


def test_a_channel_opens_again_on_other_memory(bed: Bed) -> None:
    bed.device.answer = echo
    for pages in (8, SMALL, 33):
        channel = bed.open(pages)
        assert echoes(channel)
        channel.close()
    assert bed.device.history == ["opened 0", "closed 0"] * 3
    (slot,) = bed.bus.slots()
    assert (slot.opened, slot.failed, slot.counters().packets_in) == (3, 0, 3)


def test_a_device_hears_when_the_guest_takes_back_memory_of_an_open_channel(bed: Bed) -> None:
    channel = bed.open()
    handle, status = bed.driver.establish_gpadl(channel.relid, [(PAGE_SIZE, 0, [300])])
    assert status == 0 and bed.device.channel.gpadl(handle)
    bed.driver.teardown_gpadl(channel.relid, handle)
    assert bed.device.history == ["opened 0", f"gpadl {handle:#x} of 0 torn down"]
    with pytest.raises(GuestError):
        bed.device.channel.gpadl(handle)
    channel.close()
    assert bed.device.history[2:] == ["closed 0"]


def test_a_device_may_refuse_and_be_asked_again(bed: Bed) -> None:
    bed.device.refuse = "not now"
    channel = GuestChannel(bed.driver, bed.offer, 4, 4)
    assert channel.open() != 0
    assert channel.signal() is CONNECTION_GONE
    bed.device.refuse = ""
    assert channel.open_with(channel.gpadl, 4) == 0
    assert list(bed.device.open) == [0]


@pytest.mark.parametrize(("pages", "split"), [(2, 1), (3, 1), (3, 2)])
def test_rings_without_a_page_of_data_are_refused(bed: Bed, pages: int, split: int) -> None:
    channel = GuestChannel(bed.driver, bed.offer, split, pages - split)
    assert channel.open() != 0
    assert not bed.device.open
    assert bed.open()


@pytest.mark.parametrize("index", [4, PAGE_SIZE, 0xFFFF_FFF8])
@pytest.mark.parametrize("field", [READ_INDEX, WRITE_INDEX])
@pytest.mark.parametrize("ring", ["out", "incoming"])
def test_rings_whose_indices_cannot_be_are_refused(bed: Bed, ring: str, field: int, index: int) -> None:
    channel = GuestChannel(bed.driver, bed.offer, SMALL, SMALL)
    channel.gpadl, status = bed.driver.establish_gpadl(channel.relid, [(4 * PAGE_SIZE, 0, channel.pfns)])
    assert status == 0
    getattr(channel, ring).set(field, index)
    assert channel.open_with(channel.gpadl, SMALL) != 0
    getattr(channel, ring).set(field, 0)
    assert channel.open_with(channel.gpadl, SMALL) == 0


def test_rings_of_four_megabytes_come_in_many_bodies(bed: Bed) -> None:
    bed.device.answer = echo
    channel = bed.open(1024)
    assert echoes(channel)
    channel.close()


# ---------------------------------------------------------------- failures


def raise_it(channel: Channel, packet: Packet) -> None:
    raise BrokenProtocol("no such command")


def fail_it(channel: Channel, packet: Packet) -> None:
    channel.fail("no such command")


@pytest.mark.parametrize("answer", [raise_it, fail_it])
def test_a_failed_channel_is_served_no_more_until_it_is_opened_again(
    bed: Bed, answer: Callable[[Channel, Packet], None]
) -> None:
    _, other = bed.second()
    bed.device.answer = answer
    channel = bed.open()
    for number in range(3):
        channel.out.write(6, b"", number)
    assert channel.signal() is HvStatus.SUCCESS
    assert len(bed.device.packets) == 1
    assert bed.device.history == ["opened 0", "closed 0"]
    assert bed.bus.failures == {"recorder": 1}
    assert channel.signal() is HvStatus.SUCCESS and len(bed.device.packets) == 1
    assert echoes(other)
    channel.close()
    bed.device.answer = echo
    assert echoes(bed.open())
    assert bed.device.history == ["opened 0", "closed 0", "opened 0"]


def test_what_a_channel_left_in_its_rings_does_not_hinder_the_next_one(bed: Bed) -> None:
    """Linux's uio_hv_generic opens again on the same pages and resets no more than the indices."""
    channel = bed.open()
    for _ in range(3):
        bed.device.channel.send(bytes(20_000))
    channel.signal()
    channel.close_only()
    assert channel.out.get(INTERRUPT_MASK) and channel.incoming.get(PENDING_SEND_SIZE)
    for ring in (channel.out, channel.incoming):
        ring.set(READ_INDEX, 0)
        ring.set(WRITE_INDEX, 0)
    bed.device.answer = echo
    assert channel.open_with(channel.gpadl, channel.send_pages) == 0
    assert not channel.out.get(INTERRUPT_MASK) and not channel.incoming.get(PENDING_SEND_SIZE)
    assert echoes(channel)


def test_a_channel_may_fail_at_any_time(bed: Bed) -> None:
    channel = bed.open()
    bed.device.channel.fail("the disk has burnt down")
    assert bed.device.history == ["opened 0", "closed 0"]
    channel.close()


@pytest.mark.parametrize("kind", [0, 5, 8, 10, 12, 0xFFFF])
def test_packets_of_other_types_fail_the_channel(bed: Bed, kind: int) -> None:
    channel = bed.open()
    channel.send(b"", kind=kind)
    assert bed.device.history == ["opened 0", "closed 0"] and not bed.device.packets


# ---------------------------------------------------------------- GPADLs


def test_a_device_finds_the_memory_that_the_guest_described(bed: Bed) -> None:
    channel = bed.open()
    pfns = bed.driver.allocate(100)
    handle, status = bed.driver.establish_gpadl(channel.relid, [(100 * PAGE_SIZE, 0, pfns)])
    assert status == 0
    (found,) = bed.device.channel.gpadl(handle)
    assert (found.byte_count, found.byte_offset, list(found.pfns)) == (100 * PAGE_SIZE, 0, pfns)
    bed.driver.teardown_gpadl(channel.relid, handle)
    with pytest.raises(GuestError, match="no GPADL"):
        bed.device.channel.gpadl(handle)


def test_memory_that_does_not_exist_makes_no_gpadl(bed: Bed) -> None:
    channel = bed.open()
    beyond = MEMORY_SIZE // PAGE_SIZE
    handle, status = bed.driver.establish_gpadl(channel.relid, [(2 * PAGE_SIZE, 0, [1, beyond])])
    assert status != 0
    with pytest.raises(GuestError, match="no GPADL"):
        bed.device.channel.gpadl(handle)


def test_the_ring_of_an_open_channel_is_given_back_when_it_is_closed(bed: Bed) -> None:
    bed.device.answer = echo
    channel = bed.open()
    bed.driver.post(
        wire.GpadlTeardown(
            header=wire.MessageHeader(msgtype=11), child_relid=channel.relid, gpadl=channel.gpadl
        )
    )
    assert echoes(channel)
    bed.driver.poll()
    assert not bed.driver.inbox
    channel.close_only()
    bed.driver.take(wire.GpadlTorndown, gpadl=channel.gpadl)


# ---------------------------------------------------------------- sub-channels


def open_all(bed: Bed) -> list[GuestChannel]:
    """The primary, and two sub-channels that the device offers."""
    primary = bed.open()
    bed.bus.offer_subchannels(bed.device, 2)
    offers = bed.driver.offers()
    assert [offer.offer.sub_channel_index for offer in offers] == [1, 2]
    return [primary, *(bed.driver.open(offer) for offer in offers)]


def test_sub_channels_are_channels_of_their_own(bed: Bed) -> None:
    bed.device.answer = echo
    channels = open_all(bed)
    assert list(bed.device.open) == [0, 1, 2]
    assert all(echoes(channel) for channel in channels)
    bed.device.open[1].send(b"for the second")
    assert [len(channel.receive()) for channel in channels] == [0, 1, 0]


def test_a_sub_channel_that_fails_leaves_the_others(bed: Bed) -> None:
    bed.device.answer = echo
    primary, first, second = open_all(bed)
    first.send(b"", kind=0)
    assert list(bed.device.open) == [0, 2]
    assert echoes(primary) and echoes(second)


def test_sub_channels_go_with_their_primary_and_come_again(bed: Bed) -> None:
    primary, first, second = open_all(bed)
    for channel in (second, first, primary):
        channel.close()
    rescinded = [bed.driver.take(wire.RescindOffer).child_relid for _ in range(2)]
    assert sorted(rescinded) == [first.relid, second.relid]
    for relid in rescinded:
        bed.driver.release(relid)
    bed.device.answer = echo
    assert all(echoes(channel) for channel in open_all(bed))


def test_sub_channels_come_again_though_the_guest_still_holds_the_old_ones(bed: Bed) -> None:
    for channel in reversed(open_all(bed)):
        channel.close()
    primary = bed.open()
    bed.bus.offer_subchannels(bed.device, 2)
    assert not bed.driver.offers()
    for _ in range(2):
        bed.driver.release(bed.driver.take(wire.RescindOffer).child_relid)
    bed.device.answer = echo
    offers = bed.driver.offers()
    assert [offer.offer.sub_channel_index for offer in offers] == [1, 2]
    assert all(echoes(bed.driver.open(offer)) for offer in offers) and echoes(primary)


# ---------------------------------------------------------------- the end of a connection


def unload(driver: GuestDriver) -> None:
    driver.unload()


def crash(driver: GuestDriver) -> None:
    """Another kernel begins without a word of the first."""


@pytest.mark.parametrize("end", [unload, crash])
def test_the_next_kernel_finds_the_same_channels_closed(bed: Bed, end: Callable[[GuestDriver], None]) -> None:
    bed.device.answer = echo
    channels = open_all(bed)
    end(bed.driver)
    bed.driver.connect()
    assert not bed.device.open
    assert sorted(bed.device.history[3:]) == ["closed 0", "closed 1", "closed 2"]
    assert all(channel.signal() is CONNECTION_GONE for channel in channels)
    (again,) = bed.driver.request_offers()
    assert again == bed.offer
    assert echoes(bed.open())


def test_a_device_that_is_added_later_is_offered_at_once(bed: Bed) -> None:
    other, channel = bed.second()
    assert other.history == ["opened 0"]
    assert echoes(channel)


# ---------------------------------------------------------------- rescind


def rescind(bed: Bed) -> None:
    bed.bus.rescind(bed.device)
    assert bed.driver.take(wire.RescindOffer).child_relid == bed.offer.child_relid


def test_a_device_is_gone_when_the_guest_has_let_go_of_it(bed: Bed) -> None:
    channel = bed.open()
    rescind(bed)
    assert bed.device.history == ["opened 0"]
    channel.close()
    bed.driver.release(channel.relid)
    assert bed.device.history == ["opened 0", "closed 0", "gone"]
    assert not bed.bus.devices()
    bed.driver.unload()
    bed.driver.connect()
    assert not bed.driver.request_offers()


def test_a_rescinded_device_works_until_it_is_closed(bed: Bed) -> None:
    bed.device.answer = echo
    channel = bed.open()
    rescind(bed)
    assert echoes(channel)


def test_a_rescinded_device_goes_with_the_connection_of_a_guest_that_holds_it(bed: Bed) -> None:
    bed.open()
    rescind(bed)
    bed.driver.connect()
    assert bed.device.history == ["opened 0", "closed 0", "gone"]
    assert not bed.driver.request_offers()


def test_a_device_that_nobody_knows_is_gone_at_once(bed: Bed) -> None:
    bed.driver.unload()
    bed.bus.rescind(bed.device)
    assert bed.device.history == ["gone"]


def test_a_device_may_be_put_in_its_own_place(bed: Bed) -> None:
    """The new one is offered when the guest has released the old one, which it would be taken for."""
    channel = bed.open()
    rescind(bed)
    successor = Recorder(1, echo)
    add(bed.bus, bed.guest, successor)
    assert not bed.driver.offers()
    channel.close()
    bed.driver.release(channel.relid)
    (offer,) = bed.driver.offers()
    assert echoes(bed.driver.open(offer))
    assert bed.device.history[-1] == "gone" and successor.history == ["opened 0"]


def test_rescinding_takes_the_sub_channels_too(bed: Bed) -> None:
    channels = open_all(bed)
    bed.bus.rescind(bed.device)
    rescinded = [bed.driver.take(wire.RescindOffer).child_relid for _ in range(3)]
    assert sorted(rescinded) == [channel.relid for channel in channels]
    for channel in reversed(channels):
        channel.close()
        bed.driver.release(channel.relid)
    assert bed.device.history[-1] == "gone" and not list(bed.bus.slots())


# ---------------------------------------------------------------- the machine's end


def test_closing_the_bus_closes_channels_before_devices(bed: Bed) -> None:
    open_all(bed)
    bed.bus.close()
    assert sorted(bed.device.history[3:6]) == ["closed 0", "closed 1", "closed 2"]
    assert bed.device.history[6:] == ["gone"]
