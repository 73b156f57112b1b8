"""TCP through NAT: a guest's script on one side, a socket of the host on the other."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from ringminus.switch.nat.segments import RAISED_MSS
from support.nat_guest import (
    ACK,
    ADDRESS,
    FIN,
    HOST,
    HOST6,
    MILLISECOND,
    PSH,
    URG,
    Connection,
    Guest,
)

from .conftest import MakeGuest

DATA = random.Random(5).randbytes(300_000)


def meet(guest: Guest, server: socket.socket, **options: int) -> tuple[Connection, socket.socket]:
    """A connection from a guest to a socket of the host, both its ends."""
    host = HOST if server.family == socket.AF_INET else HOST6
    connection = guest.connect(host, server.getsockname()[1], **options)
    guest.establish(connection)
    accepted, _ = server.accept()
    accepted.settimeout(10)
    return connection, accepted


def read(guest: Guest, end: socket.socket, size: int) -> bytes:
    """What comes to the host's end, while the guest's side goes on."""
    end.setblocking(False)
    got = bytearray()

    def more() -> bool:
        try:
            while piece := end.recv(1 << 20):
                got.extend(piece)
        except BlockingIOError:
            pass
        return len(got) >= size

    guest.until(more)
    return bytes(got)


def test_the_gateway_s_address_is_the_host_s_loopback(guest: Guest, server: socket.socket) -> None:
    connection, end = meet(guest, server)
    with end:
        connection.send(ACK | PSH, b"GET /")
        assert read(guest, end, 5) == b"GET /"
        end.setblocking(True)
        end.sendall(b"200 OK")
        guest.until(lambda: connection.received == b"200 OK")


def test_an_acknowledgment_goes_with_data_that_are_there(guest: Guest, server: socket.socket) -> None:
    """A guest that asks and waits for the answer has one frame to look at, not two."""
    connection, end = meet(guest, server)
    connection.silent = True  # it acknowledges with its next question
    with end:
        for _ in range(3):
            connection.send(ACK | PSH, b"?")
            assert end.recv(1) == b"?"
            end.sendall(b"!")
            count = len(connection.segments)
            guest.clock.advance(5 * MILLISECOND)  # of itself, libslirp acknowledges after 2 ms
            guest.reactor.dispatch(5)
            (segment,) = connection.segments[count:]
            assert (segment.data, segment.acknowledgment) == (b"!", connection.sequence)


def test_the_ends_close_one_after_the_other(guest: Guest, server: socket.socket) -> None:
    connection, end = meet(guest, server)
    connection.send(ACK | FIN)
    assert end.recv(1) == b""
    end.sendall(b"late")
    end.close()
    guest.finish(connection)
    assert connection.received == b"late"
    assert not connection.reset


def test_a_refused_connection_is_reset(guest: Guest, free_port: int) -> None:
    connection = guest.connect(HOST, free_port)
    guest.until(lambda: connection.reset)


def test_a_reset_of_the_host_s_program_reaches_the_guest(guest: Guest, server: socket.socket) -> None:
    connection, end = meet(guest, server)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
    guest.until(lambda: connection.reset)


def test_connections_come_again_on_the_numbers_of_files_that_were_closed(
    guest: Guest, server: socket.socket
) -> None:
    for source_port in range(50001, 50006):
        connection, end = meet(guest, server, source_port=source_port)
        end.sendall(b"hello")
        guest.receive(connection, 5)
        assert connection.received == b"hello"
        end.close()
        guest.finish(connection)
        connection.send(ACK | FIN)


def test_a_large_frame_is_taken_whole(guest: Guest, server: socket.socket) -> None:
    connection, end = meet(guest, server)
    with end:
        before = len(guest.frames)
        connection.send(ACK | PSH, DATA[:65_000], segment_size=1460)
        assert len(guest.frames) == before + 1  # one acknowledgment: it came as one segment
        assert connection.segments[-1].acknowledgment == connection.sequence
        assert read(guest, end, 65_000) == DATA[:65_000]


def test_the_largest_ip_packet_arrives_too(guest: Guest, server: socket.socket) -> None:
    connection, end = meet(guest, server)
    with end:
        connection.send(ACK | PSH, DATA[:65_495], segment_size=1460)
        assert read(guest, end, 65_495) == DATA[:65_495]


@pytest.mark.parametrize("mss", [536, 1460, 8960])
def test_bulk_comes_in_large_frames_to_be_cut_to_the_guest_s_mss(
    guest: Guest, server: socket.socket, mss: int
) -> None:
    connection, end = meet(guest, server, mss=mss)
    with end:
        end.setblocking(False)
        sent = end.send(DATA)
        guest.until(lambda: len(connection.received) == sent)
        assert connection.received == DATA[:sent]
        large = [segment for segment in connection.segments if len(segment.data) > mss]
        assert {segment.segment_size for segment in large} == {mss}
        assert max(len(segment.data) for segment in large) == RAISED_MSS
        assert all(segment.segment_size == 0 for segment in connection.segments if len(segment.data) <= mss)


def test_each_connection_has_its_own_mss(guest: Guest, server: socket.socket) -> None:
    one, first = meet(guest, server, mss=1000, source_port=50001)
    other, second = meet(guest, server, mss=2000, source_port=50002)
    with first, second:
        for connection, end, mss in ((one, first, 1000), (other, second, 2000)):
            end.sendall(bytes(30_000))
            guest.receive(connection, 30_000)
            assert {segment.segment_size for segment in connection.segments} - {0} == {mss}


def test_a_window_that_the_guest_closes_is_respected(guest: Guest, server: socket.socket) -> None:
    connection, end = meet(guest, server)
    with end:
        connection.window, connection.silent = 0, True
        connection.send(ACK | PSH, b"I am")
        connection.send(ACK | PSH, b" full")
        end.sendall(bytes(10_000))
        for _ in range(5):
            guest.reactor.dispatch(0.01)
        assert connection.received == b""
        connection.window, connection.silent = 65535, False
        connection.send(ACK)
        guest.until(lambda: len(connection.received) == 10_000)


def test_a_host_s_program_that_reads_late_gets_all(guest: Guest, server: socket.socket) -> None:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection, end = meet(guest, server)
    with end:
        sent = bytearray()
        while True:
            last = connection.segments[-1]
            if last.acknowledgment + last.window - connection.sequence < 60_000:
                break  # its window is full: the guest waits
            assert len(sent) < 64 << 20
            piece = DATA[len(sent) % 200_000 :][:60_000]
            connection.send(ACK | PSH, piece, segment_size=1460)
            sent += piece
        assert read(guest, end, len(sent)) == sent
        last = connection.segments[-1]  # and hears when there is room again
        assert last.acknowledgment == connection.sequence
        assert last.window > 50_000


def test_urgent_data_are_ordinary_data(guest: Guest, server: socket.socket) -> None:
    """An urgent pointer of a guest is not for libslirp (see `Segments.from_guest`)."""
    connection, end = meet(guest, server)
    with end:
        connection.send(ACK | URG | PSH, b"abc")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 0)
        assert read(guest, end, 3) == b"abc"


def test_ipv6_has_the_host_s_loopback_too(make_guest: MakeGuest) -> None:
    guest = make_guest()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        server.settimeout(10)
        connection, end = meet(guest, server, mss=1440)
        with end:
            connection.send(ACK | PSH, DATA[:65_000], segment_size=1440)
            assert read(guest, end, 65_000) == DATA[:65_000]
            end.setblocking(False)
            sent = end.send(DATA)
            guest.until(lambda: len(connection.received) == sent)
            assert connection.received == DATA[:sent]
            assert max(len(segment.data) for segment in connection.segments) == RAISED_MSS
            assert {segment.segment_size for segment in connection.segments} - {0} == {1440}


def test_many_connections_at_once(guest: Guest, server: socket.socket) -> None:
    server.listen(64)
    met = [meet(guest, server, source_port=51000 + index) for index in range(40)]
    for index, (_, end) in enumerate(met):
        end.sendall(b"%d" % index)
    for index, (connection, _) in enumerate(met):
        said = b"%d" % index
        guest.receive(connection, len(said))
        assert connection.received == said
    assert len(guest.nat.describe()["connections"]) == 40  # type: ignore[arg-type]
    for _, end in met:
        end.close()


def test_what_comes_while_the_guest_takes_nothing_stays_with_the_host(
    guest: Guest, server: socket.socket
) -> None:
    connection, end = meet(guest, server)
    with end:
        guest.takes = False
        end.sendall(b"first")
        guest.until(lambda: connection.received)  # taken in any case; no more after it
        end.sendall(b"second")
        for _ in range(5):
            guest.reactor.dispatch(0.01)
        assert connection.received == b"first"
        guest.takes = True
        guest.nat.resumed()
        guest.until(lambda: connection.received == b"firstsecond")
    assert guest.nat.dropped == {}


def test_answers_wait_for_a_guest_that_takes_nothing_in_a_bounded_queue(guest: Guest) -> None:
    guest.takes = False
    for _ in range(1500):
        guest.arp(HOST)
    assert len(guest.frames) == 1
    assert guest.nat.dropped == {"queue full": 1500 - 1 - 1024}
    guest.takes = True
    guest.nat.resumed()
    assert len(guest.frames) == 1025
    assert guest.frames[-1].data[28:32] == HOST
    assert guest.frames[-1].data[38:42] == ADDRESS
