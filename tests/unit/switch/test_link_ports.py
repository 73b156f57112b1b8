"""A guest's port on a switch in another process is as a port in its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ringminus.clock import REFERENCE_HZ
from ringminus.errors import ConfigError, HostError
from ringminus.switch.frame import LARGEST_FRAME, Checksum, Frame
from ringminus.switch.link import client, server
from ringminus.switch.link.documents import Farewell
from ringminus.switch.link.stream import WRITE_SIZE
from ringminus.switch.link.wire import LARGEST_DOCUMENT, Kind
from ringminus.switch.port import Endpoint, Port, PortSettings
from support.endpoints import access, frame, mac
from support.links import HostBed


def ask(host: HostBed, operation: str, **arguments: object) -> dict[str, object]:
    """A request, without a link: the switch is in this process, and nobody would answer."""
    from ringminus.switch.link.documents import Request

    return host.hosting.answer(Request(operation, arguments))


def test_it_is_what_the_line_between_switch_and_endpoint_says(host: HostBed) -> None:
    endpoint, port = host.plug(1)
    as_port: Port = port
    as_endpoint: Endpoint = endpoint
    assert as_port is as_endpoint.port  # type: ignore[attr-defined]


def test_an_endpoint_is_told_its_port_and_then_its_link(host: HostBed) -> None:
    endpoint, port = host.plug(1, settings=PortSettings(address=mac(1), megabits=2500))
    assert endpoint.calls == ["plugged", "set_link", "set_link"]
    assert endpoint.links == [(False, 2500), (True, 2500)]
    assert (port.connected, port.number, port.trouble) == (True, 1, "")


def test_frames_pass_with_all_that_is_left_undone(host: HostBed) -> None:
    (first, _), (second, _) = host.plug(1), host.plug(2)
    sent = [
        frame(mac(2), mac(1), bytes(46)),
        frame(mac(2), mac(1), bytes(30_000), checksum=Checksum.MISSING, segment_size=1448),
        frame(mac(2), mac(1), bytes(46), checksum=Checksum.VALID),
        Frame((mac(2) + mac(1)).ljust(LARGEST_FRAME, b"\x08")),
    ]
    for one in sent:
        assert first.port.send(one)
        first.port.flush()
        host.turn()
    assert [(one.data, one.checksum, one.segment_size) for one in second.frames] == [
        (one.data, one.checksum, one.segment_size) for one in sent
    ]
    assert second.calls.count("flush") == len(sent)
    second.port.send(frame(mac(1), mac(2)))
    second.port.flush()
    host.turn()
    assert len(first.frames) == 1


def test_frames_wait_for_flush_or_for_many(host: HostBed) -> None:
    (first, _), (second, _) = host.plug(1), host.plug(2)
    first.port.send(frame(mac(2), mac(1)))
    host.turn()
    assert second.frames == []
    while not second.frames:
        first.port.send(frame(mac(2), mac(1), bytes(1500)))
        host.turn()
    assert len(second.frames) * 1500 < WRITE_SIZE + 3000


def test_vlans_and_guards_are_those_of_the_settings(host: HostBed) -> None:
    first, _ = host.plug(1, settings=PortSettings(address=mac(1), vlan=access(5)))
    (same, _), (other, _) = host.plug(2, settings=PortSettings(address=mac(2), vlan=access(5))), host.plug(3)
    first.port.send(frame())
    first.port.send(frame(source=mac(9)))
    first.port.flush()
    host.turn()
    assert (len(same.frames), len(other.frames)) == (1, 0)
    assert host.counters(1)["dropped"] == {"spoofed address": 1}


def test_the_switch_hears_of_another_address(host: HostBed) -> None:
    (first, port) = host.plug(1, settings=PortSettings(address=mac(1), spoofing=True))
    first.port.set_address(mac(8))
    host.turn()
    assert host.hosting.describe()["ports"][0]["address"] == mac(8).hex(":")
    assert port.settings.address == mac(8)


def test_link_and_speed_are_changed_while_it_is_in_use(host: HostBed) -> None:
    endpoint, port = host.plug(1)
    ask(host, "configure", port=1, options=["link=down"])
    host.turn()
    ask(host, "configure", port=1, options=["link=up", "speed=1G", "vlan=5"])
    host.turn()
    assert endpoint.links[2:] == [(False, 10_000), (True, 1000)]
    assert port.settings == PortSettings(name="NIC 1", address=mac(1), megabits=1000, vlan=access(5))


def test_a_slow_switch_makes_the_endpoint_wait_and_nothing_is_lost(host: HostBed) -> None:
    """The switch's process does nothing until the endpoint was asked to stop."""
    (first, port), (second, _) = host.plug(1), host.plug(2)
    data, sent = bytes(9000), 0
    while port.send(frame(mac(2), mac(1), sent.to_bytes(4, "big") + data)):
        sent += 1
    sent += 1
    assert "resumed" not in first.calls
    assert second.frames == []
    host.turn()
    assert first.calls[-1] == "resumed"
    assert [int.from_bytes(one.data[14:18], "big") for one in second.frames] == list(range(sent))
    assert port.counters.dropped == {}
    assert host.counters(2)["dropped"] == {}


