"""Ports of the host that lead to a guest."""

from __future__ import annotations

import errno
import socket

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.switch.nat.forwards import parse
from ringminus.switch.nat.segments import RAISED_MSS
from support.nat_guest import ACK, ADDRESS6, FIN, HOST, HOST6, PSH, SYN

from .conftest import MakeGuest


def test_a_program_of_the_host_reaches_the_guest(make_guest: MakeGuest, free_port: int) -> None:
    guest = make_guest(forwards=(parse(f"tcp:{free_port}:22"),))
    guest.listen(22)
    with socket.create_connection(("127.0.0.1", free_port), 10) as end:
        guest.until(lambda: any(one.established for one in guest.connections.values()))
        [connection] = guest.connections.values()
        assert connection.remote == HOST
        connection.send(ACK | PSH, b"SSH-2.0-guest\r\n")
        assert end.recv(100) == b"SSH-2.0-guest\r\n"
        end.sendall(b"SSH-2.0-host\r\n")
        guest.until(lambda: connection.received == b"SSH-2.0-host\r\n")
        end.shutdown(socket.SHUT_WR)
        guest.finish(connection)
        connection.send(ACK | FIN)
        assert end.recv(1) == b""


@pytest.mark.parametrize("mss", [536, 1460])
def test_what_it_sends_comes_in_large_frames(make_guest: MakeGuest, free_port: int, mss: int) -> None:
    guest = make_guest(forwards=(parse(f"tcp:{free_port}:22"),))
    guest.listen(22, mss)
    data = bytes(range(256)) * 500
    with socket.create_connection(("127.0.0.1", free_port), 10) as end:
        end.sendall(data)
        guest.until(lambda: any(len(one.received) == len(data) for one in guest.connections.values()))
        [connection] = guest.connections.values()
        assert connection.received == data
        assert max(len(segment.data) for segment in connection.segments) == RAISED_MSS
        assert {one.segment_size for one in connection.segments if len(one.data) > mss} == {mss}


def test_a_guest_that_does_not_listen_resets(make_guest: MakeGuest, free_port: int) -> None:
    guest = make_guest(forwards=(parse(f"tcp:{free_port}:23"),))
    with socket.create_connection(("127.0.0.1", free_port), 10) as end:
        guest.listen(22)
        guest.until(lambda: any(frame.data[47] & SYN for frame in guest.frames if len(frame.data) >= 54))
        end.settimeout(0.1)
        with pytest.raises(TimeoutError):
            end.recv(1)


def test_datagrams_reach_the_guest_and_its_answers_the_host(make_guest: MakeGuest, free_port: int) -> None:
    guest = make_guest(forwards=(parse(f"udp:127.0.0.1:{free_port}:10.0.2.15:53"),))
    with socket.socket(type=socket.SOCK_DGRAM) as end:
        end.settimeout(10)
        end.connect(("127.0.0.1", free_port))
        end.send(b"question")
        guest.until(lambda: guest.heard)
        [(address, port, own, data)] = guest.heard
        assert (address, own, data) == (HOST, 53, b"question")
        guest.send_udp(address, port, b"answer", source_port=53)
        assert end.recv(100) == b"answer"


@pytest.mark.parametrize("guest_address", ["", "[fec0::15]:"])
def test_ipv6_is_forwarded_to_an_address_or_to_the_first_guest(
    make_guest: MakeGuest, free_port: int, guest_address: str
) -> None:
    guest = make_guest(forwards=(parse(f"tcp:[::1]:{free_port}:{guest_address}22"),))
    guest.listen(22, 1440)
    guest.advertise(ADDRESS6, HOST6)  # it is heard of
    with socket.create_connection(("::1", free_port), 10) as end:
        end.sendall(bytes(100_000))
        guest.until(lambda: any(len(one.received) == 100_000 for one in guest.connections.values()))
        [connection] = guest.connections.values()
        assert connection.source == ADDRESS6
        assert {segment.segment_size for segment in connection.segments} == {0, 1440}


def test_closing_gives_the_ports_back(make_guest: MakeGuest, free_port: int) -> None:
    texts = (f"tcp:{free_port}:22", f"udp:{free_port}:53", f"tcp:[::1]:{free_port}:22")
    for _ in range(2):
        guest = make_guest(forwards=tuple(parse(text) for text in texts))
        guest.nat.close()
    for text in texts:
        forward = parse(text)
        kind = socket.SOCK_STREAM if forward.protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET6 if forward.version == 6 else socket.AF_INET, kind) as end:
            if forward.protocol == "tcp":
                assert end.connect_ex((str(forward.host), free_port)) == errno.ECONNREFUSED
            else:
                end.bind((str(forward.host), free_port))


def test_a_port_that_is_in_use_is_named_and_the_others_are_given_back(
    make_guest: MakeGuest, free_port: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(HostError, match=f"port {taken} of 127.0.0.1 is in use: choose another"):
            make_guest(forwards=(parse(f"tcp:{free_port}:22"), parse(f"tcp:{taken}:22")))
    with socket.socket() as end:
        assert end.connect_ex(("127.0.0.1", free_port)) == errno.ECONNREFUSED


def test_an_address_that_the_host_does_not_have(make_guest: MakeGuest, free_port: int) -> None:
    with pytest.raises(ConfigError, match=r"this host has no address 192\.0\.2\.7"):
        make_guest(forwards=(parse(f"tcp:192.0.2.7:{free_port}:22"),))
