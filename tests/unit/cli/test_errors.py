"""A wrong request gets one clear line on standard error and a status that tells whose fault it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ringminus.cli import main as command
from ringminus.memory import MIB
from support.command import POWER_OFF, write_kernel

HOST, REQUEST = 1, 2


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    return write_kernel(tmp_path, POWER_OFF)


def refused(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path
) -> tuple[int, str]:
    """Run the command in this process: its status and the one line that it says."""
    monkeypatch.setattr(sys, "argv", ["ringminus", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("ringminus: error: ")
    assert isinstance(ended.value.code, int)
    return ended.value.code, err.removeprefix("ringminus: error: ").strip()


class Refuse:
    """`refused`, with the fixtures bound."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._fixtures = capfd, monkeypatch

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        return refused(*self._fixtures, "run", "--console", "none", *arguments)


@pytest.fixture
def refuse(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refuse:
    return Refuse(capfd, monkeypatch)


def test_a_file_that_is_no_kernel(refuse: Refuse, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("#!/bin/sh\n" * 100)
    status, line = refuse("-k", wrong)
    assert status == REQUEST
    assert f"kernel {wrong} is not a Linux kernel" in line
    assert "a script" in line


def test_an_empty_kernel(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert refuse("-k", tmp_path / "empty") == (REQUEST, f"kernel {tmp_path}/empty is empty")


def test_a_missing_kernel(refuse: Refuse, tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert refuse("-k", path) == (HOST, f"cannot read kernel {path}: No such file or directory")


def test_a_directory_as_kernel(refuse: Refuse, tmp_path: Path) -> None:
    assert refuse("-k", tmp_path) == (REQUEST, f"kernel {tmp_path} is a directory")


def test_an_unreadable_kernel(refuse: Refuse, kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # root reads everything, so the refusal has to come from elsewhere

        def deny(self: Path, *_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", deny)
    else:
        kernel.chmod(0)
    assert refuse("-k", kernel) == (HOST, f"cannot read kernel {kernel}: Permission denied")


def test_a_missing_initrd(refuse: Refuse, kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert refuse("-k", kernel, "-i", path) == (HOST, f"cannot read initrd {path}: No such file or directory")


def test_a_directory_as_initrd(refuse: Refuse, kernel: Path, tmp_path: Path) -> None:
    assert refuse("-k", kernel, "-i", tmp_path) == (REQUEST, f"initrd {tmp_path} is a directory")


def test_an_initrd_too_large_for_memory(refuse: Refuse, kernel: Path, tmp_path: Path) -> None:
    initrd = tmp_path / "initrd"
    with initrd.open("wb") as file:
        file.truncate(100 * MIB)
    status, line = refuse("-k", kernel, "-i", initrd, "-m", "64M")
    assert status == REQUEST
    assert line.startswith(f"initrd {initrd} is too large for memory: it needs 100 MiB")
    assert "give the machine at least" in line


@pytest.mark.parametrize("size", ["63M", "9G", "0", "99999999999G"])
def test_memory_out_of_range(refuse: Refuse, kernel: Path, size: str) -> None:
    assert refuse("-k", kernel, "-m", size) == (REQUEST, f"{size} of memory: a guest has 64M to 8G")


@pytest.mark.parametrize("size", ["512X", "", "M", "-64M", "1.5G", "lots", "६४M"])
def test_memory_that_is_no_size(refuse: Refuse, kernel: Path, size: str) -> None:
    status, line = refuse("-k", kernel, "-m", size)
    assert status == REQUEST
    assert f"{size!r} is not a size" in line


def test_memory_that_is_no_whole_number_of_mib(refuse: Refuse, kernel: Path) -> None:
    assert refuse("-k", kernel, "-m", "65537K")[0] == REQUEST


def test_memory_that_the_host_does_not_have(
    refuse: Refuse, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringminus.memory._available_bytes", lambda: 100 * MIB)
    status, line = refuse("-k", kernel, "-m", "128M")
    assert (status, line) == (HOST, "the guest wants 128 MiB and this host has 100 MiB free: ask for less")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--what"], "--what"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "soon"], "--timeout"),
        (["--console", "vga"], "--console"),
        (["--log", "exits,nothing"], "--log knows no events 'nothing'"),
        (["--log", ""], "--log knows no events ''"),
        (["--log-file", "x"], "--log-file without --log"),
        (["extra"], "extra"),
        (["--kernel"], "--kernel"),
    ],
)
def test_wrong_options(refuse: Refuse, kernel: Path, arguments: list[str], told: str) -> None:
    status, line = refuse("-k", kernel, *arguments)
    assert status == REQUEST
    assert told in line


def test_without_a_kernel(refuse: Refuse) -> None:
    status, line = refuse()
    assert status == REQUEST
    assert "--kernel" in line


def test_an_unknown_command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, line = refused(capfd, monkeypatch, "fly")
    assert status == REQUEST
    assert "fly" in line


def test_a_log_that_cannot_be_written(refuse: Refuse, kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "no" / "log"
    status, line = refuse("-k", kernel, "--log", "all", "--log-file", path)
    assert (status, line) == (HOST, f"cannot write the log to {path}: No such file or directory")


def test_a_terminal_console_without_a_terminal(
    refuse: Refuse, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringminus.cli.run.is_terminal", lambda: False)
    status, line = refuse("-k", kernel, "--console", "tty")
    assert (status, line) == (REQUEST, "--console tty needs a terminal: say --console stdio")


def test_a_log_across_the_guests_screen(
    refuse: Refuse, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringminus.cli.run.is_terminal", lambda: True)
    status, line = refuse("-k", kernel, "--console", "tty", "--log", "exits")
    assert status == REQUEST
    assert "add --log-file" in line


def test_a_command_line_that_is_too_long(refuse: Refuse, kernel: Path) -> None:
    status, line = refuse("-k", kernel, "-a", "x" * 70000)
    assert status == REQUEST
    assert "the kernel command line has 70000 bytes" in line
