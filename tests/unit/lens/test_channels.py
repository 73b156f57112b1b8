"""Events are told to be of a channel by whatever number or name they have of it."""

from __future__ import annotations

import ringminus.hypervisor.protocol
import ringminus.vmbus.protocol  # noqa: F401
from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.storage.ide import IdeDisk
from ringminus.devices.storage.scsi import ScsiController
from ringminus.lens.decode import Decoder
from ringminus.lens.drivers import DRIVERS
from ringminus.tap import EVENTS, BusMessage, Event, EventSignal, GpadlChange, Hypercall, NetworkFrame
from support.bus_bed import Bed, echo
from support.bus_driver import GuestDriver


def watch(bed: Bed) -> list[Event]:
    seen: list[Event] = []
    for kind in EVENTS:
        bed.guest.partition.tap.listen(kind, seen.append)
    return seen


def titles(decoder: Decoder, events: list[Event]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for event in events:
        decoder.note(event)
        channel = decoder.channel(event)
        found.setdefault(event.NAME, set()).add(channel.device if channel is not None else "")
    return found


def test_all_that_passes_on_a_channel_is_told_to_be_of_it() -> None:
    bed = Bed()
    bed.device.answer = echo
    seen = watch(bed)
    channel = bed.open()
    channel.send(b"hello", 7, wants_completion=True)
    found = titles(Decoder(), seen)
    assert found["packet"] == found["signal"] == found["channel"] == {"recorder"}
    calls = [one for one in seen if isinstance(one, Hypercall) and one.name == "HvCallSignalEvent"]
    decoder = Decoder()
    titles(decoder, seen)
    assert calls
    assert all(decoder.channel(one) is decoder.channels.all()[0] for one in calls)


def test_an_offer_is_known_before_the_channel_is_opened() -> None:
    bed = Bed()
    seen = watch(bed)
    driver = GuestDriver(bed.guest)
    assert driver.connect()
    driver.request_offers()
    decoder = Decoder()
    found = titles(decoder, seen)
    (offered,) = decoder.channels.all()
    assert offered.interface == bed.device.interface
    assert offered.instance == bed.device.instance
    assert str(bed.device.interface) in found["bus"]


def test_what_comes_after_a_channel_was_closed_is_still_of_it() -> None:
    bed = Bed()
    seen = watch(bed)
    bed.open().close()
    decoder = Decoder()
    titles(decoder, seen)
    last = GpadlChange(0, 0, decoder.channels.all()[0].relid, "", 1, False, 1)
    closed = decoder.channel(last)
    assert closed is not None
    assert (closed.device, closed.open) == ("recorder", False)


def test_other_events_are_of_no_channel() -> None:
    decoder = Decoder()
    others: list[Event] = [
        EventSignal(0, 0, 2, 9, True),
        Hypercall(0, 0, 0x5D, "HvCallSignalEvent", 0x1005D, 9, 0, 0, "SUCCESS", "", bytes(8)),
        BusMessage(0, 0, True, "OFFER_CHANNEL", b"\1\0\0\0"),
        NetworkFrame(0, 0, "NIC 9", True, bytes(60), None, "VALID", 0),
    ]
    assert titles(decoder, others) == {one.NAME: {""} for one in others}


def test_the_drivers_of_our_devices_are_known() -> None:
    for device, driver in ((SyntheticNic, "netvsc"), (ScsiController, "storvsc"), (IdeDisk, "storvsc")):
        assert driver in DRIVERS[device.interface]
