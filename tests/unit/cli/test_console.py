"""The guest has the terminal while it runs, and the person has it back afterwards, whatever happens."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.command import POWER_OFF, command, say, write_kernel

# raises RTS, as a driver does, and sends each byte that arrives on COM1 back, less one; powers off on a z
ECHO = f"""
mov dx, 0x3fc; mov al, 3; out dx, al
{say("ready" + chr(10))}
1: mov dx, 0x3fd
2: pause; in al, dx; test al, 1; jz 2b
mov dx, 0x3f8; in al, dx
cmp al, 'z'; je 3f
dec al; out dx, al; mov al, 10; out dx, al
jmp 1b
3: {POWER_OFF}
"""
PATIENCE = 30.0
LFLAG = 3


class Terminal:
    """A pseudo-terminal with the command on it."""

    def __init__(self, kernel: Path) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (33, 99))
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            command("run", "-k", kernel, "-m", "64M", "--timeout", "60"),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
        )

    def mode(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    def is_raw(self) -> bool:
        return not self.mode()[LFLAG] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Read what is printed until the condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 4096)

    def see(self, text: bytes) -> None:
        self.wait_for(lambda: text in self.seen)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def status(self) -> int:
        self.wait_for(lambda: self.process.poll() is not None)
        assert self.process.returncode is not None
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(write_kernel(tmp_path, ECHO))
    try:
        made.see(b"ready\n")
        yield made
    finally:
        made.close()


def test_keys_reach_the_guest_at_once_and_unchanged(terminal: Terminal) -> None:
    assert terminal.is_raw()
    # a key that a cooked terminal would keep for itself, and one that needs no Enter
    for key in (b"b", b"\x03", b"\x1a", b"\x04"):
        terminal.seen = b""
        terminal.type(key)
        terminal.see(bytes([key[0] - 1, 10]))
    terminal.type(b"z")
    assert terminal.status() == 0
    assert terminal.mode() == terminal.before


def test_ctrl_bracket_leaves(terminal: Terminal) -> None:
    assert b"Ctrl-]" in terminal.seen
    terminal.type(b"\x1d")
    assert terminal.status() == 130
    assert terminal.mode() == terminal.before
    assert b"interrupted by Ctrl-]" in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_gives_the_terminal_back(terminal: Terminal, number: signal.Signals) -> None:
    terminal.process.send_signal(number)
    assert terminal.status() == 130
    assert terminal.mode() == terminal.before


def test_even_a_kill_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.process.kill()
    assert terminal.status() == -signal.SIGKILL
    terminal.wait_for(lambda: terminal.mode() == terminal.before)


def test_an_error_before_the_guest_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"no kernel")
    made = Terminal(wrong)
    try:
        assert made.status() == 2
        assert made.mode() == made.before
        made.see(b"ringminus: error: ")
    finally:
        made.close()
