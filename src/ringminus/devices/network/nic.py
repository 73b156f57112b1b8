"""A synthetic network adapter: a guest's netvsc on one side, a port of a switch on the other.

NVSP (`handshake`) and RNDIS's control messages (`control`) are state machines. `sending` makes frames of the
guest's packets, `receive` packets of frames for the guest. This is where they meet the channels and the port.
"""

from __future__ import annotations

from struct import error as StructError
from typing import Any, ClassVar
from uuid import UUID, uuid5

from ringminus.clock import Timer
from ringminus.devices.network import wire
from ringminus.devices.network.control import RndisControl, State
from ringminus.devices.network.counters import AdapterCounters
from ringminus.devices.network.handshake import ETHERNET_HEADER, LARGEST_FRAME, Handshake, OutOfOrder
from ringminus.devices.network.handshake import State as SetupState
from ringminus.devices.network.oids import Statistics
from ringminus.devices.network.receive import NOT_READY, QUEUE_FULL, TOO_SHORT, Receiver
from ringminus.devices.network.sending import LINK_DOWN, Sender
from ringminus.devices.network.transmit import MALFORMED, control_messages
from ringminus.devices.network.watched import Watched
from ringminus.devices.network.wire import Capability, ChannelType, MessageType
from ringminus.errors import GuestError
from ringminus.switch.frame import Frame
from ringminus.switch.port import ADDRESS_SIZE, Port
from ringminus.vmbus.device import INSTANCES, Channel, Device, Offerer, Packet, Services
from ringminus.vmbus.wire import PacketType

SUBCHANNELS = 15
FILTERED, CLOSED = "filtered", "channel closed"

_SEND_RNDIS_PKT = int(MessageType.SEND_RNDIS_PKT)
_UNPACK_SEND = wire.HOT_SEND.unpack_from
_DATA, _CONTROL = int(ChannelType.DATA), int(ChannelType.CONTROL)
_TRANSFER = PacketType.DATA_USING_XFER_PAGES
_INITIALIZED = State.INITIALIZED


