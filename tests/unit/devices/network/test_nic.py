"""The adapter between its channels and its port: link, address, back-pressure, sub-channels, the end, and
what is kept when a machine is saved."""

from __future__ import annotations

import struct

import pytest

from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.network.oids import Statistics
from ringminus.devices.network.receive import QUEUE_CONTROL
from ringminus.devices.network.wire import MessageType, Version
from ringminus.machine.services import DeviceServices, HostThreads
from ringminus.switch.frame import Checksum, Frame
from ringminus.tap import NetworkFrame
from ringminus.vmbus.bus import VmBus
from support.bus_bed import Recorder, add
from support.network import (
    ALL_OFFLOADS,
    CHECKSUM,
    CONTROL,
    MAC,
    PEER,
    NetworkBed,
    RecordingPort,
    checksum_info,
    ethernet,
    rndis_packet,
)
from support.packets import Packet

CONNECT, DISCONNECT, SPEED = 0x4001000B, 0x4001000C, 0x40010013
OID_CONFIG = 0x0001021B


def to_guest(size: int = 60) -> bytes:
    return ethernet(size, to=MAC, source=PEER)


def start_sending(bed: NetworkBed, count: int) -> tuple[list[int], list[bytes]]:
    """Frames in sections of their own, not completed yet; gives their transaction ids, too."""
    frames = [ethernet(60 + index) for index in range(count)]
    numbers = [bed.guest.send_section(rndis_packet(frame), index % 20) for index, frame in enumerate(frames)]
    return numbers, frames


def completed(bed: NetworkBed, numbers: list[int]) -> list[int]:
    """Which of them are."""
    bed.guest.poll()
    return [number for number in numbers if number in bed.guest.completions]


# ------------------------------------------------------------------ versions


@pytest.mark.parametrize("version", Version)
def test_frames_go_both_ways_in_each_version(version: Version) -> None:
    bed = NetworkBed()
    bed.guest.connect(version)
    bed.guest.send(ethernet(100))
    assert bed.port.data() == [ethernet(100)]
    bed.deliver(to_guest())
    assert bed.guest.data() == [to_guest()]


def test_a_guest_tries_versions_until_one_is_spoken(bed: NetworkBed) -> None:
    other = NetworkBed()
    other.guest.open()
    assert other.guest.init(0x60002) == 3 and other.guest.init(Version.V61) == 1


def test_adapters_are_told_apart() -> None:
    first, second = SyntheticNic(MAC), SyntheticNic(PEER, title="second")
    assert first.instance != second.instance and first.instance == SyntheticNic(MAC).instance
    assert (first.title, second.title) == ("NIC", "second")


# ------------------------------------------------------------------ link and address


def indications(bed: NetworkBed) -> list[tuple[int, bytes]]:
    bed.guest.poll()
    answers, bed.guest.answers = bed.guest.answers, []
    found = []
    for answer in answers:
        kind, _, status, size, offset = struct.unpack_from("<5I", answer)
        assert kind == 7
        found.append((status, answer[8 + offset : 8 + offset + size]))
    return found


def test_the_guest_hears_of_the_link(bed: NetworkBed) -> None:
    bed.nic.set_link(False, 10_000)
    assert indications(bed) == [(DISCONNECT, b"")]
    bed.nic.set_link(True, 10_000)
    assert indications(bed) == [(CONNECT, b"")]
    bed.nic.set_link(True, 1000)
    assert indications(bed) == [(SPEED, struct.pack("<I", 10_000_000))]
    bed.nic.set_link(True, 1000)
    assert indications(bed) == []


def test_before_the_guest_is_there_nobody_hears_of_the_link() -> None:
    bed = NetworkBed(link=False)
    bed.nic.set_link(True, 100)
    bed.guest.set_up()
    bed.nic.set_link(False, 100)
    bed.guest.start_rndis()
    assert indications(bed) == []
    assert bed.guest.query(0x00010114) == (0, struct.pack("<I", 1))


