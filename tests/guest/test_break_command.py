"""`ringminus run --break` as a command: where commands come from, the terminal, and signals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command import POWER_OFF, command, run_command, say, write_kernel

SPIN = "9: jmp 9b"
TIMEOUT = 20.0


@pytest.fixture
def spinning(tmp_path: Path) -> Path:
    """A kernel that says something, and runs for ever."""
    return write_kernel(tmp_path, f"{say('alive')}\n{SPIN}")


@pytest.fixture
def talking(tmp_path: Path) -> Path:
    """A kernel that says something, and powers off."""
    return write_kernel(tmp_path, f"{say('hello')}\n{POWER_OFF}")


class Person:
    """Reads and types at the terminal of a process."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self._fd = fd
        self.shown = ""

    def expect(self, text: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while text not in self.shown:
            ready, _, _ = select.select([self._fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"no {text!r} in {self.shown!r}"
            try:
                self.shown += os.read(self._fd, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it ended without {text!r}: {self.shown!r}") from None
        self.shown = self.shown.partition(text)[2]

    def think(self) -> None:
        """As a person does who has seen the prompt: it waits for a line by then."""
        time.sleep(0.5)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def status(self) -> int:
        return self.process.wait(TIMEOUT)


@contextmanager
def at_a_terminal(kernel: Path, *arguments: str) -> Iterator[Person]:
    """A process whose terminal sends it signals for Ctrl-C, as a shell's would."""
    master, slave = pty.openpty()
    environment = os.environ | {"XDG_STATE_HOME": str(kernel.parent), "TERM": "dumb"}
    process = subprocess.Popen(
        command("run", "-k", kernel, *arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env=environment,
    )
    os.close(slave)
    try:
        yield Person(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_commands_come_from_a_pipe(talking: Path) -> None:
    run = run_command(
        *("run", "-k", talking, "--break", "port.port == 0x3f8", "--console", "none"),
        commands="show\nedit value 0x21\ncontinue\nregisters rip\ndelete\ncontinue\n",
    )
    assert run.status == 0
    assert re.search(r"^breakpoint 1, event \d+: .* out port 0x3f8 0x68$", run.output, re.M)
    assert "(break) edit value 0x21" in run.output
    assert re.search(r"^  value +104 \(0x68\)$", run.output, re.M)
    assert re.search(r"^rip +0x0000000000100[0-9a-f]{3}$", run.output, re.M)
    assert run.output.count("breakpoint 1, event") == 2


def test_the_guest_goes_on_when_there_are_no_more_commands(talking: Path) -> None:
    run = run_command(*("run", "-k", talking, "--break", "port", "--console", "stdio"), commands="show\n")
    assert run.status == 0 and "no more commands: the guest goes on without breakpoints" in run.output
    assert run.output.replace("\r", "").endswith("ello") or "hello" in run.output


def test_an_addon_that_asks_for_the_prompt_without_a_terminal_is_told_what_to_do(
    talking: Path, tmp_path: Path
) -> None:
    """Standard input is the guest's there: the prompt would take what was meant for the guest."""
    addon = tmp_path / "stops.py"
    addon.write_text("def port_write(event, ctx):\n    ctx.break_here()\n")
    run = run_command("run", "-k", talking, "--addon", addon, "--console", "stdio", commands="show\n")
    assert (run.status, run.output.strip()) == (0, "hello")
    assert run.errors.count("(ctx.break_here)") == 1 and "say --break too" in run.errors
    run = run_command(
        *("run", "-k", talking, "--addon", addon, "--break", "violation", "--console", "stdio"),
        commands="show\n",
    )
    assert run.status == 0 and "(break) show" in run.output and not run.errors


def test_an_edit_reaches_the_device(talking: Path) -> None:
    run = run_command(
        *("run", "-k", talking, "--break", "port.port == 0x3f8 and port.value == 'l'", "--console", "stdio"),
        commands="",
    )
    assert run.status == 2 and "port.value" in run.errors
    run = run_command(
        *("run", "-k", talking, "--break", "port.port == 0x3f8 and port.value == 0x6f", "--console", "stdio"),
        commands="edit value 0x21\ndelete\ncontinue\n",
    )
    assert run.status == 0 and "hell" in run.output and "!" in run.output.splitlines()[-1]


def test_a_person_at_a_terminal_that_is_the_guests(spinning: Path) -> None:
    """Ctrl-] opens the prompt; Ctrl-C is for the prompt while it is open, and quit ends the guest."""
    with at_a_terminal(spinning, "--break", "scsi", "--console", "tty") as person:
        person.expect("Ctrl-] leaves it and opens the prompt")
        person.expect("alive")
        person.type("\x1d")
        person.expect("the guest was stopped at RIP 0x100")
        person.expect("(break) ")
        person.type("list\r")
        person.expect("1  scsi  (met 0 times)")
        person.expect("(break) ")
        person.think()
        person.type("\x03")
        person.expect("(break) ")
        person.type("continue\r")
        time.sleep(0.2)
        person.type("\x1d")
        person.expect("the guest was stopped at RIP")
        person.type("quit\r")
        assert person.status() == 130


def test_ctrl_c_opens_the_prompt_and_sigterm_ends_the_guest_at_it(spinning: Path) -> None:
    with at_a_terminal(spinning, "--break", "scsi", "--console", "stdio") as person:
        person.expect("alive")
        person.process.send_signal(signal.SIGINT)
        person.expect("the guest was stopped at RIP 0x100")
        person.expect("(break) ")
        person.think()
        person.process.send_signal(signal.SIGTERM)
        person.expect("by SIGTERM")
        assert person.status() == 130


def test_the_end_of_a_persons_input_lets_the_guest_go_on(spinning: Path) -> None:
    with at_a_terminal(spinning, "--break", "scsi", "--console", "stdio") as person:
        person.expect("alive")
        person.process.send_signal(signal.SIGINT)
        person.expect("(break) ")
        person.type("\x04")
        person.expect("continue")
        person.think()
        person.process.send_signal(signal.SIGINT)
        person.expect("the guest was stopped at RIP 0x100")


def test_symbols_need_breakpoints_and_breakpoints_a_filter(talking: Path) -> None:
    run = run_command("run", "-k", talking, "--symbols", talking)
    assert run.status == 2 and "--symbols without --break" in run.errors
    run = run_command("run", "-k", talking, "--break", "port.nonsense == 1")
    assert run.status == 2 and "there is no field port.nonsense" in run.errors
