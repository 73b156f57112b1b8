"""`ringminus lens tui` on a terminal: however it ends, the terminal is as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringminus.lens.capture.output import open_output
from ringminus.lens.capture.writer import CaptureWriter
from ringminus.tap import Tap
from support.command import command, run_command
from support.lens_events import requests

PATIENCE = 30.0
ALTERNATE, NORMAL = b"\x1b[?1049h", b"\x1b[?1049l"
MOUSE_OFF, CURSOR = b"\x1b[?1000l", b"\x1b[?25h"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path, tap = tmp_path / "requests.pcapng", Tap()
    with CaptureWriter(tap, open_output(str(path)), partition="demo"):
        for event in requests(20):
            tap.tell(event)
    return path


class Terminal:
    """The command on a terminal of 80 columns and 24 rows."""

    def __init__(self, *arguments: str | Path, python_path: str = "", errors: int | None = None) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self._slave = slave
        self.before = termios.tcgetattr(slave)
        environment = {**os.environ, "TERM": "xterm", "COLORTERM": ""}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (python_path, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            command(*arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave if errors is None else errors,
            env=environment,
            start_new_session=True,
        )
        self.printed = b""

    @property
    def mode(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def wait_for(self, text: bytes) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self.printed:
            assert time.monotonic() < end, self.printed[-2000:]
            self._read(0.1)

    def _read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            self.printed += os.read(self.master, 1 << 16)

    def end(self) -> int:
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        while select.select([self.master], [], [], 0.1)[0]:
            self._read(0)
        return self.process.wait(1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self.master)


@pytest.fixture
def terminal(capture: Path) -> Iterator[Terminal]:
    made = Terminal("lens", "tui", capture, "scsi")
    yield made
    made.close()


@pytest.mark.parametrize("way", [b"q", b"\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_it_was(terminal: Terminal, way: bytes | signal.Signals) -> None:
    terminal.wait_for(b"20 match")
    assert terminal.mode != terminal.before
    assert ALTERNATE in terminal.printed
    if isinstance(way, bytes):
        os.write(terminal.master, way)
    else:
        terminal.process.send_signal(way)
    assert terminal.end() == 0
    for code in (NORMAL, MOUSE_OFF, CURSOR):
        assert code in terminal.printed[terminal.printed.index(b"20 match") :]
    assert terminal.mode == terminal.before
    assert b"38;2;" not in terminal.printed  # colours are those of any terminal
    assert b"48;2;" not in terminal.printed


def test_without_a_terminal_it_says_what_else_there_is(capture: Path) -> None:
    run = run_command("lens", "tui", capture)
    assert run.status == 2
    assert "ringminus lens show" in run.errors


def test_where_it_cannot_draw_it_says_so(capture: Path, tmp_path: Path) -> None:
    with (tmp_path / "errors").open("w+b") as errors:
        made = Terminal("lens", "tui", capture, errors=errors.fileno())
        try:
            assert made.end() == 2
            errors.seek(0)
            assert b"draws on standard error" in errors.read()
        finally:
            made.close()


def test_a_wrong_filter_is_told_before_anything_else(capture: Path) -> None:
    run = run_command("lens", "tui", capture, "nosuchfield == 3")
    assert run.status == 2
    assert "there is no field nosuchfield" in run.errors


def test_without_textual_it_says_what_to_install(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "textual.py").write_text("raise ModuleNotFoundError('no', name='textual')\n")
    made = Terminal("lens", "tui", capture, python_path=str(tmp_path))
    try:
        assert made.end() == 1
        assert b"pip install 'ringminus[tui]'" in made.printed
    finally:
        made.close()
