"""`ringminus run --capture`, as a command: files, rings, pipes, what goes wrong, and what a kill leaves."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ringminus.lens.capture.output import members
from ringminus.lens.capture.reader import open_capture
from ringminus.tap import Event, MsrAccess, PortIo, VmExit
from support.command import POWER_OFF, command, run_command, say, write_kernel, write_msr

GUEST_OS_ID = 0x40000000
HELLO = f"{write_msr(GUEST_OS_ID, 0x8100)}\n{say('hello')}\n{POWER_OFF}"
TALKER = f"1: {say('talking')}\njmp 1b"


def arguments(kernel: Path, *options: str | Path) -> tuple[str | Path, ...]:
    return ("run", "-k", kernel, "-m", "64M", "--timeout", "60", "--console", "none", *options)


def read(path: Path) -> list[Event]:
    with open_capture(path) as source:
        return list(source)


def test_a_guests_life_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    run = run_command(*arguments(write_kernel(tmp_path, HELLO), "--capture", path, "--name", "tom"))
    assert (run.status, run.output, run.errors) == (0, "", "")
    events = read(path)
    assert open_capture(path).partition == "tom"
    written = [one for one in events if isinstance(one, MsrAccess)]
    assert [(one.msr, one.value) for one in written] == [(GUEST_OS_ID, 0x8100)]
    said = bytes(one.value for one in events if isinstance(one, PortIo) and one.write and one.port == 0x3F8)
    assert said == b"hello"
    numbers = [one.sequence for one in events]
    assert len(set(numbers)) == len(numbers) and {one.cause for one in events} <= {0, *numbers}


def test_points_and_filters(tmp_path: Path) -> None:
    kernel, path, other = write_kernel(tmp_path, HELLO), tmp_path / "a.pcapng", tmp_path / "b.pcapng"
    text = f"{other},size=1M,filter=port.port == 0x3f8 and port.write"
    run = run_command(*arguments(kernel, "--capture", f"{path},points=exits+msrs", "--capture", text))
    assert run.status == 0
    assert {type(one) for one in read(path)} == {VmExit, MsrAccess}
    assert bytes(one.value for one in read(other) if isinstance(one, PortIo)) == b"hello"


def test_a_killed_run_leaves_all_but_its_last_second(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    kernel = write_kernel(tmp_path, TALKER)
    with subprocess.Popen(command(*map(str, arguments(kernel, "--capture", path)))) as run:
        deadline = time.monotonic() + 50
        while not path.exists() or path.stat().st_size < 200_000:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        size = path.stat().st_size
        run.send_signal(signal.SIGKILL)
    events = read(path)
    assert path.stat().st_size >= size and len(events) > 1000
    numbers = sorted(one.sequence for one in events)
    assert numbers[-1] - len(numbers) < 20  # those on their way, which have a number already


def test_a_ring_of_files_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    kernel = write_kernel(tmp_path, TALKER)
    options = arguments(kernel, "--capture", f"{path},size=64K,files=2", "--timeout", "4")
    assert run_command(*options).status == 124
    files = members(path)
    assert len(files) == 2 and min(files) > 1
    assert all(one.stat().st_size <= 64 << 10 for one in files.values())
    events = read(path)
    assert len(events) > 300 and all(a.time <= b.time + 10**6 for a, b in itertools.pairwise(events))


def test_standard_output_and_pipes(tmp_path: Path) -> None:
    kernel, path = write_kernel(tmp_path, HELLO), tmp_path / "a.pcapng"
    run = subprocess.run(
        command(*map(str, arguments(kernel, "--capture", "-"))), capture_output=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, b"")
    path.write_bytes(run.stdout)
    assert len(read(path)) > 10


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--capture", "-", "--console", "stdio"), "cannot share standard output"),
        (("--capture", "{}/no/a.pcapng"), "cannot write the capture"),
        (("--capture", "{}/a", "--capture", "{}/a"), "twice with the same file"),
        (("--capture", "{}/a,files=3"), "needs size="),
    ],
)
def test_what_cannot_be_is_told_before_the_guest_runs(
    tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    kernel = write_kernel(tmp_path, HELLO)
    run = run_command(*arguments(kernel, *(one.format(tmp_path) for one in options)))
    assert run.status in (1, 2) and run.output == ""
    assert problem in run.errors and run.errors.count("\n") == 1


def test_a_full_disk_ends_the_capture_and_not_the_guest(tmp_path: Path) -> None:
    kernel = write_kernel(tmp_path, HELLO)
    run = run_command(*arguments(kernel, "--capture", "/dev/full"))
    assert run.status == 0
    assert "the capture /dev/full ends after 0 events" in run.errors and "No space left" in run.errors
    assert run.errors.count("\n") == 1


def test_a_reader_that_goes_does_not_end_the_guest(tmp_path: Path) -> None:
    kernel, pipe = write_kernel(tmp_path, HELLO), tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with subprocess.Popen(
        command(*map(str, arguments(kernel, "--capture", pipe))), stderr=subprocess.PIPE, text=True
    ) as run:
        deadline = time.monotonic() + 50
        begun = b""
        while not begun and time.monotonic() < deadline:
            time.sleep(0.05)
            try:
                begun = os.read(reader, 4)
            except BlockingIOError:
                continue
        os.close(reader)
        errors = run.communicate(timeout=60)[1]
    assert begun == bytes.fromhex("0a0d0d0a") and run.returncode == 0
    assert errors == "" or "its reader went" in errors
