"""Files that lie: a capture that was damaged or made up gives events and typed errors, nothing else; and
Wireshark's dissector survives what our decoder survives."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ringminus.cli.protocols  # noqa: F401
from ringminus.errors import HostError
from ringminus.lens.capture.pcapng_wire import BlockHeader, BlockType
from ringminus.lens.capture.reader import open_capture
from ringminus.lens.capture.section import block
from ringminus.protocol import BY_INTERFACE, PROTOCOLS
from ringminus.tap import EVENTS, DeviceMessage, Event, NetworkFrame, RingPacket
from support.effort import examples
from support.wireshark import differences, tshark_layers, write_capture, write_dissector

U64 = st.integers(0, 2**64 - 1)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: U64,
    str: st.text(),
    bytes: st.binary(),
    bool: st.booleans(),
    UUID: st.uuids() | st.sampled_from(sorted(BY_INTERFACE, key=str)),
    tuple[int, ...]: st.lists(U64).map(tuple),
    int | None: st.none() | st.integers(0, 0xFFFF),
}
SLOW = settings(
    deadline=None,
    max_examples=examples(25),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def events(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = get_type_hints(kind)
    named = {one.name: VALUES[hints[one.name]] for one in fields(kind) if one.init}
    return st.builds(kind, **named)


EVENT = st.sampled_from(EVENTS).flatmap(events)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.pcapng"


def read(path: Path) -> list[Event]:
    """What is read, up to where it cannot be."""
    found: list[Event] = []
    with contextlib.suppress(HostError), open_capture(path) as source:
        found.extend(source)
    assert all(isinstance(one, EVENTS) for one in found)
    return found


@given(st.lists(EVENT, max_size=20))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_read(path: Path, made: list[Event]) -> None:
    for one in made:
        one.sequence = 0  # the tap numbers them
    write_capture(path, made)
    assert read(path) == made


@given(st.lists(EVENT, min_size=1, max_size=5), st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_as_far_as_it_goes(path: Path, made: list[Event], data: st.DataObject) -> None:
    write_capture(path, made)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    read(path)


@given(st.lists(st.tuples(st.sampled_from(BlockType), st.binary(max_size=200)), max_size=10), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_that_are_made_up_are_survived(
    path: Path, blocks: list[tuple[BlockType, bytes]], begin: bool
) -> None:
    write_capture(path, [])
    start = path.read_bytes() if begin else b""
    path.write_bytes(start + b"".join(block(kind, body) for kind, body in blocks))
    read(path)


@given(st.binary(max_size=400))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_are_no_capture(path: Path, content: bytes) -> None:
    path.write_bytes(BlockHeader(type=BlockType.SECTION_HEADER, length=28).pack() + content)
    read(path)


# ------------------------------------------------------------ Wireshark


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dissector(tmp_path_factory.mktemp("dissector") / "ringminus.lua")


def carried(protocol: str) -> st.SearchStrategy[Event]:
    """Arbitrary bytes of a device's message; those whose first bytes are small are of a known number."""
    payload = st.binary(max_size=300) | st.tuples(st.integers(0, 20), st.binary(max_size=300)).map(
        lambda pair: pair[0].to_bytes(4, "little") + pair[1]
    )
    return st.builds(
        lambda data, to_guest: DeviceMessage(0, 0, "D", protocol, to_guest, data, len(data)),
        payload,
        st.booleans(),
    )


MESSAGES: Callable[[], st.SearchStrategy[Event]] = lambda: st.sampled_from(sorted(PROTOCOLS)).flatmap(carried)  # noqa: E731


@given(st.lists(MESSAGES(), min_size=1, max_size=60))
@SLOW
def test_wireshark_takes_arbitrary_messages_apart_as_we_do(
    script: Path, path: Path, made: list[Event]
) -> None:
    write_capture(path, made)
    assert differences(made, tshark_layers(script, path)[1:]) == []


@given(st.lists(EVENT.filter(lambda event: type(event) is not NetworkFrame), min_size=1, max_size=40))
@SLOW
def test_wireshark_shows_arbitrary_events_as_we_do(script: Path, path: Path, made: list[Event]) -> None:
    for one in made:
        one.sequence = 0
    write_capture(path, made)
    assert differences(made, tshark_layers(script, path)[1:]) == []


@given(st.randoms(use_true_random=False), st.integers(1, 8))
@SLOW
def test_wireshark_survives_records_that_lie(
    script: Path, path: Path, generator: random.Random, changes: int
) -> None:
    """It has no word of ours for them, but they are its last only if the file is damaged."""
    interface = sorted(BY_INTERFACE, key=str)[0]
    packets = [RingPacket(1, 0, 3, "SCSI", False, 6, 7, bytes(64), (4096,), interface) for _ in range(30)]
    write_capture(path, packets)
    content = bytearray(path.read_bytes())
    first = content.index(b"SCSI")
    for _ in range(changes):
        at = content.index(b"SCSI", generator.randrange(first, len(content) - 400))
        content[at + generator.randrange(-8, 60)] = generator.randrange(256)
    path.write_bytes(content)
    tshark_layers(script, path)