def test_who_sends_on_all_the_same_is_bounded_and_counted(host: HostBed) -> None:
    (first, port), (second, _) = host.plug(1), host.plug(2)
    sent = 0
    while not port.counters.dropped:
        first.port.send(frame(mac(2), mac(1), bytes(60_000)))
        sent += 1
    assert port.counters.dropped == {"link queue full": 1}
    host.turn()
    assert len(second.frames) == sent - 1


def test_a_bandwidth_limit_reaches_back_to_the_endpoint(host: HostBed) -> None:
    """The switch wants no more, so its process reads no more, so the socket is full."""
    settings = PortSettings(address=mac(1), limit=80_000_000)
    (first, port), (second, _) = host.plug(1, settings=settings), host.plug(2)
    sent = 0
    for _ in range(20_000):
        sent += 1
        if not port.send(frame(mac(2), mac(1), sent.to_bytes(4, "big") + bytes(1496))):
            host.turn()
            if "resumed" not in first.calls:
                break
            first.calls.clear()
    else:
        pytest.fail("it is never asked to wait")
    port.flush()
    while len(second.frames) < sent:
        before = len(second.frames)
        host.advance(REFERENCE_HZ // 10)
        assert len(second.frames) - before < 1500  # 667 frames of 1500 bytes in a tenth of a second
    numbers = [int.from_bytes(one.data[14:18], "big") for one in second.frames]
    assert numbers == list(range(1, sent + 1))
    assert "resumed" in first.calls
    assert (port.counters.dropped, host.counters(1)["dropped"]) == ({}, {})


def test_a_slow_reader_loses_frames_and_delays_nobody(host: HostBed) -> None:
    (first, _), (quick, _) = host.plug(1), host.plug(2)
    slow = host.peer(3)
    limit = 4 * (server.QUEUE + 2 * LARGEST_DOCUMENT) // 9000
    for number in range(limit):
        first.port.send(frame(payload=bytes(9000)))
        if number % 20 == 0:
            first.port.flush()
            host.turn()
    first.port.flush()
    host.turn()
    assert len(quick.frames) == limit
    lost = host.counters(3)["dropped"]["link queue full"]
    assert 0 < lost < limit
    got = 0
    while frames := [kind for kind in slow.kinds() if kind == Kind.FRAME]:
        got += len(frames)
        host.turn()
    assert got == limit - lost
    assert host.counters(3)["dropped"] == {"link queue full": lost}


def test_frames_without_a_link_are_counted(host: HostBed) -> None:
    first, port = host.plug(1)
    host.plug(2)
    first.port.send(frame(mac(2), mac(1)))  # not flushed
    host.listener.close("the switch lab was deleted")
    host.turn()
    assert first.port.send(frame(mac(2), mac(1)))
    assert port.counters.dropped == {"no link": 2}
    assert endpoint_is_down(first.links)


def endpoint_is_down(links: list[tuple[bool, int]]) -> bool:
    return not links[-1][0]


def test_who_waits_goes_on_when_the_link_breaks(host: HostBed) -> None:
    first, port = host.plug(1)
    while port.send(frame(mac(2), mac(1), bytes(9000))):
        pass
    host.listener.close("gone")
    host.turn()
    assert first.calls[-2:] == ["set_link", "resumed"]


def test_an_unplugged_port_stays_down(host: HostBed) -> None:
    endpoint, port = host.plug(1)
    ask(host, "unplug", port=1)
    host.advance(60 * REFERENCE_HZ)
    assert endpoint.links[-1] == (False, 10_000)
    assert (port.connected, port.dismissed, port.trouble) == (False, True, "this port was unplugged")
    assert host.hosting.describe()["ports"] == []
    endpoint.port.send(frame())
    port.close()
    assert endpoint.calls[-1] == "close"


def test_a_closed_port_is_gone_from_the_switch(host: HostBed) -> None:
    endpoint, port = host.plug(1)
    other, _ = host.plug(2)
    port.send(frame(mac(2), mac(1)))
    port.close()
    port.close()
    host.turn()
    assert endpoint.calls.count("close") == 1
    assert len(other.frames) == 1
    assert [one.number for one in host.switch.ports()] == [2]


def test_the_address_of_another_guest_is_refused_with_a_reason(host: HostBed) -> None:
    host.plug(1)
    endpoint, port = host.plug(1)
    assert not port.connected
    assert port.trouble.startswith(f"{mac(1).hex(':')} is the address of port 1 of lab already")
    assert endpoint.links == [(False, 10_000)]


def test_a_refused_port_gets_in_when_the_reason_is_gone(host: HostBed) -> None:
    _, first = host.plug(1)
    endpoint, port = host.plug(1)
    first.close()
    host.advance(REFERENCE_HZ)
    assert (port.connected, port.trouble) == (True, "")
    assert endpoint.links[-1] == (True, 10_000)


def test_who_waits_for_a_refused_port_hears_why(host: HostBed) -> None:
    host.plug(1)
    _, port = host.plug(1)
    with pytest.raises(HostError, match="another with mac="):
        port.wait(1)


def test_settings_that_no_port_has_are_refused_at_once(host: HostBed) -> None:
    with pytest.raises(ConfigError, match="megabits"):
        host.plug(1, settings=PortSettings(address=mac(1), megabits=0))
    with pytest.raises(ConfigError, match="cannot name a switch"):
        client.RemotePort("../lab", PortSettings(), host.reactor, host.clock, host.timers, title="NIC")


def test_a_title_becomes_a_name_that_a_port_can_have(host: HostBed) -> None:
    _, port = host.plug(1)
    assert host.hosting.describe()["ports"][0]["name"] == "NIC 1"
    named = replace(PortSettings(), name="web server")
    _, port = host.plug(2, settings=named)
    assert port.settings.name == "web server"
    odd = client.RemotePort(
        "lab", PortSettings(), host.reactor, host.clock, host.timers, title="a,\n" + "x" * 100
    )
    assert odd.settings.name == "x" * 64


class TestCapture:
    """A link that only looks on."""

    def test_it_is_shown_all(self, host: HostBed) -> None:
        (first, _), (second, _) = host.plug(1), host.plug(2)
        watcher, port = host.plug(9, settings=PortSettings(), watch=0)
        first.port.send(frame(mac(2), mac(1), b"there"))
        first.port.flush()
        host.turn()
        second.port.send(frame(mac(1), mac(2), b"back"))
        second.port.flush()
        host.turn()
        assert [one.data[14:] for one in watcher.frames] == [b"there", b"back"]
        assert host.hosting.describe()["ports"][-1]["kind"] == "capture"
        port.send(frame())
        port.flush()
        host.turn()
        assert first.data() == [frame(mac(1), mac(2), b"back").data]

    def test_it_is_shown_one_port(self, host: HostBed) -> None:
        (first, _), (second, _), _ = host.plug(1), host.plug(2), host.plug(3)
        watcher, _ = host.plug(9, settings=PortSettings(), watch=3)
        first.port.send(frame(mac(2), mac(1)))
        second.port.send(frame(mac(3), mac(2), b"for the third"))
        for one in (first, second):
            one.port.flush()
        host.turn()
        assert [one.data[14:] for one in watcher.frames] == [b"for the third"]

    def test_it_ends_with_the_port_that_it_watches(self, host: HostBed) -> None:
        _, first = host.plug(1)
        _, watching = host.plug(9, settings=PortSettings(), watch=1)
        first.close()
        host.turn()
        assert watching.dismissed
        assert watching.trouble == "port 1 of the switch lab was unplugged"

    def test_a_port_that_is_not_there_cannot_be_watched(self, host: HostBed) -> None:
        _, port = host.plug(9, settings=PortSettings(), watch=4)
        assert port.trouble == "the switch lab has no port 4: nothing is plugged into it"

    def test_it_has_no_settings(self, host: HostBed) -> None:
        host.plug(9, settings=PortSettings(), watch=0)
        with pytest.raises(ConfigError, match="port 1 is a capture"):
            ask(host, "configure", port=1, options=["link=down"])


class TestAServerThatLies:
    """What a worker does with an answer that cannot be: it takes the link for broken, and tries again."""

    def test_rubbish_in_place_of_a_welcome(self, host: HostBed) -> None:
        host.hosting.plug = lambda link, hello: link._outbox.put(Kind.RESPONSE, b"{}")  # type: ignore[method-assign]
        endpoint, port = host.plug(1)
        assert not port.connected
        assert port.trouble.startswith("the switch lab broke the protocol: a message of kind 9")
        assert endpoint.links == [(False, 10_000)]

    def test_frames_before_a_welcome(self, host: HostBed) -> None:
        host.hosting.plug = lambda link, hello: link.deliver(frame())  # type: ignore[method-assign]
        endpoint, port = host.plug(1)
        assert port.trouble == "the switch lab broke the protocol: a frame at the wrong time"
        assert endpoint.frames == []

    def test_a_server_of_another_version(self, host: HostBed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "VERSION", 2)
        _, port = host.plug(1)
        assert port.trouble.startswith("the switch speaks version 2 of the protocol of links, and not 1:")

    def test_a_goodbye_is_told(self, host: HostBed) -> None:
        _, port = host.plug(1)
        (link,) = host.listener.links
        link._put(Kind.GOODBYE, Farewell("the house is on fire").pack())
        host.turn()
        assert (port.trouble, port.dismissed) == ("the house is on fire", True)
        host.advance(REFERENCE_HZ)
        assert port.connected  # the switch is there, so it was not meant so
