"""A bus that is saved, and goes on in another process: here, in another object on the same partition."""

from __future__ import annotations

import json
from typing import Any

from ringminus.vmbus.bus import VmBus
from ringminus.vmbus.device import Channel
from ringminus.vmbus.wire import MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4
from support.bus_bed import Bed, Recorder, add, echo


class Counting(Recorder):
    """Has state of its own: how many packets it has had."""

    def save(self) -> dict[str, Any]:
        return {"count": len(self.packets)}

    def restore(self, state: dict[str, Any]) -> None:
        self.history.append(f"restored {state['count']}")


def moved(bed: Bed, device: Recorder) -> VmBus:
    """The bed's bus after its state has been through a file; the guest notices nothing."""
    state = bed.bus.save()
    bed.bus.close()
    for connection in (MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4):
        bed.guest.partition.connections.disconnect(connection)
    bus = VmBus(bed.guest.partition)
    add(bus, bed.guest, device)
    bus.restore(through_a_file(state))
    return bus


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Only bytes are not JSON's."""

    def encode(value: Any) -> Any:
        return {"hex": value.hex()} if isinstance(value, bytes) else str(value)

    def decode(pairs: dict[str, Any]) -> Any:
        return bytes.fromhex(pairs["hex"]) if set(pairs) == {"hex"} else pairs

    restored: dict[str, Any] = json.loads(json.dumps(state, default=encode), object_hook=decode)
    return restored


def test_an_open_channel_goes_on_where_it_was() -> None:
    bed = Bed()
    channel = bed.open()
    bed.device.answer = echo
    channel.send(b"before", 7)
    after = Recorder(1, echo)
    moved(bed, after)
    channel.send(b"after", 8)
    assert [(r.transaction_id, r.payload.rstrip(b"\0")) for r in channel.receive()] == [
        (7, b"before"),
        (8, b"after"),
    ]
    assert after.history == ["opened 0"]


def test_a_device_gets_its_state_before_its_channels() -> None:
    bed = Bed()
    first, then = Counting(2), Counting(2)
    add(bed.bus, bed.guest, first)
    (offer,) = bed.driver.offers()
    channel = bed.driver.open(offer)
    channel.send(b"one")
    state = bed.bus.save()
    bed.bus.close()
    for connection in (MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4):
        bed.guest.partition.connections.disconnect(connection)
    bus = VmBus(bed.guest.partition)
    for device in (Recorder(), then):
        add(bus, bed.guest, device)
    bus.restore(through_a_file(state))
    assert then.history == ["restored 1", "opened 0"]


def test_what_waits_for_room_is_sent_after_it() -> None:
    bed = Bed()
    channel = bed.open(pages=2)
    sent = [bytes([number]) * 512 for number in range(20)]
    for payload in sent:
        bed.device.channel.send(payload)
    after = Recorder()
    bus = moved(bed, after)
    received: list[bytes] = []
    for _ in range(20):
        received += [r.payload for r in channel.receive()]
    assert received == sent
    assert bus.failures.total() == 0


def test_a_guest_that_closes_its_channel_afterwards_is_heard() -> None:
    bed = Bed()
    channel = bed.open()
    after = Recorder()
    moved(bed, after)
    channel.close()
    assert after.history == ["opened 0", "closed 0"]
    again = bed.open()
    opened: Channel = after.channel
    opened.send(b"hello")
    assert [r.payload.rstrip(b"\0") for r in again.receive()] == [b"hello"]
