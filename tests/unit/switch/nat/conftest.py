"""A guest behind NAT, and sockets of the host for it to talk to."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from ringminus.errors import HostError
from ringminus.switch.nat import library
from ringminus.switch.nat.config import NatConfig
from support.nat_guest import Guest

MakeGuest = Callable[..., Guest]


@pytest.fixture
def make_guest() -> Iterator[MakeGuest]:
    try:
        library.load()
    except HostError as error:
        pytest.skip(str(error))
    made: list[Guest] = []

    def make(**config: object) -> Guest:
        made.append(Guest(NatConfig(**config)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for guest in made:
        guest.close()


@pytest.fixture
def guest(make_guest: MakeGuest) -> Guest:
    return make_guest()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listens on the host's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


@pytest.fixture
def free_port() -> int:
    """A TCP and UDP port that nothing listens on."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            port: int = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
