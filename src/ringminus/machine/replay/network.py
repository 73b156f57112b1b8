"""Network adapters in replays: what a recording tells of them, of what lay in their send buffers, and of the
frames that came from outside."""

from __future__ import annotations

from collections.abc import Callable
from struct import error as StructError
from uuid import UUID

from ringminus.devices.network import rndis_wire, wire
from ringminus.devices.network.buffers import SECTION_SIZE
from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.network.oid_wire import Oid
from ringminus.devices.network.rndis_wire import HEADER_SIZE, QueryComplete, QueryRequest
from ringminus.devices.network.sending import LARGEST_PACKET
from ringminus.machine.replay.recording import RecordedDevice, Unknown
from ringminus.memory import GuestMemory
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.port import ADDRESS_SIZE, Port
from ringminus.tap import DeviceMessage, NetworkFrame, RingPacket
from ringminus.vmbus.gpa import GpaRange
from ringminus.wire import ShortBuffer

QUERY, QUERY_COMPLETE = int(rndis_wire.MessageType.QUERY), int(rndis_wire.MessageType.QUERY_C)
SEND_RNDIS, SEND_BUFFER = int(wire.MessageType.SEND_RNDIS_PKT), int(wire.MessageType.SEND_SEND_BUF)
UNKNOWN_ADDRESS = bytes.fromhex("00155d000000")
BITS_PER_UNIT, MEGABIT = 100, 1_000_000  # of GEN_LINK_SPEED
Pages = Callable[[int], GpaRange | None]


def answers_of(recorded: RecordedDevice) -> dict[int, bytes]:
    """What the adapter answered to queries, by OID; the first answer of each."""
    asked: dict[int, int] = {}
    found: dict[int, bytes] = {}
    for event in recorded.events:
        if not isinstance(event, DeviceMessage) or event.protocol != "rndis":
            continue
        body = event.payload[HEADER_SIZE:]
        try:
            kind, _ = rndis_wire.HEADER.unpack_from(event.payload)
            if kind == QUERY and not event.to_guest:
                query = QueryRequest.unpack(body)
                asked[query.req_id] = query.oid
            elif kind == QUERY_COMPLETE and event.to_guest:
                done = QueryComplete.unpack(body)
                if done.req_id in asked and not done.status:
                    info = body[done.info_buf_offset : done.info_buf_offset + done.info_buflen]
                    found.setdefault(asked[done.req_id], info)
        except (ShortBuffer, StructError):
            continue  # it was cut short
    return found


def nic_arguments(recorded: RecordedDevice) -> tuple[bytes, UUID | None, str]:
    """The address, instance and title of an adapter as the recorded one."""
    address = answers_of(recorded).get(Oid.E802_3_PERMANENT_ADDRESS, b"")
    if len(address) != ADDRESS_SIZE:
        address = UNKNOWN_ADDRESS
    instance = recorded.instance if recorded.instance != UUID(int=0) else None
    return address, instance, recorded.title


def plug_in(nic: SyntheticNic, recorded: RecordedDevice, port: Port) -> None:
    """Give an adapter its port, with the recorded speed."""
    nic.plugged(port)
    units = int.from_bytes(answers_of(recorded).get(Oid.GEN_LINK_SPEED, b"")[:4], "little")
    nic.set_link(True, units * BITS_PER_UNIT // MEGABIT or nic.megabits)


def build_nic(recorded: RecordedDevice) -> SyntheticNic:
    """Our adapter as the recorded one: its address and speed."""
    address, instance, title = nic_arguments(recorded)
    nic = SyntheticNic(address, instance, title=title)
    plug_in(nic, recorded, Nowhere())
    return nic


class Nowhere:
    """A port that takes every frame."""

    def send(self, frame: Frame) -> bool:
        """It is compared by the messages that it makes; nobody gets it."""
        return True

    def flush(self) -> None:
        """There is nothing that waits."""

    def set_address(self, address: bytes) -> None:
        """Nobody looks for it."""


class NetworkPlay:
    """What a recorded guest's packets carried in its send buffer, and what came from its network."""

    def __init__(self, recorded: RecordedDevice, nic: SyntheticNic) -> None:
        self._nic = nic
        self._messages: dict[int, list[DeviceMessage]] = {}  # by the packet that carried them
        self._frames: dict[int, list[NetworkFrame]] = {}  # by the message that carried them
        self._buffer = 0
        for event in recorded.events:
            if isinstance(event, DeviceMessage) and not event.to_guest:
                self._messages.setdefault(event.cause, []).append(event)
            elif isinstance(event, NetworkFrame) and not event.to_guest:
                self._frames.setdefault(event.cause, []).append(event)

    def prepare(self, event: RingPacket, memory: GuestMemory, pages: Pages) -> bytes:
        """Put what a packet carries into the send buffer; gives what its ranges hold. Raises `Unknown`."""
        if len(event.payload) < wire.HOT_SEND.size:
            return event.data
        kind, number, section, size = wire.HOT_SEND.unpack_from(event.payload)
        if kind == SEND_BUFFER:
            self._buffer = number
        if kind != SEND_RNDIS or section == wire.NO_SECTION or not size:
            return event.data
        buffer, start = pages(self._buffer), section * SECTION_SIZE
        if buffer is None or size > SECTION_SIZE or start + size > buffer.byte_count:
            return event.data  # a guest that lies: it is for the device to say so
        data = self._carried(event)
        position = 0
        for gpa, length in buffer.extents(start, size):
            memory.write(gpa, data[position : position + length].ljust(length, b"\0"))
            position += length
        return event.data or data[size:]

    def _carried(self, event: RingPacket) -> bytes:
        """The messages of a packet: they are told without the frames, which are told by themselves."""
        messages = self._messages.get(event.sequence)
        if messages is None:
            raise Unknown("what they carried in the send buffer was not recorded")
        parts = []
        for message in messages:
            frames = self._frames.get(message.sequence, [])
            whole = message.payload + (frames[0].data if frames else b"")
            parts.append(whole[: message.size].ljust(min(message.size, LARGEST_PACKET), b"\0"))
        return b"".join(parts)

    def deliver(self, event: NetworkFrame) -> None:
        """A frame comes from the network."""
        self._nic.deliver(frame_of(event))
        self._nic.flush()


def frame_of(event: NetworkFrame) -> Frame:
    """A recorded frame; what cannot be of what was recorded beside it is not believed."""
    known = event.checksum in Checksum.__members__
    checksum = Checksum[event.checksum] if known else Checksum.UNKNOWN
    tci = event.tci if event.tci is None or 0 <= event.tci <= 0xFFFF else None
    size = event.segment_size if 0 <= event.segment_size <= 0xFFFF else 0
    return Frame(event.data, tci, checksum, size)
