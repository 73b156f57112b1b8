"""From frames to a guest's receive buffer.

A frame becomes one packet of the channel: an RNDIS packet message in a sub-allocation, or, for a large TCP
frame of a guest that takes such, a message for each piece of it. Messages of the control plane travel the
same way, before frames. What finds no room waits in a bounded queue, until the guest completes packets.

A checksum that its sender left out is computed here, although the guest could be told that it need not look:
Linux looks all the same after `ethtool -K eth0 rx off`, of which it tells nobody, and a guest that forwards
the frame passes on what the field holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from struct import error as StructError
from typing import Any

from ringminus.devices.network import wire
from ringminus.devices.network.buffers import LARGEST_HEADER, ReceiveBuffer
from ringminus.devices.network.control import RndisControl
from ringminus.devices.network.counters import AdapterCounters
from ringminus.devices.network.rndis_wire import (
    Fragment,
    InfoType,
    ReceiveChecksum,
    packet_header,
    packet_id_word,
    vlan_word,
)
from ringminus.devices.network.watched import Watched
from ringminus.devices.network.wire import ChannelType, MessageType, Status
from ringminus.errors import GuestError
from ringminus.memory import MIB
from ringminus.switch.checksum import complete
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import NETWORK, parse
from ringminus.switch.segmentation import segments
from ringminus.switch.wire import EthernetHeader, EtherType, IpProtocol, Ipv4Header, Ipv6Header
from ringminus.vmbus.device import Channel

QUEUE_FRAMES, QUEUE_BYTES = 4096, 16 * MIB
QUEUE_CONTROL = 256
"""A guest that leaves so many answers in the queue asks without listening."""

NOT_READY, QUEUE_FULL, TOO_SHORT, TOO_LONG = "not ready", "queue full", "too short", "too long"

Message = Sequence[bytes]
"""The RNDIS messages of one packet, each for a sub-allocation of its own."""

_COMPLETE, _SUCCESS = int(MessageType.SEND_RNDIS_PKT_COMPLETE), int(Status.SUCCESS)
_UNPACK_COMPLETE = wire.HOT_COMPLETE.unpack_from
_MISSING, _UNKNOWN = Checksum.MISSING, Checksum.UNKNOWN

_TYPE = EthernetHeader.offset_of("type")
_IPV4, _IPV6 = (int(kind).to_bytes(2, "big") for kind in (EtherType.IPV4, EtherType.IPV6))
_TAGGED = int(EtherType.VLAN).to_bytes(2, "big")
_V6_FIRST = _IPV6[0]
_V4_PROTOCOL = NETWORK + Ipv4Header.offset_of("protocol")
_V6_PROTOCOL = NETWORK + Ipv6Header.offset_of("next_header")
_TCP, _UDP = int(IpProtocol.TCP), int(IpProtocol.UDP)
_TCP_SUCCEEDED, _UDP_SUCCEEDED = int(ReceiveChecksum.TCP_SUCCEEDED), int(ReceiveChecksum.UDP_SUCCEEDED)

_CHECKSUM, _VLAN, _HASH, _ID = (
    int(kind) for kind in (InfoType.CHECKSUM, InfoType.VLAN, InfoType.HASH_VALUE, InfoType.PACKET_ID)
)
_PLAIN_HEADER, _CHECKSUM_HEADER = packet_header().pack, packet_header(_CHECKSUM).pack
_NEXT_HEADER = packet_header(_ID)
_PART = int(Fragment.SUB_ALLOCATION)
_FIRST_WORD = packet_id_word(_PART | Fragment.FIRST)
_NEXT_WORD, _LAST_WORD = packet_id_word(_PART), packet_id_word(_PART | Fragment.LAST)


class BadCompletion(GuestError):
    """The guest completes what is not underway, or says something else by it."""


class Receiver:
    """The receiving half of an adapter. `buffer` is the guest's while it has one, `channels` are those that
    are open, by index. What is underway is accounted for by transaction id, so that each completion gives
    back exactly the sub-allocations of its packet."""

    def __init__(
        self, control: RndisControl, counters: AdapterCounters, channels: Mapping[int, Channel]
    ) -> None:
        self.buffer: ReceiveBuffer | None = None
        self.queued_bytes = 0
        self.watched: Watched | None = None
        self._control = control
        self._counters = counters
        self._channels = channels
        self._largest = 0
        self._tagging = False
        self._next_id = 1
        # the last of each is the number of the event that it comes from, if that was watched
        self._queue: deque[tuple[int, int, Message, int]] = deque()
        self._control_queue: deque[tuple[bytes, int]] = deque()
        self._underway: dict[int, tuple[int, Sequence[int]]] = {}
        self._data = self._control_data = b""

    @property
    def _cause(self) -> int:
        return self.watched.tap.cause if self.watched is not None else 0

    @property
    def queued(self) -> int:
        """Frames that wait for room."""
        return len(self._queue)

    # ------------------------------------------------------------ the guest's buffer

    def begin(self, buffer: ReceiveBuffer, version: int, largest_frame: int, tagging: bool) -> None:
        """The guest gave a buffer. `largest_frame` counts the bytes of a frame that is not large, and
        `tagging` says that the guest takes 802.1Q tags beside the frame."""
        self.buffer = buffer
        self._largest = largest_frame
        self._tagging = tagging
        self._data, self._control_data = (
            wire.message(
                MessageType.SEND_RNDIS_PKT,
                wire.SendRndisPacket(
                    channel_type=kind, send_buf_section_index=wire.NO_SECTION, send_buf_section_size=0
                ),
                version,
            )
            for kind in (ChannelType.DATA, ChannelType.CONTROL)
        )

    def end(self) -> None:
        """The buffer is gone. The guest may still complete what is underway."""
        self.buffer = None
        self.forget(NOT_READY)
        self._control_queue.clear()
        for number, (index, _) in self._underway.items():
            self._underway[number] = (index, ())

    def forget(self, reason: str) -> None:
        """Drop the frames that wait."""
        if self._queue:
            self._counters.drop_received(reason, len(self._queue))
            self._queue.clear()
            self.queued_bytes = 0

    def channel_closed(self, index: int) -> None:
        """What is underway there will not be completed any more."""
        for number, (owner, slots) in tuple(self._underway.items()):
            if owner == index:
                del self._underway[number]
                if self.buffer is not None:
                    self.buffer.free += slots
        self.pump()

    # ------------------------------------------------------------ frames

    def deliver(self, frame: Frame) -> None:
        """Give a frame, of at least an Ethernet header, to the guest, now or when there is room."""
        if self.buffer is None:
            return self._counters.drop_received(NOT_READY)
        if not frame.segment_size:
            return self._deliver_one(frame)
        if frame.tci is None or self._tagging:
            offloads = self._control.offloads
            if offloads.rsc6 if frame.data[_TYPE] == _V6_FIRST else offloads.rsc4:
                frame = complete(frame) if frame.checksum is _MISSING else frame
                index, message = self._pieces(frame)
                if message:
                    return self._put(index, len(frame.data), message)
        for one in segments(frame):
            self._deliver_one(one)

    def _deliver_one(self, frame: Frame) -> None:
        data, checksum, tci = frame.data, frame.checksum, frame.tci
        if len(data) > self._largest:
            return self._counters.drop_received(TOO_LONG)
        if checksum is _MISSING:
            frame = complete(frame)
            data, checksum = frame.data, frame.checksum
        word = 0 if checksum is _UNKNOWN else self._checksum_word(data)
        rss, index = self._control.rss, 0
        if tci is not None or rss is not None:
            if tci is not None and not self._tagging:
                data = b"".join((data[:_TYPE], _TAGGED, tci.to_bytes(2, "big"), data[_TYPE:]))
                tci = None
            types, words, index = self._infos(data, tci, word)
            header = packet_header(*types).pack(len(data), *words)
        elif word:
            header = _CHECKSUM_HEADER(len(data), word)
        else:
            header = _PLAIN_HEADER(len(data))
        self._put(index, len(data), (header + data,))

    def _pieces(self, frame: Frame) -> tuple[int, Message]:
        """A large frame as one message if it fits, or as several, and the channel for it; none if that would
        be more than a packet has."""
        data = frame.data
        assert self.buffer is not None
        word = 0 if frame.checksum is _UNKNOWN else self._checksum_word(data)
        types, words, index = self._infos(data, frame.tci, word)
        size, most = len(data), self.buffer.piece_size - LARGEST_HEADER
        if size <= most:
            return index, (packet_header(*types).pack(size, *words) + data,)
        if -(-size // most) > min(self.buffer.count, wire.MAX_RANGES):
            return index, ()
        rest = memoryview(data)
        first = packet_header(*types, _ID).pack(most, *words, _FIRST_WORD)
        message = [b"".join((first, rest[:most]))]
        for begin in range(most, size, most):
            part = rest[begin : begin + most]
            header = _NEXT_HEADER.pack(len(part), _NEXT_WORD if begin + most < size else _LAST_WORD)
            message.append(b"".join((header, part)))
        return index, message

    def _infos(self, data: bytes, tci: int | None, word: int) -> tuple[list[int], list[int], int]:
        """The per-packet infos of a frame, types and words, and the channel that the guest wants it on."""
        types, words, index = [], [], 0
        if word:
            types.append(_CHECKSUM)
            words.append(word)
        if tci is not None:
            types.append(_VLAN)
            words.append(vlan_word(tci))
        rss = self._control.rss
        if rss is not None:
            value, kind = rss.hash(data)
            if kind:
                types.append(_HASH)
                words.append(value)
                index = rss.queue(data)
        return types, words, index

    def _checksum_word(self, data: bytes) -> int:
        """What the guest is told of a checksum that is right; 0 for nothing."""
        kind, protocol, version = data[_TYPE:NETWORK], 0, 4
        if len(data) > _V4_PROTOCOL:
            if kind == _IPV4:
                protocol = data[_V4_PROTOCOL]
            elif kind == _IPV6:
                version, protocol = 6, data[_V6_PROTOCOL]
        if protocol != _TCP and protocol != _UDP:
            headers = parse(data)  # behind IPv6's extension headers
            if headers is None:
                return 0
            version, protocol = headers.version, headers.protocol
        offloads = self._control.offloads
        if protocol == _TCP:
            return _TCP_SUCCEEDED if (offloads.receive_tcp4, offloads.receive_tcp6)[version == 6] else 0
        if protocol == _UDP:
            return _UDP_SUCCEEDED if (offloads.receive_udp4, offloads.receive_udp6)[version == 6] else 0
        return 0

    # ------------------------------------------------------------ packets

    def answer(self, messages: Sequence[bytes]) -> None:
        """Send messages of the control plane, on the primary channel; raises `GuestError` when the guest asks
        and asks, and takes no answers."""
        if self.buffer is None:
            return
        cause = self._cause
        self._control_queue += [(message, cause) for message in messages]
        self.pump()
        if len(self._control_queue) > QUEUE_CONTROL:
            raise GuestError(f"{len(self._control_queue)} answers of RNDIS wait for the guest")

    def _put(self, index: int, size: int, message: Message) -> None:
        buffer = self.buffer
        if buffer is None:  # the channel failed when the segment before this one was shown to the guest
            return self._counters.drop_received(NOT_READY)
        if self._queue or len(buffer.free) < len(message) or self._control_queue:
            if len(self._queue) >= QUEUE_FRAMES or self.queued_bytes + size > QUEUE_BYTES:
                return self._counters.drop_received(QUEUE_FULL)
            self._queue.append((index, size, message, self._cause))
            self.queued_bytes += size
        else:
            self._send(buffer, index, size, message)

    def pump(self) -> None:
        """Send what waits, as far as there is room."""
        buffer, waiting, queue = self.buffer, self._control_queue, self._queue
        # a channel may fail meanwhile, and the buffer with it
        while waiting and buffer is not None and buffer.free and self.buffer is buffer:
            one, cause = waiting.popleft()
            if cause and self.watched is not None:
                with self.watched.because_of(cause):
                    self._place(buffer, 0, (one,), self._control_data)
            else:
                self._place(buffer, 0, (one,), self._control_data)
        while queue and buffer is not None and len(queue[0][2]) <= len(buffer.free):
            if self.buffer is not buffer:
                return
            index, size, message, cause = queue.popleft()
            self.queued_bytes -= size
            if cause and self.watched is not None:
                with self.watched.because_of(cause):
                    self._send(buffer, index, size, message)
            else:
                self._send(buffer, index, size, message)

    def _send(self, buffer: ReceiveBuffer, index: int, size: int, message: Message) -> None:
        counters = self._counters
        counters.received_frames += 1
        counters.received_bytes += size
        self._place(buffer, index, message, self._data)

    def _place(
        self, buffer: ReceiveBuffer, index: int, message: Message, payload: bytes, told: bool = False
    ) -> None:
        """There is room: put the messages there, and tell the guest. `told`: watchers have had them."""
        channel = self._channels.get(index)
        if channel is None:
            index, channel = 0, self._channels[0]
        if self.watched is not None and self.watched.tap.device is not None and not told:
            event, message = self.watched.to_guest(message, buffer.piece_size)
            if message:
                with self.watched.within(event):
                    self._place(buffer, index, message, payload, True)
            return
        number, free, step = self._next_id, buffer.free, buffer.piece_size
        self._next_id += 1
        slots, ranges = [], []
        for one in message:
            slot = free.pop()
            buffer.write(slot, one)
            slots.append(slot)
            ranges.append((len(one), slot * step))
        self._underway[number] = (index, slots)
        channel.send_transfer(buffer.id, ranges, payload, number)

    def completed(self, channel: Channel, number: int, payload: memoryview) -> None:
        """The guest gives back the sub-allocations of a packet; raises `BadCompletion`. What waits goes on
        with the next `pump`."""
        try:
            kind, status = _UNPACK_COMPLETE(payload)
        except StructError:
            raise BadCompletion(f"a completion of {len(payload)} bytes") from None
        index, slots = self._underway.get(number, (-1, ()))
        if kind != _COMPLETE or index != channel.index:
            raise BadCompletion(f"a completion of type {kind} for {number:#x}, which is not underway there")
        del self._underway[number]
        if status != _SUCCESS:
            self._counters.refused_by_guest += 1
        if self.buffer is not None:
            self.buffer.free += slots

    # ------------------------------------------------------------ state

    def save(self) -> dict[str, Any]:
        """The state as plain data."""
        return {
            "next_id": self._next_id,
            "underway": [[number, index, list(slots)] for number, (index, slots) in self._underway.items()],
            "queue": [[index, size, list(message)] for index, size, message, _ in self._queue],
            "control_queue": [message for message, _ in self._control_queue],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave; the buffer is there already if the guest has one."""
        self._next_id = state["next_id"]
        self._underway = {number: (index, slots) for number, index, slots in state["underway"]}
        self._queue = deque((index, size, message, 0) for index, size, message in state["queue"])
        self.queued_bytes = sum(size for _, size, *_ in self._queue)
        self._control_queue = deque((message, 0) for message in state["control_queue"])
        if self.buffer is not None:
            used = {slot for _, slots in self._underway.values() for slot in slots}
            self.buffer.free = [slot for slot in self.buffer.free if slot not in used]
