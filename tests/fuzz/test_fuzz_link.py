"""A link's peer may say anything: the switch's process closes its link, a worker tries again, and neither
raises what is not an error of ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringminus.clock import REFERENCE_HZ, MockClock, TimerQueue
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.link.client import RemotePort
from ringminus.switch.link.documents import (
    ROLE_CONTROL,
    ROLE_PORT,
    Farewell,
    Hello,
    Request,
    Response,
    Welcome,
)
from ringminus.switch.link.stream import Inbox, LinkError, Outbox, message
from ringminus.switch.link.wire import HEADER_SIZE, Address, Kind, LinkState, MessageHeader
from ringminus.switch.places import place_of
from ringminus.switch.port import PortSettings
from ringminus.switch.reactor import Reactor
from ringminus.switch.settings import to_dict
from support.endpoints import RecordingEndpoint, frame, mac
from support.links import HostBed, Peer, own_runtime_directory

headers = st.builds(
    lambda length, kind, flags, segment_size, tci, reserved: MessageHeader(
        length=length, kind=kind, flags=flags, segment_size=segment_size, tci=tci, reserved=reserved
    ).pack(),
    st.one_of(st.integers(0, 100), st.integers(0, 0xFFFFFFFF)),
    st.integers(0, 12),
    st.integers(0, 9),
    st.sampled_from([0, 0, 1448, 65535]),
    st.sampled_from([0, 0, 5, 65535]),
    st.sampled_from([0, 0, 0, 1]),
)
frames = st.builds(
    Frame,
    st.binary(max_size=200),
    st.one_of(st.none(), st.integers(0, 0xFFFF)),
    st.sampled_from(Checksum),
    st.integers(0, 0xFFFF),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.floats(allow_nan=True)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)


def changed(document: dict[str, Any], path: list[Any], value: Any) -> bytes:
    """A good document with something else in one place."""
    copy: Any = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(copy).encode()


GOOD = to_dict(PortSettings(address=mac(9)))
HELLO = {"version": 1, "role": "port", "settings": GOOD, "watch": 0}
hellos = st.one_of(
    st.just(Hello(ROLE_PORT, settings=PortSettings(address=mac(9))).pack()),
    st.just(Hello(ROLE_CONTROL).pack()),
    st.builds(lambda key, value: changed(HELLO, [key], value), st.sampled_from(sorted(HELLO)), values),
    st.builds(
        lambda key, value: changed(HELLO, ["settings", key], value), st.sampled_from(sorted(GOOD)), values
    ),
    st.builds(
        lambda key, value: changed(HELLO, ["settings", "vlan", key], value),
        st.sampled_from(["access", "trunk"]),
        values,
    ),
)
requests = st.builds(
    lambda operation, arguments: Request(operation, arguments).pack(),
    st.one_of(st.sampled_from(["show", "create", "unplug", "configure", "stop", "x"]), st.text(max_size=5)),
    st.one_of(
        st.dictionaries(st.sampled_from(["port", "options", "force", "uplinks"]), values, max_size=3),
        st.builds(
            lambda words: {"port": 1, "options": words},
            st.lists(
                st.sampled_from(["vlan=5", "vlan=none", "trunk=1-9", "limit=9M", "link=down", "name=x"])
            ),
        ),
    ),
)
documents = st.builds(lambda value: json.dumps(value).encode(), values)
said = st.one_of(
    st.binary(max_size=60),
    headers,
    frames,
    st.tuples(st.just(Kind.HELLO), st.one_of(hellos, documents, st.binary(max_size=40))),
    st.tuples(st.just(Kind.REQUEST), st.one_of(requests, documents)),
    st.tuples(
        st.just(Kind.ADDRESS), st.one_of(st.just(Address(address=mac(5)).pack()), st.binary(max_size=8))
    ),
    st.tuples(st.sampled_from([one for one in Kind if one != Kind.FRAME]), st.binary(max_size=8)),
)
answers = st.one_of(
    st.binary(max_size=60),
    headers,
    frames,
    st.tuples(st.just(Kind.WELCOME), st.one_of(st.just(Welcome(1, 2).pack()), documents)),
    st.tuples(st.just(Kind.LINK), st.just(LinkState(megabits=5, up=1).pack())),
    st.tuples(st.just(Kind.SETTINGS), st.one_of(st.just(json.dumps(GOOD).encode()), documents)),
    st.tuples(
        st.sampled_from([Kind.REFUSAL, Kind.GOODBYE]),
        st.one_of(st.just(Farewell("bye").pack()), st.just(Farewell("bye", True).pack()), documents),
    ),
    st.tuples(st.sampled_from([one for one in Kind if one != Kind.FRAME]), st.binary(max_size=8)),
)
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def say(peer: Peer, what: Any) -> bool:
    """False when the other end has closed."""
    try:
        peer.say(what)
    except OSError:
        return False
    return True


@FUZZ
@given(st.booleans(), st.lists(said, max_size=8))
def test_a_switch_takes_anything(greets: bool, whats: list[Any]) -> None:
    with own_runtime_directory():
        host = HostBed()
        (first, _), (second, _) = host.plug(1), host.plug(2)
        peer = host.peer(9 if greets else None)
        for what in whats:
            if not say(peer, what):
                break
            host.turn()
        if not any(isinstance(what, tuple) and what[0] == Kind.REQUEST for what in whats):
            second.taken()  # a command may have taken a port away; a guest may not
            first.port.send(frame(mac(2), mac(1)))
            first.port.flush()
            host.turn()
            assert second.data() == [frame(mac(2), mac(1)).data]
        peer.close()
        host.turn()
        assert all(not isinstance(port.endpoint, RecordingEndpoint) for port in host.switch.ports())
        host.close()


@FUZZ
@given(st.booleans(), st.lists(answers, max_size=8))
def test_a_worker_takes_anything(welcome: bool, whats: list[Any]) -> None:
    with own_runtime_directory():
        place = place_of("lab")
        reactor, clock, timers = Reactor(), MockClock(), TimerQueue()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(place.socket))
            listening.listen(8)
            endpoint = RecordingEndpoint()
            port = RemotePort(
                "lab", PortSettings(address=mac(1)), reactor, clock, timers, title="NIC", start=False
            )
            port.plug(endpoint)
            peer = Peer(listening.accept()[0])
            for what in ([(Kind.WELCOME, Welcome(1, 1).pack())] if welcome else []) + whats:
                if not say(peer, what):
                    break
                while reactor.dispatch(0):
                    port.send(frame())
                    port.flush()
            peer.close()
            while reactor.dispatch(0):
                pass
            assert not port.connected
            assert not endpoint.links[-1][0]
            if port.dismissed and port.trouble == "bye":
                return
            clock.advance(10 * REFERENCE_HZ)
            timers.fire(clock.reference_time())
            listening.setblocking(False)
            listening.accept()[0].close()  # it has come again
            port.close()
        reactor.close()


@FUZZ
@given(st.lists(frames, max_size=10), st.lists(st.integers(1, 300), min_size=1))
def test_frames_come_as_they_were_sent(sent: list[Frame], steps: list[int]) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        outbox, inbox = Outbox(), Inbox()
        for one in sent:
            assert outbox.frame(one)
        whole, at, found = b"".join(outbox._parts), 0, list[Any]()
        while at < len(whole):
            step = steps[at % len(steps)]
            ours.send(whole[at : at + step])
            at += step
            inbox.receive(theirs)
            found += inbox.messages()
        assert [(f.data, f.tci, f.checksum, f.segment_size) for f in found] == [
            (f.data, f.tci, f.checksum, f.segment_size) for f in sent
        ]


@FUZZ
@given(st.lists(st.one_of(st.binary(max_size=60), headers), max_size=6))
def test_any_stream(parts: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        inbox = Inbox()
        try:
            for part in parts:
                ours.send(part)
                inbox.receive(theirs)
                for one in inbox.messages():
                    size = len(one.data) if isinstance(one, Frame) else len(one[1])
                    assert size <= sum(map(len, parts)) - HEADER_SIZE
        except LinkError:
            pass


@FUZZ
@given(st.one_of(st.binary(max_size=100), documents, hellos, requests))
@pytest.mark.parametrize(
    "parse", [Hello.unpack, Welcome.unpack, Farewell.unpack, Request.unpack, Response.unpack]
)
def test_any_document(parse: Callable[[bytes], object], body: bytes) -> None:
    try:
        parse(body)
    except LinkError as error:
        assert str(error).isprintable() and len(str(error)) <= 1000
    assert len(message(Kind.HELLO, body)) == HEADER_SIZE + len(body)
