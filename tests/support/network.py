"""The guest's side of a network adapter without a guest, after Linux's drivers/net/hyperv.

    bed = NetworkBed()
    bed.guest.connect()
    bed.guest.send(frame)
    assert bed.port.taken() == [frame]
    bed.nic.deliver(Frame(data))
    assert bed.guest.frames() == [data]

Everything goes through a real bus: messages by hypercalls, packets by rings, data by guest memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ringminus.devices.network import wire
from ringminus.devices.network.ndis_wire import ObjectHeader, OffloadParameters
from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.network.wire import MessageType, Version
from ringminus.memory import PAGE_SIZE
from ringminus.switch.frame import Frame
from ringminus.tap import Violation
from ringminus.vmbus.bus import VmBus
from ringminus.vmbus.wire import OfferChannel
from ringminus.wire import Struct
from support.bus_bed import Recorder, add, echo
from support.bus_driver import GuestChannel, GuestDriver, Range
from support.guest_ring import COMPLETION, INBAND, TRANSFER_PAGES, Received
from support.hypervisor import Guest

MAC, PEER = bytes.fromhex("00155d000001"), bytes.fromhex("00155d0000fe")
GROUP = bytes.fromhex("333300000001")
RECEIVE_ID, SEND_ID = 0xCAFE, 0
DATA, CONTROL = 0, 1
NO_SECTION = 0xFFFFFFFF

PACKET, INIT, HALT, QUERY, SET = 1, 2, 3, 4, 5
INIT_C, QUERY_C, SET_C, INDICATE = 0x80000002, 0x80000004, 0x80000005, 7
CHECKSUM, LARGE_SEND, VLAN, HASH, PACKET_ID = 0, 2, 6, 8, 0x80000001
OID_FILTER, OID_OFFLOADS, OID_RSS = 0x0001010E, 0xFC01020C, 0x00010204
EVERYTHING = 0x01 | 0x04 | 0x08

M = TypeVar("M", bound=Struct)


def offload_parameters(*, checksum: int = 4, large: int = 2, coalesce: int = 2) -> bytes:
    """What rndis_filter_set_device_features sets; 4 is both directions, 2 on, 1 off, 0 as it is."""
    return OffloadParameters(
        header=ObjectHeader(type=0x80, revision=3, size=OffloadParameters.SIZE),
        ip_v4_csum=checksum,
        tcp_ip_v4_csum=checksum,
        udp_ip_v4_csum=checksum,
        tcp_ip_v6_csum=checksum,
        udp_ip_v6_csum=checksum,
        lso_v2_ipv4=large,
        lso_v2_ipv6=large,
        rsc_ip_v4=coalesce,
        rsc_ip_v6=coalesce,
    ).pack()


ALL_OFFLOADS = offload_parameters()


def ethernet(size: int = 60, *, to: bytes = PEER, source: bytes = MAC, kind: int = 0x88B5) -> bytes:
    """A frame of that size whose bytes all differ from their neighbours."""
    head = to + source + struct.pack(">H", kind)
    return head + bytes(index * 7 % 251 for index in range(size - len(head)))


def packet_info(kind: int, word: int) -> bytes:
    """init_ppi_data."""
    return struct.pack("<IIII", 16, kind, 12, word)


def rndis_packet(frame: bytes, infos: bytes = b"", padding: int = 0) -> bytes:
    """A packet message as netvsc_xmit makes it; `padding` is counted in its length, as in a batch."""
    offset = 36 + len(infos)
    body = struct.pack("<9I", offset, len(frame), 0, 0, 0, 36 if infos else 0, len(infos), 0, 0)
    whole = body + infos + frame + bytes(padding)
    return struct.pack("<II", PACKET, 8 + len(whole)) + whole


def checksum_info(*, ipv6: bool = False, udp: bool = False, header: bool = False, offset: int = 0) -> bytes:
    """What Linux says of a frame whose checksum it leaves to the adapter."""
    offset = offset or (54 if ipv6 else 34)
    return packet_info(
        CHECKSUM, (2 if ipv6 else 1) | (8 if udp else 4) | (16 if header else 0) | offset << 16
    )


def large_send_info(mss: int, *, ipv6: bool = False, offset: int = 0, version: int = 2) -> bytes:
    """What Linux says of a large frame."""
    offset = offset or (54 if ipv6 else 34)
    return packet_info(LARGE_SEND, mss | offset << 20 | (version == 2) << 30 | ipv6 << 31)


class RecordingPort:
    """A port that keeps what it is sent; while `takes` is False it asks to be spared."""

    def __init__(self) -> None:
        self.sent: list[Frame] = []
        self.takes = True
        self.flushes = 0
        self.addresses: list[bytes] = []

    def send(self, frame: Frame) -> bool:
        self.sent.append(frame)
        return self.takes

    def flush(self) -> None:
        self.flushes += 1

    def set_address(self, address: bytes) -> None:
        self.addresses.append(address)

    def taken(self) -> list[Frame]:
        """The frames since the last call."""
        sent, self.sent = self.sent, []
        return sent

    def data(self) -> list[bytes]:
        """Their bytes."""
        return [frame.data for frame in self.taken()]


@dataclass
class Arrived:
    """A frame as the guest's network stack gets it; `infos` are those of its first message, `ranges` how many
    messages it came in."""

    data: bytes
    infos: dict[int, int]
    ranges: int = 1
    channel: int = 0

    @property
    def tci(self) -> int | None:
        """Of an 802.1Q tag."""
        word = self.infos.get(VLAN)
        return None if word is None else (word & 7) << 13 | (word >> 3 & 1) << 12 | word >> 4 & 0xFFF


@dataclass
class Underway:
    """A packet that the guest has not completed yet."""

    channel: GuestChannel
    transaction_id: int


@dataclass
class Netvsc:
    """hv_netvsc. Packets from the host are completed when they are read, unless `holds`."""

    driver: GuestDriver
    offer: OfferChannel
    holds: bool = False
    held: list[Underway] = field(default_factory=list)
    completions: dict[int, bytes] = field(default_factory=dict)
    inband: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    arrived: list[Arrived] = field(default_factory=list)
    subchannels: list[GuestChannel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = self.driver.memory
        self._next = 1
        self._request = 1

    # ------------------------------------------------------------ NVSP

    def open(self, pages: int = 16) -> GuestChannel:
        """vmbus_open."""
        self.channel = self.driver.open(self.offer, pages)
        return self.channel

    def number(self) -> int:
        """A transaction id that was not used."""
        self._next += 1
        return self._next

    def post(self, kind: int, body: bytes, *, answered: bool = True) -> bytes:
        """Send an NVSP message; gives its completion's payload."""
        payload = (struct.pack("<I", kind) + body).ljust(40, b"\0")
        number = self.number()
        self.channel.send(payload, number, wants_completion=answered)
        self.poll()
        return self.completions.pop(number) if answered else b""

    def ask(self, kind: int, body: Struct, answer_kind: int, answer: type[M]) -> M:
        """The same with structures."""
        payload = self.post(kind, body.pack())
        assert struct.unpack_from("<I", payload) == (answer_kind,)
        return answer.unpack(payload, 4)

    def init(self, version: int) -> int:
        """negotiate_nvsp_ver's message; gives the status."""
        asked = wire.Init(min_protocol_ver=version, max_protocol_ver=version)
        return self.ask(MessageType.INIT, asked, MessageType.INIT_COMPLETE, wire.InitComplete).status

    def describe_itself(self, version: int, mtu: int, capability: int = 0x8C) -> None:
        """What follows INIT."""
        if version > Version.V1:
            config = wire.SendNdisConfig(mtu=mtu + 14, capability=capability)
            self.post(MessageType.SEND_NDIS_CONFIG, config.pack(), answered=False)
        minor = 30 if version >= Version.V5 else 1
        said = wire.SendNdisVersion(ndis_major_ver=6, ndis_minor_ver=minor)
        self.post(MessageType.SEND_NDIS_VER, said.pack(), answered=False)

    def share(self, pages: int) -> tuple[int, list[int]]:
        """A GPADL of so many pages."""
        pfns = self.driver.allocate(pages)
        handle, status = self.driver.establish_gpadl(self.channel.relid, [(pages * PAGE_SIZE, 0, pfns)])
        assert status == 0
        return handle, pfns

    def give_receive_buffer(self, pages: int = 64) -> wire.SendReceiveBufferComplete:
        """The first half of netvsc_init_buf."""
        self.poll()  # what came by the one before
        self.receive_gpadl, self.receive_pfns = self.share(pages)
        given = wire.SendReceiveBuffer(gpadl_handle=self.receive_gpadl, id=RECEIVE_ID)
        kinds = MessageType.SEND_RECV_BUF, MessageType.SEND_RECV_BUF_COMPLETE
        answer = self.ask(kinds[0], given, kinds[1], wire.SendReceiveBufferComplete)
        self.receive_section = wire.ReceiveBufferSection.unpack(answer.sections)
        return answer

    def give_send_buffer(self, pages: int = 32) -> wire.SendSendBufferComplete:
        """The second half."""
        self.send_gpadl, self.send_pfns = self.share(pages)
        given = wire.SendSendBuffer(gpadl_handle=self.send_gpadl, id=SEND_ID)
        kinds = MessageType.SEND_SEND_BUF, MessageType.SEND_SEND_BUF_COMPLETE
        answer = self.ask(kinds[0], given, kinds[1], wire.SendSendBufferComplete)
        self.section_size = answer.section_size
        return answer

    def set_up(
        self,
        version: int = Version.V61,
        mtu: int = 1500,
        *,
        receive_pages: int = 64,
        send_pages: int = 32,
        capability: int = 0x8C,
        ring_pages: int = 16,
    ) -> Netvsc:
        """netvsc_device_add: everything up to the data path."""
        self.open(ring_pages)
        assert self.init(version) == 1
        self.describe_itself(version, mtu, capability)
        assert self.give_receive_buffer(receive_pages).status == 1
        assert self.give_send_buffer(send_pages).status == 1
        return self

    def connect(
        self,
        version: int = Version.V61,
        mtu: int = 1500,
        *,
        packet_filter: int = EVERYTHING,
        offloads: bytes = b"",
        **more: int,
    ) -> Netvsc:
        """The same, RNDIS started and the packet filter set: the interface is up."""
        self.set_up(version, mtu, **more)
        self.start_rndis()
        if offloads:
            assert self.set(OID_OFFLOADS, offloads) == 0
        assert self.set_filter(packet_filter) == 0
        return self

    def ask_for_subchannels(self, count: int) -> wire.SubchannelComplete:
        """The request of rndis_set_subchannel."""
        asked = wire.SubchannelRequest(op=1, num_subchannels=count)
        return self.ask(MessageType.SUBCHANNEL, asked, MessageType.SUBCHANNEL, wire.SubchannelComplete)

    def open_subchannels(self, pages: int = 16) -> list[GuestChannel]:
        """Those that are offered."""
        self.subchannels = [self.driver.open(offer, pages) for offer in self.driver.offers()]
        return self.subchannels

    def revoke(self) -> None:
        """netvsc_revoke_recv_buf and netvsc_revoke_send_buf."""
        self.post(MessageType.REVOKE_RECV_BUF, wire.RevokeReceiveBuffer(id=RECEIVE_ID).pack(), answered=False)
        self.post(MessageType.REVOKE_SEND_BUF, wire.RevokeSendBuffer(id=SEND_ID).pack(), answered=False)

    def remove(self) -> None:
        """netvsc_device_remove, on a bus of Windows 10."""
        self.revoke()
        self.channel.close()
        for gpadl in (self.receive_gpadl, self.send_gpadl):
            self.driver.teardown_gpadl(self.channel.relid, gpadl)

    def forget(self) -> None:
        """All that came so far: the channels are gone."""
        for kept in (self.held, self.inband, self.answers, self.arrived, self.subchannels):
            kept.clear()
        self.completions.clear()

    # ------------------------------------------------------------ RNDIS control

    def control(self, kind: int, body: bytes) -> list[bytes]:
        """Send an RNDIS message as rndis_filter_send_request does; gives the answers."""
        message = struct.pack("<II", kind, 8 + len(body)) + body
        self.complete_of(self.send_pages_of(message, channel_type=CONTROL))
        answers, self.answers = self.answers, []
        return answers

    def start_rndis(self) -> None:
        """rndis_filter_init_device."""
        (answer,) = self.control(INIT, struct.pack("<IIII", 1, 1, 0, 0x4000))
        assert struct.unpack_from("<II", answer) == (INIT_C, len(answer))
        assert struct.unpack_from("<I", answer, 12) == (0,)

    def halt(self) -> None:
        """rndis_filter_halt_device."""
        assert self.control(HALT, struct.pack("<I", 9)) == []

    def query(self, oid: int, info: bytes = b"") -> tuple[int, bytes]:
        """Status and information of an object."""
        self._request += 1
        (answer,) = self.control(QUERY, struct.pack("<5I", self._request, oid, len(info), 20, 0) + info)
        kind, _, request, status, length, offset = struct.unpack_from("<6I", answer)
        assert (kind, request) == (QUERY_C, self._request)
        return status, answer[8 + offset : 8 + offset + length]

    def set(self, oid: int, info: bytes) -> int:
        """Set an object; gives the status."""
        self._request += 1
        answer, *_ = self.control(SET, struct.pack("<5I", self._request, oid, len(info), 20, 0) + info)
        kind, _, request, status = struct.unpack_from("<4I", answer)
        assert (kind, request) == (SET_C, self._request)
        return int(status)

    def set_filter(self, packet_filter: int) -> int:
        """rndis_filter_set_packet_filter."""
        return self.set(OID_FILTER, struct.pack("<I", packet_filter))

    # ------------------------------------------------------------ sending

    def rndis_send(
        self,
        index: int,
        size: int,
        ranges: Sequence[Range] = (),
        *,
        channel: GuestChannel | None = None,
        channel_type: int = DATA,
    ) -> int:
        """netvsc_send_pkt; gives the transaction id."""
        channel, number = channel or self.channel, self.number()
        payload = struct.pack("<4I", MessageType.SEND_RNDIS_PKT, channel_type, index, size)
        if ranges:
            channel.send_gpa_direct(payload.ljust(40, b"\0"), ranges, number)
        else:
            channel.send(payload.ljust(40, b"\0"), number, wants_completion=True)
        return number

    def write_section(self, index: int, data: bytes) -> None:
        """netvsc_copy_to_send_buf."""
        self._write(self.send_pfns, index * self.section_size, data)

    def send_section(self, data: bytes, index: int = 0, channel: GuestChannel | None = None) -> int:
        """RNDIS messages by a section of the send buffer."""
        self.write_section(index, data)
        return self.rndis_send(index, len(data), channel=channel)

    def send_pages_of(
        self, *pieces: bytes, channel_type: int = DATA, section: bytes = b"", index: int = 0
    ) -> int:
        """RNDIS messages by pages, each piece in a range of its own; `section` goes before them."""
        ranges = [self.place(piece, 100 + 8 * place) for place, piece in enumerate(pieces)]
        if section:
            self.write_section(index, section)
            return self.rndis_send(index, len(section), ranges)
        return self.rndis_send(NO_SECTION, 0, ranges, channel_type=channel_type)

    def place(self, data: bytes, offset: int = 0) -> Range:
        """Put data into pages of their own, from `offset` on; gives the range."""
        pfns = self.driver.allocate(-(-(offset + len(data)) // PAGE_SIZE))
        self._write(pfns, offset, data)
        return len(data), offset, pfns

    def send(self, frame: bytes, infos: bytes = b"") -> None:
        """A frame, and its completion."""
        self.complete_of(self.send_section(rndis_packet(frame, infos)))

    def complete_of(self, number: int) -> None:
        """The packet was completed, with success."""
        self.poll()
        kind, status = struct.unpack_from("<II", self.completions.pop(number))
        assert (kind, status) == (MessageType.SEND_RNDIS_PKT_COMPLETE, 1)

    # ------------------------------------------------------------ receiving

    def poll(self) -> None:
        """netvsc_poll of every channel."""
        for index, channel in enumerate((self.channel, *self.subchannels)):
            for packet in channel.receive():
                self._take(index, channel, packet)

    def frames(self) -> list[Arrived]:
        """The frames that came since the last call."""
        self.poll()
        arrived, self.arrived = self.arrived, []
        return arrived

    def data(self) -> list[bytes]:
        """Their bytes."""
        return [frame.data for frame in self.frames()]

    def give_back(self, count: int | None = None) -> None:
        """Complete what was held."""
        held, self.held = self.held[:count], self.held[len(self.held[:count]) :]
        for one in held:
            self.complete(one)

    def complete(
        self, one: Underway, kind: int = MessageType.SEND_RNDIS_PKT_COMPLETE, status: int = 1
    ) -> None:
        """send_recv_completions."""
        one.channel.complete(one.transaction_id, struct.pack("<II", kind, status))

    def _take(self, index: int, channel: GuestChannel, packet: Received) -> None:
        if packet.kind == COMPLETION:
            assert packet.transaction_id not in self.completions, "completed twice"
            self.completions[packet.transaction_id] = packet.payload
        elif packet.kind == INBAND:
            self.inband.append(packet.payload)
        else:
            assert packet.kind == TRANSFER_PAGES and packet.wants_completion
            self._receive(index, packet)
            self.held.append(Underway(channel, packet.transaction_id))
            if not self.holds:
                self.give_back()

    def _receive(self, index: int, packet: Received) -> None:
        """netvsc_receive."""
        pageset, _, _, count = struct.unpack_from("<HBBI", packet.header)
        assert pageset == RECEIVE_ID and len(packet.header) >= 8 + 8 * count
        kind, channel_type, section, _ = struct.unpack_from("<4I", packet.payload)
        assert (kind, section) == (MessageType.SEND_RNDIS_PKT, NO_SECTION)
        section_size = self.receive_section.sub_alloc_size
        frame: Arrived | None = None
        for size, offset in struct.iter_unpack("<II", packet.header[8 : 8 + 8 * count]):
            assert size <= section_size and offset % section_size == 0
            assert offset + section_size <= len(self.receive_pfns) * PAGE_SIZE
            message = self._read(self.receive_pfns, offset, size)
            assert struct.unpack_from("<I", message, 4) == (size,)
            if channel_type == CONTROL:
                assert index == 0
                self.answers.append(message)
            else:
                frame = _joined(frame, message, index)
        if frame is not None:
            self.arrived.append(frame)

    # ------------------------------------------------------------ memory

    def _write(self, pfns: Sequence[int], offset: int, data: bytes) -> None:
        for gpa, begin, size in _parts(pfns, offset, len(data)):
            self.memory.write(gpa, data[begin : begin + size])

    def _read(self, pfns: Sequence[int], offset: int, length: int) -> bytes:
        return b"".join(self.memory.read(gpa, size) for gpa, _, size in _parts(pfns, offset, length))


def _parts(pfns: Sequence[int], offset: int, length: int) -> list[tuple[int, int, int]]:
    """gpa, where in the data, and size of each page's part."""
    found, begin = [], 0
    while begin < length:
        page, within = divmod(offset + begin, PAGE_SIZE)
        size = min(PAGE_SIZE - within, length - begin)
        found.append((pfns[page] * PAGE_SIZE + within, begin, size))
        begin += size
    return found


def _joined(before: Arrived | None, message: bytes, channel: int) -> Arrived:
    """rndis_filter_receive_data: a frame, or one more piece of it."""
    kind, _, offset, size, _, _, _, infos_at, infos_size, _, _ = struct.unpack_from("<11I", message)
    assert kind == PACKET and 8 + offset + size <= len(message) and offset >= 36 + infos_size
    infos, position = {}, 8 + infos_at
    while position < 8 + infos_at + infos_size:
        length, type, value_at = struct.unpack_from("<III", message, position)
        assert value_at + 4 <= length and type not in infos
        (infos[type],) = struct.unpack_from("<I", message, position + value_at)
        position += length
    data = message[8 + offset : 8 + offset + size]
    flags = infos.pop(PACKET_ID, 0) >> 8 & 0xFF
    if before is None:
        assert flags in (0, 1 | 2)
        return Arrived(data, infos, channel=channel)
    assert flags & 1 and not flags & 2
    return Arrived(before.data + data, before.infos, before.ranges + 1, channel)


class NetworkBed:
    """A partition with the bus, an adapter on it and a neighbour that echoes; `port` is what the adapter is
    plugged into, and `guest` has connected to the bus."""

    def __init__(self, *, scattered: bool = False, link: bool = True) -> None:
        self.machine = Guest()
        self.bus = VmBus(self.machine.partition)
        self.nic = SyntheticNic(MAC)
        self.port = RecordingPort()
        self.violations: list[str] = []
        self.machine.tap.listen(Violation, lambda event: self.violations.append(event.reason))
        add(self.bus, self.machine, self.nic)
        self.neighbour = Recorder(2, echo)
        add(self.bus, self.machine, self.neighbour)
        self.nic.plugged(self.port)
        self.nic.set_link(link, 10_000)
        self.driver = GuestDriver(self.machine, scattered=scattered)
        assert self.driver.connect()
        offers = {offer.offer.if_instance: offer for offer in self.driver.request_offers()}
        self.guest = Netvsc(self.driver, offers[self.nic.instance.bytes_le])
        self._neighbour_offer = offers[self.neighbour.instance.bytes_le]

    def deliver(self, *frames: bytes | Frame) -> None:
        """Frames for the guest."""
        for one in frames:
            self.nic.deliver(one if isinstance(one, Frame) else Frame(one))
        self.nic.flush()

    def assert_failed(self, why: str) -> None:
        """The adapter's channel failed of that, and nothing else: its neighbour answers."""
        assert self.violations and why in self.violations[-1], self.violations
        self.violations.clear()
        self.assert_neighbour_lives()

    def assert_alive(self) -> None:
        """The adapter's channel has not failed, and carries frames."""
        assert self.violations == []
        self.port.taken()
        self.guest.send(ethernet(77))
        assert self.port.data() == [ethernet(77)]

    def assert_neighbour_lives(self) -> None:
        """The other device on the bus answers."""
        channel = self.driver.open(self._neighbour_offer)
        channel.send(b"anybody", 77, wants_completion=True)
        assert [(one.transaction_id, one.payload) for one in channel.receive()] == [(77, b"anybody\0")]
        channel.close()

    def counters(self) -> tuple[int, int]:
        """Sub-allocations in use, and frames that wait."""
        counters = self.nic.counters
        return counters.receive_slots_used, counters.queued_frames
