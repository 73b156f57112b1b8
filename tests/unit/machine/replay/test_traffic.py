"""The network of a recording, as scripts of frames: what a live guest says, and what it hears."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

import ringminus.cli.protocols  # noqa: F401
from ringminus.clock import MockClock, TimerQueue
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.machine.replay.result import Result
from ringminus.machine.replay.traffic import PATIENCE, Traffic
from ringminus.switch.checksum import complete, verify
from ringminus.switch.datagram_wire import DhcpMessage, Echo, IcmpHeader
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.wire import (
    ArpPacket,
    EthernetHeader,
    EtherType,
    IpProtocol,
    Ipv4Header,
    Ipv6Header,
    TcpFlag,
    TcpHeader,
    UdpHeader,
)
from ringminus.tap import DeviceMessage, NetworkFrame
from support.packets import ones_complement_sum

GUEST, HOST, BROADCAST = bytes.fromhex("00155d000001"), bytes.fromhex("52550a000202"), b"\xff" * 6
GUEST_IP, HOST_IP, OTHER_IP = bytes((10, 0, 2, 15)), bytes((10, 0, 2, 2)), bytes((10, 0, 2, 9))
SYN, ACK, FIN, RST = (int(one) for one in (TcpFlag.SYN, TcpFlag.ACK, TcpFlag.FIN, TcpFlag.RST))
DISCOVER, OFFER, REQUEST, ACKNOWLEDGE = 1, 2, 3, 5


# ------------------------------------------------------------ frames


def ipv4(
    payload: bytes, protocol: int, *, out: bool, address: bytes = HOST_IP, guest: bytes = GUEST
) -> bytes:
    """A frame of the guest, or one of the host, whose address is the other one."""
    header = Ipv4Header(
        version_and_length=0x45,
        total_length=Ipv4Header.SIZE + len(payload),
        protocol=protocol,
        source=GUEST_IP if out else address,
        destination=address if out else GUEST_IP,
    )
    header.checksum = 0xFFFF - ones_complement_sum(header.pack())
    ends = (HOST, guest) if out else (guest, HOST)
    ethernet = EthernetHeader(destination=ends[0], source=ends[1], type=EtherType.IPV4)
    frame = Frame(ethernet.pack() + header.pack() + payload, None, Checksum.MISSING)
    return complete(frame).data


def ping(
    number: int, id: int = 7, data: bytes = b"12345678", *, out: bool = True, to: bytes = HOST_IP
) -> bytes:
    echo = Echo(id=id, sequence=number).pack() + data
    header = IcmpHeader(type=8 if out else 0, code=0, checksum=0)
    header.checksum = 0xFFFF - ones_complement_sum(header.pack() + echo)
    return ipv4(header.pack() + echo, IpProtocol.ICMP, out=out, address=to)


def arp(*, out: bool, about: bytes = HOST_IP, guest: bytes = GUEST) -> bytes:
    if out:
        body = ArpPacket(operation=1, sender_address=guest, sender_ip=GUEST_IP, target_ip=about)
        return EthernetHeader(destination=BROADCAST, source=guest, type=EtherType.ARP).pack() + body.pack()
    body = ArpPacket(
        operation=2, sender_address=HOST, sender_ip=about, target_address=guest, target_ip=GUEST_IP
    )
    return EthernetHeader(destination=guest, source=HOST, type=EtherType.ARP).pack() + body.pack()


def udp(source: int, destination: int, data: bytes, *, out: bool) -> bytes:
    header = UdpHeader(source_port=source, destination_port=destination, length=UdpHeader.SIZE + len(data))
    return ipv4(header.pack() + data, IpProtocol.UDP, out=out)


def dhcp(kind: int, number: int, options: bytes = b"", *, out: bool, guest: bytes = GUEST) -> bytes:
    message = DhcpMessage(
        operation=1 if out else 2,
        hardware_type=1,
        hardware_size=6,
        hops=0,
        transaction_id=number,
        seconds=0,
        flags=0,
        client_ip=bytes(4),
        your_ip=bytes(4) if out else GUEST_IP,
        server_ip=bytes(4),
        relay_ip=bytes(4),
        client_address=guest,
        padding=bytes(10),
        server_name=bytes(64),
        file=bytes(128),
        magic=0x63825363,
    )
    ports = (68, 67) if out else (67, 68)
    return udp(*ports, message.pack() + bytes((53, 1, kind)) + options + b"\xff", out=out)


@dataclass
class Peer:
    """One side of a TCP connection."""

    out: bool
    sequence: int
    port: int = 40000
    window: int = 65535

    def say(self, flags: int, acknowledged: int, data: bytes = b"", options: bytes = b"") -> bytes:
        header = TcpHeader(
            source_port=self.port if self.out else 80,
            destination_port=80 if self.out else self.port,
            sequence=self.sequence & 0xFFFFFFFF,
            acknowledgment=acknowledged & 0xFFFFFFFF,
            offset_and_flags=(5 + len(options) // 4) << 12 | flags,
            window=self.window,
        )
        self.sequence += len(data) + bool(flags & SYN) + bool(flags & FIN)
        return ipv4(header.pack() + options + data, IpProtocol.TCP, out=self.out)


# ------------------------------------------------------------ the beds


@dataclass
class Control:
    """What the guest wants to hear."""

    packet_filter: int = 1
    address: bytes = GUEST

    def accepts(self, destination: bytes) -> bool:
        return bool(self.packet_filter) and destination in (self.address, BROADCAST)


@dataclass
class Adapter:
    """What the traffic sees of the adapter: `heard` is what the guest got since it was looked at."""

    control: Control = field(default_factory=Control)
    heard: list[bytes] = field(default_factory=list)

    def deliver(self, frame: Frame) -> None:
        self.heard.append(frame.data)

    def indicate(self, message: bytes) -> None:
        self.heard.append(message)


class Bed:
    """A recording of frames, whose senders tell whose they are, and a live guest."""

    def __init__(self, *recorded: bytes, causes: dict[int, int] | None = None, message: bytes = b"") -> None:
        numbers = count(1)
        events: list[NetworkFrame | DeviceMessage] = []
        for data in recorded:
            number = next(numbers)
            event: NetworkFrame | DeviceMessage
            if data == message and message:
                event = DeviceMessage(0, 0, "NIC", "rndis", True, data, len(data), sequence=number)
            else:
                to_guest = data[6:12] == HOST
                event = NetworkFrame(0, 0, "NIC", to_guest, data, None, "VALID", 0, sequence=number)
                event.cause = (causes or {}).get(number, 0)
            events.append(event)
        device = RecordedDevice("NIC", UUID(int=1), UUID(int=2), 1, list(events))
        self.clock, self.timers = MockClock(), TimerQueue()
        self.result, self.adapter = Result(), Adapter()
        unprompted = [one for one in events if isinstance(one, DeviceMessage)]
        self.traffic = Traffic(device, self.adapter, self.result, unprompted)  # type: ignore[arg-type]
        self.traffic.start(self.clock, self.timers)

    def say(self, data: bytes) -> list[bytes]:
        """The live guest sends a frame; gives what it hears then."""
        self.traffic.send(Frame(data))
        heard, self.adapter.heard = self.adapter.heard, []
        return heard

    def wait(self, units: int = PATIENCE) -> list[bytes]:
        """Time passes."""
        self.clock.advance(units)
        self.timers.fire(self.clock.reference_time())
        heard, self.adapter.heard = self.adapter.heard, []
        return heard

    @property
    def differences(self) -> list[tuple[str, str]]:
        return [(one.what, one.message.split(" | ")[-1]) for one in self.result.differences]

    @property
    def notes(self) -> list[str]:
        self.traffic.tell()
        return self.result.notes


def checked(frame: bytes) -> bytes:
    """Its checksums are right."""
    header = frame[14:34]
    assert ones_complement_sum(header) == 0xFFFF
    assert verify(frame) in (True, None)
    if frame[23] == IpProtocol.ICMP:
        assert ones_complement_sum(frame[34:]) == 0xFFFF
    return frame


# ------------------------------------------------------------ what is the same


def test_what_was_answered_is_answered_when_it_is_asked() -> None:
    bed = Bed(arp(out=True), arp(out=False), ping(0), ping(0, out=False))
    assert bed.say(arp(out=True)) == [arp(out=False)]
    assert bed.say(ping(0)) == [ping(0, out=False)]
    assert bed.result.same and bed.notes == []
    assert (bed.result.compared, bed.result.sent) == (2, 2)


def test_exchanges_may_come_in_another_order() -> None:
    bed = Bed(arp(out=True), arp(out=False), ping(0), ping(0, out=False))
    assert bed.say(ping(0)) == [ping(0, out=False)]
    assert bed.say(arp(out=True)) == [arp(out=False)]
    assert bed.result.same


def test_a_ping_gets_back_its_own_number_and_data() -> None:
    bed = Bed(ping(0), ping(0, out=False), ping(1), ping(1, out=False))
    for number in (40, 41):
        (answer,) = bed.say(ping(number, 99, b"abcdefgh"))
        assert checked(answer) == ping(number, 99, b"abcdefgh", out=False)
    assert bed.result.same
    assert "icmp.id is the live guest's in 2 frames of the host" in bed.notes


def test_a_lease_has_the_number_that_the_live_guest_has_chosen() -> None:
    bed = Bed(
        dhcp(DISCOVER, 1, out=True),
        dhcp(OFFER, 1, out=False),
        dhcp(REQUEST, 1, out=True),
        dhcp(ACKNOWLEDGE, 1, out=False),
    )
    assert [checked(one) for one in bed.say(dhcp(DISCOVER, 77, out=True))] == [dhcp(OFFER, 77, out=False)]
    assert bed.say(dhcp(REQUEST, 77, out=True)) == [dhcp(ACKNOWLEDGE, 77, out=False)]
    assert bed.result.same
    assert bed.notes == ["dhcp.transaction_id is the live guest's in 2 frames of the host"]


def test_another_address_of_the_guest_s_is_told_as_carried() -> None:
    own = bytes.fromhex("00155d0000ff")
    bed = Bed(arp(out=True), arp(out=False))
    bed.adapter.control.address = own
    assert bed.say(arp(out=True, guest=own)) == [arp(out=False, guest=own)]
    assert bed.result.same
    assert [note.partition(" is")[0] for note in bed.notes] == ["arp.target_address", "ethernet.destination"]


def test_a_question_to_dns_keeps_its_number() -> None:
    ask, answer = (
        udp(5000, 53, b"\x11\x11what", out=True),
        udp(53, 5000, b"\x11\x11that", out=False),
    )
    bed = Bed(ask, answer)
    (got,) = bed.say(udp(6000, 53, b"\x22\x22what", out=True))
    assert checked(got) == udp(53, 6000, b"\x22\x22that", out=False)
    assert bed.result.same


def test_two_questions_at_once_get_each_its_own_answer() -> None:
    first, second = (udp(5000, 53, bytes((0, n)) + b"what" + bytes((n,)), out=True) for n in (1, 2))
    answers = [udp(53, 5000, bytes((0, n)) + b"that" + bytes((n,)), out=False) for n in (2, 1)]
    bed = Bed(first, second, *answers)
    assert bed.say(first) == [answers[1]]
    assert bed.say(second) == [answers[0]]


def test_what_caused_an_answer_is_what_it_waits_for() -> None:
    first, second = ping(0), ping(0, data=b"87654321")
    bed = Bed(first, second, ping(0, out=False), causes={3: 2})
    assert bed.say(first) == []
    assert bed.say(second) == [ping(0, out=False)]


# ------------------------------------------------------------ what is not


def test_another_frame_of_that_kind_is_compared_and_stands_for_the_recorded_one() -> None:
    bed = Bed(ping(0), ping(0, out=False), ping(1), ping(1, out=False))
    assert bed.say(ping(0, to=OTHER_IP)) == [ping(0, out=False)]
    (difference,) = bed.result.differences
    assert (difference.what, difference.sequence) == ("changed", 1)
    assert [tuple(one) for one in difference.changes] == [("ipv4.destination", "10.0.2.2", "10.0.2.9")]
    assert bed.say(ping(1)) == [ping(1, out=False)]
    assert len(bed.result.differences) == 1


def test_nobody_answers_for_an_address_that_nobody_had() -> None:
    bed = Bed(arp(out=True), arp(out=False))
    (answer,) = bed.say(arp(out=True, about=OTHER_IP))
    assert answer == arp(out=False)  # it is still about the recorded one
    assert bed.differences == [("changed", "arp REQUEST")]


def test_what_was_not_recorded_at_all_is_told_and_not_answered() -> None:
    bed = Bed(arp(out=True), arp(out=False))
    assert bed.say(udp(1, 2, b"hello", out=True)) == []
    assert bed.differences == [("extra", "udp DATAGRAM")]
    (difference,) = bed.result.differences
    assert ("udp.destination_port", None, "2") in difference.changes


def test_what_is_more_than_was_recorded_is_shown_beside_the_last_one_like_it() -> None:
    bed = Bed(arp(out=True), arp(out=False))
    bed.say(arp(out=True))
    assert bed.say(arp(out=True, about=OTHER_IP)) == []
    (difference,) = bed.result.differences
    assert (difference.what, difference.note) == ("extra", "beside #1, the last of that kind")
    assert [tuple(one) for one in difference.changes] == [("arp.target_ip", "10.0.2.2", "10.0.2.9")]

    for _ in range(9):
        bed.say(arp(out=True, about=OTHER_IP))
    assert len(bed.result.differences) == 1
    assert "9 frames that were not recorded came again, and are not shown again" in bed.notes


def test_the_same_once_more_gets_the_same_answer() -> None:
    bed = Bed(arp(out=True), arp(out=False))
    assert bed.say(arp(out=True)) == bed.say(arp(out=True)) == [arp(out=False)]
    assert bed.result.same
    assert bed.notes == ["1 frames came once more than they were recorded, and got the same answer"]


def test_what_did_not_come_is_counted() -> None:
    bed = Bed(arp(out=True), arp(out=False), ping(0), ping(0, out=False))
    bed.say(arp(out=True))
    assert bed.result.same
    assert bed.notes == [
        "1 recorded frames of the guest did not come",
        "1 recorded frames of the host were not sent: what they answer did not come",
    ]


def test_a_recording_without_frames_says_how_to_make_one_with_them() -> None:
    assert "record them with the events" in Bed().notes[0]


# ------------------------------------------------------------ what nobody has asked for


def test_what_the_host_sent_unasked_comes_after_what_came_before() -> None:
    call = udp(900, 901, b"you there", out=False)
    bed = Bed(arp(out=True), arp(out=False), call)
    assert bed.wait(1) == []
    assert bed.say(arp(out=True)) == [arp(out=False), call]
    assert bed.result.same and bed.notes == []


def test_it_comes_late_if_that_never_comes() -> None:
    call = udp(900, 901, b"you there", out=False)
    bed = Bed(arp(out=True), call)
    assert bed.wait(PATIENCE - 1) == []
    assert bed.wait(1) == [call]
    assert "1 frames of the host were sent without what should have come before" in bed.notes


def test_it_waits_for_a_guest_that_does_not_listen_yet() -> None:
    call = udp(900, 901, b"you there", out=False)
    bed = Bed(call)
    bed.adapter.control.packet_filter = 0
    bed.traffic.look()
    assert bed.wait() == bed.wait() == []
    bed.adapter.control.packet_filter = 1
    bed.traffic.look()
    assert bed.adapter.heard == [call]


def test_a_message_of_the_adapter_s_comes_where_it_came() -> None:
    lost = bytes.fromhex("0700000014000000") + bytes(12)
    bed = Bed(arp(out=True), arp(out=False), lost, message=lost)
    assert bed.say(arp(out=True)) == [arp(out=False), lost]


def test_datagrams_that_wait_for_more_than_the_guest_says_come_late() -> None:
    first, second = (udp(700, 701, text, out=True) for text in (b"one", b"two"))
    answers = [udp(701, 700, text, out=False) for text in (b"1", b"2")]
    bed = Bed(first, answers[0], second, answers[1])
    assert bed.say(first) == [answers[0]]
    assert bed.wait() == [answers[1]]


# ------------------------------------------------------------ TCP


def page(guest: Peer, host: Peer, request: bytes = b"GET /a", *pieces: bytes) -> Iterator[bytes]:
    """A page is fetched."""
    yield guest.say(SYN, 0)
    yield host.say(SYN | ACK, guest.sequence)
    yield guest.say(ACK, host.sequence)
    yield guest.say(ACK, host.sequence, request)
    yield host.say(ACK, guest.sequence)
    for piece in pieces or (b"page",):
        yield host.say(ACK, guest.sequence, piece)
        yield guest.say(ACK, host.sequence)
    yield host.say(ACK | FIN, guest.sequence)
    yield guest.say(ACK | FIN, host.sequence)
    yield host.say(ACK, guest.sequence)


RECORDED = tuple(page(Peer(True, 1000), Peer(False, 9000), b"GET /a", b"first ", b"second"))


def fetch(bed: Bed, guest: Peer, *words: bytes) -> bytes:
    """A live guest fetches a page as Linux does; gives what it was sent."""
    heard = bed.say(guest.say(SYN, 0))
    got, expected, closed = b"", 0, False
    for word in (b"", *words):
        if word:
            heard = bed.say(guest.say(ACK, expected, word))
        while heard:
            for frame in heard:
                header = TcpHeader.unpack(checked(frame), 34)
                assert header.destination_port == guest.port
                assert header.acknowledgment == guest.sequence & 0xFFFFFFFF
                payload = frame[54:]
                flags = header.offset_and_flags
                assert flags & SYN or header.sequence == expected
                expected = header.sequence + len(payload) + bool(flags & SYN) + bool(flags & FIN)
                got, closed = got + payload, closed or bool(flags & FIN)
            last = heard[-1]
            quiet = len(last) == 54 and not TcpHeader.unpack(last, 34).offset_and_flags & (SYN | FIN)
            heard = [] if quiet else bed.say(guest.say(ACK, expected))
    if closed:
        bed.say(guest.say(ACK | FIN, expected))
    return got


def test_a_connection_from_other_numbers_and_another_port() -> None:
    bed = Bed(*RECORDED)
    assert fetch(bed, Peer(True, 0xFFFFFFF0, 50123), b"GET /a") == b"first second"
    assert bed.result.same
    assert not any("did not come" in note for note in bed.notes)


def test_a_request_that_is_cut_otherwise_is_the_same() -> None:
    bed = Bed(*RECORDED)
    assert fetch(bed, Peer(True, 5, 50123), b"GE", b"T /", b"a") == b"first second"
    assert bed.result.same


def test_another_request_is_shown_and_the_connection_goes_on() -> None:
    bed = Bed(*RECORDED)
    assert fetch(bed, Peer(True, 5, 50123), b"GET /another") == b"first second"
    (difference,) = bed.result.differences
    assert ("tcp.payload", "474554202f61", "474554202f616e6f74686572") in difference.changes


def test_what_is_said_once_more_does_not_count_twice() -> None:
    bed = Bed(*RECORDED)
    guest = Peer(True, 5, 50123)
    begin = guest.say(SYN, 0)
    assert bed.say(begin) == bed.say(begin)
    assert bed.result.same


def test_a_second_connection_is_another_recorded_one_or_the_same_again() -> None:
    second = tuple(page(Peer(True, 70, 40001), Peer(False, 80, 40001), b"GET /b", b"other"))
    bed = Bed(*RECORDED, *second)
    assert fetch(bed, Peer(True, 5, 50123), b"GET /a") == b"first second"
    assert fetch(bed, Peer(True, 6, 50124), b"GET /b") == b"other"
    assert fetch(bed, Peer(True, 7, 50125), b"GET /a") == b"first second"
    assert bed.result.same


def test_a_connection_to_where_none_was_recorded_is_told() -> None:
    bed = Bed(arp(out=True))
    assert bed.say(Peer(True, 5).say(SYN, 0)) == []
    assert bed.say(Peer(True, 6).say(ACK, 0)) == []
    assert bed.differences == [("extra", "tcp SEGMENT")]


def test_a_reset_that_was_not_recorded_is_told() -> None:
    bed = Bed(*RECORDED)
    guest = Peer(True, 5, 50123)
    bed.say(guest.say(SYN, 0))
    bed.say(guest.say(RST, 0))
    assert bed.differences == [("extra", "tcp SEGMENT")]


def test_times_that_are_given_back_are_the_live_guest_s() -> None:
    def time(own: int, latest: int) -> bytes:
        return b"\1\1\x08\x0a" + own.to_bytes(4, "big") + latest.to_bytes(4, "big")

    recorded, host = Peer(True, 1), Peer(False, 2)
    bed = Bed(
        recorded.say(SYN, 0, options=time(1000, 0)),
        host.say(SYN | ACK, recorded.sequence, b"", time(55, 1000)),
    )
    (answer,) = bed.say(Peer(True, 9).say(SYN, 0, options=time(777_000, 0)))
    assert checked(answer)[54:] == time(55, 777_000)


def pieces(scale: bytes) -> tuple[bytes, ...]:
    """The host sends two pieces at once."""
    guest, host = Peer(True, 1000), Peer(False, 9000)
    begin = [guest.say(SYN, 0, options=scale), host.say(SYN | ACK, guest.sequence, options=scale)]
    ask = guest.say(ACK, host.sequence, b"GET /")
    return *begin, ask, *(host.say(ACK, guest.sequence, bytes(1000)) for _ in range(2))


def sizes(heard: list[bytes]) -> list[int]:
    return [len(one) - 54 for one in heard]


def test_a_live_guest_gets_no_more_than_it_has_room_for() -> None:
    bed = Bed(*pieces(b""))
    guest = Peer(True, 5, 50123, window=1500)
    bed.say(guest.say(SYN, 0))
    assert sizes(bed.say(guest.say(ACK, 9001, b"GET /"))) == [1000]
    guest.window = 999
    assert sizes(bed.say(guest.say(ACK, 9501))) == []
    guest.window = 1000
    assert sizes(bed.say(guest.say(ACK, 10001))) == [1000]
    assert bed.result.same


def test_a_guest_without_room_that_repeats_itself_is_sent_each_piece_once() -> None:
    bed = Bed(*pieces(b""))
    guest = Peer(True, 5, 50123, window=0)
    bed.say(guest.say(SYN, 0))
    asks = [guest.say(ACK, 9001, b"GET /")] * 20
    assert [heard for ask in asks for heard in bed.say(ask)] == []
    guest.window = 5000
    assert sizes(bed.say(guest.say(ACK, 9001))) == [1000, 1000]


def test_windows_are_scaled_if_both_sides_have_said_so() -> None:
    scale = bytes((3, 3, 7, 0))
    for options, expected in ((scale, [1000, 1000]), (b"", [1000])):
        bed = Bed(*pieces(scale))
        guest = Peer(True, 5, 50123, window=40)
        bed.say(guest.say(SYN, 0, options=options))
        assert sizes(bed.say(guest.say(ACK, 9001, b"GET /"))) == expected


def test_what_is_larger_than_a_window_comes_when_all_before_was_taken() -> None:
    bed = Bed(*pieces(b""))
    guest = Peer(True, 5, 50123, window=100)
    bed.say(guest.say(SYN, 0))
    assert sizes(bed.say(guest.say(ACK, 9001, b"GET /"))) == [1000]
    assert sizes(bed.say(guest.say(ACK, 10001))) == [1000]


def test_the_host_begins_a_connection() -> None:
    host, guest = Peer(False, 500, 22), Peer(True, 900, 22)
    begin = host.say(SYN, 0)
    taken = guest.say(SYN | ACK, host.sequence)
    rest = [host.say(ACK, guest.sequence), host.say(ACK, guest.sequence, b"hello")]
    bed = Bed(begin, taken, *rest)
    bed.traffic.look()
    assert bed.adapter.heard == [begin]
    bed.adapter.heard = []
    live = Peer(True, 12345, 22)
    heard = bed.say(live.say(SYN | ACK, host.sequence - 5))
    assert [one[54:] for one in heard] == [b"", b"hello"]
    assert all(TcpHeader.unpack(checked(one), 34).acknowledgment == live.sequence for one in heard)


# ------------------------------------------------------------ checksums


def test_checksums_of_ipv6_follow_too() -> None:
    def echo(id: int, *, out: bool) -> bytes:
        ends = (b"\xfe\x80" + bytes(13) + b"\1", b"\xfe\x80" + bytes(13) + b"\2")
        source, destination = ends if out else ends[::-1]
        body = (
            IcmpHeader(type=128 if out else 129, code=0, checksum=0).pack() + Echo(id=id, sequence=1).pack()
        )
        pseudo = source + destination + len(body).to_bytes(4, "big") + bytes((0, 0, 0, IpProtocol.ICMPV6))
        total = (0xFFFF - ones_complement_sum(pseudo + body)).to_bytes(2, "big")
        ip = Ipv6Header(
            version_class_flow=6 << 28,
            payload_length=len(body),
            next_header=IpProtocol.ICMPV6,
            source=source,
            destination=destination,
        )
        link = (HOST, GUEST) if out else (GUEST, HOST)
        ethernet = EthernetHeader(destination=link[0], source=link[1], type=EtherType.IPV6)
        return ethernet.pack() + ip.pack() + body[:2] + total + body[4:]

    bed = Bed(echo(1, out=True), echo(1, out=False))
    assert bed.say(echo(0xABCD, out=True)) == [echo(0xABCD, out=False)]
