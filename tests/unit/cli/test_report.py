"""How a guest's end is told, and what its numbers mean."""

from __future__ import annotations

import pytest

from ringminus.cli.report import crash_lines, guest_os, printable, register_lines, tell_end
from ringminus.cpu.engine import GENERAL, Registers, Segment
from ringminus.hypervisor.crash import CrashReport
from ringminus.machine.outcome import End, Outcome

LINUX_6_12_95 = 0x8100 << 48 | 0x060C5F << 16


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (LINUX_6_12_95, "Linux 6.12.95"),
        (LINUX_6_12_95 | 7, "Linux 6.12.95, build 7"),
        (0x8200 << 48 | 1_400_097 << 16, "FreeBSD 14.0"),
        (0x8500 << 48 | 0x010203 << 16, "open-source system 5 1.2.3"),
        (0x0001_04_0A_00_02_4F7C, "Windows NT 10.0, service version 2, build 20348"),
        (0x0001_09_01_02_03_0004, "Microsoft system 9 1.2, service version 3, build 4"),
        (0x0ABC_04_01_02_03_0004, "system 4 of vendor 0xabc 1.2, service version 3, build 4"),
        (0, "unknown: it never told its name"),
    ],
)
def test_guest_os_ids(identity: int, words: str) -> None:
    assert guest_os(identity) == words


def facts(report: CrashReport) -> dict[str, str]:
    """The lines of a report: name and what it says."""
    return {line[2:14].strip(): line[15:] for line in crash_lines(report)}


def test_a_crash_without_a_message() -> None:
    told = facts(CrashReport(12_345_678, 0, LINUX_6_12_95, (0, LINUX_6_12_95, 0x10, 0x20, 0x30)))
    assert told == {
        "system": "Linux 6.12.95",
        "time": "1.235 s after its start, on VP 0",
        "error": "0x0",
        "RIP": "0x10",
        "RAX": "0x20",
        "RSP": "0x30",
    }


def test_beside_a_message_only_what_says_something_is_told() -> None:
    report = CrashReport(0, 3, LINUX_6_12_95, (0, 0, 0, 0x5000, 100), b"oh no")
    assert facts(report) == {"system": "Linux 6.12.95", "time": "0.000 s after its start, on VP 3"}


def test_a_guest_that_calls_itself_something_else_in_its_report() -> None:
    report = CrashReport(0, 0, LINUX_6_12_95, (1, 0x8200 << 48 | 1_302_001 << 16, 2, 3, 4))
    assert facts(report)["its own word"] == "FreeBSD 13.2"


def test_registers() -> None:
    registers = Registers(general=list(range(16)), rip=0xFFF0, cs=Segment(0x10), cr2=0xBAD, efer=0xD01)
    cells = " ".join(register_lines(registers)).split()
    told = {name: int(value, 16) for name, value in zip(cells[::2], cells[1::2], strict=True)}
    assert {name: told[name] for name in GENERAL} == {name: i for i, name in enumerate(GENERAL)}
    assert (told["rip"], told["cs"], told["cr2"], told["efer"]) == (0xFFF0, 0x10, 0xBAD, 0xD01)


def told(capsys: pytest.CaptureFixture[str], outcome: Outcome, console: str = "") -> str:
    tell_end(outcome, console)
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_an_ordinary_end_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, Outcome(End.POWER_OFF), "text") == ""


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome(End.REBOOT, "keyboard controller"), "the guest restarted (keyboard controller)"),
        (Outcome(End.TIMEOUT, "after 5 s"), "time-out after 5 s"),
        (Outcome(End.INTERRUPTED, "by SIGINT"), "interrupted by SIGINT"),
        (Outcome(End.TRIPLE_FAULT, "at RIP 0x10"), "triple fault at RIP 0x10"),
        (Outcome(End.FAILURE, "some reason"), "the processor cannot go on: some reason"),
        (Outcome(End.CRASH, "it halted"), "the guest crashed: it halted"),
    ],
)
def test_other_ends_are_one_line(capsys: pytest.CaptureFixture[str], outcome: Outcome, line: str) -> None:
    assert told(capsys, outcome) == f"ringminus: {line}\n"


def test_last_words_are_the_message_or_else_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    report = CrashReport(0, 0, LINUX_6_12_95, (0, 0, 0, 0, 0), b"first\nlast\0\0")
    text = told(capsys, Outcome(End.CRASH, crash=report), "console")
    assert text.endswith("The kernel's last words:\n  first\n  last\n")
    assert "console" not in text
    silent = CrashReport(0, 0, LINUX_6_12_95, (0, 0, 0, 0, 0))
    text = told(capsys, Outcome(End.CRASH, crash=silent), "\n".join(map(str, range(100))))
    assert text.endswith("last words:\n" + "".join(f"  {n}\n" for n in range(70, 100)))


def test_a_guests_words_cannot_drive_the_terminal() -> None:
    assert printable("ok\tta\x1b[2Jb\x9b1m\r\x07é") == "ok\tta�[2Jb�1m��é"
