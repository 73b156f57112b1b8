"""A NAT begins, tells of itself, and ends."""

from __future__ import annotations

import ctypes
import socket
from pathlib import Path

import pytest

from ringminus.clock import NEVER, MockClock, TimerQueue
from ringminus.errors import HostError
from ringminus.switch.frame import Frame
from ringminus.switch.nat import library
from ringminus.switch.nat.config import NatConfig
from ringminus.switch.nat.forwards import parse
from ringminus.switch.nat.nat import Nat
from ringminus.switch.reactor import Reactor
from support.nat_guest import ACK, ADDRESS, HOST, PSH, Guest, ip_frame

from .conftest import MakeGuest


def open_files() -> set[str]:
    return {str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.exists()}


def test_closing_ends_connections_and_leaves_nothing(
    make_guest: MakeGuest, server: socket.socket, free_port: int
) -> None:
    before = open_files()
    guest = make_guest(forwards=(parse(f"tcp:{free_port}:22"),))
    connection = guest.connect(HOST, server.getsockname()[1])
    guest.establish(connection)
    end, _ = server.accept()
    guest.nat.close()
    assert end.recv(1) == b""
    end.close()
    assert guest.timers.next_deadline() == NEVER
    assert guest.reactor.dispatch(0) == 0
    guest.reactor.close()
    assert open_files() <= before
    guest.reactor = Reactor()


def test_a_closed_nat_takes_frames_and_does_nothing(guest: Guest) -> None:
    guest.nat.close()
    guest.arp(HOST)
    guest.nat.resumed()
    guest.nat.close()
    assert guest.frames == []
    assert guest.nat.describe()["connections"] == []


def test_it_may_be_closed_by_who_gets_its_frames(guest: Guest, server: socket.socket) -> None:
    connection = guest.connect(HOST, server.getsockname()[1])
    guest.establish(connection)
    end, _ = server.accept()
    with end:
        end.sendall(b"last words")
        connection.arrived = lambda segment: guest.nat.close()  # type: ignore[method-assign]
        guest.until(lambda: guest.nat.describe()["connections"] == [])


def test_several_nats_live_side_by_side(make_guest: MakeGuest, server: socket.socket) -> None:
    guests = [make_guest() for _ in range(3)]
    for guest in guests:
        connection = guest.connect(HOST, server.getsockname()[1])
        guest.establish(connection)
        server.accept()[0].close()
        guest.finish(connection)


def test_answers_to_answers_keep_their_order(guest: Guest, server: socket.socket) -> None:
    """The guest acknowledges from within `send`, which makes libslirp say more before all was sent."""
    connection = guest.connect(HOST, server.getsockname()[1])
    guest.establish(connection)
    end, _ = server.accept()
    with end:
        data = bytes(range(256)) * 3000
        end.setblocking(False)
        sent = end.send(data)
        guest.until(lambda: len(connection.received) >= sent)
        sequences = [segment.sequence for segment in connection.segments]
        assert sequences == sorted(sequences)
        assert connection.received == data[:sent]


def test_describe(make_guest: MakeGuest, server: socket.socket, free_port: int) -> None:
    guest = make_guest(forwards=(parse(f"tcp:{free_port}:22"),))
    port = server.getsockname()[1]
    connection = guest.connect(HOST, port)
    guest.establish(connection)
    connection.send(ACK | PSH, b"x")
    guest.deliver(b"")
    told = guest.nat.describe()
    assert told["network"] == "10.0.2.0/24"
    assert told["ipv6"] == {"network": "fec0::/64", "host": "fec0::2", "dns": "fec0::3"}
    assert told["forwards"] == [f"tcp:127.0.0.1:{free_port}:22"]
    assert str(told["library"]).startswith("libslirp 4.")
    assert told["dropped"] == {"short frame": 1}
    assert told["connections"] == [
        {
            "protocol": "tcp",
            "state": "established",
            "source": "10.0.2.15:50000",
            "destination": f"10.0.2.2:{port}",
            "to_host": 0,
            "to_guest": 0,
        },
        {
            "protocol": "tcp",
            "state": "host forward",
            "source": f"127.0.0.1:{free_port}",
            "destination": "10.0.2.15:22",
            "to_host": 0,
            "to_guest": 0,
        },
    ]


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_FILES", ("libslirp-that-is-not-there.so.0",))
    library.load.cache_clear()
    try:
        with pytest.raises(HostError, match="apt-get install libslirp0") as caught:
            Nat(NatConfig(), Reactor(), MockClock(), TimerQueue())
        assert "\n" not in str(caught.value)
    finally:
        library.load.cache_clear()


def test_another_library_of_that_name_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_FILES", ("libc.so.6",))
    library.load.cache_clear()
    try:
        with pytest.raises(HostError, match=r"libc\.so\.6 is not a libslirp"):
            library.load()
    finally:
        library.load.cache_clear()


def test_an_error_below_the_library_is_not_lost(
    make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(address: int, size: int) -> bytes:
        raise MemoryError("no room for a frame")

    monkeypatch.setattr(ctypes, "string_at", full)
    guest = make_guest()
    with pytest.raises(MemoryError, match="no room for a frame"):
        guest.arp(HOST)
    assert guest.frames == []


def test_time_may_be_told_by_a_callback_where_glib_does_not_read_it(
    make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    monkeypatch.setattr(library.load(), "clock", None)
    guest = make_guest()
    connection = guest.connect(HOST, server.getsockname()[1])
    guest.establish(connection)
    guest.advance(3 * 600_000)
    assert any(frame.data[54:55] == bytes((134,)) for frame in guest.frames)


def test_a_library_that_does_not_tell_of_each_socket(
    make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 4.6: a datagram socket is closed, and the number of its file another's, without a word."""
    monkeypatch.setattr(library.load(), "version", (4, 4, 0))
    guest = make_guest()
    monkeypatch.setattr(guest.nat._sockets, "closed", lambda fds: None)
    for source_port in (40000, 40001):
        with socket.socket(type=socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.settimeout(10)
            guest.send_udp(HOST, server.getsockname()[1], b"?", source_port)
            server.sendto(b"!", server.recvfrom(1)[1])
            guest.until(lambda: guest.heard)
            guest.heard.clear()
            guest.advance(5 * 60_000)


def test_frames_before_it_is_plugged_in_go_nowhere() -> None:
    reactor = Reactor()
    nat = Nat(NatConfig(), reactor, MockClock(), TimerQueue())
    nat.deliver(Frame(ip_frame(ADDRESS, HOST, 6, bytes(12) + b"\x50\x10" + bytes(6))))
    nat.flush()
    assert nat.describe()["dropped"] == {}
    nat.close()
    reactor.close()
