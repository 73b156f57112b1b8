"""Ports come and go, are counted, configured and described; endpoints may do anything within `deliver`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ringminus.clock import REFERENCE_HZ
from ringminus.errors import ConfigError
from ringminus.switch.drops import Drop
from ringminus.switch.frame import Frame
from ringminus.switch.port import BROADCAST, Endpoint, Port, PortCounters, PortSettings
from support.endpoints import Bed, RecordingEndpoint, access, frame, mac, trunk


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_ports_and_endpoints_are_what_the_line_between_them_says(bed: Bed) -> None:
    endpoint, switch_port = bed.plug()
    as_port: Port = switch_port
    as_endpoint: Endpoint = endpoint
    assert (as_port, as_endpoint) == (endpoint.port, switch_port.endpoint)


def test_an_endpoint_is_told_its_port_and_then_its_link(bed: Bed) -> None:
    endpoint, port = bed.plug(PortSettings(megabits=2500))
    assert endpoint.calls == ["plugged", "set_link"]
    assert endpoint.links == [(True, 2500)]
    assert endpoint.port is port


def test_ports_are_numbered_from_one_and_numbers_do_not_come_again(bed: Bed) -> None:
    ports = [bed.plug()[1] for _ in range(2)]
    bed.switch.unplug(ports[1])
    assert bed.plug()[1].number == 3
    assert [port.number for port in bed.switch.ports()] == [1, 3]


def test_unplugging_closes_the_endpoint_once_and_forgets_its_addresses(bed: Bed) -> None:
    endpoint, port = bed.plug()
    other, _ = bed.plug()
    endpoint.port.send(frame(BROADCAST, mac(1)))
    for _ in range(2):
        bed.switch.unplug(port)
    assert endpoint.calls.count("close") == 1
    assert bed.switch.addresses() == []
    other.port.send(frame(mac(1), mac(2)))
    assert endpoint.frames == []


def test_an_unplugged_ports_own_address_is_nobodys(bed: Bed) -> None:
    _, port = bed.plug(PortSettings(address=mac(1)))
    first, second = (bed.plug()[0] for _ in range(2))
    bed.switch.unplug(port)
    assert bed.switch.addresses() == []
    first.port.send(frame(mac(1), mac(2)))
    assert len(second.frames) == 1


def test_what_is_sent_after_unplugging_is_counted(bed: Bed) -> None:
    endpoint, port = bed.plug()
    other, _ = bed.plug()
    bed.switch.unplug(port)
    assert endpoint.port.send(frame()) is True
    endpoint.port.flush()
    assert other.frames == []
    assert port.counters.dropped == {Drop.UNPLUGGED: 1}
    port.configure(PortSettings(limit=10**6))  # too late, and harmless
    endpoint.port.send(frame())
    assert port.counters.dropped == {Drop.UNPLUGGED: 2}


def test_closing_unplugs_all_and_lets_nobody_in(bed: Bed) -> None:
    endpoints = [bed.plug()[0] for _ in range(3)]
    endpoints[0].port.send(frame())
    bed.switch.close()
    assert all(endpoint.calls[-1] == "close" for endpoint in endpoints)
    assert bed.switch.ports() == ()
    assert bed.timers.next_deadline() == (1 << 64) - 1
    with pytest.raises(ConfigError, match="lab is closed"):
        bed.plug()


def test_an_endpoint_that_refuses_to_be_plugged_leaves_nothing(bed: Bed) -> None:
    class Refusing(RecordingEndpoint):
        def plugged(self, port: Port) -> None:
            raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        bed.plug(PortSettings(address=mac(1)), Refusing())
    assert bed.switch.ports() == ()
    assert bed.switch.addresses() == []
    bed.plug(PortSettings(address=mac(1)))


# ------------------------------------------------------------------ counting


def test_frames_are_counted_on_both_sides(bed: Bed) -> None:
    first, one = bed.plug()
    _, two = bed.plug()
    _, three = bed.plug()
    large = frame(BROADCAST, mac(1), bytes(60_000), segment_size=1448)
    first.port.send(large)
    first.port.send(frame(BROADCAST, mac(1), b"x" * 46))
    assert one.counters == PortCounters(received_frames=2, received_bytes=60_014 + 60)
    assert two.counters == three.counters == PortCounters(sent_frames=2, sent_bytes=60_014 + 60)


# ------------------------------------------------------------------ flushing


def test_a_flush_reaches_each_that_got_frames_once(bed: Bed) -> None:
    first, second, third, fourth = (bed.plug(PortSettings(address=mac(n)))[0] for n in range(1, 5))
    for _ in range(3):
        first.port.send(frame(mac(2), mac(1)))
    first.port.send(frame(mac(3), mac(1)))
    first.port.flush()
    first.port.flush()
    assert [one.calls.count("flush") for one in (first, second, third, fourth)] == [0, 1, 1, 0]


def test_a_flush_does_not_end_what_another_still_sends(bed: Bed) -> None:
    first, second, third = (bed.plug(PortSettings(address=mac(n)))[0] for n in range(1, 4))
    first.port.send(frame(mac(3), mac(1)))
    second.port.send(frame(mac(1), mac(2)))
    second.port.flush()
    assert [one.calls.count("flush") for one in (first, second, third)] == [1, 0, 0]


def test_a_flush_does_not_reach_who_is_gone(bed: Bed) -> None:
    first, _ = bed.plug()
    second, port = bed.plug()
    first.port.send(frame())
    bed.switch.unplug(port)
    first.port.flush()
    assert second.calls[-1] == "close"


# ------------------------------------------------------------------ from within deliver


def test_an_answer_from_within_deliver_arrives_while_the_first_still_sends(bed: Bed) -> None:
    guest, _ = bed.plug(PortSettings(address=mac(1)))
    nat = RecordingEndpoint(answer=lambda one: answer(one))
    bed.plug(endpoint=nat)

    def answer(question: Frame) -> None:
        nat.port.send(frame(question.data[6:12], mac(2), b"answer"))
        nat.port.flush()

    guest.port.send(frame(BROADCAST, mac(1)))
    assert guest.data() == [mac(1) + mac(2) + b"\x88\xb5answer"]
    assert guest.calls[-1] == "flush"
    assert nat.calls.count("flush") == 0, "its own flush is not for what it got"
    guest.port.send(frame(mac(2), mac(1)))  # both are known now
    assert len(guest.taken()) == 1
    guest.port.flush()
    assert nat.calls.count("flush") == 1


def test_a_port_may_be_unplugged_by_who_gets_a_frame_before_it(bed: Bed) -> None:
    victim, port = RecordingEndpoint(), None
    killer = RecordingEndpoint(answer=lambda _: bed.switch.unplug(bed.switch.ports()[-1]))
    sender, _ = bed.plug()
    bed.plug(endpoint=killer)
    _, port = bed.plug(endpoint=victim)
    sender.port.send(frame())
    sender.port.flush()
    assert victim.calls == ["plugged", "set_link", "close"]
    assert port.counters.dropped == {Drop.UNPLUGGED: 1}
    assert killer.calls[-1] == "flush"


def test_a_sender_may_be_unplugged_by_who_gets_its_frame(bed: Bed) -> None:
    sender, port = bed.plug()
    killer = RecordingEndpoint(answer=lambda _: bed.switch.unplug(port))
    bed.plug(endpoint=killer)
    assert sender.port.send(frame()) is True
    sender.port.flush()
    assert sender.calls[-1] == "close"
    assert killer.calls[-1] == "flush"


def test_a_port_may_come_while_frames_are_delivered(bed: Bed) -> None:
    late: list[RecordingEndpoint] = []
    sender, _ = bed.plug()
    bed.plug(endpoint=RecordingEndpoint(answer=lambda _: late.append(bed.plug()[0])))
    sender.port.send(frame())
    assert late[0].frames == []
    sender.port.send(frame())
    assert len(late[0].frames) == 1


def test_a_link_may_go_down_while_frames_are_delivered(bed: Bed) -> None:
    sender, _ = bed.plug()
    last, port = RecordingEndpoint(), None
    bed.plug(endpoint=RecordingEndpoint(answer=lambda _: last_down()))
    _, port = bed.plug(endpoint=last)

    def last_down() -> None:
        bed.switch.ports()[-1].configure(PortSettings(link=False))

    sender.port.send(frame())
    assert last.frames == []
    assert port.counters.dropped == {Drop.LINK_DOWN: 1}


# ------------------------------------------------------------------ configuring


def test_the_link_goes_down_and_up(bed: Bed) -> None:
    endpoint, port = bed.plug()
    other, _ = bed.plug()
    endpoint.port.send(frame(BROADCAST, mac(1)))
    port.configure(PortSettings(link=False))
    assert endpoint.links[-1] == (False, 10_000)
    assert bed.switch.addresses() == []
    endpoint.port.send(frame(BROADCAST, mac(1)))
    other.port.send(frame(BROADCAST, mac(2)))
    assert endpoint.frames == []
    assert port.counters.dropped == {Drop.LINK_DOWN: 1}
    port.configure(PortSettings(link=True))
    assert endpoint.links[-1] == (True, 10_000)
    other.port.send(frame(BROADCAST, mac(2)))
    assert len(endpoint.frames) == 1


def test_a_port_may_be_plugged_with_its_link_down(bed: Bed) -> None:
    endpoint, port = bed.plug(PortSettings(address=mac(1), link=False))
    other, second = bed.plug()
    assert endpoint.links == [(False, 10_000)]
    other.port.send(frame(mac(1), mac(2)))
    assert endpoint.frames == []
    assert second.counters.dropped == {Drop.NOBODY: 1}
    port.configure(replace(port.settings, link=True))
    other.port.send(frame(mac(1), mac(2)))
    assert len(endpoint.frames) == 1


def test_another_speed_is_told_and_disturbs_nothing(bed: Bed) -> None:
    endpoint, port = bed.plug()
    bed.plug()
    endpoint.port.send(frame(BROADCAST, mac(1)))
    port.configure(replace(port.settings, megabits=100, name="web"))
    assert endpoint.links == [(True, 10_000), (True, 100)]
    assert [row.address for row in bed.switch.addresses()] == [mac(1)]
    port.configure(replace(port.settings, name="db"))
    assert len(endpoint.links) == 2, "nothing new for it"


def test_securing_a_port_forgets_what_it_spoofed(bed: Bed) -> None:
    endpoint, port = bed.plug(PortSettings(address=mac(1), spoofing=True))
    bed.plug()
    endpoint.port.send(frame(BROADCAST, mac(5)))
    port.configure(PortSettings(address=mac(1)))
    assert [(row.address, row.age) for row in bed.switch.addresses()] == [(mac(1), None)]
    endpoint.port.send(frame(BROADCAST, mac(5)))
    assert port.counters.dropped == {Drop.SPOOFED: 1}


def test_a_secured_port_gets_another_address(bed: Bed) -> None:
    endpoint, port = bed.plug(PortSettings(address=mac(1)))
    other, _ = bed.plug(PortSettings(address=mac(2)))
    port.configure(PortSettings(address=mac(9)))
    other.port.send(frame(mac(1), mac(2)))
    other.port.send(frame(mac(9), mac(2)))
    assert endpoint.data() == [frame(mac(9), mac(2)).data]
    endpoint.port.send(frame(mac(2), mac(9)))
    assert len(other.frames) == 1


def test_another_vlan_applies_to_the_next_frame(bed: Bed) -> None:
    endpoint, port = bed.plug(PortSettings(address=mac(1), vlan=access(5)))
    five, _ = bed.plug(PortSettings(address=mac(5), vlan=access(5)))
    six, _ = bed.plug(PortSettings(address=mac(6), vlan=access(6)))
    endpoint.port.send(frame(BROADCAST, mac(1)))
    port.configure(replace(port.settings, vlan=access(6)))
    endpoint.port.send(frame(BROADCAST, mac(1)))
    six.port.send(frame(mac(1), mac(6)))
    five.port.send(frame(mac(1), mac(5)))
    assert [len(one.frames) for one in (five, six, endpoint)] == [1, 1, 1]


def test_another_vlan_forgets_who_was_behind_the_port(bed: Bed) -> None:
    endpoint, port = bed.plug(PortSettings(vlan=access(5)))
    five, five_too = (bed.plug(PortSettings(vlan=access(5)))[0] for _ in range(2))
    endpoint.port.send(frame(BROADCAST, mac(1)))
    five.port.send(frame(BROADCAST, mac(2)))
    port.configure(PortSettings(vlan=access(6)))
    for one in (endpoint, five, five_too):
        one.taken()
    five.port.send(frame(mac(1), mac(2)))
    assert (len(endpoint.frames), len(five_too.frames)) == (0, 1)


def test_another_address_is_what_the_endpoint_has_then(bed: Bed) -> None:
    _, port = bed.plug(PortSettings(address=mac(1)))
    port.configure(PortSettings(address=mac(2)))
    assert port.describe()["address"] == mac(2).hex(":")
    port.set_address(mac(3))
    port.configure(PortSettings(address=mac(2), megabits=100))
    assert port.describe()["address"] == mac(3).hex(":")


def test_two_secured_ports_of_a_vlan_have_two_addresses(bed: Bed) -> None:
    bed.plug(PortSettings(address=mac(1), vlan=trunk(5, 6)))
    with pytest.raises(ConfigError, match=r"00:15:5d:00:00:01 is the address of port 1 of lab .* mac="):
        bed.plug(PortSettings(address=mac(1), vlan=access(5)))
    bed.plug(PortSettings(address=mac(1), vlan=access(7)))
    bed.plug(PortSettings(address=mac(1), vlan=access(5), spoofing=True))
    _, port = bed.plug(PortSettings(address=mac(2)))
    with pytest.raises(ConfigError, match="port 1"):
        port.configure(PortSettings(address=mac(1)))
    assert port.settings == PortSettings(address=mac(2)), "nothing has changed"
    port.configure(port.settings)


def test_impossible_settings_are_refused(bed: Bed) -> None:
    with pytest.raises(ConfigError, match="group"):
        bed.plug(PortSettings(address=BROADCAST))
    _, port = bed.plug()
    with pytest.raises(ConfigError, match="limit"):
        port.configure(PortSettings(limit=-1))


# ------------------------------------------------------------------ describing


def test_a_switch_describes_itself_in_plain_data(bed: Bed) -> None:
    endpoint, _ = bed.plug(PortSettings(name="web", address=mac(1), vlan=access(5), limit=10**6))
    other, _ = bed.plug(PortSettings(vlan=trunk(5, native=2)))
    other.port.send(frame(BROADCAST, mac(3), tci=5))
    bed.advance(4 * REFERENCE_HZ)
    endpoint.port.send(frame(BROADCAST, mac(9)))
    facts = json.loads(json.dumps(bed.switch.describe()))
    assert facts["name"] == "lab"
    assert facts["addresses"] == [
        {"vlan": 5, "address": "00:15:5d:00:00:01", "port": 1, "age": None},
        {"vlan": 5, "address": "00:15:5d:00:00:03", "port": 2, "age": 4.0},
    ]
    web, tap = facts["ports"]
    assert (web["number"], web["name"], web["link"], web["address"]) == (1, "web", "up", "00:15:5d:00:00:01")
    assert web["settings"]["vlan"] == {"access": 5, "trunk": []}
    assert web["counters"] == {
        "received_frames": 1,
        "received_bytes": 21,
        "sent_frames": 1,
        "sent_bytes": 21,
        "dropped": {"spoofed address": 1},
        "waiting": 0,
    }
    assert tap["address"] is None


def test_an_address_in_use_has_no_age(bed: Bed) -> None:
    endpoint, _ = bed.plug()
    bed.plug()
    endpoint.port.send(frame())
    bed.advance(5 * REFERENCE_HZ)
    endpoint.port.send(frame())
    assert [row.age for row in bed.switch.addresses()] == [0]
