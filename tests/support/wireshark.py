"""What tshark makes of a capture with our dissector, compared with what our own decoder makes of it."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.capture.output import open_output
from ringminus.lens.capture.wireshark import dissector
from ringminus.lens.capture.writer import CaptureWriter
from ringminus.lens.decode import Decoder, flat
from ringminus.lens.fields import UNITS
from ringminus.protocol import Layer, Show, Value, shown
from ringminus.tap import Event, Tap

TIMEOUT = 120
LINKS = {f"ringminus.{name}" for name in ("cause_in", "request_in", "answer_in", "answer_time")}
TEXTS = (Show.TEXT, Show.UTF16)
SIZES = {Show.MAC: 6, Show.IPV4: 4, Show.IPV6: 16, Show.GUID: 16}
HEADER = {one.name for one in fields(Event)}


class Seen(NamedTuple):
    """A field as tshark prints it: its value, the bytes that it is of, its line, and the names of flags."""

    name: str
    shown: str
    raw: str
    line: str
    flags: list[str]


@dataclass
class Message:
    """A layer of ours in a packet; `complaints` are the expert's, by their names."""

    protocol: str
    message: str = ""
    fields: list[Seen] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def tshark() -> str:
    """Its path; the test is skipped where there is none."""
    found = shutil.which("tshark")
    if found is None:
        pytest.skip("no tshark here: apt-get install tshark")
    return found


def write_capture(path: Path, events: Iterable[Event], partition: str = "") -> None:
    """A capture of these events."""
    tap = Tap()
    with CaptureWriter(tap, open_output(str(path)), partition=partition):
        for event in events:
            tap.tell(event)


def write_dissector(path: Path) -> Path:
    """The script, for what is declared now."""
    path.write_text(dissector(), encoding="utf-8")
    return path


def run_tshark(script: Path, capture: Path, *options: str) -> str:
    """Its output; it must not complain."""
    command = [tshark(), "-X", f"lua_script:{script}", "-r", str(capture), *options]
    made = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    errors = [line for line in made.stderr.decode().splitlines() if "Running as user" not in line]
    assert made.returncode == 0 and not errors, errors
    return made.stdout.decode(errors="replace")  # it cuts lines in the middle of characters


def tshark_layers(script: Path, capture: Path, *options: str) -> list[list[Message]]:
    """The layers of ours in each packet."""
    tree = ElementTree.fromstring(run_tshark(script, capture, "-T", "pdml", *options))
    return [[_message(proto) for proto in _ours(packet)] for packet in tree.iter("packet")]


def _ours(packet: ElementTree.Element) -> list[ElementTree.Element]:
    protos = packet.iter("proto")
    return [one for one in protos if one.get("name", "").partition(".")[0] == "ringminus"]


def _message(proto: ElementTree.Element) -> Message:
    name = proto.get("name", "")
    made = Message(name.removeprefix("ringminus").removeprefix("."))
    for one in proto.findall("field"):
        path = one.get("name", "")
        if path == "_ws.expert":
            names = (inner.get("name", "") for inner in one)
            made.complaints += [inner for inner in names if inner.startswith("ringminus.")]
        elif path in ("ringminus.event", f"{name}.message") and not made.message:
            made.message = one.get("show", "")
        elif one.get("hide") == "yes":
            continue  # for filters only
        elif path not in LINKS and path != f"ringminus.{made.message}":
            flags = [inner.get("showname", "").partition(":")[0] for inner in one.findall("field")]
            values = one.get("show", ""), one.get("value", ""), one.get("showname", "")
            made.fields.append(Seen(path.removeprefix("ringminus."), *values, flags))
    return made


# ------------------------------------------------------------ and what we do


def differences(events: Sequence[Event], packets: Sequence[list[Message]]) -> list[str]:
    """Where tshark's packets are not what our decoder makes of the events."""
    decoder, found = Decoder(), []
    assert len(packets) == len(events), f"{len(packets)} packets of {len(events)} events"
    for number, (event, messages) in enumerate(zip(events, packets, strict=True)):
        layers = list(flat(decoder.layers(event)))
        names = [("", event.NAME), *((one.protocol, one.message) for one in layers[1:])]
        theirs = [(one.protocol, one.message) for one in messages]
        if names != theirs:
            found.append(f"{number} {event.NAME}: messages {names}, tshark {theirs}")
            continue
        for layer, message in zip(layers, messages, strict=True):
            where = f"{number} {layer.protocol} {layer.message}"
            found += [f"{where}: {line}" for line in _differences(event, layer, message)]
    return found


def _differences(event: Event, layer: Layer, message: Message) -> Iterator[str]:
    seen = list(message.fields)
    for value in layer.values:
        prefix = f"{layer.protocol}."
        if layer.protocol == event.NAME and value.name in HEADER:
            prefix = ""
        for one, label in _pieces(value):
            if not seen or seen[0].name != prefix + value.name:
                yield f"{value.name} {one!r} is {seen[0] if seen else 'not there'}"
                return
            wrong = _wrong(prefix + value.name, value, one, label, seen.pop(0))
            if wrong:
                yield wrong
    for one in seen:
        yield f"there is no {one}"
    if layer.protocol != event.NAME:
        told = {
            "ringminus.cut": layer.missing > 0,
            "ringminus.undeclared": layer.message != "" and layer.form is None,
        }
        for name, expected in told.items():
            if (name in message.complaints) != expected:
                yield f"{name} is {not expected}"


def _pieces(value: Value) -> Iterator[tuple[Any, str]]:
    """What tshark shows one by one, with its name."""
    found = value.value
    if found is None or found == b"" or found == ():
        return
    size = SIZES.get(value.show) if value.show is not None else None
    if isinstance(found, tuple):
        yield from ((one, "") for one in found)
    elif isinstance(found, bytes) and size is not None and len(found) % size == 0:
        for at in range(0, len(found), size):
            yield found[at : at + size], shown(found[at : at + size], value.show)
    elif isinstance(found, bytes) and value.show in TEXTS:
        yield found, shown(found, value.show)
    else:
        yield found, value.label


def _wrong(name: str, value: Value, one: Any, label: str, seen: Seen) -> str:
    """What is wrong with a field, "" for nothing."""
    if isinstance(one, bool):
        right = seen.shown == str(int(one))
    elif isinstance(one, int):
        number = seen.shown
        if name in UNITS and "." in number:
            right = int(number.replace(".", "")[:-2]) == one  # nanoseconds, without the last two digits
        else:
            right = int(number, 0) == one
        if label and "|" in label + "|" and seen.flags:
            right = right and "|".join(seen.flags) == label
        elif label:
            right = right and f" {label} (" in seen.line
    elif isinstance(one, UUID):
        right = seen.raw == one.hex
    elif isinstance(one, str):
        right = seen.raw == one.encode().hex() or seen.shown == one
    else:
        right = seen.raw == one.hex()
        if value.show in TEXTS:
            right = right and (seen.shown == label or not label.isprintable())
        elif value.show is not None and label:
            right = right and seen.shown == label
    return "" if right else f"{name} is {one!r} {label}, tshark has {seen}"
