"""Sockets with more to say than there is room for. libslirp reads a socket that it is told to be ready, and
ends the process when it has no room; so it is told only of what it asked for last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ringminus.switch.nat.library import Poll
from support.nat_guest import Guest

PROGRAM = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from support.nat_guest import HOST, Guest
guest = Guest()
server = socket.create_server(("127.0.0.1", 0), backlog=64)
met = []
for index in range(40):
    connection = guest.connect(HOST, server.getsockname()[1], source_port=51000 + index)
    guest.establish(connection)
    connection.silent = True
    met.append((connection, server.accept()[0]))
for _, end in met:
    end.setblocking(False)
    try:
        while True:
            end.send(bytes(1 << 20))
    except BlockingIOError:
        pass
for _ in range(200):
    guest.reactor.dispatch(0)
"""


def test_a_full_buffer_does_not_end_the_process(guest: Guest) -> None:
    """With so many sockets that it is not asked at each frame what it waits for."""
    tests = str(Path(__file__).parents[3])
    done = subprocess.run([sys.executable, "-c", PROGRAM, tests], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("wanted", "happened", "told"),
    [
        (Poll.IN | Poll.HUP | Poll.ERR, Poll.IN | Poll.HUP, Poll.IN | Poll.HUP),
        (Poll.OUT | Poll.ERR, Poll.OUT, Poll.OUT),
        (
            Poll.OUT | Poll.ERR,
            Poll.IN | Poll.ERR | Poll.HUP,
            Poll.OUT,
        ),  # its buffer is full: it must not read
        (Poll.OUT | Poll.ERR, Poll(0), Poll(0)),
        (Poll(0), Poll.IN | Poll.HUP, Poll(0)),
    ],
)
def test_it_is_told_of_nothing_that_makes_it_read_unasked(
    guest: Guest, wanted: Poll, happened: Poll, told: Poll
) -> None:
    stack = guest.nat._stack
    stack._wanted, stack._events = {99: int(wanted)}, {99: int(happened)}
    assert stack._get_events(99, None) == told