def test_a_guest_that_does_not_listen_hears_of_a_link_so_often_only(bed: NetworkBed) -> None:
    bed.guest.holds = True
    bed.deliver(*[to_guest()] * 16)
    for _ in range(QUEUE_CONTROL // 2):
        bed.nic.set_link(False, 10)
        bed.nic.set_link(True, 10)
    bed.assert_failed("answers of RNDIS wait")


def test_what_is_sent_while_the_link_is_down_is_counted(bed: NetworkBed) -> None:
    bed.nic.set_link(False, 10_000)
    bed.guest.complete_of(bed.guest.send_section(rndis_packet(ethernet()) * 3))
    assert bed.port.taken() == [] and bed.nic.counters.sending_dropped == {"link down": 3}
    assert bed.nic.counters.sent_frames == 0


def test_what_is_sent_before_rndis_is_initialized_is_counted() -> None:
    bed = NetworkBed()
    bed.guest.set_up()
    bed.guest.send(ethernet())
    assert bed.nic.counters.sending_dropped == {"not ready": 1}


def test_the_port_hears_of_another_address(bed: NetworkBed) -> None:
    """As rndis_filter_set_device_mac says it: a parameter named NetworkAddress, in UTF-16."""
    name, value = "NetworkAddress".encode("utf-16-le"), "00155D000077".encode("utf-16-le")
    head = struct.pack("<5I", 20, len(name), 2, 20 + len(name), len(value))
    assert bed.guest.set(OID_CONFIG, head + name + value) == 0
    address = bytes.fromhex("00155d000077")
    assert bed.port.addresses == [address]
    bed.deliver(to_guest(), ethernet(61, to=address))
    assert bed.guest.data() == [ethernet(61, to=address)]


def test_an_adapter_that_is_unplugged_says_so(bed: NetworkBed) -> None:
    bed.nic.close()
    assert indications(bed) == [(DISCONNECT, b"")]
    bed.guest.send(ethernet())
    assert bed.nic.counters.sending_dropped == {"unplugged": 1}
    other = RecordingPort()
    bed.nic.plugged(other)
    bed.nic.set_link(True, 10_000)
    bed.guest.send(ethernet())
    assert other.data() == [ethernet()] and bed.port.taken() == []


def test_statistics_are_what_the_guest_may_ask_for(bed: NetworkBed) -> None:
    bed.guest.send(ethernet(100))
    bed.guest.send(b"")
    bed.deliver(to_guest(70), ethernet(60, to=PEER), to_guest(2000))
    bed.nic.set_link(False, 10)
    bed.guest.send(ethernet(100))
    assert bed.nic.control.statistics() == Statistics(
        sent_frames=1,
        sent_bytes=100,
        sent_errors=1,
        sent_discards=1,
        received_frames=1,
        received_bytes=70,
        received_discards=1,
    )


# ------------------------------------------------------------------ back-pressure


def test_while_the_port_wants_no_more_packets_are_not_completed(bed: NetworkBed) -> None:
    bed.port.takes = False
    numbers, frames = start_sending(bed, 10)
    assert bed.port.data() == frames[:1] and completed(bed, numbers) == []
    assert bed.nic.counters.waiting_packets == 10
    bed.nic.resumed()
    assert bed.port.data() == frames[1:2] and completed(bed, numbers) == numbers[:1]
    bed.port.takes = True
    bed.nic.resumed()
    assert bed.port.data() == frames[2:] and completed(bed, numbers) == numbers
    assert bed.nic.counters.waiting_packets == 0 and bed.nic.counters.sending_dropped == {}
    bed.assert_alive()


def test_what_waits_is_read_when_it_is_sent(bed: NetworkBed) -> None:
    """It is the guest's memory still, however much there is of it."""
    bed.port.takes = False
    start_sending(bed, 2)
    bed.guest.write_section(1, rndis_packet(ethernet(61)[:60] + b"!"))
    bed.port.taken()
    bed.nic.resumed()
    assert bed.port.data() == [ethernet(61)[:60] + b"!"]


def test_control_messages_do_not_wait_for_the_port(bed: NetworkBed) -> None:
    bed.port.takes = False
    start_sending(bed, 3)
    assert bed.guest.query(0x00010106)[0] == 0


@pytest.mark.parametrize("end", ["link", "halt", "revoke", "unplug"])
def test_what_waits_at_the_end_is_dropped_and_completed(bed: NetworkBed, end: str) -> None:
    bed.port.takes = False
    numbers, _ = start_sending(bed, 4)
    bed.port.taken()
    if end == "link":
        bed.nic.set_link(False, 10_000)
    elif end == "unplug":
        bed.nic.close()
    elif end == "halt":
        bed.guest.halt()
    else:
        bed.guest.revoke()
    assert completed(bed, numbers) == numbers and bed.port.taken() == []
    reason = "link down" if end in ("link", "unplug") else "not ready"
    assert bed.nic.counters.sending_dropped == {reason: 3}
    assert bed.violations == []


def test_after_that_nothing_more_waits(bed: NetworkBed) -> None:
    bed.port.takes = False
    start_sending(bed, 2)
    bed.nic.set_link(False, 10_000)
    bed.guest.send(ethernet())
    bed.nic.set_link(True, 10_000)
    numbers, frames = start_sending(bed, 1)
    bed.port.taken()
    assert completed(bed, numbers) == [], "the port still wants no more"
    bed.port.takes = True
    bed.nic.resumed()
    assert bed.port.data() == frames and completed(bed, numbers) == numbers
    assert bed.nic.counters.sending_dropped == {"link down": 2}


def test_another_port_has_not_said_that_it_wants_no_more(bed: NetworkBed) -> None:
    bed.port.takes = False
    start_sending(bed, 2)
    bed.nic.close()
    other = RecordingPort()
    bed.nic.plugged(other)
    bed.nic.set_link(True, 10_000)
    bed.guest.send(ethernet())
    assert other.data() == [ethernet()]


def test_a_lie_that_waited_fails_the_channel(bed: NetworkBed) -> None:
    bed.port.takes = False
    start_sending(bed, 1)
    bed.guest.rndis_send(99, 100)
    assert bed.violations == []
    bed.port.takes = True
    bed.nic.resumed()
    bed.assert_failed("section 99")


def test_an_answer_from_within_send_arrives(bed: NetworkBed) -> None:
    """NAT may have one at once."""

    def send(frame: Frame) -> bool:
        bed.nic.deliver(Frame(to_guest(len(frame.data))))
        return True

    bed.port.send = send  # type: ignore[method-assign]
    bed.guest.send(ethernet(100))
    assert bed.guest.data() == [to_guest(100)]


# ------------------------------------------------------------------ sub-channels


def spread(bed: NetworkBed, count: int = 2) -> NetworkBed:
    assert bed.guest.ask_for_subchannels(count).num_subchannels == count
    bed.guest.open_subchannels()
    return bed


def test_the_guest_is_told_to_use_all_channels_when_all_are_open(bed: NetworkBed) -> None:
    bed.guest.ask_for_subchannels(2)
    first, second = bed.driver.offers()
    bed.guest.subchannels = [bed.driver.open(first)]
    bed.guest.poll()
    assert bed.guest.inband == []
    bed.guest.subchannels.append(bed.driver.open(second))
    bed.guest.poll()
    (table,) = bed.guest.inband
    assert struct.unpack_from("<III", table) == (MessageType.SEND_INDIRECTION_TABLE, 16, 40)
    assert struct.unpack_from("<16I", table, 40) == (0, 1, 2) * 5 + (0,)


def test_frames_go_on_any_channel_and_are_completed_there(bed: NetworkBed) -> None:
    spread(bed)
    for index, channel in enumerate(bed.guest.subchannels):
        number = bed.guest.send_section(rndis_packet(ethernet(100 + index)), index, channel)
        (packet,) = channel.receive()
        assert packet.transaction_id == number
        assert bed.port.data() == [ethernet(100 + index)]


def test_sub_channels_that_were_not_asked_for_are_refused() -> None:
    bed = NetworkBed()
    bed.guest.connect(Version.V5)
    bed.bus.offer_subchannels(bed.nic, 1)
    (offer,) = bed.driver.offers()
    with pytest.raises(AssertionError, match="the host refused"):
        bed.driver.open(offer)
    assert "sub-channel 1 was not asked for" in bed.violations[-1]


def test_closing_one_leaves_the_others(bed: NetworkBed) -> None:
    spread(bed)
    bed.port.takes = False
    (first,), _ = start_sending(bed, 1)
    on_second = bed.guest.send_section(rndis_packet(ethernet()), 5, bed.guest.subchannels[1])
    bed.guest.subchannels[1].close_only()
    bed.guest.subchannels.pop()
    assert bed.nic.counters.sending_dropped == {"channel closed": 1}
    bed.port.takes = True
    bed.nic.resumed()
    assert completed(bed, [first, on_second]) == [first]
    bed.assert_alive()


# ------------------------------------------------------------------ memory is given back


def test_an_adapter_is_removed_and_comes_back(bed: NetworkBed) -> None:
    """As rmmod and modprobe do, and every change of the MTU."""
    for mtu in (1500, 9000, 1500):
        bed.guest.halt()
        bed.guest.remove()
        bed.deliver(to_guest())
        bed.guest.connect(mtu=mtu)
        bed.deliver(to_guest(mtu + 14))
        assert bed.guest.data() == [to_guest(mtu + 14)] and bed.counters() == (0, 0)
        bed.assert_alive()


def test_completions_may_come_after_the_buffer_is_revoked(bed: NetworkBed) -> None:
    bed.guest.holds = True
    bed.deliver(*[to_guest()] * 20)
    assert len(bed.guest.frames()) == 16
    bed.guest.revoke()
    assert bed.nic.counters.receiving_dropped == {"not ready": 4}
    bed.guest.give_back(3)
    assert bed.guest.give_receive_buffer().status == bed.guest.give_send_buffer().status == 1
    assert bed.nic.counters.receive_slots_used == 0
    bed.guest.give_back()
    assert bed.nic.counters.receive_slots_used == 0 and bed.violations == []
    bed.guest.holds = False
    bed.deliver(to_guest())
    assert bed.guest.data() == [to_guest()]


@pytest.mark.parametrize("which", ["receive", "send"])
def test_a_gpadl_torn_down_without_a_word_is_let_go(bed: NetworkBed, which: str) -> None:
    guest = bed.guest
    gpadl, pfns = (
        (guest.receive_gpadl, guest.receive_pfns)
        if which == "receive"
        else (guest.send_gpadl, guest.send_pfns)
    )
    bed.driver.teardown_gpadl(guest.channel.relid, gpadl)
    before = [bed.machine.memory.read(pfn << 12, 4096) for pfn in pfns]
    bed.deliver(to_guest())
    after = [bed.machine.memory.read(pfn << 12, 4096) for pfn in pfns]
    if which == "receive":
        assert after == before
        assert bed.nic.counters.receiving_dropped == {"not ready": 1}
    guest.rndis_send(0, 100)
    bed.assert_failed("SEND_RNDIS_PKT in state SETUP")


def test_a_closed_channel_is_left_alone(bed: NetworkBed) -> None:
    bed.port.takes = False
    start_sending(bed, 3)
    bed.guest.channel.close_only()
    assert bed.nic.counters.waiting_packets == 0 and bed.nic.counters.receive_slots == 0
    bed.deliver(to_guest())
    bed.nic.resumed()
    bed.nic.set_link(False, 10)
    assert bed.nic.counters.sending_dropped == {"channel closed": 2}
    bed.guest.connect()
    bed.deliver(to_guest())
    assert bed.guest.data() == [to_guest()]


# ------------------------------------------------------------------ observation and state


def test_frames_are_seen_both_ways(bed: NetworkBed) -> None:
    seen: list[NetworkFrame] = []
    leave = bed.machine.tap.listen(NetworkFrame, seen.append)
    frame = PEER + MAC + Packet(4, 6, b"payload").data[12:]
    bed.guest.send(frame, checksum_info())
    bed.deliver(Frame(to_guest(), 7, Checksum.VALID))
    assert [(one.adapter, one.to_guest, one.data, one.tci, one.checksum) for one in seen] == [
        ("NIC", False, frame, None, "MISSING"),
        ("NIC", True, to_guest(), 7, "VALID"),
    ]
    leave()
    bed.guest.send(frame)
    bed.deliver(to_guest())
    assert len(seen) == 2


def restored(bed: NetworkBed) -> NetworkBed:
    """The same machine with a new bus and a new adapter, which has the old one's state."""
    state = bed.bus.save()
    again = NetworkBed.__new__(NetworkBed)
    again.__dict__.update(bed.__dict__)
    again.nic, again.port = SyntheticNic(MAC), RecordingPort()
    for connection in (1, 4):
        bed.machine.partition.connections.disconnect(connection)
    bed.bus.close()
    again.bus = VmBus(bed.machine.partition)
    add(again.bus, bed.machine, again.nic)
    again.bus.add(Recorder(2), DeviceServices(bed.machine.partition, HostThreads()))
    again.nic.plugged(again.port)
    again.nic.set_link(True, 10_000)
    again.bus.restore(state)
    return again


def test_an_adapter_is_the_same_when_restored(bed: NetworkBed) -> None:
    spread(bed)
    bed.guest.poll()
    bed.guest.holds = True
    frames = [to_guest(60 + index) for index in range(20)]
    bed.deliver(*frames)
    bed.port.takes = False
    numbers, sent = start_sending(bed, 3)
    again = restored(bed)
    assert again.guest.data() == frames[:16]
    assert again.nic.counters.receive_slots_used == 16 and again.nic.counters.queued_frames == 4
    assert again.nic.counters.waiting_packets == 3
    again.machine.pass_time(1)
    assert again.port.data() == sent[1:] and completed(again, numbers) == numbers
    again.guest.give_back()
    assert again.guest.data() == frames[16:]
    again.guest.give_back()
    assert again.counters() == (0, 0) and again.violations == [] and again.guest.inband[1:] == []
    again.guest.holds = False
    packet = MAC + PEER + Packet(4, 6, b"payload").right[12:]
    again.deliver(Frame(packet, None, Checksum.VALID))
    (arrived,) = again.guest.frames()
    assert arrived.infos == {CHECKSUM: 8}, "offloads are as the guest set them"
    again.assert_alive()


def test_an_adapter_without_a_guest_is_restored_too() -> None:
    bed = NetworkBed()
    again = restored(bed)
    again.guest.connect(offloads=ALL_OFFLOADS)
    again.assert_alive()


def test_a_guest_that_comes_after_a_restored_one_begins_anew(bed: NetworkBed) -> None:
    again = restored(bed)
    again.guest.channel.close_only()
    again.guest.open()
    again.guest.rndis_send(0, 100, channel_type=CONTROL)
    again_violation = again.violations[-1]
    assert "SEND_RNDIS_PKT in state INIT" in again_violation
