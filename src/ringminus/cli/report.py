"""What a person is told when a guest has ended."""

from __future__ import annotations

import contextlib

import click

from ringminus.clock import REFERENCE_HZ
from ringminus.cpu.engine import GENERAL, Registers
from ringminus.hypervisor.crash import CrashReport
from ringminus.machine.outcome import End, Outcome

STATUS = {
    End.POWER_OFF: 0,
    End.REBOOT: 0,
    End.CRASH: 3,
    End.TRIPLE_FAULT: 4,
    End.FAILURE: 70,
    End.TIMEOUT: 124,
    End.INTERRUPTED: 130,
}
SENTENCES = {
    End.REBOOT: "the guest restarted",
    End.CRASH: "the guest crashed",
    End.FAILURE: "the processor cannot go on",
}
LAST_LINES = 30
# a crash message has 4 KiB at most, and tells at its beginning what happened
MESSAGE_LINES = 100

# the guest OS id (TLFS, "Guest OS identity"): of open-source systems, and of Microsoft's
OPEN_SOURCE_SYSTEMS = {1: "Linux", 2: "FreeBSD", 3: "Xen", 4: "illumos"}
MICROSOFT_SYSTEMS = {1: "MS-DOS", 2: "Windows 3.x", 3: "Windows 9x", 4: "Windows NT", 5: "Windows CE"}
MICROSOFT = 1


def say(text: str, err: bool = True) -> None:
    """Print, if somebody reads."""
    with contextlib.suppress(OSError):
        click.echo(text, err=err)


def printable(text: str) -> str:
    """A guest's line without what would drive the terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in text)


def guest_os(identity: int) -> str:
    """A guest OS id in words."""
    build = identity & 0xFFFF
    if not identity:
        return "unknown: it never told its name"
    if identity >> 63:
        kind, version = identity >> 56 & 0x7F, identity >> 16 & 0xFFFFFFFF
        name = OPEN_SOURCE_SYSTEMS.get(kind, f"open-source system {kind}")
        if name == "FreeBSD":  # 1400097 is 14.0
            text = f"{version // 100_000}.{version // 1000 % 100}"
        else:
            text = f"{version >> 16}.{version >> 8 & 0xFF}.{version & 0xFF}"
        return f"{name} {text}" + (f", build {build}" if build else "")
    vendor, system = identity >> 48, identity >> 40 & 0xFF
    major, minor, service = identity >> 32 & 0xFF, identity >> 24 & 0xFF, identity >> 16 & 0xFF
    if vendor == MICROSOFT:
        name = MICROSOFT_SYSTEMS.get(system, f"Microsoft system {system}")
    else:
        name = f"system {system} of vendor {vendor:#x}"
    return f"{name} {major}.{minor}, service version {service}, build {build}"


def crash_lines(report: CrashReport) -> list[str]:
    """The crash registers, decoded by Linux's convention: error, guest OS id, RIP, RAX, RSP, of which the
    last two are a message's address and length when there is one. Zeros beside a message are not told."""
    facts = {
        "system": guest_os(report.guest_os_id),
        "time": f"{report.time / REFERENCE_HZ:.3f} s after its start, on VP {report.vp}",
    }
    error, identity, *registers = report.parameters
    with_message = report.message is not None or report.message_error is not None
    if identity not in (0, report.guest_os_id):
        facts["its own word"] = guest_os(identity)
    values = zip(("error", "RIP", "RAX", "RSP"), (error, *registers), strict=True)
    for name, value in list(values)[: 2 if with_message else 4]:
        if value or not with_message:
            facts[name] = f"{value:#x}"
    if report.message_error is not None:
        facts["message"] = f"could not be read: {report.message_error}"
    return [f"  {name:<12} {fact}" for name, fact in facts.items()]


def register_lines(registers: Registers) -> list[str]:
    """The processor's registers, in hexadecimal, four a line."""
    values = {"rip": registers.rip, "rflags": registers.rflags, "cs": registers.cs.selector}
    values |= {"ss": registers.ss.selector, **dict(zip(GENERAL, registers.general, strict=True))}
    values |= {name: getattr(registers, name) for name in ("cr0", "cr2", "cr3", "cr4", "efer")}
    cells = [f"{name:>6} {value:016x}" for name, value in values.items()]
    return [" ".join(cells[i : i + 4]) for i in range(0, len(cells), 4)]


def _headline(outcome: Outcome) -> str:
    end, detail = outcome.end, outcome.detail
    sentence = SENTENCES.get(end, end.value)
    if not detail:
        return sentence
    if end is End.REBOOT:
        return f"{sentence} ({detail})"
    return f"{sentence}: {detail}" if end in SENTENCES else f"{sentence} {detail}"


def tell_end(outcome: Outcome, console: str) -> None:
    """Say on standard error how the guest ended, unless it just powered off. `console` holds the last
    lines that it printed, the last words of a guest that crashed without a message."""
    if outcome.end is End.POWER_OFF:
        return
    lines = [f"ringminus: {_headline(outcome)}"]
    if outcome.crash is not None:
        lines += crash_lines(outcome.crash)
    if outcome.registers is not None:
        lines += register_lines(outcome.registers)
    if outcome.end is End.CRASH:
        message = outcome.crash.message if outcome.crash is not None else None
        words = console if message is None else message.decode(errors="replace").strip("\0\n")
        kept = LAST_LINES if message is None else MESSAGE_LINES
        last = [f"  {printable(line)}" for line in words.splitlines()[-kept:]]
        lines += ["The kernel's last words:", *last] if last else []
    say("\n".join(lines))
