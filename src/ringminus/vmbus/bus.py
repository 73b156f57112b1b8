"""The bus on a partition: devices on one side, the guest's driver on the other.

The control plane decides what happens; this module lets it happen: messages go out by the SynIC, rings are
made on guest memory, doorbells are bound to channels, devices are told.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from ringminus.changes import INJECTED
from ringminus.errors import GuestError
from ringminus.hypervisor.partition import Partition
from ringminus.hypervisor.ports import EventPort, MessagePort
from ringminus.hypervisor.status import HvStatus
from ringminus.memory import PAGE_SIZE
from ringminus.tap import BusMessage, ChannelState
from ringminus.vmbus.channel import OpenChannel
from ringminus.vmbus.control import actions
from ringminus.vmbus.control.actions import Action, OpenRequest
from ringminus.vmbus.control.plane import ControlPlane
from ringminus.vmbus.control.refusals import Refusal, VmBusError
from ringminus.vmbus.device import Device, Services
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.monitor import MONITORS, Monitor, Watch
from ringminus.vmbus.outbox import Outbox
from ringminus.vmbus.ring import IncomingRing, OutgoingRing
from ringminus.vmbus.slot import Slot, offer_of
from ringminus.vmbus.told import Loan, Told
from ringminus.vmbus.wire import (
    MESSAGE_CONNECTION_ID,
    MESSAGE_CONNECTION_ID_4,
    VMBUS_MESSAGE_TYPE,
)

log = logging.getLogger(__name__)
CONNECTION_REFUSED = 0xC0000236  # STATUS_CONNECTION_REFUSED


class VmBus:
    """The guest's side posts to connections 1 and 4; ours answers with SynIC messages.

    What breaks the protocol is counted in `refused`, logged and dropped. `timed` makes channels measure
    their time, `last_version` is the latest that a guest negotiated.
    """

    def __init__(self, partition: Partition, monitor_pages: tuple[int, int] | None = None) -> None:
        self._partition = partition
        self._memory = partition.memory
        self._monitor_pages = monitor_pages
        self.control = self._new_control()
        self.refused: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.timed = False
        self.last_version = 0
        self.holding: set[OpenChannel] = set()
        self._slots: dict[int, Slot] = {}
        self._loans: dict[tuple[int, int], Loan] = {}
        self._told = told = Told(partition, lambda: self.control.target_vp)
        self.outbox = Outbox(partition, self._message_target, told)
        self._monitor = Monitor(partition.memory, partition.timers, partition.clock)
        self._handlers: dict[type[Action], Callable[[Any], list[Action] | None]] = {
            actions.Send: self.outbox.send,
            actions.Connected: self._connected,
            actions.Unloaded: lambda _: self.outbox.forget(),
            actions.OpenRequested: self._open,
            actions.Closed: self._close,
            actions.GpadlCreated: self._lent,
            actions.GpadlTornDown: self._torn_down,
            actions.Retargeted: self._retarget,
            actions.MonitorPages: lambda action: self._monitor.set_page(action.child_to_parent),
            actions.Released: self._release,
            actions.TlConnect: self._refuse_connection,
        }
        for connection in (MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4):
            partition.connections.connect(connection, MessagePort(partial(self._receive, connection)))

    def _new_control(self) -> ControlPlane:
        return ControlPlane(self._memory.is_ram, self._partition.vp_count, self._monitor_pages)

    # ------------------------------------------------------------ devices

    def add(self, device: Device, services: Services) -> None:
        """Offer a device to the guest, now or when it connects."""
        device.attach(services, self)
        monitor_id = self._monitor_for(device)
        key, made = self.control.offer(offer_of(device, monitor_id))
        self._slots[key] = Slot(device, 0, monitor_id)
        self._act(made)

    def rescind(self, device: Device) -> None:
        """Take a device out of the guest; it is gone for good when the guest has let go of it."""
        self._act(self.control.rescind(self._key(device, 0)))

    def offer_subchannels(self, device: Device, count: int) -> None:
        """Offer sub-channels 1 … `count` of a device; those that are offered already stay as they are."""
        primary = self._key(device, 0)
        for index in range(1, count + 1):
            try:
                monitor_id = self._monitor_for(device)
                key, made = self.control.offer_subchannel(primary, index, monitor_id)
            except VmBusError as error:
                if error.reason is Refusal.ALREADY_OPEN:
                    continue
                raise
            self._slots[key] = Slot(device, index, monitor_id)
            self._act(made)

    def devices(self) -> list[Device]:
        """All that are offered."""
        return [slot.device for slot in self._slots.values() if slot.index == 0]

    def slots(self) -> Iterator[Slot]:
        """Every offer with what happened on it."""
        return iter(self._slots.values())

    def _key(self, device: Device, index: int) -> int:
        for key, slot in self._slots.items():
            if slot.device is device and slot.index == index:
                return key
        raise ValueError(f"{device.title} is not on this bus")

    def _monitor_for(self, device: Device) -> int | None:
        """A monitor id for one more channel of a device; None if it wants none, or when all are taken."""
        if not device.monitored:
            return None
        taken = {slot.monitor_id for slot in self._slots.values()}
        return next((number for number in range(MONITORS) if number not in taken), None)

    # ------------------------------------------------------------ messages

    def _receive(self, connection: int, message_type: int, payload: bytes) -> HvStatus:
        if self.outbox.full:
            return HvStatus.INSUFFICIENT_BUFFERS  # the guest has to wait, too
        event = None
        if self._partition.tap.bus is not None and message_type == VMBUS_MESSAGE_TYPE:
            event = self._told.message(payload, to_guest=False)
        if event is None:
            self._take(connection, message_type, payload)
        else:
            self._submit(connection, event)
        return HvStatus.SUCCESS

    def _submit(self, connection: int, event: BusMessage) -> None:
        """A message of the guest comes that is watched, or that somebody else brings in its name."""
        tap = self._partition.tap
        if event.changed:
            tap.tell(event)
            scope = tap.within(event)
            self._take(connection, VMBUS_MESSAGE_TYPE, event.payload)
            tap.leave(scope)
        else:
            tap.submit(event, lambda one: self._take(connection, VMBUS_MESSAGE_TYPE, one.payload))

    def inject(self, payload: bytes, *, to_guest: bool) -> None:
        """Bring a message of one's own: for the guest, or in its name, in the machine's next turn."""
        event = self._told.message(payload, to_guest=to_guest)
        if event is None:
            raise ValueError(f"a message of the bus has a header, and {len(payload)} bytes are none")
        event.changed = INJECTED
        self._partition.tap.meddled += 1
        if to_guest:
            self.outbox.post(actions.Send(payload), event)
        elif self._partition.tap.later is not None:
            self._partition.tap.later(0, lambda _now: self._submit(MESSAGE_CONNECTION_ID, event))

    def _take(self, connection: int, message_type: int, payload: bytes) -> None:
        try:
            if message_type != VMBUS_MESSAGE_TYPE:
                raise GuestError(f"message type {message_type} is not the bus's")
            made = self.control.receive(payload, connection)
        except GuestError as error:
            self.refused[type(error).__name__] += 1
            self._told.violation("VMBus", 0, f"message refused: {error}")
            return
        self._act(made)

    def _act(self, made: list[Action]) -> None:
        waiting = deque(made)
        while waiting:
            action = waiting.popleft()
            handler = self._handlers.get(type(action))
            if handler is not None:
                waiting.extendleft(reversed(handler(action) or ()))

    def _message_target(self) -> actions.MessageTarget:
        return actions.MessageTarget(self.control.target_vp, self.control.message_sint)

    def _connected(self, action: actions.Connected) -> None:
        self.last_version = action.version
        self.outbox.forget()

    # ------------------------------------------------------------ channels

    def _open(self, action: actions.OpenRequested) -> list[Action]:
        slot, request = self._slots[action.offer], action.request
        try:
            slot.channel = channel = self._make_channel(action.offer, slot, request)
            slot.request, slot.relid = request, request.relid
            slot.device.opened(channel)
            if not channel.alive:
                raise GuestError("it failed while it was opened")
        except GuestError as error:
            self._told.violation(slot.device.title, request.relid, f"not opened: {error}")
            self.refused["open"] += 1
            self._drop(slot)
            return self.control.open_result(action.offer, False)
        slot.opened += 1
        return self.control.open_result(action.offer, True)

    def _make_channel(self, key: int, slot: Slot, request: OpenRequest) -> OpenChannel:
        rings = self._rings(request)
        relid = request.relid
        channel = OpenChannel(
            device=slot.device,
            index=slot.index,
            relid=relid,
            version=self.control.version or 0,
            user_data=request.user_data,
            memory=self._memory,
            rings=rings,
            tap=self._partition.tap,
            now=self._partition.clock.reference_time,
            interrupt=self._interrupt(request),
            failed=partial(self._failed, slot),
            gpadl=partial(self._ranges, key),
            holding=self.holding,
        )
        channel.timed = self.timed
        try:
            self._partition.connections.connect(request.connection_id, EventPort(channel.doorbell))
        except ValueError as error:
            raise GuestError(str(error)) from None
        if slot.monitor_id is not None:
            self._monitor.watch(slot.monitor_id, Watch(request.connection_id, channel.doorbell))
        log.debug("%s: channel %d opened", slot.device.title, relid)
        self._told.channel(slot.device, slot.index, request, opened=True)
        return channel

    def channel_states(self) -> list[ChannelState]:
        """The channels that are open, for who begins to watch now."""
        return [
            self._told.state(slot.device, slot.index, slot.request, opened=True)
            for slot in self._slots.values()
            if slot.channel is not None and slot.request is not None
        ]

    def _rings(self, request: OpenRequest) -> tuple[IncomingRing, OutgoingRing]:
        """The guest's ring to us comes first in the GPADL, ours to the guest from `downstream_offset` on."""
        pages = request.gpadl.ranges[0]
        total, split = pages.byte_count // PAGE_SIZE, request.downstream_offset_pages
        return (
            IncomingRing(self._memory, pages, 0, split),
            OutgoingRing(self._memory, pages, split, total - split),
        )

    def _interrupt(self, request: OpenRequest) -> Callable[[], None]:
        if request.target_vp is None:
            return _nothing
        signal = self._partition.vps[request.target_vp].synic.signal_event
        return partial(_discard, signal, self.control.message_sint, request.event_flag)

    def _ranges(self, key: int, handle: int) -> tuple[GpaRange, ...]:
        return self.control.gpadl(key, handle).ranges

    def _failed(self, slot: Slot, reason: str) -> None:
        slot.failed += 1
        self.failures[slot.device.title] += 1
        self._told.violation(slot.device.title, slot.relid, reason)

    def _close(self, action: actions.Closed) -> None:
        self._drop(self._slots[action.offer])

    def _lent(self, action: actions.GpadlCreated) -> None:
        pages = sum(len(one.pfns) for one in self._ranges(action.offer, action.handle))
        loan = self._loans[action.offer, action.handle] = Loan(self.control.relid(action.offer), pages)
        slot = self._slots.get(action.offer)
        if slot is not None:
            self._told.gpadl(slot.device.title, action.handle, loan, made=True)

    def _torn_down(self, action: actions.GpadlTornDown) -> None:
        loan = self._loans.pop((action.offer, action.handle), Loan(0, 0))
        slot = self._slots.get(action.offer)
        if slot is not None:
            self._told.gpadl(slot.device.title, action.handle, loan, made=False)
        if slot is not None and slot.channel is not None and slot.channel.alive:
            slot.device.gpadl_torn_down(slot.channel, action.handle)

    def _drop(self, slot: Slot) -> None:
        channel, request = slot.channel, slot.request
        slot.channel = slot.request = None
        if request is not None:
            self._partition.connections.disconnect(request.connection_id)
        if slot.monitor_id is not None:
            self._monitor.forget(slot.monitor_id)
        if channel is not None:
            channel.close()
            slot.past.add(channel.counters)
            if request is not None:
                self._told.channel(slot.device, slot.index, request, opened=False)

    def _retarget(self, action: actions.Retargeted) -> None:
        slot = self._slots[action.offer]
        if slot.channel is not None and slot.request is not None:
            slot.request = replace(slot.request, target_vp=action.target_vp)
            slot.channel.retarget(self._interrupt(slot.request))

    def _release(self, action: actions.Released) -> None:
        """The guest has let go of a rescinded offer."""
        slot = self._slots.pop(action.offer, None)
        if slot is not None and slot.index == 0:
            slot.device.close()

    def _refuse_connection(self, action: actions.TlConnect) -> list[Action]:
        """Nobody listens for sockets."""
        return self.control.tl_connect_result(action.endpoint, action.service, CONNECTION_REFUSED)

    def guest_left(self, halted: bool) -> None:
        """The guest is not running any more; interrupts that were held back go out, but for those that may
        wait for what comes while it idles (`halted`)."""
        for channel in tuple(self.holding):
            channel.guest_left(halted)

    def nothing_came(self) -> None:
        """The guest idles, and nothing has come soon: all that was held back goes out."""
        for channel in tuple(self.holding):
            channel.nothing_came()

    # ------------------------------------------------------------ state

    def save(self) -> dict[str, Any]:
        """Bus and devices as plain data; the rings' contents are part of the guest's RAM."""
        devices = {str(device.instance): device.save() for device in self.devices()}  # may still send
        return {
            "control": self.control.save(),
            "devices": devices,
            "slots": [
                {
                    "key": key,
                    "instance": str(slot.device.instance),
                    "index": slot.index,
                    "monitor_id": slot.monitor_id,
                    "channel": None if slot.channel is None else slot.channel.save(),
                }
                for key, slot in self._slots.items()
            ],
            "monitor": self._monitor.page,
            "outbox": self.outbox.save(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave, to a new bus with the same devices; the RAM must be back already.

        Each device gets its state first, and is then told of its channels that were open, as if they were
        opened now.
        """
        devices = {str(device.instance): device for device in self.devices()}
        self.control = self._new_control()
        self.control.restore(state["control"])
        self._slots = {
            one["key"]: Slot(devices[one["instance"]], one["index"], one["monitor_id"])
            for one in state["slots"]
        }
        self._monitor.set_page(state["monitor"])
        for instance, saved in state["devices"].items():
            devices[instance].restore(saved)
        for one in state["slots"]:
            if one["channel"] is not None:
                self._reopen(one["key"], one["channel"])
        self.outbox.restore(state["outbox"])

    def _reopen(self, key: int, saved: dict[str, Any]) -> None:
        slot, request = self._slots[key], self.control.open_request(key)
        if request is not None:
            slot.channel = channel = self._make_channel(key, slot, request)
            slot.request, slot.relid, slot.opened = request, request.relid, 1
            channel.restore(saved)
            if channel.alive:
                slot.device.opened(channel)

    def close(self) -> None:
        """The machine ends: every channel is closed, then every device."""
        for slot in self._slots.values():
            self._drop(slot)
        for device in self.devices():
            device.close()


def _nothing() -> None:
    """The guest wants no interrupts."""


def _discard(signal: Callable[[int, int], HvStatus], sint: int, flag: int) -> None:
    signal(sint, flag)
