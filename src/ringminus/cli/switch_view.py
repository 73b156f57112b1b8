"""Named switches in lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ringminus.cli.report import printable
from ringminus.switch.port import PortSettings
from ringminus.switch.settings import format_port_options, format_rate, from_dict

ALL_VLANS = 4094
UNITS = ("B", "kB", "MB", "GB", "TB")


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows with their columns below each other; those in `right` are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def duration(seconds: float) -> str:
    """`4 s`, `2:03 min`, `1:02:03 h`, `3 days`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    if whole < 48 * 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02} h"
    return f"{whole // 86400} days"


def amount(size: int) -> str:
    """Bytes in steps of 1000, as networks count: `1.5 MB`."""
    value, unit = float(size), 0
    while value >= 999.95 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {UNITS[unit]}" if unit else f"{size} B"


def list_lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """What `switch list` prints."""
    rows = [("NAME", "STATE", "GUESTS", "UPLINKS", "PID", "UPTIME")]
    for one in found:
        if one["state"] != "running":
            rows.append((one["name"], one["state"], "", "", "", ""))
            continue
        state = "created" if one["created"] else "running"
        uplinks = printable(" ".join(one["uplinks"])) or "-"
        rows.append(
            (one["name"], state, str(one["guests"]), uplinks, str(one["pid"]), duration(one["uptime"]))
        )
    return table(rows, right=(2, 4))


def show_lines(facts: dict[str, Any]) -> list[str]:
    """What `switch show` prints."""
    life = "until it is deleted" if facts["created"] else "until its last guest ends"
    lines = [
        f"{facts['name']}: process {facts['pid']}, up for {duration(facts['uptime'])}, there {life}"
        + (f"; {facts['refused']} links refused" if facts["refused"] else "")
    ]
    if facts["ports"]:
        lines += ["", *_port_lines(facts["ports"])]
    else:
        lines += ["", "nothing is plugged into it"]
    for port in facts["ports"]:
        if about := _uplink_line(port):
            lines.append(about)
    if facts["addresses"]:
        lines += ["", *_address_lines(facts["addresses"])]
    return lines


def _port_lines(ports: Sequence[dict[str, Any]]) -> list[str]:
    head = ("PORT", "KIND", "NAME", "ADDRESS", "LINK", "IN", "", "OUT", "", "DROPPED", "OPTIONS")
    rows: list[tuple[str, ...]] = [head]
    for port in ports:
        counters = port["counters"]
        link = f"{port['link']} {format_rate(port['settings']['megabits'] * 10**6)}"
        rows.append(
            (
                str(port["number"]),
                port["kind"],
                printable(port["name"]) or "-",
                port["address"] or "-",
                link,
                f"{counters['received_frames']:,}",
                amount(counters["received_bytes"]),
                f"{counters['sent_frames']:,}",
                amount(counters["sent_bytes"]),
                f"{sum(drops(port).values()):,}",
                _extra_words(port) or "-",
            )
        )
    lines = table(rows, right=(0, 5, 6, 7, 8, 9))
    for port in ports:
        lost = ", ".join(f"{count:,} {reason}" for reason, count in sorted(drops(port).items()))
        if lost:
            lines.append(f"port {port['number']} dropped: {lost}")
    return lines


def drops(port: dict[str, Any]) -> dict[str, int]:
    """Frames that went no further at a port, and at what is plugged into it."""
    lost: dict[str, int] = dict(port["counters"]["dropped"])
    for reason, count in port.get("lost", {}).items():
        lost[reason] = lost.get(reason, 0) + count
    return {reason: count for reason, count in lost.items() if count}


def _settings(port: dict[str, Any]) -> PortSettings:
    return from_dict(port["settings"])


def _short(word: str) -> str:
    return "trunk=all" if word == f"trunk=1-{ALL_VLANS}" else word


def _extra_words(port: dict[str, Any]) -> str:
    """Settings that the other columns do not show."""
    if port["kind"] == "capture":
        return ""
    shown = ("name=", "mac=", "speed=", "link=")
    return " ".join(
        _short(word) for word in format_port_options(_settings(port)) if not word.startswith(shown)
    )


def settings_words(port: dict[str, Any]) -> str:
    """All settings of a port."""
    settings = _settings(port)
    words = [
        _short(word) for word in format_port_options(settings) if not word.startswith(("speed=", "link="))
    ]
    up = "up" if settings.link else "down"
    return printable(" ".join([*words, f"link={up}", f"speed={format_rate(settings.megabits * 10**6)}"]))


def _uplink_line(port: dict[str, Any]) -> str:
    about = port.get("about")
    if not about:
        return ""
    facts = [f"network {about['network']}", f"host {about['host']}"] if "network" in about else []
    if about.get("restrict"):
        facts.append("restricted")
    facts += [f"forward {forward}" for forward in about.get("forwards", ())]
    return f"port {port['number']} {port['kind']}: {', '.join(facts)}" if facts else ""


def _address_lines(addresses: Sequence[dict[str, Any]]) -> list[str]:
    rows = [("ADDRESS", "VLAN", "PORT", "LAST HEARD")]
    for row in addresses:
        age = "the port's own" if row["age"] is None else f"{duration(row['age'])} ago"
        rows.append((row["address"], str(row["vlan"] or "-"), str(row["port"]), age))
    return table(rows, right=(1, 2))
