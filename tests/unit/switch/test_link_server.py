"""What a peer may do to a switch's process: lose its own link, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from ringminus.clock import REFERENCE_HZ
from ringminus.errors import ConfigError
from ringminus.switch.hosting import FIRST_GRACE, GRACE
from ringminus.switch.link import server
from ringminus.switch.link.documents import ROLE_CONTROL, Farewell, Hello, Request, Response, Welcome
from ringminus.switch.link.wire import HEADER_SIZE, Address, Kind, LinkState, MessageHeader
from ringminus.switch.port import PortSettings, VlanMode
from ringminus.switch.settings import to_dict
from support.endpoints import RecordingEndpoint, frame, mac
from support.links import HostBed, Peer

CONTROL = (Kind.HELLO, Hello(ROLE_CONTROL).pack())
WRONG_HELLOS: list[Any] = [
    [],
    {},
    {"version": 1},
    {"version": "1", "role": "port"},
    {"version": True, "role": "port"},
    {"version": 1, "role": "king"},
    {"version": 1, "role": "port"},
    {"version": 1, "role": "port", "settings": []},
    {"version": 1, "role": "port", "settings": {"address": "00:15:5d:00:00"}},
    {"version": 1, "role": "port", "settings": {"vlan": {"access": 4095}}},
    {"version": 1, "role": "port", "settings": {"vlan": {"trunk": [0]}}},
    {"version": 1, "role": "port", "settings": {"colour": "red"}},
    {"version": 1, "role": "port", "settings": {"megabits": -1}},
    {"version": 1, "role": "port", "settings": {"name": "x" * 65}},
    {"version": 1, "role": "capture", "settings": {}, "watch": -1},
    {"version": 1, "role": "capture", "settings": {}, "watch": None},
]


def others_are_well(host: HostBed, first: RecordingEndpoint, second: RecordingEndpoint) -> bool:
    first.port.send(frame(mac(2), mac(1)))
    first.port.flush()
    host.turn()
    return len(second.taken()) == 1


@pytest.fixture
def pair(host: HostBed) -> tuple[RecordingEndpoint, RecordingEndpoint]:
    return host.plug(1)[0], host.plug(2)[0]


@pytest.mark.parametrize("document", WRONG_HELLOS, ids=str)
def test_a_wrong_hello(
    host: HostBed, pair: tuple[RecordingEndpoint, RecordingEndpoint], document: Any
) -> None:
    peer = host.peer()
    peer.say((Kind.HELLO, json.dumps(document).encode()))
    host.turn()
    assert peer.heard() == [] and peer.ended
    assert host.listener.refused == 1
    assert len(host.switch.ports()) == 2
    assert others_are_well(host, *pair)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n",
        bytes(64),
        b"\xff" * 64,
        MessageHeader(length=HEADER_SIZE + 2, kind=Kind.HELLO).pack() + b"{]",
        MessageHeader(length=HEADER_SIZE + 2, kind=Kind.HELLO).pack() + b"\xff\xff",
        MessageHeader(length=HEADER_SIZE + 40_000, kind=Kind.HELLO).pack() + b"[" * 40_000,
    ],
    ids=["http", "zeros", "ones", "no JSON", "no text", "deep"],
)
def test_rubbish(host: HostBed, pair: tuple[RecordingEndpoint, RecordingEndpoint], rubbish: bytes) -> None:
    peer = host.peer()
    peer.say(rubbish)
    host.turn()
    assert peer.heard() == [] and peer.ended
    assert others_are_well(host, *pair)


@pytest.mark.parametrize(
    "said",
    [
        [frame()],
        [(Kind.ADDRESS, Address(address=mac(9)).pack())],
        [(Kind.REQUEST, Request("show", {}).pack())],
        [CONTROL, CONTROL],
        [CONTROL, frame()],
        [CONTROL, (Kind.ADDRESS, Address(address=mac(9)).pack())],
        [CONTROL, (Kind.REQUEST, b"{}")],
        [CONTROL, (Kind.REQUEST, b'{"operation": 5}')],
        [CONTROL, (Kind.REQUEST, b'{"operation": "show", "arguments": 5}')],
        [CONTROL, (Kind.REQUEST, b'{"operation": "unplug", "arguments": {"port": "1"}}')],
        [CONTROL, (Kind.REQUEST, b'{"operation": "configure", "arguments": {"port": 1, "options": 1}}')],
        [(Kind.WELCOME, Welcome(1).pack())],
        [(Kind.LINK, LinkState(megabits=1, up=1).pack())],
        [(Kind.GOODBYE, Farewell("bye").pack())],
    ],
    ids=str,
)
def test_messages_at_the_wrong_time(
    host: HostBed, pair: tuple[RecordingEndpoint, RecordingEndpoint], said: list[Any]
) -> None:
    peer = host.peer()
    for one in said:
        peer.say(one)
        host.turn()
    peer.heard()
    assert peer.ended
    assert others_are_well(host, *pair)


@pytest.mark.parametrize(
    "said",
    [
        (Kind.HELLO, Hello("port", settings=PortSettings()).pack()),
        (Kind.REQUEST, Request("stop", {"force": True}).pack()),
        (Kind.ADDRESS, b"short"),
        (Kind.LINK, LinkState(megabits=1, up=1).pack()),
        b"\0" * HEADER_SIZE,
    ],
    ids=str,
)
def test_a_guest_that_lies_loses_its_port(
    host: HostBed, pair: tuple[RecordingEndpoint, RecordingEndpoint], said: Any
) -> None:
    peer = host.peer(3)
    peer.say(frame(source=mac(3)), said)
    host.turn()
    peer.heard()
    assert peer.ended
    assert [port.number for port in host.switch.ports()] == [1, 2]
    assert all(len(one.taken()) == 1 for one in pair)  # what it sent before counts
    assert others_are_well(host, *pair)
    assert not host.hosting.ending


def test_a_bug_of_an_endpoint_costs_the_sender_its_link(
    host: HostBed, pair: tuple[RecordingEndpoint, RecordingEndpoint], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    endpoint = RecordingEndpoint(broken)
    host.switch.plug(endpoint, PortSettings())
    peer = host.peer(4)
    peer.say(frame(source=mac(4)))
    host.turn()
    peer.heard()
    assert peer.ended
    assert "ZeroDivisionError" in caplog.text
    assert [len(one.taken()) for one in pair] == [1, 1]
    assert others_are_well(host, *pair)


def test_who_says_nothing_is_let_go(host: HostBed) -> None:
    peer, guest = host.peer(), host.peer(3)
    host.advance(server.HELLO_TIME)
    peer.heard()
    guest.heard()
    assert (peer.ended, guest.ended) == (True, False)


def test_another_users_process_is_refused(host: HostBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    peer = host.peer()
    assert [Farewell.unpack(one[1]) for one in peer.heard() if isinstance(one, tuple)] == [
        Farewell("this switch is another user's")
    ]
    assert peer.ended


def test_more_links_than_there_may_be(host: HostBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_LINKS", 2)
    first, second, third = (host.peer(number) for number in range(3))
    assert [one.kinds()[0] for one in (first, second, third)] == [Kind.WELCOME, Kind.WELCOME, Kind.REFUSAL]
    first.close()
    host.turn()
    assert host.peer(5).kinds()[0] == Kind.WELCOME


def test_who_asks_and_does_not_read_is_let_go(
    host: HostBed, pair: tuple[RecordingEndpoint, RecordingEndpoint]
) -> None:
    big = PortSettings(vlan=VlanMode(0, frozenset(range(1, 4095))))
    for _ in range(5):
        host.switch.plug(RecordingEndpoint(), big)
    host.hosting._about = lambda port: {}  # type: ignore[method-assign]
    peer = host.peer()
    peer.say(CONTROL)
    for _ in range(1000):
        try:
            peer.say(*[(Kind.REQUEST, Request("show", {}).pack())] * 10)
        except OSError:
            break
        host.turn()
    else:
        pytest.fail("it may ask for ever")
    assert others_are_well(host, *pair)


class TestRequests:
    """What a command may ask for."""

    @pytest.fixture
    def ask(self, host: HostBed) -> Callable[..., Response]:
        peer = host.peer()
        peer.say(CONTROL)
        host.turn()
        assert peer.kinds() == [Kind.WELCOME]

        def request(operation: str, **arguments: object) -> Response:
            peer.say((Kind.REQUEST, Request(operation, arguments).pack()))
            host.turn()
            (answer,) = peer.heard()
            assert isinstance(answer, tuple) and answer[0] == Kind.RESPONSE
            return Response.unpack(answer[1])

        return request

    def test_show(self, host: HostBed, ask: Callable[..., Response]) -> None:
        host.plug(1)
        host.advance(REFERENCE_HZ)
        facts = ask("show").result
        assert (facts["name"], facts["pid"], facts["created"], facts["uptime"]) == (
            "lab",
            os.getpid(),
            False,
            1.0,
        )
        (port,) = facts["ports"]
        assert (port["kind"], port["pid"], port["name"]) == ("guest", os.getpid(), "NIC 1")
        assert port["settings"] == to_dict(PortSettings(name="NIC 1", address=mac(1)))
        assert facts["addresses"] == [{"vlan": 0, "address": mac(1).hex(":"), "port": 1, "age": None}]

    def test_what_is_impossible_is_said_and_changes_nothing(
        self, host: HostBed, ask: Callable[..., Response]
    ) -> None:
        host.plug(1)
        before = host.hosting.describe()
        for operation, arguments, reason in (
            ("dance", {}, "does not know how to dance"),
            ("unplug", {"port": 9}, "has no port 9; it has 1"),
            ("configure", {"port": 1, "options": ["vlan=9999"]}, "vlan=9999"),
            ("configure", {"port": 1, "options": ["mac=00:15:5d:00:00:07"]}, "where the port is made"),
            ("plug", {"uplinks": ["moon:x"]}, "there is no uplink 'moon'"),
            ("plug", {"uplinks": ["nat:mac=00:15:5d:00:00:07"]}, "many are behind this one"),
            ("plug", {"uplinks": ["nat:bake"]}, "there is no port option bake"),
            ("stop", {}, "1 guest is on lab (port 1)"),
        ):
            response = ask(operation, **arguments)
            assert (response.kind, reason in response.error) == ("config", True), response
        assert host.hosting.describe() == before
        assert not host.hosting.ending

    def test_stop(self, host: HostBed, ask: Callable[..., Response]) -> None:
        host.plug(1)
        assert ask("stop", force=True).result == {"guests": 1}
        assert host.hosting.ending == "the switch lab was deleted"

    def test_unplug(self, host: HostBed, ask: Callable[..., Response]) -> None:
        _, port = host.plug(1)
        assert ask("unplug", port=1).result == {}
        assert (port.dismissed, host.switch.ports()) == (True, ())


def test_a_switch_that_ends_promises_nothing(host: HostBed) -> None:
    """Who comes now finds the link closed, and the next switch of this name."""
    host.hosting.end("enough")
    guest, command = host.peer(7), host.peer()
    command.say(CONTROL)
    host.turn()
    assert guest.heard() + command.heard() == []
    assert guest.ended and command.ended


class TestItsLife:
    """A switch ends with the last guest on it, unless it was created."""

    def test_it_waits_for_its_first_guest(self, host: HostBed) -> None:
        host.advance(FIRST_GRACE - 1)
        assert not host.hosting.ending
        host.advance(1)
        assert host.hosting.ending

    def test_it_ends_a_little_after_its_last_guest(self, host: HostBed) -> None:
        (_, first), (_, second) = host.plug(1), host.plug(2)
        host.advance(2 * FIRST_GRACE)
        first.close()
        host.advance(2 * GRACE)
        assert not host.hosting.ending
        second.close()
        host.advance(GRACE - 1)
        assert not host.hosting.ending
        host.advance(1)
        why: str = host.hosting.ending
        assert why == "the switch lab ended with the last guest on it"

    def test_a_guest_that_starts_again_finds_it(self, host: HostBed) -> None:
        _, first = host.plug(1)
        first.close()
        host.advance(GRACE - 1)
        host.plug(1)
        host.advance(2 * GRACE)
        assert not host.hosting.ending

    def test_a_capture_is_no_guest(self, host: HostBed) -> None:
        _, guest = host.plug(1)
        host.plug(9, settings=PortSettings(), watch=0)
        guest.close()
        host.advance(GRACE)
        assert host.hosting.ending

    def test_a_broken_link_is_as_good_as_a_closed_one(self, host: HostBed) -> None:
        peer = host.peer(1)
        peer.close()
        host.advance(GRACE)
        assert host.hosting.ending

    def test_a_created_one_stays(self, host: HostBed) -> None:
        _, guest = host.plug(1)
        host.hosting.answer(Request("create", {}))
        guest.close()
        host.advance(10 * FIRST_GRACE)
        assert not host.hosting.ending
        with pytest.raises(ConfigError, match="there is a switch lab already"):
            host.hosting.answer(Request("create", {}))

    def test_what_was_created_is_made_again_after_a_crash(self, host: HostBed) -> None:
        host.hosting.answer(Request("create", {}))
        assert json.loads(host.place.state.read_text()) == {"uplinks": []}
        host.close()
        again = HostBed()
        assert again.hosting.created
        again.advance(10 * FIRST_GRACE)
        assert not again.hosting.ending
        again.close()

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"uplinks": 5}', '{"uplinks": [{"kind": "nat"}]}'])
    def test_a_state_that_says_nothing_is_passed_over(
        self, host: HostBed, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        host.place.state.write_text(text)
        host.close()
        again = HostBed()
        assert not again.hosting.created
        assert "says nothing of use" in caplog.text
        again.close()


def test_a_hello_of_another_version_is_told_so(host: HostBed) -> None:
    peer = Peer.to(host.place)
    peer.say((Kind.HELLO, json.dumps({"version": 99, "role": ["new words"]}).encode()))
    host.turn()
    ((kind, body),) = [one for one in peer.heard() if isinstance(one, tuple)]
    assert kind == Kind.REFUSAL
    assert "version 1 of the protocol of links, and not 99" in Farewell.unpack(body).reason
