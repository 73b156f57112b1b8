"""What a person is told when a guest has ended."""

from __future__ import annotations

import click

from ringminus.cli.console import LastLines
from ringminus.hypervisor.crash import CrashReport
from ringminus.machine.outcome import End, Outcome

REFERENCE_HZ = 10_000_000
VENDORS = {0: "none", 1: "Microsoft"}
OPEN_SOURCE_SYSTEMS = {1: "Linux", 2: "FreeBSD", 3: "Xen", 4: "illumos"}
PARAMETER_NAMES = ("error", "guest OS id", "RIP", "RAX", "RSP")
MESSAGE_PARAMETER_NAMES = ("error", "guest OS id", "RIP", "message address", "message length")


def guest_os(identity: int) -> str:
    """A guest OS id in words (TLFS, "Guest OS identity")."""
    if identity >> 63:
        system = OPEN_SOURCE_SYSTEMS.get(identity >> 56 & 0x7F, f"open-source system {identity >> 56 & 0x7F}")
        version = identity >> 16 & 0xFFFFFFFF
        return f"{system} {version >> 16 & 0xFFFF}.{version >> 8 & 0xFF}.{version & 0xFF}"
    vendor = identity >> 48 & 0x7FFF
    major, minor = identity >> 32 & 0xFF, identity >> 24 & 0xFF
    return f"{VENDORS.get(vendor, f'vendor {vendor:#x}')} {major}.{minor}"


def crash_lines(report: CrashReport) -> list[str]:
    """The crash registers, decoded."""
    names = MESSAGE_PARAMETER_NAMES if report.message is not None else PARAMETER_NAMES
    lines = [
        f"  by {guest_os(report.guest_os_id)}, {report.time / REFERENCE_HZ:.3f} s after its start, on VP {report.vp}"
    ]
    lines += (
        f"  P{i}  {name:<16} {value:#x}"
        for i, (name, value) in enumerate(zip(names, report.parameters, strict=False))
    )
    if report.message_error is not None:
        lines.append(f"  its message could not be read: {report.message_error}")
    return lines


def tell_end(outcome: Outcome, last_lines: LastLines) -> None:
    """Say on standard error how the guest ended, unless it just powered off."""
    if outcome.end is End.POWER_OFF:
        return
    detail = f" {outcome.detail}" if outcome.detail else ""
    click.echo(f"\nringminus: {outcome.end.value}{detail}", err=True)
    if outcome.end is not End.CRASH:
        return
    words = last_lines.text()
    if outcome.crash is not None:
        click.echo("\n".join(crash_lines(outcome.crash)), err=True)
        if outcome.crash.message is not None:
            words = outcome.crash.message.decode(errors="replace")
    if words:
        click.echo(
            "The kernel's last words:\n" + "\n".join(f"  {line}" for line in words.splitlines()), err=True
        )