class SyntheticNic(Device):
    """An adapter with the permanent MAC `address`. It is an `Endpoint` of a switch (see `switch.port`)."""

    interface: ClassVar[UUID] = UUID("f8615163-df3e-46c5-913f-f2d2f965ed0e")
    moderated = True
    awaited = False
    handshake_class: ClassVar[type[Handshake]] = Handshake
    control_class: ClassVar[type[RndisControl]] = RndisControl

    def __init__(self, address: bytes, instance: UUID | None = None, *, title: str = "NIC") -> None:
        """`instance` is by default one that the address determines."""
        super().__init__(uuid5(INSTANCES, f"NIC {address.hex()}") if instance is None else instance)
        self.permanent_address = address
        self.megabits = 10_000
        self._title = title
        self._counters = AdapterCounters()
        self._channels: dict[int, Channel] = {}
        self.handshake = self.handshake_class(SUBCHANNELS)
        self.control = control = self.control_class(
            address, title, largest_mtu=LARGEST_FRAME - ETHERNET_HEADER, subchannels=SUBCHANNELS
        )
        control.on_address = self._address_changed
        control.on_filter = self._filter_changed
        control.statistics = self._statistics
        self.sender = Sender(control, self._counters, self._channels)
        self.receiver = Receiver(control, self._counters, self._channels)
        self._ready = False
        self._spread = False  # whether the guest was told to use all of its channels
        self._restoring: dict[str, Any] | None = None
        self._resume: Timer | None = None

    @property
    def title(self) -> str:
        return self._title

    @property
    def counters(self) -> AdapterCounters:
        """What passed, and what waits now."""
        counters, buffer = self._counters, self.receiver.buffer
        counters.receive_slots = 0 if buffer is None else buffer.count
        counters.receive_slots_used = 0 if buffer is None else buffer.in_use
        counters.queued_frames, counters.queued_bytes = self.receiver.queued, self.receiver.queued_bytes
        counters.waiting_packets = self.sender.waiting
        return counters

    def attach(self, services: Services, bus: Offerer) -> None:
        super().attach(services, bus)
        watched = Watched(lambda: self.title, services.tap, services.clock)
        self._watched = self.sender.watched = self.receiver.watched = watched
        self._resume = services.timers.timer(lambda _now: self.resumed())

    # ------------------------------------------------------------ channels

    def opened(self, channel: Channel) -> None:
        index = channel.index
        if index == 0:
            self._open_primary(channel)
        elif not self._ready or index > self.handshake.subchannels:
            raise GuestError(f"sub-channel {index} was not asked for")
        self._channels[index] = channel
        if index and not self._spread and len(self._channels) == self.handshake.subchannels + 1:
            self._spread = True
            self._channels[0].send(self.handshake.indirection_table())

    def _open_primary(self, channel: Channel) -> None:
        state, self._restoring = self._restoring, None
        if state is None:
            self._reset()
            return
        self.handshake.restore(state["handshake"], channel)
        self._settle()
        self.receiver.restore(state["receiver"])
        if self._resume is not None:
            self._resume.arm(self.services.clock.reference_time())

    def closed(self, channel: Channel) -> None:
        index = channel.index
        if self._channels.get(index) is not channel:
            return
        self.sender.abandon(CLOSED, index)
        del self._channels[index]
        if index == 0:
            self._reset()
        self.receiver.channel_closed(index)

    def _reset(self) -> None:
        """The next guest begins anew."""
        self.handshake.reset()
        self.control.reset()
        self._spread = False
        self._settle()

    def gpadl_torn_down(self, channel: Channel, handle: int) -> None:
        if channel.index == 0 and self.handshake.lose(handle):
            self._settle()

    def _settle(self) -> None:
        """Act on what the handshake has come to."""
        shake, receiver = self.handshake, self.receiver
        ready = shake.state is SetupState.READY
        if self._ready and not ready:
            self.sender.abandon(NOT_READY)
        self._ready = ready
        self.control.mtu = shake.largest_frame - ETHERNET_HEADER
        if shake.ndis_version is not None:
            self.control.ndis_version = shake.ndis_version
        self.sender.begin(shake.send_buffer, shake.version, shake.largest_frame)
        if shake.receive_buffer is None:
            receiver.end()
        elif shake.receive_buffer is not receiver.buffer:
            tagging = bool(shake.capability & Capability.IEEE8021Q)
            receiver.begin(shake.receive_buffer, shake.version, shake.largest_frame, tagging)

    # ------------------------------------------------------------ from the guest

    def packet(self, channel: Channel, packet: Packet) -> None:
        try:
            kind, channel_type, section, size = _UNPACK_SEND(packet.payload)
        except StructError:
            return self._shake_hands(channel, packet)
        if kind != _SEND_RNDIS_PKT:
            return self._shake_hands(channel, packet)
        if not self._ready:
            raise OutOfOrder(self.handshake.state, kind)
        if not packet.wants_completion or packet.kind is _TRANSFER:
            why = f"in a packet of type {packet.kind}" if packet.wants_completion else "wants no completion"
            raise GuestError(f"SEND_RNDIS_PKT {why}")
        sender = self.sender
        if channel_type == _DATA:
            sender.send(channel, packet.transaction_id, section, size, packet.ranges)
        elif channel_type == _CONTROL and channel.index == 0:
            data = sender.read(channel.memory, section, size, packet.ranges)
            sender.complete(channel, packet.transaction_id)
            self._control_messages(data)
        else:
            raise GuestError(f"SEND_RNDIS_PKT of channel type {channel_type} on channel {channel.index}")

    def _shake_hands(self, channel: Channel, packet: Packet) -> None:
        if packet.kind is not PacketType.DATA_INBAND:
            raise GuestError(f"an NVSP message in a packet of type {packet.kind}")
        if channel.index:
            kind = wire.MessageHeader.unpack(packet.payload).msg_type
            raise OutOfOrder(self.handshake.state, kind, f" on sub-channel {channel.index}")
        reply = self.handshake.receive(channel, packet.payload)
        self._settle()
        if packet.wants_completion:
            channel.complete(packet.transaction_id, reply.payload)
        if reply.subchannels:
            self.bus.offer_subchannels(self, reply.subchannels)

    def _control_messages(self, data: bytes) -> None:
        for event, part in self._watched.from_guest(data):
            with self._watched.within(event):
                for message in control_messages(part):
                    self.receiver.answer(self.control.receive(message))
        if self.control.state is not _INITIALIZED:
            self.sender.abandon(NOT_READY)
            self.receiver.forget(NOT_READY)
            self._settle()  # a guest that halts the adapter does not say again what it said of itself

    def completion(self, channel: Channel, transaction_id: int, payload: memoryview) -> None:
        self.receiver.completed(channel, transaction_id, payload)

    def drained(self, channel: Channel) -> None:
        self.receiver.pump()
        self.sender.flush()

    # ------------------------------------------------------------ the port (see `switch.port.Endpoint`)

    def plugged(self, port: Port) -> None:
        self.sender.plug(port)

    def deliver(self, frame: Frame) -> None:
        control, destination = self.control, frame.data[:ADDRESS_SIZE]
        if len(frame.data) < ETHERNET_HEADER:
            return self._counters.drop_received(TOO_SHORT)
        if not control.accepts(destination):
            unready = control.state is not _INITIALIZED or not control.packet_filter
            return self._counters.drop_received(NOT_READY if unready else FILTERED)
        if self.services.tap.frames is not None:
            return self._watched.frame(
                frame, self.receiver.deliver, self._counters.drop_received, to_guest=True
            )
        return self.receiver.deliver(frame)

    def flush(self) -> None:
        """Frames are shown to the guest one by one."""

    def resumed(self) -> None:
        self.sender.resume()

    def set_link(self, up: bool, megabits: int) -> None:
        self.sender.link, self.megabits = up, megabits
        if not up:
            self.sender.abandon(LINK_DOWN)
        messages = self.control.link_messages(up, megabits)
        try:
            self.receiver.answer(messages)
        except GuestError as error:
            self._channels[0].fail(str(error))

    def close(self) -> None:
        """It was unplugged, or the machine ends."""
        self.set_link(False, self.megabits)
        self.sender.plug(None)

    # ------------------------------------------------------------ what the guest sets

    def _address_changed(self, address: bytes) -> None:
        if self.sender.port is not None:
            self.sender.port.set_address(address)

    def _filter_changed(self, packet_filter: int) -> None:
        if not packet_filter:
            self.receiver.forget(FILTERED)

    def _statistics(self) -> Statistics:
        """For the OIDs that ask for them."""
        counters = self._counters
        errors = sum(counters.sending_dropped.get(reason, 0) for reason in MALFORMED)
        no_buffer = counters.receiving_dropped.get(QUEUE_FULL, 0)
        # a frame that the guest does not want is none of these
        dropped = sum(counters.receiving_dropped.values()) - counters.receiving_dropped.get(FILTERED, 0)
        return Statistics(
            sent_frames=counters.sent_frames,
            sent_bytes=counters.sent_bytes,
            sent_errors=errors,
            sent_discards=sum(counters.sending_dropped.values()) - errors,
            received_frames=counters.received_frames,
            received_bytes=counters.received_bytes,
            received_discards=dropped - no_buffer,
            received_no_buffer=no_buffer,
        )

    # ------------------------------------------------------------ state

    def save(self) -> dict[str, Any]:
        """State as plain data. The port's side is not part of it."""
        return {
            "handshake": self.handshake.save(),
            "control": self.control.save(),
            "sender": self.sender.save(),
            "receiver": self.receiver.save(),
            "spread": self._spread,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave, before the channels are opened. What waited goes on soon after."""
        self.control.restore(state["control"])
        self.sender.restore(state["sender"])
        self._spread = state["spread"]
        begun = state["handshake"]["state"] != SetupState.INIT.name
        self._restoring = state if begun else None
