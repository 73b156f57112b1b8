"""The command with unusual standard streams: early input, a lot of input, readers who sleep, streams that are
closed, a terminal whose person does something else for a while."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command import POWER_OFF, command, say, write_kernel

RAISE_RTS = "mov dx, 0x3fc; mov al, 3; out dx, al"
# sends what comes, slowly, until it has sent a full stop
ECHO = f"""
{RAISE_RTS}
1: mov dx, 0x3fd
in al, dx; test al, 1; jz 1b
mov dx, 0x3f8; in al, dx
mov ecx, 100
2: loop 2b
out dx, al; cmp al, '.'; jne 1b
{POWER_OFF}
"""
# clears its FIFOs, as a driver does when it is started, and takes its time before it is ready
LATE_ECHO = f"""
mov ecx, 5000000
3: loop 3b
mov dx, 0x3fa
mov al, 7; out dx, al; mov al, 0; out dx, al; mov al, 7; out dx, al
mov dx, 0x3f8; in al, dx; in al, dx
{ECHO}
"""
SPAM = f"2: {say('y' * 20 + chr(10))}\njmp 2b"
SILENT_LOOP = "1: jmp 1b"


def arguments(kernel: Path, *options: str) -> list[str]:
    return command("run", "-k", kernel, "-m", "64M", "--timeout", "60", *options)


@pytest.mark.parametrize("source", [ECHO, LATE_ECHO], ids=["at once", "late"])
@pytest.mark.parametrize("size", [5, 150_000])
def test_all_input_arrives_however_slow_the_guest(tmp_path: Path, source: str, size: int) -> None:
    text = bytes(32 + i % 13 for i in range(size)) + b"."  # no full stop among them
    kernel = write_kernel(tmp_path, source)
    ended = subprocess.run(arguments(kernel), input=text, capture_output=True, timeout=90, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout == text


def test_input_from_a_file(tmp_path: Path) -> None:
    text = b"0123456789" * 500 + b"."
    (tmp_path / "input").write_bytes(text)
    with (tmp_path / "input").open("rb") as file:
        kernel = write_kernel(tmp_path, LATE_ECHO)
        ended = subprocess.run(arguments(kernel), stdin=file, capture_output=True, timeout=90, check=False)
    assert (ended.returncode, ended.stdout) == (0, text)


@pytest.mark.parametrize("how", ["time-out", "signal"])
def test_a_reader_who_sleeps_does_not_keep_us_from_ending(tmp_path: Path, how: str) -> None:
    kernel = write_kernel(tmp_path, SPAM)
    options = ["--timeout", "2"] if how == "time-out" else []
    with subprocess.Popen(
        arguments(kernel, *options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        time.sleep(1)  # by now the pipe is full
        if how == "signal":
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == (124 if how == "time-out" else 130)


def test_a_guest_whose_reader_sleeps_does_not_fill_our_memory(tmp_path: Path) -> None:
    kernel = write_kernel(tmp_path, SPAM)
    with subprocess.Popen(
        arguments(kernel), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.read(10_000)
        time.sleep(1)
        used = [processor_time(process.pid)]
        time.sleep(1)
        used.append(processor_time(process.pid))
        assert used[1] - used[0] < 0.5  # it stands still
        assert len(process.stdout.read(1_000_000)) == 1_000_000  # and goes on
        process.terminate()
        process.stdout.read()


def processor_time(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_late_reader_gets_the_last_words(tmp_path: Path) -> None:
    text = "".join(f"line {n}\n" for n in range(200))
    kernel = write_kernel(tmp_path, f"{say(text)}\n{POWER_OFF}")
    with subprocess.Popen(
        arguments(kernel), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        time.sleep(1)
        assert process.communicate(timeout=30) == (text.encode(), b"")
        assert process.returncode == 0


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "</dev/null >/dev/full"])
def test_streams_that_are_closed(tmp_path: Path, redirection: str) -> None:
    kernel = write_kernel(tmp_path, f"{say('hello')}\n{POWER_OFF}")
    line = 'exec "$@" ' + redirection
    ended = subprocess.run(
        ["sh", "-c", line, "sh", *arguments(kernel)], capture_output=True, timeout=60, check=False
    )
    full = "/dev/full" in redirection
    assert ended.returncode == (130 if full else 0)
    assert (b"No space left" in ended.stderr) == full
    assert ended.stdout == (b"" if ">&- " in redirection or redirection == ">&-" or full else b"hello")


def test_a_terminal_that_is_put_aside_is_as_it_was(tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)

    with subprocess.Popen(
        arguments(write_kernel(tmp_path, SILENT_LOOP)),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        wait(lambda: termios.tcgetattr(terminal) != before)
        for _ in range(2):
            process.send_signal(signal.SIGTSTP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert termios.tcgetattr(terminal) == before
            process.send_signal(signal.SIGCONT)
            wait(lambda: termios.tcgetattr(terminal) != before)
        process.terminate()
        assert process.wait(10) == 130
    assert termios.tcgetattr(terminal) == before
    os.close(main)
    os.close(terminal)
